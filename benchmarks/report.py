"""The figures as Markdown, each with its goal and whether it was met."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from advisor.ranking import setting_of
from advisor.types import Build, FirstAnswer, Host, Recommendation
from benchmarks import busy, first, server_loop
from benchmarks import ngram as ngrams
from benchmarks.acceptance import Compared, off
from benchmarks.answer import Answered, Failed
from benchmarks.rules import Judged
from benchmarks.rungs import DRAWS_OF_ANSWERS, Cell, Rung
from benchmarks.scaling import Growth
from benchmarks.served import Checked
from benchmarks.server_loop import Forced, Loop
from benchmarks.sweep import Finals, Screen, SweepTime
from benchmarks.turns import CHOOSING_TURNS, REPEATS, Contest, Ran

MIB, CELL = 1 << 20, 120  # bytes, characters
FASTER_GOAL, REGRET_GOAL, PARENT_GOAL_BYTES = 250.0, 0.02, 400 * MIB
OVER_GOAL, SHARE_GOAL, FIRST_GOAL = 1.1, 0.95, 1 / 3
INSIDE_GOAL = 0.8
COUNTS_GOAL, NGRAM_GOAL, LOOP_GOAL, FORCED_GOAL = 0.02, 0.03, 0.95, 0.05
REPLAY_GOALS, RUNS_GOAL = (0.03, 0.08), ("after 8 real runs", 0.03)
COVER_GOAL = (0.75, 0.95)


def machine(host: Host, build: Build, when: str, commit: str) -> str:
    return (
        f"Measured {when} at {commit} on {host.cpu} ({' '.join(host.isa)}), {host.cores_usable} cores, "
        f"{host.ram_total_bytes / 2**30:.0f} GiB RAM, {host.os}, with {build.engine} {build.version} "
        f"(llama.cpp b{build.llama_cpp_build})."
    )


def time_to_answer(answered: Answered, sweep: SweepTime, seed: int) -> Iterator[str]:
    faster = sweep.whole_s / answered.wall_s
    share = len(sweep.sampled) / sweep.cells
    yield from _headings("", "wall time")
    yield f"| `advisor recommend --quick`, from an empty store | {_minutes(answered.wall_s)} |"
    yield (
        f"| exhaustive sweep, {sweep.cells} pairings and the target alone | {_minutes(sweep.whole_s)} "
        f"± {_minutes(sweep.error_s)} (one standard error) |"
    )
    yield ""
    yield (
        f"The sweep is extrapolated from {len(sweep.sampled)} of its {sweep.cells} cells ({share:.0%}), drawn at "
        f"random (seed {seed}) and run in full: half of them before the advisor, half after. With --quick the advisor "
        "ends at its first answer; how long it refines without that is not measured here."
    )
    yield ""
    yield from _headings("draft", "k", "tokens", "wall time")
    for one in sweep.sampled:
        yield f"| {one.draft} | {one.k} | {one.tokens} | {_minutes(one.wall_s)} |"
    yield ""
    yield _goal(f"times faster: {faster:.1f}", f">= {FASTER_GOAL:.0f}", faster >= FASTER_GOAL)
    peak = answered.parent_peak_bytes
    yield _goal(f"peak memory of the parent process: {peak / MIB:.0f} MiB", "< 400 MiB", peak < PARENT_GOAL_BYTES)


def regret_of(found: Finals, rec: Recommendation, screens: Sequence[Screen], cells: int, tokens: int) -> Iterator[str]:
    """``screens`` of the sweep's ``cells``; the last of them and the pick ran over ``tokens``."""
    yield f"The advisor said: {rec.sentence}"
    yield ""
    yield (
        f"The sweep: {cells} cells; {'; then '.join(map(_screen, screens))}; those {CHOOSING_TURNS} times, turn by "
        f"turn, over {tokens}:"
    )
    yield ""
    yield from _headings("draft", "k", "p_min", "tok/s")
    yield from map(_ran, found.chosen)
    yield ""
    yield f"The best of them and the pick, run again {REPEATS} times in the same way:"
    yield ""
    yield from _headings("", "draft", "k", "p_min", "tok/s")
    yield f"| pick {_ran(found.pick)}"
    yield f"| sweep {_ran(found.best)}"
    yield ""
    kept = 1 - found.regret
    yield _goal(f"throughput of the pick over the sweep's best: {kept:.1%}", ">= 98 %", found.regret <= REGRET_GOAL)
    yield f"- turn by turn: {min(found.kept_by_turn):.1%} to {max(found.kept_by_turn):.1%}"
    if any(one.p_mins for one in screens):
        yield "- a draft length that pays only with p_min does not reach the sweep's finals: its first round has none"
    yield f"- the pick over the target alone ({found.alone:.2f} tok/s): {found.pick.tokens_per_s / found.alone:.2f}x"


def _screen(one: Screen) -> str:
    p_mins = f" with p_min = {' and '.join(f'{p:g}' for p in one.p_mins)}" if one.p_mins else ""
    return f"{one.tokens} tokens an answer{p_mins}, of which the best {one.kept} went on"


def _ran(one: Ran) -> str:
    return f"| {one.draft} | {one.config.k} | {one.config.p_min:g} | {one.tokens_per_s:.2f} |"


def busy_machine(rows: Sequence[busy.Beside], ran: Sequence[Ran], budget_s: float, drafts: int) -> Iterator[str]:
    """``rows``: the first of them beside nobody. ``ran``: each pick, on the machine once it was quiet again."""
    yield f"The demo's question, with a budget of {budget_s:.0f} s and from an empty store, beside processes that spin:"
    yield ""
    yield from _headings("spinning", "wall time", "over budget", "replayed", "first answer", "pick", "noticed")
    yield from (_beside(row, budget_s, drafts) for row in rows)
    yield ""
    for row in rows:
        if isinstance(row.ended, Answered):
            yield f"- beside {row.spinning} the advisor said: {row.ended.recommendation.sentence}"
    yield ""
    yield f"Each pick, run {REPEATS} times, turn by turn, once nobody spun:"
    yield ""
    yield from _headings("draft", "k", "p_min", "tok/s")
    yield from map(_ran, ran)
    yield ""
    beside = f"beside {', '.join(str(row.spinning) for row in rows)} spinning"
    over = [row.ended.wall_s / budget_s if isinstance(row.ended, Answered) else None for row in rows]
    met = all(one is not None and one <= OVER_GOAL for one in over)
    yield _goal(f"wall time over budget, {beside}: {_listed(over, '.2f')}", f"<= {OVER_GOAL:g}", met)
    replayed = [row.replayed for row in rows]
    met = all(one == drafts for one in replayed)
    yield _goal(f"drafts replayed of {drafts}, {beside}: {_listed(replayed, 'd')}", "all", met)
    shares = busy.shares(rows, {one.config: one.tokens_per_s for one in ran})
    met = all(one is not None and one >= SHARE_GOAL for one in shares)
    yield _goal(f"throughput over that of the quiet pick, {beside}: {_listed(shares, '.1%')}", ">= 95 %", met)


def _beside(row: busy.Beside, budget_s: float, drafts: int) -> str:
    wall = f"| {row.spinning} | {_minutes(row.ended.wall_s)} | {row.ended.wall_s / budget_s:.2f}"
    if isinstance(row.ended, Failed):
        return f"{wall} | | | failed | {_cell(row.ended.line)} |"
    rec = row.ended.recommendation
    first_answer, contention = rec.measurement.first_answer, rec.measurement.contention
    noticed = _cell(contention.sentence) if contention else ""
    return f"{wall} | {row.replayed} of {drafts} | {_seconds(first_answer)} | {_pick(rec)} | {noticed or 'nothing'} |"


def _pick(rec: Recommendation) -> str:
    return f"{rec.label_of(rec.best.config)}, {setting_of(rec.best.config)}" if rec.best else "none"


def first_answer(rounds: Sequence[first.Round], found: Contest, tokens: int) -> Iterator[str]:
    """``found``: among the picks of all rounds, over so many ``tokens`` of each answer."""
    yield (
        f"The question of the time to answer, asked in turns: `advisor recommend --quick`, then {first.OLD}, which has "
        "one answer, at its end; each from an empty store."
    )
    yield ""
    yield from _headings("round", "wall time", "first answer", first.OLD, "ratio", "pick", f"pick of {first.OLD}")
    for number, one in enumerate(rounds, 1):
        new, old = one.new.recommendation, one.old.recommendation
        yield (
            f"| {number} | {_minutes(one.new.wall_s)} | {_seconds(new.measurement.first_answer)} "
            f"| {_minutes(one.old.wall_s)} | {one.ratio:.3f} | {_pick(new)} | {_pick(old)} |"
        )
    yield ""
    yield f"Every pick, run {CHOOSING_TURNS} times, turn by turn, over {tokens} tokens of each long answer:"
    yield ""
    yield from _headings("draft", "k", "p_min", "tok/s")
    yield from map(_ran, found.chosen)
    yield ""
    yield f"The fastest of them and the first answers' picks, run again {REPEATS} times in the same way:"
    yield ""
    yield from _headings("draft", "k", "p_min", "tok/s")
    yield from map(_ran, found.again.values())
    yield ""
    ratio, regret = first.ratio(rounds), max(map(found.regret, first.new_picks(rounds)))
    figure = f"time to the first answer over the whole time of {first.OLD}, medians: {ratio:.3f}"
    yield _goal(figure, "<= 1/3", ratio <= FIRST_GOAL)
    yield _goal(f"regret of the first answers' picks, at most: {regret:.1%}", "<= 2 %", regret <= REGRET_GOAL)
    yield "- that is against the fastest pick seen here; the regret against a sweep is a part of its own"


def errors(rungs: Sequence[Rung], cells: Sequence[Cell], noise: float) -> Iterator[str]:
    """``noise``: the median error that a perfect prediction would show at most."""
    yield from _headings("rung", "cells", "median error", "90th percentile", "80 % intervals hold", "of other answers")
    for rung in rungs:
        others = "" if rung.cover_of_others is None else f"{rung.cover_of_others:.0%}"
        yield f"| {rung.name} | {rung.cells} | {rung.median:.1%} | {rung.p90:.1%} | {rung.cover:.0%} | {others} |"
    yield ""
    by_name = {rung.name: rung for rung in rungs}
    replay, runs = by_name["replay"], by_name[RUNS_GOAL[0]]
    met = replay.median <= REPLAY_GOALS[0] and replay.p90 <= REPLAY_GOALS[1]
    yield _goal(f"replay: median {replay.median:.1%}, 90th percentile {replay.p90:.1%}", "<= 3 %, <= 8 %", met)
    yield _goal(f"{runs.name}: median {runs.median:.1%}", "<= 3 %", runs.median <= RUNS_GOAL[1])
    if (cover := replay.cover_of_others) is not None:
        met = COVER_GOAL[0] <= cover <= COVER_GOAL[1]
        yield _goal(f"replay: 80 % intervals hold {cover:.0%} of speedups over other answers", "75 to 95 %", met)
    yield _noise(noise)
    yield (
        "- errors are of the same answers, predicted and run; an interval is of answers like them, so more than 80 % "
        "hold those, and about 80 % should hold others: as many answers as were run are drawn at random "
        f"{DRAWS_OF_ANSWERS} times, and judged by the replay of the rest, times what real runs gave over their replay"
    )
    yield (
        "- baselines are steadied as the advisor steadies them; the prior is told the target's own speed, and knows "
        "published models, not drafts made by dropping layers"
    )
    yield ""
    yield from _headings("draft", "k", "p_min", "predicted", "measured", "error")
    for cell in cells:
        error = cell.predicted / cell.measured - 1
        yield (
            f"| {cell.draft} | {cell.config.k} | {cell.config.p_min:g} | {cell.predicted:.3f} | {cell.measured:.3f} "
            f"| {error:+.1%} |"
        )


def compared(rows: Sequence[Compared]) -> Iterator[str]:
    """Rows of one temperature."""
    yield f"T = {rows[0].temperature:g}, replay / real loop:"
    yield ""
    yield from _headings("draft", "k", "tokens", "accepted", "", "steps", "", "same text")
    for row in rows:
        yield (
            f"| {row.draft} | {row.k} | {row.tokens} | {row.every.replayed_accepted} / {row.every.accepted} "
            f"| {row.every.replayed_accepted / row.every.accepted - 1:+.1%} "
            f"| {row.every.replayed_steps} / {row.every.steps} | {row.every.replayed_steps / row.every.steps - 1:+.1%} "
            f"| {row.alike.answers} of {row.every.answers} |"
        )
    yield ""
    accepted, steps = off([row.every for row in rows])
    met = max(abs(accepted), abs(steps)) <= COUNTS_GOAL
    yield _goal(f"pooled: accepted {accepted:+.2%}, steps {steps:+.2%}", "within 2 %", met)
    accepted, steps = off([row.alike for row in rows])
    yield f"- answers with the same text alone: accepted {accepted:+.2%}, steps {steps:+.2%}"
    yield ""


def judged(rows: Sequence[Judged]) -> Iterator[str]:
    yield from _headings("T", "draft", "rule", "replayed", "in this process", "real server", "off", "drafted")
    for row in rows:
        yield (
            f"| {row.temperature:g} | {row.draft} | {row.rule} | {row.replayed:.3f} | {row.in_process:.3f} "
            f"| {row.served:.3f} | {row.replayed - row.served:+.3f} | {row.drafted} |"
        )
    yield ""
    off = [row.replayed - row.served for row in rows]
    yield f"- replayed - served: mean {sum(off) / len(off):+.3f}, largest {max(map(abs, off)):.3f}"


def ngram(rows: Iterable[ngrams.Compared]) -> Iterator[str]:
    """Rows as they come, then all of them together."""
    yield "Replay / real llama-server:"
    yield ""
    yield from _headings("method", "n", "k", "least", "tokens", "drafted", "accepted", "steps")
    seen = []
    for row in rows:
        config = row.config
        counts = " | ".join(f"{told} / {real}" for told, real in (row.drafted, row.accepted, row.steps))
        yield f"| {config.method} | {config.ngram_size} | {config.k} | {config.n_min} | {row.tokens} | {counts} |"
        seen.append(row)
    yield ""
    shares = ngrams.off(seen)
    figure = "pooled: " + ", ".join(f"{name} {share:+.2%}" for name, share in shares.items())
    yield _goal(figure, "within 3 %", max(map(abs, shares.values())) <= NGRAM_GOAL)


def loops(found: Sequence[Loop]) -> Iterator[str]:
    yield "Speedup over each build's own baseline:"
    yield ""
    yield from _headings("k", "in process", "llama-server", "efficiency", "standard error")
    for one in found:
        yield (
            f"| {one.config.k} | {one.in_process:.3f} | {one.in_server:.3f} | {one.efficiency:.3f} | {one.error:.1%} |"
        )
    yield ""
    middle = statistics.median(one.efficiency for one in found)
    yield _goal(f"efficiency of the in-process loop, median: {middle:.3f}", ">= 0.95", middle >= LOOP_GOAL)


def served(rec: Recommendation, found: Sequence[Checked], drafted: int) -> Iterator[str]:
    yield f"The advisor said: {rec.sentence}"
    yield ""
    yield from _headings("draft or method", "setting", "evidence", "predicted", "interval", "measured", "inside")
    for one in found:
        estimate = one.estimate
        yield (
            f"| {one.label} | {setting_of(estimate.config)} | {estimate.evidence} | {estimate.speedup:.3f} "
            f"| {estimate.speedup_low:.2f} to {estimate.speedup_high:.2f} | {one.measured:.3f} "
            f"| {'yes' if one.inside else 'no'} |"
        )
    yield ""
    share = sum(one.inside for one in found) / len(found)
    yield _goal(f"inside the 80 % interval: {share:.0%} of {len(found)}", ">= 80 %", share >= INSIDE_GOAL)
    yield _goal(f"the command line speculates: {drafted} tokens drafted in one answer", "> 0", drafted > 0)


def forced(found: Sequence[Forced]) -> Iterator[str]:
    yield "Acceptance forced in the server; costs: decodes timed in the server:"
    yield ""
    yield from _headings("accepted by place", "tokens a step", "in whole drafts", "predicted", "measured", "error")
    for one in found:
        rates = " ".join(f"{rate:g}" for rate in one.rates)
        error = one.predicted / one.measured - 1
        yield (
            f"| {rates} | {one.tokens_per_step:.2f} | {1 + sum(one.rates):.2f} | {one.predicted:.3f} "
            f"| {one.measured:.3f} | {error:+.1%} |"
        )
    yield ""
    yield (
        "- predicted from the steps, drafts and accepted tokens that the server counted: it draws the same for every "
        "answer of a setting, and an answer's last draft is cut, so they are not those of whole drafts"
    )
    middle = server_loop.median_error(found)
    yield _goal(f"median error: {middle:.1%}", "<= 5 %", middle <= FORCED_GOAL)
    yield _noise(server_loop.noise(found))


def growth(found: Sequence[Growth]) -> Iterator[str]:
    for one in found:
        yield from _headings(one.what, *(f"{one.size} = {size}" for size in one.sizes))
        yield "| seconds | " + " | ".join(f"{s:.2f}" for s in one.seconds) + " |"
        yield ""
        figure = f"{one.what}, exponent over {one.size}: {one.exponent:.2f}"
        if one.goal is None:
            yield f"- {figure} (no goal: it has ever more points)"
        else:
            yield _goal(figure, f"<= {one.goal:g}", one.exponent <= one.goal)
        yield ""


def plot(found: Sequence[Growth], image: Path) -> None:
    """One panel a growth, both axes logarithmic: a straight line of slope 1 is linear growth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(found), 3.0), layout="constrained")
    for axes, one in zip(figure.subplots(1, len(found)), found, strict=True):
        axes.loglog(one.sizes, one.seconds, "o-", label="measured")
        axes.loglog(one.sizes, [one.seconds[0] * n / one.sizes[0] for n in one.sizes], ":", label="linear")
        axes.set_xticks(one.sizes, [str(n) for n in one.sizes], minor=False)
        axes.minorticks_off()
        axes.set(title=one.what, xlabel=one.size, ylabel="seconds")
        axes.title.set_fontsize(9)
    figure.axes[0].legend(fontsize=8)
    image.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(image, dpi=120)


def section(title: str, lines: Iterable[str]) -> str:
    return "\n".join((f"## {title}", "", *lines, ""))


def _headings(*names: str) -> Iterator[str]:
    yield "| " + " | ".join(names) + " |"
    yield "|---" * len(names) + "|"


def _goal(figure: str, goal: str, met: bool) -> str:
    return f"- {figure} (goal {goal}: {'met' if met else '**not met**'})"


def _noise(median: float) -> str:
    return f"- measuring alone, of so few answers, would show a median of at most {median:.1%}"


def _listed(figures: Sequence[float | None], form: str) -> str:
    """Of commands, of which those without a figure failed."""
    return ", ".join("failed" if one is None else format(one, form) for one in figures)


def _cell(text: str) -> str:
    """As much of a text as a cell of a table holds."""
    return textwrap.shorten(text.replace("|", "/"), CELL, placeholder=" ...")


def _seconds(answer: FirstAnswer | None) -> str:
    return f"{answer.elapsed_s:.1f} s" if answer else "not told"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
