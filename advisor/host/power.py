"""What slows this machine by power or heat, as sentences for people: a battery, a mode that saves power, throttling.

Each system is asked what it tells without privileges; what it does not tell is not guessed. Nothing is changed.
This module knows nothing about what is being timed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from advisor.host.cgroup import read_text

_CPUS = "sys/devices/system/cpu"
_TIME_LIMIT_S = 2.0
_SAVING_PROFILES = ("low-power", "quiet")
# In these the processor chooses its speed itself, and "powersave" is the ordinary governor.
_SELF_GOVERNED = ("intel_pstate", "amd-pstate-epp")
_THERMAL_LEVELS_THAT_MEAN_NOTHING = (0, 255)  # kIOPMThermalLevelNormal and kIOPMThermalLevelUnknown of IOPM.h
_BALANCED = "choose another (powerprofilesctl set balanced) and measure again."


def _plugged_in() -> bool | None:
    """None where there is no battery, or where it is not known what powers the machine."""
    sensors_battery = getattr(psutil, "sensors_battery", None)  # not on Linux without /sys/class/power_supply
    try:
        battery = sensors_battery() if sensors_battery else None
    except (OSError, RuntimeError, TypeError, ValueError):  # batteries report what they like
        return None
    return battery.power_plugged if battery else None


def _pmset(*asked: str) -> str:
    """What macOS says about power; "" elsewhere and where it says nothing in time."""
    if sys.platform != "darwin":
        return ""
    try:
        answer = subprocess.run(
            ["/usr/bin/pmset", *asked],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIME_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode("utf-8", errors="replace")


def _battery_saver() -> int | None:
    """SystemStatusFlag of Windows, 1 while it saves energy; None elsewhere and where it does not say."""
    if sys.platform != "win32":
        return None
    import ctypes

    class SystemPowerStatus(ctypes.Structure):
        _fields_ = (
            ("ACLineStatus", ctypes.c_ubyte),
            ("BatteryFlag", ctypes.c_ubyte),
            ("BatteryLifePercent", ctypes.c_ubyte),
            ("SystemStatusFlag", ctypes.c_ubyte),
            ("BatteryLifeTime", ctypes.c_ulong),
            ("BatteryFullLifeTime", ctypes.c_ulong),
        )

    status = SystemPowerStatus()
    told = ctypes.WinDLL("kernel32").GetSystemPowerStatus(ctypes.byref(status))
    return int(status.SystemStatusFlag) if told else None


@dataclass(frozen=True)
class Sources:
    """Where ``remarks`` looks. The defaults are this machine; a test puts a recorded one here.

    ``root`` holds sys/. ``power_settings`` and ``thermal_state`` are what ``pmset -g`` and ``pmset -g therm`` print.
    """

    root: Path = Path("/")
    plugged_in: Callable[[], bool | None] = _plugged_in
    power_settings: Callable[[], str] = lambda: _pmset("-g")
    thermal_state: Callable[[], str] = lambda: _pmset("-g", "therm")
    battery_saver: Callable[[], int | None] = _battery_saver


def remarks(sources: Sources | None = None) -> tuple[str, ...]:
    """What slows the machine now, and what to do about it: whole sentences, none when nothing is known or all is well.

    Never raises for what cannot be found out. Heat that Linux only counts is not among them: see ``throttle_count``.
    """
    return tuple(_remarks(sources or Sources()))


def throttle_count(sources: Sources | None = None) -> int | None:
    """How often the cores have been slowed by heat since the machine started; None where it is not counted.

    Only Linux on Intel's processors counts it. The number means nothing alone: when it is larger after a measurement
    than before, the processor was too hot meanwhile.
    """
    root = (sources or Sources()).root
    counts = [read_text(path).strip() for path in (root / _CPUS).glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    known = [int(count) for count in counts if count.isdigit()]
    return sum(known) if known else None


def _remarks(sources: Sources) -> Iterator[str]:
    if sources.plugged_in() is False:
        yield "The machine runs on battery, which slows many laptops: plug it in and measure again."
    yield from _of_macos(sources.power_settings(), sources.thermal_state())
    yield from _of_linux(sources.root)
    if sources.battery_saver() == 1:
        yield (
            "Energy saver (battery saver) is on, which slows the processor: turn it off in Settings, System, "
            "Power & battery, and measure again."
        )


def _of_macos(power_settings: str, thermal_state: str) -> Iterator[str]:
    # Macs that have a High Power mode too (2) call it powermode, others lowpowermode.
    if _number(r"(?:low)?powermode +", power_settings) == 1:
        yield (
            "Low Power Mode is on, which slows the processor: turn it off in System Settings, Battery (Energy on a "
            "desktop), and measure again."
        )
    speed_percent = _number(r"CPU_Speed_Limit\s*= *", thermal_state)
    if speed_percent is not None and speed_percent < 100:
        yield (
            f"The processor is held at {speed_percent} % of its speed, usually because it is hot: let it cool down "
            "and measure again."
        )
    elif _number(r".*Thermal Warning Level = ", thermal_state) not in (None, *_THERMAL_LEVELS_THAT_MEAN_NOTHING):
        yield "The machine is hot, as macOS warns, which slows it: let it cool down and measure again."


def _of_linux(root: Path) -> Iterator[str]:
    profile = read_text(root / "sys/firmware/acpi/platform_profile").strip()
    governed = _governed(root)
    if profile in _SAVING_PROFILES:
        yield f'The platform profile is "{profile}", which slows the processor: {_BALANCED}'
    elif any(driver in _SELF_GOVERNED and preference == "power" for driver, _, preference in governed):
        # Not beside the profile: power-profiles-daemon sets both, and its one command mends both.
        yield f'The processor\'s energy preference is "power", which slows it: {_BALANCED}'
    if any(driver not in _SELF_GOVERNED and governor == "powersave" for driver, governor, _ in governed):
        yield (
            'The frequency governor is "powersave", which holds the processor at its lowest speed: choose another '
            "(sudo cpupower frequency-set --governor performance) and measure again."
        )


def _governed(root: Path) -> set[tuple[str, ...]]:
    """Driver, governor and energy preference, as often as cores differ in them; "" for what a driver does not have."""
    names = ("scaling_driver", "scaling_governor", "energy_performance_preference")
    folders = (root / _CPUS).glob("cpu[0-9]*/cpufreq")
    return {tuple(read_text(folder / name).strip() for name in names) for folder in folders}


def _number(before: str, text: str) -> int | None:
    """The number after what ``before`` matches at the beginning of a line, of the first such line."""
    found = re.search(rf"^\s*{before}(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None
