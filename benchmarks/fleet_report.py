"""The figures of a fleet as Markdown, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.fleet import Spread
from benchmarks.shared_search import Shared

PLANNED_WORKERS, PLANNED_REPLAY_S = 50, 4.0


def lines(replays: Sequence[Spread], prices: Sequence[Spread], searches: Sequence[Shared]) -> Iterator[str]:
    tasks, task_s = replays[0].tasks, replays[0].task_s
    yield f"{tasks} simulated replays of {1000 * task_s:.0f} ms each, over workers in processes of their own:"
    yield ""
    yield from _table(replays, "replays")
    yield ""
    overhead_s = replays[-1].handing_out_s
    bound_s = max(overhead_s, PLANNED_REPLAY_S / PLANNED_WORKERS)
    yield (
        f"Handing out a replay costs {1000 * overhead_s:.1f} ms of this machine ({replays[-1].workers} workers). "
        f"Planned from that, not measured: {tasks} replays of {PLANNED_REPLAY_S:.0f} s on {PLANNED_WORKERS} machines "
        f"take {tasks * bound_s:.0f} s, on one {tasks * PLANNED_REPLAY_S / 60:.0f} min. If every machine "
        f"replayed every pair for itself, there would be {PLANNED_WORKERS} times as many."
    )
    yield ""
    yield f"The prior for {tasks} pairs on each of {prices[0].tasks} machines, a task a machine:"
    yield ""
    yield from _table(prices, "machines")
    yield ""
    yield "A search shared by simulated machines of one class:"
    yield ""
    yield "| machines | wall time | configs run, each | true speedup of the picks, at least |"
    yield "|---|---|---|---|"
    for one in searches:
        yield f"| {one.machines} | {one.wall_s:.1f} s | {', '.join(map(str, one.ran))} | {one.speedup:.3f} |"


def _table(found: Sequence[Spread], what: str) -> Iterator[str]:
    yield f"| workers | wall time | {what} a second | efficiency | result |"
    yield "|---|---|---|---|---|"
    for one in found:
        yield (
            f"| {one.workers} | {one.wall_s:.1f} s | {one.tasks / one.wall_s:.1f} | {one.efficiency:.0%} | "
            f"{one.digest} |"
        )


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
