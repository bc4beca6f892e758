"""What can be done with a recommendation: its reasons, its rows, its flags, and how it fares on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from advisor.api.arguments import Note, PathText, kept_in, one_path, one_workload, silent
from advisor.errors import OptionError
from advisor.paths import expanded
from advisor.types import Recommendation, Workload

if TYPE_CHECKING:
    from advisor.exporters.check import Checked
    from advisor.reasons.records import Explanation
    from advisor.watch import View


def explain(rec: Recommendation, category: str | None = None) -> Explanation:
    """Why the answer is what it is: break-even, margins, where the time of a step goes, what would change it.

    Computed from the record alone: no model, no clock. With ``category`` only its answers count; OptionError where the
    recommendation has no such one. The fields are described in ``advisor.reasons.records``.

    >>> import advisor
    >>> rec = advisor.recommend(target="llama-3.3-70b-q4_k_m", host="m4-max-128gb")
    >>> reasons = advisor.explain(rec)
    >>> reasons.subject.draft.name == rec.draft_of(rec.best.config).name
    True
    """
    from advisor import reasons

    return reasons.explain(rec, category)


def to_rows(rec: Recommendation, *, every: bool = True) -> list[dict[str, Any]]:
    """The estimates as flat rows, best first, all with the same keys: a data frame is ``pandas.DataFrame(rows)``.

    One row a setting of a draft or method; with ``every=False`` only the best of each, as in the printed table. The
    columns, their units and their meaning are in ``advisor.COLUMNS``; a value that does not apply is None.

    >>> import advisor
    >>> rows = advisor.to_rows(advisor.recommend(target="qwen2.5-72b-q8", host="m4-max-128gb"))
    >>> list(rows[0]) == list(advisor.COLUMNS)
    True
    >>> rows[0]["is_best"], rows[0]["evidence"], rows[0]["target_quant"]
    (True, 'prior', 'Q8_0')
    """
    from advisor.report.flat import flat_rows

    return flat_rows(rec, show_all=every)


def export(
    rec: Recommendation,
    to: str = "llama-server",
    *,
    llama_server: PathText | None = None,
    llama_build: str | None = None,
    target_name: str | None = None,
    draft_name: str | None = None,
    windows: bool | None = None,
    next_best: bool = False,
    note: Note = silent,
) -> str:
    """The recommendation as what ``to`` reads: one of ``advisor.exporters.EXPORTERS``, ``"json"`` among them, which
    ``load`` reads back. A verdict of no is exported as the target alone.

    It is written in the words of the llama.cpp build that was measured, of ``llama_build`` (``"b7900"``), or of the
    program ``llama_server``, which is asked. ``target_name`` and ``draft_name`` are what vLLM and mlx-lm call the
    models; ``windows`` chooses the shell that a command is quoted for, by default this system's. For systemd and
    llama-swap it is the llama-server of this machine by its whole path; ``note`` is told where there is none.

    Raises OptionError for what the consumer has no words for, and names it. With ``next_best``, where that is the
    setting, the best other setting is written that it can express and whose interval is above 1; ``note`` is told.

    >>> import advisor
    >>> rec = advisor.recommend(target="qwen2.5-72b-q8", host="m4-max-128gb")
    >>> command = advisor.export(rec, to="llama-server", windows=False)
    >>> "--spec-type draft-simple" in command
    True
    >>> advisor.export(rec, to="lilo")
    Traceback (most recent call last):
        ...
    advisor.errors.OptionError: --to: there is no export to 'lilo'.
    Known are llama-server, ..., json.
    """
    from advisor import exporters

    return exporters.export(
        rec,
        to,
        llama_server=one_path(llama_server),
        llama_build=llama_build,
        target_name=target_name,
        draft_name=draft_name,
        windows=windows,
        next_best=next_best,
        note=note,
    )


def to_html(rec: Recommendation, category: str | None = None) -> str:
    """The recommendation, its reasons and its command as one page that opens offline, the target's answers included."""
    from advisor.report import explain_page

    return explain_page.page(rec, explain(rec, category), serving_command(rec, category))


def serving_command(rec: Recommendation, category: str | None = None) -> str:
    """The llama-server command line of the recommendation, quoted for this system's shell; with ``category`` of what
    its answers alone would have."""
    from advisor.exporters import llama_server
    from advisor.reasons import narrowed

    return llama_server.shell(llama_server.command(rec if category is None else narrowed(rec, category)))


def check(
    rec: Recommendation,
    *,
    llama_server: PathText | None = None,
    workload: PathText | Workload | None = None,
    store: PathText | None = None,
    note: Note = silent,
) -> Checked:
    """Start the exported llama-server command, ask two prompts, and compare what it does with what was recommended.

    Takes as long as loading the models and two answers. ``llama_server`` is the program, by default the one that is
    found; ``workload`` is needed where the recommendation was measured with prompts of your own. ``note`` is told when
    another measurement on this machine is waited for.

    Raises FileProblem where there is no server or a model is missing, OptionError where there is nothing to check, and
    EngineError where the server fails or does not speculate.
    """
    from advisor import workload as workloads
    from advisor.engines.find_server import find_server
    from advisor.exporters import check as checking
    from advisor.host.files import host_lock_path, timing_lock
    from advisor.pipeline import LOCK_TIMEOUT_S

    if workload is None and rec.workload != workloads.BUILTIN_NAME and rec.measurement.prompts:
        raise OptionError(
            "--check needs the prompts that the recommendation was measured with.",
            why=f"It is about the workload {rec.workload}; other text is accepted more or less often.",
            fix="Add --workload FILE.",
        )
    program = find_server(str(llama_server or ""))
    prompts = workloads.prompts_of(one_workload(workload)).prompts
    with kept_in(store), timing_lock(host_lock_path(), timeout_s=LOCK_TIMEOUT_S, waiting=note):
        return checking.check(rec, program, checking.prompts_for(rec, prompts))


def load(path: PathText | None = None, *, store: PathText | None = None) -> Recommendation:
    """The recommendation in a file (``advisor recommend --format json``, or the text of ``export(rec, to="json")``);
    without ``path`` the last one that was made. Raises FileProblem."""
    from advisor import store as stores
    from advisor.report import json_document

    if path is not None:
        return json_document.load_file(expanded(path))
    with kept_in(store):
        return stores.load_last()


def observe(
    url: str = "http://127.0.0.1:8080", rec: Recommendation | None = None, *, api_key: str = "", seconds: float = 0.0
) -> View:
    """What a running llama-server accepts and how fast it is, beside ``rec``: ``judgement`` says whether it pays.

    Over the next ``seconds``, which are waited for; 0 is all since the server started. Raises ServerProblem where
    nothing can be read: no server, one without ``--metrics``, another program; OptionError for seconds below 0.
    """
    import math
    import time

    from advisor.server_reader import ServerReader, address
    from advisor.watch import Watcher

    if not 0 <= seconds < math.inf:
        raise OptionError(f"seconds: {seconds} is no time to wait.", fix="Give 0 or more.")
    watcher = Watcher(ServerReader(address(url), api_key=api_key), rec, time.monotonic)
    watcher.read()
    if not seconds:
        return watcher.view(watcher.history.since_start)
    time.sleep(seconds)
    watcher.read()
    return watcher.view(watcher.history.lately)
