"""What this machine is: ``probe`` -> Host.

    memory     RAM, as far as control groups allow
    cpu, isa   cores, the processor's name, its vector instructions
    devices    CPU, GPUs and accelerators, as ggml lists them in a child process
    bandwidth  how fast memory can be read, the one slow answer, measured in a child process; kept on disk

Everything but the read bandwidth is asked anew each time. Nothing here runs a model: ``decode_bandwidth`` is added
later by ``with_decode_bandwidth``.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.errors import FileProblem
from advisor.host import cpu, isa, memory
from advisor.host.files import write_atomically
from advisor.types import Device, Host, from_json, to_json

if TYPE_CHECKING:
    # This module and `bandwidth` also run as a child's __main__, and must not have been imported by then.
    from advisor.host.devices import Listing

_GIB = 1024**3
_SYSTEMS = {"Darwin": "macOS"}


def _system() -> str:
    return _SYSTEMS.get(platform.system(), platform.system())


def _list_devices() -> Listing:
    from advisor.host.devices import list_devices

    return list_devices()


def _measure_read_bandwidth(available_bytes: int, threads: int, cache_bytes: int) -> float | None:
    from advisor.host.bandwidth import measured_by_child

    return measured_by_child(available_bytes, threads, cache_bytes)


@dataclass(frozen=True)
class Sources:
    """Where ``probe`` looks. The defaults are this machine; a test puts a recorded one here.

    ``root`` holds proc/ and sys/. ``system`` is "Linux", "macOS" or "Windows".
    ``read_bandwidth`` takes available bytes, threads and the bytes of the last-level cache.
    """

    root: Path = Path("/")
    system: str = _system()
    machine: str = platform.machine()
    sysctl: Callable[[], str] = cpu.sysctl
    physical_ram: Callable[[], memory.Ram] = memory.physical_ram
    address_space: Callable[[], memory.AddressSpace | None] = memory.address_space
    physical_cores: Callable[[], int] = cpu.physical_cores
    schedulable_cores: Callable[[], int] = cpu.schedulable_cores
    list_devices: Callable[[], Listing] = _list_devices
    read_bandwidth: Callable[[int, int, int], float | None] = _measure_read_bandwidth
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def probe(*, store_dir: Path, fresh: bool = False, sources: Sources | None = None) -> Host:
    """This machine, looked at now.

    The first time takes 2 to 3 s, for the read bandwidth, which is then kept in ``store_dir``/hosts; ``fresh``
    measures it again. Measure under ``timing_lock`` where another process may be timing. Never raises for what
    cannot be found out: the field then is empty, and ``notes`` says so.
    """
    sources = sources or Sources()
    host = look(sources)
    return _with_read_bandwidth(host, sources, store_dir / "hosts" / f"{host.fingerprint}.json", fresh)


def with_decode_bandwidth(host: Host, model_active_bytes: int, token_s: float) -> Host:
    """``host`` knowing that a real decode read ``model_active_bytes`` in ``token_s`` seconds.

    Both are lower bounds, so the best decode seen so far counts. ValueError unless both numbers are positive.
    """
    if model_active_bytes <= 0 or token_s <= 0:
        raise ValueError("model_active_bytes and token_s must be positive")
    reached = model_active_bytes / token_s
    return replace(host, decode_bandwidth_bytes_per_s=max(reached, host.decode_bandwidth_bytes_per_s or 0.0))


def with_devices(host: Host, offload: tuple[Device, ...]) -> Host:
    """``host`` as another build of llama.cpp sees it: the devices that build can offload to, beside the CPU."""
    return replace(host, devices=(*(one for one in host.devices if one.kind == "cpu"), *offload))


def fingerprint(
    os_name: str, cpu_name: str, cores_usable: int, ram_total_bytes: int, devices: tuple[Device, ...]
) -> str:
    """16 hex digits that stay the same as long as the machine would measure the same.

    RAM counts in whole GiB, because the kernel's share of it changes from boot to boot. Driver and kernel versions
    are left out, and so is everything that changes while the machine runs. The CPU counts by its name only, so that
    a device listing that failed once does not make another machine of one without a GPU.
    """
    names = sorted([device.name, device.description] for device in devices if device.kind != "cpu")
    identity = [os_name, cpu_name, cores_usable, round(ram_total_bytes / _GIB), names]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def look(sources: Sources | None = None) -> Host:
    """Everything that is quick to find out: all but the read bandwidth. Never raises, as ``probe``."""
    sources = sources or Sources()
    listing = sources.list_devices()
    sysctl_text = sources.sysctl()
    ram = memory.usable_ram(sources.physical_ram(), sources.root, sources.address_space())
    os_name = f"{sources.system} {sources.machine}"
    cpu_name = cpu.brand(sources.system, sources.root, sysctl_text)
    cores_usable = cpu.usable_cores(sources.schedulable_cores(), sources.root)
    return Host(
        fingerprint=fingerprint(os_name, cpu_name, cores_usable, ram.total_bytes, listing.devices),
        os=os_name,
        cpu=cpu_name,
        isa=isa.read_isa(sources.system, sources.root, sysctl_text, listing.system_info),
        cores_physical=sources.physical_cores(),
        cores_usable=cores_usable,
        ram_total_bytes=ram.total_bytes,
        ram_available_bytes=ram.available_bytes,
        devices=tuple(_with_ram(device, ram) for device in listing.devices),
        notes=(listing.note,) if listing.note else (),
    )


def _with_ram(device: Device, ram: memory.Ram) -> Device:
    """ggml gives the CPU the whole machine's memory, and calls all of it free."""
    if device.kind != "cpu":
        return device
    return replace(device, memory_total_bytes=ram.total_bytes, memory_free_bytes=ram.available_bytes)


def _with_read_bandwidth(host: Host, sources: Sources, path: Path, fresh: bool) -> Host:
    kept = None if fresh else _kept(path, host.fingerprint)
    if kept is not None:
        return replace(host, read_bandwidth_bytes_per_s=kept.read_bandwidth_bytes_per_s, measured_at=kept.measured_at)
    cache_bytes = cpu.last_level_cache_bytes(sources.root, sources.sysctl())
    rate = sources.read_bandwidth(host.ram_available_bytes, host.cores_usable, cache_bytes)
    if rate is None:
        note = "The memory bandwidth was not measured: no buffer larger than the caches could be filled and read."
        return replace(host, notes=(*host.notes, note))
    measured = replace(host, read_bandwidth_bytes_per_s=rate, measured_at=sources.now().isoformat(timespec="seconds"))
    return _keep(path, measured)


def _kept(path: Path, expected_fingerprint: str) -> Host | None:
    """The profile on disk; None where there is none that can be used, which means: measure again."""
    try:
        kept = from_json(Host, path.read_bytes())
    except (OSError, FileProblem):
        return None
    usable = kept.fingerprint == expected_fingerprint and (kept.read_bandwidth_bytes_per_s or 0) > 0
    return kept if usable else None


def _keep(path: Path, host: Host) -> Host:
    try:
        write_atomically(path, to_json(host))
    except OSError as error:
        note = f"The memory bandwidth will be measured again next time: {path} was not written ({error.strerror})."
        return replace(host, notes=(*host.notes, note))
    return host
