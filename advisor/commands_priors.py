"""The commands about priors: import, fit-priors. As cli.py: parse, call, render.

Heavy modules are imported inside the functions that need them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from advisor import api
from advisor.failures import errors_for_people, say, say_note
from advisor.output import check_output, deliver
from advisor.paths import expanded
from advisor.printable import visible

if TYPE_CHECKING:
    from advisor.predict.belief import Posterior
    from advisor.predict.evidence import Evidence
    from advisor.predict.learning import Learnt, Refit

MOVED_COEFFICIENTS = 5


def register(app: typer.Typer) -> None:
    app.command("import")(import_files)
    app.command()(fit_priors)


def import_files(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="draftbench results, or recommendations in JSON.")
    ],
) -> None:
    """Keep measurements of others as evidence for the priors.

    Those of your own other machines as well: results of draftbench, or advisor's own JSON.
    """
    with errors_for_people():
        learnt = api.import_results(files)
        lines = [line for one in learnt for line in _import_lines(one)]
        if any(one.is_new for one in learnt):
            lines.append("Refit the priors with them: advisor fit-priors")
        _deliver_lines(lines)


def _import_lines(learnt: Learnt) -> Iterator[str]:
    from advisor.predict.learning import first

    evidence = learnt.evidence
    yield f"{learnt.name}: imported" if learnt.is_new else f"{learnt.name}: was imported before; nothing has changed"
    yield f"  {_contents(evidence)}"
    hosts = dict.fromkeys(
        f"{machine.host or 'unknown'} ({machine.backend}, {machine.bandwidth_bytes_per_s / 1e9:.0f} GB/s)"
        for machine in _machines(evidence)
    )
    yield f"  host: {', '.join(hosts)}"
    for target in dict.fromkeys(pair.target for pair in evidence.pairs):
        speeds = [pair.speedup for pair in evidence.pairs if pair.target == target]
        yield f"  {target}: {len(speeds)} pairs, {min(speeds):.2f}x to {max(speeds):.2f}x"
    yield from (f"  note: {note}" for note in first(evidence.notes))


def _machines(evidence: Evidence) -> Iterator[Any]:
    yield from (pair.case.machine for pair in evidence.pairs)
    yield from (row.machine for row in evidence.decodes)
    yield from (row.machine for row in evidence.verifies)


def _contents(evidence: Evidence) -> str:
    from advisor.report.wording import counted

    baselines = sum(row.is_baseline for row in evidence.decodes)
    parts = [counted(len(evidence.pairs), "pair"), counted(baselines, "baseline")]
    if others := len(evidence.decodes) - baselines:
        parts.append(counted(others, "decode speed"))
    if evidence.verifies:
        parts.append(counted(len(evidence.verifies), "verify cost"))
    return ", ".join(parts)


def fit_priors(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE...]", help="More evidence, beside what was imported.")
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Learn from the given and imported evidence alone.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write it. [default: in use at once]")
    ] = None,
) -> None:
    """Fit the priors again with what was imported.

    The files given and what was imported go on top of what is shipped.
    """
    with errors_for_people():
        from advisor.predict import learning
        from advisor.predict.belief import posterior_to_json, shipped
        from advisor.user_catalog import user_catalog

        check_output(output)
        start = None if from_scratch else shipped()
        given = [expanded(path) for path in files or []]
        evidence = learning.collect(given, start, user_catalog(say_note), note=say_note)
        say(f"Fitting {_contents(evidence)}; this takes up to a minute or two.")
        refit = learning.refit(evidence, start)
        if output:
            path, text = expanded(output), posterior_to_json(refit.fitted)
            deliver(lambda stream: print(text, file=stream, end=""), path)
        else:
            path = learning.put_in_use(refit.fitted)
        _deliver_lines(_fit_lines(refit, path, in_use=output is None))


def _fit_lines(refit: Refit, path: Path, *, in_use: bool) -> Iterator[str]:
    from advisor.predict.learning import first

    fitted, evidence = refit.fitted, refit.evidence
    yield from (f"learnt from {line}" for line in evidence.provenance)
    yield from (f"note: {note}" for note in first(evidence.notes))
    yield f"row_sd {fitted.row_sd:.3f}: how far one pair's log(speedup) strays from the fit"
    yield "What moved most, in units of what was uncertain before:"
    yield from _moves(fitted, refit.start)
    yield f"Written to {path}" + (", which predictions now use." if in_use else ".")


def _moves(fitted: Posterior, start: Posterior | None) -> Iterator[str]:
    from advisor.predict.belief import assumed

    before = start.over(fitted.names) if start else None
    moves = []
    for place, name in enumerate(fitted.names):
        if before is None:
            mean, sd = assumed(name)
        else:
            mean, sd = float(before.mean[place]), math.sqrt(float(before.covariance[place, place]))
        new = float(fitted.mean[place])
        moves.append(((new - mean) / max(sd, 1e-9), name, mean, new))
    moves.sort(key=lambda move: -abs(move[0]))
    for sds, name, old, new in moves[:MOVED_COEFFICIENTS]:
        yield f"  {name:<28} {old:8.3f} -> {new:8.3f}   ({sds:+.1f})"


def _deliver_lines(lines: Iterable[str]) -> None:
    text = "\n".join(visible(line) for line in lines)
    deliver(lambda stream: print(text, file=stream), None)
