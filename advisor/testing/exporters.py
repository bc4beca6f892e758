"""What every exporter owes, as tests to subclass.

    class TestMine(ExporterConformance):
        name = "my-program"                     # as in advisor.exporters.EXPORTERS

They run over the recommendations of ``advisor.testing.saved``: a draft on a GPU, an n-gram method, "do not speculate",
and a machine that needs a remedy. An exporter may refuse what its program has no words for; it may not drop it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from advisor.errors import OptionError
from advisor.exporters import EXPORTERS, Exporter, exporter
from advisor.exporters.deployment import chosen, remarks
from advisor.testing.saved import DEPLOYED_NAMES, SAVED, deployed, draft, with_paths
from advisor.types import Config, Recommendation

EVIL = "x; rm -rf ~ & $(id) `id` 'q \"q\n| tee > f"
COMMENT = re.compile(r"# [\w ._,:+%/=-]*", re.ASCII)
LINK = "TARGET_PATH_FOR_CONFORMANCE"


class ExporterConformance:
    """``refuses``: the kinds of ``SAVED`` that this program has no words for. ``comment``: what a line of a comment may
    look like; nothing in it may do harm in a shell that runs it."""

    name: str
    refuses: frozenset[str] = frozenset()
    comment: re.Pattern[str] = COMMENT

    @property
    def exporter(self) -> Exporter:
        return exporter(self.name)

    def text(self, rec: Recommendation, *, windows: bool = False) -> str:
        return self.exporter.text(deployed(rec, windows=windows))

    def test_it_is_in_the_table(self) -> None:
        assert self.name in EXPORTERS
        assert self.exporter.text.__module__.rsplit(".", 1)[-1] == EXPORTERS[self.name]

    def test_every_kind_is_written_or_refused_by_name(self) -> None:
        refused: dict[str, OptionError] = {}
        for kind, make in SAVED.items():
            try:
                text = self.text(make())
            except OptionError as refusal:
                refused[kind] = refusal
            else:
                assert text.endswith("\n")
                assert text.strip()
        assert set(refused) == set(self.refuses)
        assert all(self.name in refusal.what for refusal in refused.values()), "who cannot"
        assert all(refusal.fix for refusal in refused.values()), "and what to do instead"

    def test_the_same_recommendation_gives_the_same_text(self) -> None:
        for rec in self._written():
            assert self.text(rec) == self.text(rec)

    def test_nothing_of_the_recommendation_is_dropped(self) -> None:
        """What changes nothing in the text, beside the remarks that all exports have, was lost; or it is refused."""
        for rec in self._written():
            for name, one, other in _changed(rec):
                before, _ = self._attempt(one)
                if not before:
                    continue  # it refuses what the change is made to
                after, refusal = self._attempt(other)
                assert after != before, f"{name} was dropped"
                assert after or self.name in refusal, f"who cannot express {name}"

    def test_a_verdict_of_no_is_the_target_alone(self) -> None:
        if "none" in self.refuses:
            return
        rec, (_, renamed) = SAVED["none"](), DEPLOYED_NAMES
        text = _without_record(self.text(rec))
        assert [name for name in (draft().candidates[0].draft.name, renamed) if name in text] == [], "a draft in it"

    def test_a_name_cannot_break_out_of_a_comment(self) -> None:
        """zsh runs pasted lines that begin with #."""
        rec = draft()
        target = dataclasses.replace(rec.target, name=EVIL)
        candidates = tuple(
            dataclasses.replace(one, draft=dataclasses.replace(one.draft, name=EVIL)) for one in rec.candidates
        )
        rec = dataclasses.replace(rec, target=target, candidates=candidates, workload=EVIL, categories=(EVIL,))
        try:
            lines = self.text(rec).splitlines()
        except OptionError:
            return
        comments = [line for line in lines if line.startswith("#")]
        assert [line for line in comments if not self.comment.fullmatch(line)] == []
        assert [line for line in lines if line.startswith(("|", "rm"))] == []

    def test_paths_with_spaces_quotes_and_dollars_do_not_crash_it(self) -> None:
        path = f"/models/it's \"5 $HOME $(touch x)/{LINK}.gguf"
        try:
            text = self.text(with_paths(draft(), path, path.replace(LINK, "DRAFT")))
        except OptionError:
            return
        assert self.exporter.takes_names or LINK in text, "the target is not in it"

    def test_it_says_which_options_have_a_meaning(self) -> None:
        assert isinstance(self.exporter.takes_names, bool)
        if self.exporter.takes_names:
            renamed = deployed(draft(), target_name="another/Target", draft_name="another/Draft")
            assert "another/Target" in self.exporter.text(renamed)

    def _attempt(self, rec: Recommendation) -> tuple[str, str]:
        """What is written, "" where it is refused, and what the refusal says."""
        try:
            return self._own_words(rec), ""
        except OptionError as refusal:
            return "", refusal.what

    def _own_words(self, rec: Recommendation) -> str:
        text = self.text(rec)
        for remark in remarks(rec):
            text = text.replace(remark, "")
        return text

    def _written(self) -> list[Recommendation]:
        return [make() for kind, make in SAVED.items() if kind not in self.refuses]


def _changed(rec: Recommendation) -> Iterator[tuple[str, Recommendation, Recommendation]]:
    """What is changed, and the recommendation before and after it."""
    settings = rec.settings
    yield "context", rec, _with_settings(rec, context=2 * settings.context)
    yield "threads", rec, _with_settings(rec, threads=settings.threads + 1)
    warmer = _with_sampling(rec, temperature=settings.sampling.temperature + 0.3)
    yield "temperature", rec, warmer
    # of a greedy recommendation they mean nothing
    yield "top_p", warmer, _with_sampling(warmer, top_p=settings.sampling.top_p - 0.125)
    yield "top_k", warmer, _with_sampling(warmer, top_k=settings.sampling.top_k + 1)
    yield "min_p", warmer, _with_sampling(warmer, min_p=settings.sampling.min_p + 0.125)
    for name, changed in _speculating_otherwise(rec):
        yield name, rec, changed


def _speculating_otherwise(rec: Recommendation) -> Iterator[tuple[str, Recommendation]]:
    config = chosen(rec)
    if config is None:
        return
    yield "k", _with_config(rec, dataclasses.replace(config, k=config.k + 1))
    if not config.draft:
        yield "ngram_size", _with_config(rec, dataclasses.replace(config, ngram_size=config.ngram_size + 1))
        return
    yield "p_min", _with_config(rec, dataclasses.replace(config, p_min=config.p_min + 0.125))
    yield "n_min", _with_config(rec, dataclasses.replace(config, n_min=config.n_min + 1))
    yield "draft_sampling", _with_config(rec, dataclasses.replace(config, draft_sampling="probabilistic"))
    yield "cache_type", _with_placement(rec, cache_type="q8_0")
    yield "draft_threads", _with_placement(rec, draft_threads=3)
    yield "target_gpu_layers", _with_placement(rec, target_gpu_layers=7)
    yield "draft_gpu_layers", _with_placement(rec, draft_gpu_layers=5)


def _with_settings(rec: Recommendation, **changes: Any) -> Recommendation:
    return dataclasses.replace(rec, settings=dataclasses.replace(rec.settings, **changes))


def _with_sampling(rec: Recommendation, **changes: Any) -> Recommendation:
    return _with_settings(rec, sampling=dataclasses.replace(rec.settings.sampling, **changes))


def _with_config(rec: Recommendation, config: Config) -> Recommendation:
    assert rec.best is not None
    best = dataclasses.replace(rec.best, config=config)
    return dataclasses.replace(rec, best=best, estimates=(best, *rec.estimates[1:]))


def _with_placement(rec: Recommendation, **changes: Any) -> Recommendation:
    candidates = (
        dataclasses.replace(one, placement=dataclasses.replace(one.placement, **changes)) for one in rec.candidates
    )
    return dataclasses.replace(rec, candidates=tuple(candidates))


def _without_record(text: str) -> str:
    """A document that carries the whole record names every draft in it."""
    return text.partition('"record":')[0].partition('"candidates":')[0] if text.startswith("{") else text
