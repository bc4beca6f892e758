"""Where the models of a prediction would run: machines that are only named, and how fast each part of a machine is."""

from __future__ import annotations

from dataclasses import replace

from advisor.catalog.load import Catalog
from advisor.catalog.names import hosts_matching
from advisor.catalog.records import HostEntry
from advisor.cost.prior import Machine
from advisor.predict.evidence import machine_of, probed_cpu
from advisor.prune import graphics_devices
from advisor.types import Device, Host, Model, Placement

GB, GIB = 10**9, 1 << 30
# A Mac lets the GPU use this share of its memory unless told otherwise (two thirds below 64 GB).
METAL_SHARE, SMALL_METAL_SHARE, SMALL_METAL_BYTES = 0.75, 2 / 3, 64 * GIB
FREE_SHARE = 0.95
ASSUMED_RAM_BYTES = 64 * GIB  # beside a graphics card of which only the name is known
ASSUMED_RAM_BANDWIDTH = 60 * GB  # two channels of DDR5, where the RAM's own is not known


def named_host(entry: HostEntry, memory_gib: int) -> Host:
    """A machine of the catalogue, idle. Of a Mac's memory only what the GPU gets is available: what needs more would
    run on the processor, and people lend the GPU more instead."""
    total = memory_gib * GIB
    notes: tuple[str, ...] = (f"Named with --host, not probed: {entry.source}.",)
    ram, available = total, int(FREE_SHARE * total)
    devices: tuple[Device, ...] = ()
    if entry.backend == "metal":
        available = lent = int((METAL_SHARE if total >= SMALL_METAL_BYTES else SMALL_METAL_SHARE) * total)
        devices = (Device(entry.backend, entry.name, "gpu", lent, lent, entry.unified),)
        more = "`sudo sysctl iogpu.wired_limit_mb=...` lends more"
        notes += (f"macOS lends the GPU about {lent // GIB} GiB by default; {more}.",)
    elif entry.backend != "cpu":
        devices = (Device(entry.backend, entry.name, "gpu", total, int(FREE_SHARE * total), entry.unified),)
        if not entry.unified:
            ram, available = ASSUMED_RAM_BYTES, int(FREE_SHARE * ASSUMED_RAM_BYTES)
            notes += (f"{ASSUMED_RAM_BYTES // GIB} GiB of RAM are assumed beside the card.",)
    return Host(
        fingerprint=f"catalogue:{entry.id}-{memory_gib}gb",
        os="",
        cpu=f"{entry.name}, {memory_gib} GiB",
        isa=(),
        cores_physical=0,
        cores_usable=0,
        ram_total_bytes=ram,
        ram_available_bytes=available,
        devices=devices,
        notes=notes,
    )


def lending_all(host: Host, entry: HostEntry | None) -> Host | None:
    """A named Mac whose GPU is lent nearly all memory; None for other machines."""
    if entry is None or entry.backend != "metal":
        return None
    free = int(FREE_SHARE * host.ram_total_bytes)
    lent = (replace(one, memory_total_bytes=free, memory_free_bytes=free) for one in host.devices)
    return replace(host, devices=tuple(lent), ram_available_bytes=free)


class Machines:
    """Bandwidth and backend of each device of the host. ``notes`` says what had to be assumed."""

    def __init__(self, host: Host, entry: HostEntry | None, target: Model, catalog: Catalog) -> None:
        self.notes: list[str] = []
        self._cpu_is_assumed = False
        gpus = graphics_devices(host)
        self._gpu = self._of_gpu(entry, gpus[0], catalog) if gpus else None
        self._cpu = self._of_cpu(host, entry)
        self._layers = target.layers + 1

    def _of_cpu(self, host: Host, entry: HostEntry | None) -> Machine:
        if entry is not None and entry.backend == "cpu":
            return machine_of(entry)
        known = probed_cpu(host)
        self._cpu_is_assumed = known is None
        return known or Machine("cpu", ASSUMED_RAM_BANDWIDTH)

    def _from_ram(self) -> Machine:
        if self._cpu_is_assumed:
            self.notes.append(
                f"The bandwidth of the RAM is assumed: {ASSUMED_RAM_BANDWIDTH / GB:.0f} GB/s. What does not fit on the "
                "card depends on it."
            )
        return self._cpu

    def _of_gpu(self, entry: HostEntry | None, device: Device, catalog: Catalog) -> Machine | None:
        if entry is not None:
            return machine_of(entry)
        known = hosts_matching(device.description, catalog, device.memory_total_bytes / GIB)
        if known is not None:
            return machine_of(known)
        self.notes.append(f"The catalogue does not know {device.description}: its speed is taken for that of the RAM.")
        return None

    def of_target(self, placement: Placement) -> Machine:
        """With layers on both sides: the two bandwidths in the proportion of the layers."""
        layers = placement.target_gpu_layers
        if layers == 0 or self._gpu is None:
            return self._from_ram()
        if layers < 0 or layers >= self._layers:
            return self._gpu
        share = layers / self._layers
        on_gpu = share / self._gpu.bandwidth_bytes_per_s
        on_cpu = (1 - share) / self._from_ram().bandwidth_bytes_per_s
        slower = self._gpu if on_gpu > on_cpu else self._cpu  # where most of the time goes, kernels matter most
        return Machine(slower.backend, 1 / (on_gpu + on_cpu))

    def of_draft(self, placement: Placement) -> Machine:
        return self._gpu if placement.draft_gpu_layers != 0 and self._gpu is not None else self._from_ram()
