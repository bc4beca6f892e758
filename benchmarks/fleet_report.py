"""The figures of a fleet as Markdown, as a picture, and in the document that shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from advisor.types import Host
from benchmarks.fleet import Spread
from benchmarks.shared_search import PAIR_S, Shared

PLANNED_WORKERS, PLANNED_REPLAY_S = 50, 4.0
BEGIN, END = "<!-- figures: written by `python -m benchmarks fleet` -->\n", "<!-- end of figures -->"


def write(document: Path, figures: str) -> None:
    """In place of the figures that the document had. ValueError where it has no place for them."""
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{document} has no place for figures")
    document.write_text(f"{before}{BEGIN}{figures}\n{end}{after}", encoding="utf-8")


def lines(host: Host, replays: Sequence[Spread], prices: Sequence[Spread], searches: Sequence[Shared]) -> Iterator[str]:
    yield f"On {host.cores_usable} cores of {host.cpu}, all processes on loopback:"
    yield ""
    yield "![Wall time against workers](images/fleet.svg)"
    yield ""
    tasks, task_s = replays[0].tasks, replays[0].task_s
    yield (
        f"{tasks} simulated replays of {1000 * task_s:.0f} ms each, handed out by the product's own code to workers in "
        "processes of their own. A replay on another machine takes none of this one's time, so a simulated one waits:"
    )
    yield ""
    yield from _table(replays, "replays")
    yield ""
    yield _sameness(replays)
    yield ""
    overhead_s = replays[-1].handing_out_s
    bound_s = max(overhead_s, PLANNED_REPLAY_S / PLANNED_WORKERS)
    yield (
        f"Handing out a replay costs {1000 * overhead_s:.1f} ms of this machine ({replays[-1].workers} workers). "
        f"Planned from that, not measured: {tasks} replays of {PLANNED_REPLAY_S:.0f} s on {PLANNED_WORKERS} machines "
        f"take {tasks * bound_s:.0f} s, on one {tasks * PLANNED_REPLAY_S / 60:.0f} min."
    )
    yield ""
    yield (
        f"The prior for {tasks} pairs of catalogue models on each of {prices[0].tasks} catalogue machines, a task a "
        "machine. This is arithmetic, so this machine's cores are what there is to share:"
    )
    yield ""
    yield from _table(prices, "machines")
    yield ""
    yield _sameness(prices)
    yield ""
    yield (
        f"A search shared by simulated machines of one class, each real run {PAIR_S:g} s a prompt, with drafts near "
        "enough to each other that many runs are needed:"
    )
    yield ""
    yield "| machines | wall time | configs run, each | true speedup of the picks, at least |"
    yield "|---|---|---|---|"
    for one in searches:
        yield f"| {one.machines} | {one.wall_s:.1f} s | {', '.join(map(str, one.ran))} | {one.speedup:.3f} |"


def _table(found: Sequence[Spread], what: str) -> Iterator[str]:
    yield f"| workers | wall time | {what} a second | efficiency |"
    yield "|---|---|---|---|"
    for one in found:
        yield f"| {one.workers} | {one.wall_s:.1f} s | {one.tasks / one.wall_s:.1f} | {one.efficiency:.0%} |"


def _sameness(found: Sequence[Spread]) -> str:
    digests = sorted({one.digest for one in found})
    if len(digests) == 1:
        return f"What came out is the same, bit for bit, whatever the number of workers (digest {digests[0]})."
    return f"What came out is NOT the same: digests {', '.join(digests)}."


def picture(replays: Sequence[Spread], prices: Sequence[Spread], path: Path) -> None:
    """Wall time against workers, both on logarithmic scales, beside what perfect sharing would give."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "fleet"  # the same picture from the same numbers
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2))
    for found, label in ((replays, "replays (waiting)"), (prices, "foreseeing (this machine's cores)")):
        workers = [one.workers for one in found]
        (line,) = axes.loglog(workers, [one.wall_s for one in found], "o-", label=f"{found[0].tasks} {label}")
        ideal = [found[0].wall_s / count for count in workers]
        axes.loglog(workers, ideal, ":", color=line.get_color(), label="shared out perfectly")
    every = sorted({one.workers for one in (*replays, *prices)})
    axes.set_xticks(every, [str(count) for count in every])
    axes.minorticks_off()
    axes.set_xlabel("workers")
    axes.set_ylabel("wall time, s")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
