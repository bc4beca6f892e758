"""What slows a machine by power or heat, on answers as they were recorded on real systems."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from advisor.host.power import Sources, remarks, throttle_count

# pmset -g of a MacBook Air (macOS 14): "lowpowermode"
MACBOOK_AIR = """\
System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 hibernatefile        /var/vm/sleepimage
 powernap             1
 networkoversleep     0
 disksleep            10
 sleep                1 (sleep prevented by powerd)
 hibernatemode        3
 ttyskeepawake        1
 displaysleep         10
 tcpkeepalive         1
 lowpowermode         {mode}
 womp                 0
"""
# pmset -g of a MacBook Pro, which has a High Power mode as well: "powermode"
MACBOOK_PRO = """\
System-wide power settings:
 SleepDisabled\t\t0
Currently in use:
 standby              1
 Sleep On Power Button 1
 disksleep            0
 sleep                0 (sleep prevented by sharingd, powerd, caffeinate)
 displaysleep         0 (display sleep prevented by caffeinate)
 tcpkeepalive         1
 powermode            {mode}
 womp                 1
"""
# pmset -g therm; Apple's own processors have only the notes
THERMAL_NOTES = """\
Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""
THERMAL_INTEL = """\
Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
2020-11-24 13:10:40 +0100 CPU Power notify
\tCPU_Scheduler_Limit \t= 100
\tCPU_Available_CPUs \t= 8
\tCPU_Speed_Limit \t= {speed}
"""
THERMAL_WARNING = """\
2026-09-23 14:05:31 -0700 Thermal Warning Level = {level}
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""


def sources(root: Path, **changes: Any) -> Sources:
    """A machine about which nothing is known."""
    nothing = Sources(
        root=root, plugged_in=lambda: None, power_settings=str, thermal_state=str, battery_saver=lambda: None
    )
    return dataclasses.replace(nothing, **changes)


def core(root: Path, number: int, driver: str, governor: str, preference: str = "") -> Path:
    """One core's cpufreq; ``preference`` "" for a driver that has none."""
    folder = root / f"sys/devices/system/cpu/cpu{number}/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_driver").write_text(f"{driver}\n")
    (folder / "scaling_governor").write_text(f"{governor}\n")
    if preference:
        (folder / "energy_performance_preference").write_text(f"{preference}\n")
    return root


def profile(root: Path, name: str) -> Path:
    (root / "sys/firmware/acpi").mkdir(parents=True)
    (root / "sys/firmware/acpi/platform_profile").write_text(f"{name}\n")
    return root


def the_only(said: tuple[str, ...]) -> str:
    """The sentence, which says what is so and what to do."""
    (sentence,) = said
    assert sentence[0].isupper()
    assert sentence.endswith("measure again.")
    return sentence


def test_nothing_known_is_nothing_said(tmp_path: Path) -> None:
    assert remarks(sources(tmp_path)) == ()
    assert throttle_count(sources(tmp_path)) is None


@pytest.mark.parametrize(("plugged_in", "said"), [(False, 1), (True, 0), (None, 0)])
def test_a_battery_matters_while_it_is_used(tmp_path: Path, plugged_in: bool | None, said: int) -> None:
    assert len(remarks(sources(tmp_path, plugged_in=lambda: plugged_in))) == said


def test_on_battery_the_way_out_is_to_plug_it_in(tmp_path: Path) -> None:
    said = the_only(remarks(sources(tmp_path, plugged_in=lambda: False)))
    assert said == "The machine runs on battery, which slows many laptops: plug it in and measure again."


@pytest.mark.parametrize(
    ("settings", "slow"),
    [
        (MACBOOK_AIR.format(mode=1), True),
        (MACBOOK_AIR.format(mode=0), False),
        (MACBOOK_PRO.format(mode=1), True),
        (MACBOOK_PRO.format(mode=0), False),
        (MACBOOK_PRO.format(mode=2), False),  # High Power
        ("usage: pmset <options>\n", False),
    ],
)
def test_low_power_mode_of_macos(tmp_path: Path, settings: str, slow: bool) -> None:
    said = remarks(sources(tmp_path, power_settings=lambda: settings, thermal_state=lambda: THERMAL_NOTES))
    assert ("Low Power Mode" in the_only(said)) if slow else said == ()


@pytest.mark.parametrize(
    ("thermal_state", "words"),
    [
        (THERMAL_INTEL.format(speed=70), "70 % of its speed"),
        (THERMAL_INTEL.format(speed=100), ""),
        (THERMAL_WARNING.format(level=5), "is hot"),
        (THERMAL_WARNING.format(level=100), "is hot"),
        (THERMAL_WARNING.format(level=0), ""),
        (THERMAL_WARNING.format(level=255), ""),  # unknown, as after a sleep
        (THERMAL_WARNING.format(level=5) + "\tCPU_Speed_Limit \t= 35\n", "35 % of its speed"),
        (THERMAL_NOTES, ""),
        ("Error: No thermal warning level with error code 0xe00002c2\n", ""),
    ],
)
def test_heat_on_macos(tmp_path: Path, thermal_state: str, words: str) -> None:
    said = remarks(sources(tmp_path, thermal_state=lambda: thermal_state))
    assert (words in the_only(said)) if words else said == ()


@pytest.mark.parametrize(("name", "slow"), [("low-power", True), ("quiet", True), ("balanced", False), ("cool", False)])
def test_platform_profile_of_linux(tmp_path: Path, name: str, slow: bool) -> None:
    said = remarks(sources(profile(tmp_path, name)))
    assert (f'"{name}"' in the_only(said)) if slow else said == ()


@pytest.mark.parametrize(
    ("driver", "governor", "preference", "words"),
    [
        ("acpi-cpufreq", "powersave", "", "frequency governor"),
        ("intel_cpufreq", "powersave", "", "frequency governor"),  # intel_pstate in passive mode
        ("amd-pstate", "powersave", "", "frequency governor"),
        ("acpi-cpufreq", "schedutil", "", ""),
        ("intel_pstate", "powersave", "balance_performance", ""),
        ("intel_pstate", "powersave", "", ""),  # a processor without hardware P-states
        ("intel_pstate", "powersave", "power", "energy preference"),
        ("amd-pstate-epp", "powersave", "power", "energy preference"),
        ("amd-pstate-epp", "powersave", "balance_power", ""),
        ("amd-pstate-epp", "performance", "performance", ""),
    ],
)
def test_powersave_is_slow_only_where_the_processor_does_not_choose_its_speed(
    tmp_path: Path, driver: str, governor: str, preference: str, words: str
) -> None:
    root = core(core(tmp_path, 0, driver, governor, preference), 1, driver, governor, preference)
    said = remarks(sources(root))
    assert (words in the_only(said)) if words else said == ()


def test_one_slow_core_is_enough(tmp_path: Path) -> None:
    root = core(core(tmp_path, 0, "acpi-cpufreq", "performance"), 11, "acpi-cpufreq", "powersave")
    assert "frequency governor" in the_only(remarks(sources(root)))


def test_what_one_command_mends_is_said_once(tmp_path: Path) -> None:
    """power-profiles-daemon sets the platform profile and the energy preference together."""
    root = core(profile(tmp_path, "low-power"), 0, "intel_pstate", "powersave", "power")
    assert "powerprofilesctl" in the_only(remarks(sources(root)))


@pytest.mark.parametrize(("flag", "said"), [(1, 1), (0, 0), (None, 0)])
def test_battery_saver_of_windows(tmp_path: Path, flag: int | None, said: int) -> None:
    assert len(remarks(sources(tmp_path, battery_saver=lambda: flag))) == said


def test_everything_that_is_so_is_said(tmp_path: Path) -> None:
    said = remarks(
        sources(
            tmp_path,
            plugged_in=lambda: False,
            power_settings=lambda: MACBOOK_AIR.format(mode=1),
            thermal_state=lambda: THERMAL_INTEL.format(speed=50),
        )
    )
    assert [sentence.split()[0] for sentence in said] == ["The", "Low", "The"]


def test_throttling_is_counted_over_all_cores(tmp_path: Path) -> None:
    for number, count in ((0, "3\n"), (1, "0\n"), (10, "4\n"), (11, "nonsense\n")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(count)
    assert throttle_count(sources(tmp_path)) == 7
    assert remarks(sources(tmp_path)) == (), "heat of last week does not slow this measurement"


@pytest.mark.parametrize("failure", [FileNotFoundError("no pmset"), subprocess.TimeoutExpired("pmset", 2.0)])
def test_a_pmset_that_fails_is_nothing_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", fails)
    this = Sources()
    asked = sources(tmp_path, power_settings=this.power_settings, thermal_state=this.thermal_state)
    assert remarks(asked) == ()


def test_pmset_is_asked_by_its_own_path_for_a_short_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answers(command: list[str], *, timeout: float, **_: object) -> subprocess.CompletedProcess[bytes]:
        assert timeout == 2.0
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout=MACBOOK_AIR.format(mode=1).encode())

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", answers)
    this = Sources()
    said = remarks(sources(tmp_path, power_settings=this.power_settings, thermal_state=this.thermal_state))
    assert "Low Power Mode" in the_only(said)
    assert asked == [["/usr/bin/pmset", "-g"], ["/usr/bin/pmset", "-g", "therm"]]


@pytest.mark.parametrize("failure", [FileNotFoundError("power_supply"), TypeError("'str' * 100.0"), RuntimeError()])
def test_a_battery_that_cannot_be_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fails() -> None:
        raise failure

    monkeypatch.setattr(psutil, "sensors_battery", fails, raising=False)
    assert remarks(sources(tmp_path, plugged_in=Sources().plugged_in)) == ()


def test_this_machine() -> None:
    assert all(sentence.endswith("measure again.") for sentence in remarks())
    count = throttle_count()
    assert count is None or count >= 0
