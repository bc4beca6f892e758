"""The words of a question, from the command line or from Python -> what is to be done, checked before anything runs.

    understand(...)          recommend: a Prediction, or a Measurement
    understand_sweep(...)    sweep: a Measurement and its grid
    understand_fleet(...)    fleet: a Prediction, for many machines

This module knows nothing about how a question is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from advisor import options
from advisor.errors import OptionError
from advisor.options import PriorQuestion
from advisor.types import Settings, Workload

if TYPE_CHECKING:
    from advisor.grid import Grid
    from advisor.pipeline import Request
    from advisor.progress import Progress

DEFAULT_BUDGET, DEMO_BUDGET = "5m", "3m30s"
SWEEP_LENGTHS = (2, 4, 8, 16)

Models = Callable[["Progress"], tuple[Path, tuple[Path, ...]]]
"""Target and drafts, once there is somebody to tell about it."""


@dataclass(frozen=True)
class Prediction:
    """Answered by ``pipeline.foresee``, or ``pipeline.foresee_fleet`` for many machines."""

    question: PriorQuestion
    settings: Settings


@dataclass(frozen=True)
class Measurement:
    """Answered by ``pipeline.recommend``. ``models`` gives target and drafts; those of the demo are made then.
    ``without_draft`` as in Request."""

    models: Models
    workload: Workload
    settings: Settings
    fresh: bool = False
    server: str | None = None
    profile: Path | None = None
    scheduler: str | None = None
    shared_search: str | None = None
    without_draft: bool = False
    quick: bool = False

    def request(self, progress: Progress) -> Request:
        from advisor.pipeline import Request

        target, drafts = self.models(progress)
        return Request(
            target,
            drafts,
            self.workload,
            self.settings,
            self.fresh,
            self.server,
            self.profile,
            self.scheduler,
            self.shared_search,
            self.without_draft,
            self.quick,
        )


def understand(
    *,
    target: str | None,
    drafts: Sequence[Path],
    draft_dirs: Sequence[Path],
    workload: Path | Workload | None,
    categories: Sequence[str],
    context: int,
    budget: str | None,
    temperature: float,
    top_p: float,
    seed: int,
    max_tokens: int,
    k_max: int,
    threads: int,
    host: str | None,
    baseline_tps: float | None,
    llama_build: str | None,
    k: int | None,
    p_min: float | None,
    predict: bool,
    models_dirs: Sequence[Path],
    server: str | None,
    fresh: bool,
    demo: bool,
    note: Callable[[str], None],
    profile: Path | None = None,
    scheduler: str | None = None,
    shared_search: str | None = None,
    quick: bool = False,
) -> Prediction | Measurement:
    """What to do about ``advisor recommend`` with these values; ``budget`` None is the usual one.

    ``server`` is the llama-server to run: "" where one is to be found, None for none. ``profile`` is a file of
    acceptance measured elsewhere, ``scheduler`` the address of one that spreads replays, ``shared_search`` that of a
    database for the search of several machines. Raises UserError, naming the
    option, for the first value that cannot be; ``note`` is told what a person should know, such as a skipped file.
    """
    settings = options.settings(
        context=context,
        budget=budget if budget is not None else DEMO_BUDGET if demo else DEFAULT_BUDGET,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        max_tokens=max_tokens,
        k_max=k_max,
        threads=threads,
    )
    question = options.prior_question(
        target,
        host=host,
        baseline_tps=baseline_tps,
        llama_build=llama_build,
        k=k,
        p_min=p_min,
        predict=predict,
        categories=categories,
        demo=demo,
        models_dirs=models_dirs,
    )
    if question is not None:
        found = None if question.is_prediction_only else _on_disk(question, settings, note)
        if found is None:
            options.refuse_for_prediction(
                draft=drafts,
                draft_dir=draft_dirs,
                workload=workload,
                fresh=fresh,
                budget=budget,
                engine=server == "",
                llama_server=server,
                profile=profile,
                scheduler=scheduler,
                share_search=shared_search,
                quick=quick,
            )
            return Prediction(question, settings)
        target, drafts = str(found[0]), drafts or (() if draft_dirs else found[1])
    prompts = _prompts(workload, categories)
    models = _demo(target, drafts, draft_dirs) if demo else _given(target, drafts, draft_dirs, note)
    without_draft = not (demo or drafts or draft_dirs)
    return Measurement(
        models, prompts, settings, fresh, server, profile, scheduler, shared_search, without_draft, quick
    )


def understand_sweep(
    *,
    target: str,
    drafts: Sequence[Path],
    draft_dirs: Sequence[Path],
    lengths: Sequence[int],
    p_mins: Sequence[float],
    prompts: int,
    workload: Path | Workload | None,
    context: int,
    max_tokens: int,
    temperature: float,
    seed: int,
    threads: int,
    server: str | None,
    fresh: bool,
    note: Callable[[str], None],
) -> tuple[Measurement, Grid]:
    """What to do about ``advisor sweep`` with these values. As ``understand``."""
    from advisor.grid import Grid

    lengths = tuple(sorted(set(lengths or SWEEP_LENGTHS)))
    options.check_grid(lengths, p_mins, prompts)
    settings = options.settings(
        context=context,
        budget="1h",  # of no meaning here: a sweep takes as long as it takes
        temperature=temperature,
        top_p=Settings().sampling.top_p,
        seed=seed,
        max_tokens=max_tokens,
        k_max=max(lengths),
        threads=threads,
    )
    models = _given(target, drafts, draft_dirs, note)
    grid = Grid(lengths, tuple(sorted(set(p_mins or (0.0,)))), prompts)
    return Measurement(models, _prompts(workload, ()), settings, fresh, server), grid


def understand_fleet(
    *,
    target: str,
    categories: Sequence[str],
    context: int,
    temperature: float,
    k_max: int,
    llama_build: str | None,
) -> Prediction:
    """What to do about ``advisor fleet`` with these values. As ``understand``."""
    usual = Settings()
    settings = options.settings(
        context=context,
        budget=DEFAULT_BUDGET,  # of no meaning here: nothing is measured
        temperature=temperature,
        top_p=usual.sampling.top_p,
        seed=usual.sampling.seed,
        max_tokens=min(usual.max_tokens, context - 1),
        k_max=k_max,
        threads=usual.threads,
    )
    build = options.build_number(llama_build) if llama_build is not None else 0
    question = PriorQuestion(target, build=build, categories=tuple(categories))
    options.check_categories(question.categories)
    return Prediction(question, settings)


def _on_disk(
    question: PriorQuestion, settings: Settings, note: Callable[[str], None]
) -> tuple[Path, tuple[Path, ...]] | None:
    """The named target and drafts for it, where both are on this machine: then they are measured."""
    from advisor import pipeline

    found = pipeline.find_on_disk(question, settings.context, note=note)
    if found is not None:
        note(f"{question.target} is on disk as {found[0]}: it is measured. --predict predicts instead.")
    return found


def _given(
    target: str | None, drafts: Sequence[Path], draft_dirs: Sequence[Path], note: Callable[[str], None]
) -> Models:
    if target is None:
        raise OptionError(
            "--target is missing.", fix="Name the model to make faster: --target FILE. Or try it out with --demo."
        )
    file = options.target_file(target)
    files = options.draft_files(drafts, draft_dirs, file, note=note)
    return lambda _progress: (file, files)


def _demo(target: str | None, drafts: Sequence[Path], draft_dirs: Sequence[Path]) -> Models:
    if target is not None or drafts or draft_dirs:
        raise OptionError(
            "--demo brings its own models.", fix="Leave out --target, --draft and --draft-dir, or leave out --demo."
        )

    def models(progress: Progress) -> tuple[Path, tuple[Path, ...]]:
        from advisor.testing.zoo import demo_models

        return demo_models(progress)

    return models


def _prompts(workload: Path | Workload | None, categories: Sequence[str]) -> Workload:
    from advisor import workload as workloads

    prompts = workloads.prompts_of(workload)
    return workloads.select(prompts, categories) if categories else prompts
