"""Which published drafts could run beside the target of a prediction, and why others could not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from advisor.catalog.compatible import known_header_incompatibility, token_groups_incompatibility
from advisor.catalog.describe import quants_of
from advisor.catalog.load import Catalog
from advisor.catalog.records import Entry
from advisor.errors import NothingFits
from advisor.predict.places import lending_all
from advisor.predict.question import Outlook, catalogue_model, usual_quants
from advisor.prune import SHORTEST_CONTEXT, fits_alone, fits_at, judge
from advisor.types import Candidate, Host, Model, Placement, Rejected

MIB = 1 << 20
# Builds up to here compare the ids of BOS and EOS even where they are not added (llama.cpp pull request 22358).
LAST_BUILD_WITH_STRICT_MARKERS = 8924


def drafts_for(asked: Outlook, catalog: Catalog) -> tuple[list[Candidate], list[Rejected]]:
    """Every published quant of every smaller model with the target's tokens; of the others those that look alike."""
    candidates: list[Candidate] = []
    rejected: list[Rejected] = []
    for entry in catalog.entries.values():
        if entry is asked.target_entry or entry.parameters >= asked.target.parameters:
            continue
        difference = _difference(asked, catalog, entry)
        if difference is not None:
            if _looks_alike(asked, entry):
                rejected.append(Rejected(entry.name, "", "tokenizer", difference))
            continue
        for quant in usual_quants(entry):
            draft = replace(
                catalogue_model(catalog, entry, quant), path=asked.on_disk.get((entry.id, quant.upper()), "")
            )
            verdict = judge_draft(asked, draft)
            if isinstance(verdict, Candidate):
                candidates.append(verdict)
            else:
                rejected.append(verdict)
    # A model as large as the target is no news: it is told last.
    return candidates, sorted(rejected, key=lambda one: one.reason == "slower-than-target")


def judge_draft(asked: Outlook, draft: Model) -> Candidate | Rejected:
    """Whether a draft with the target's tokens runs beside it under the settings asked for."""
    verdict = _judge_on(asked.host, asked, draft)
    roomier = lending_all(asked.host, asked.host_entry)
    if isinstance(verdict, Candidate) or verdict.reason != "memory" or roomier is None:
        return verdict
    able = _judge_on(roomier, asked, draft)
    if isinstance(able, Rejected):
        return verdict
    needed_mib = sum(one.needed_bytes + one.margin_bytes for one in able.memory) // MIB + 1
    return replace(verdict, detail=f"{verdict.detail}; it fits after `sudo sysctl iogpu.wired_limit_mb={needed_mib}`")


def _judge_on(host: Host, asked: Outlook, draft: Model) -> Candidate | Rejected:
    k_max = asked.k or asked.settings.k_max
    return judge(
        asked.target, draft, host, asked.settings.context, k_max=k_max, difference_of=lambda target, draft: None
    )


def nothing_to_try(rejected: Sequence[Rejected]) -> str:
    """Why there is no candidate, as the end of a sentence."""
    if any(one.reason == "memory" for one in rejected):
        return "no draft fits beside this target"
    return (
        "the catalogue knows no smaller model with the tokens of this target; --draft FILE, with the target's file, "
        "measures one that it does not know"
    )


def place_alone(asked: Outlook, catalog: Catalog) -> Placement:
    """Where the target runs without a draft. NothingFits, with what would fit, when nowhere."""
    context = asked.settings.context
    try:
        return fits_alone(asked.target, asked.host, context)
    except NothingFits as error:
        fix = error.fix
        if asked.target_entry is not None:
            fix = _way_to_fit(asked, asked.target_entry, catalog)
        if asked.host_entry is None:
            fix += " --host NAME predicts for another machine; `advisor models --hosts` lists them."
        roomier = lending_all(asked.host, asked.host_entry)
        if roomier is not None and fits_at(asked.target, roomier, context):
            fix += " Or lend the GPU more memory: `sudo sysctl iogpu.wired_limit_mb=...`."
        raise NothingFits(error.what, why=error.why, fix=fix) from None


def _way_to_fit(asked: Outlook, entry: Entry, catalog: Catalog) -> str:
    """The quantization that fits; where there is none, a shorter context if that can help."""
    if smaller := _largest_that_fits(asked, entry, catalog):
        return f"The largest smaller quantization that fits is {smaller}."
    if fits_at(asked.target, asked.host, SHORTEST_CONTEXT):
        return "No smaller quantization of it fits: take a shorter context or a smaller model."
    shorter = replace(asked, settings=replace(asked.settings, context=SHORTEST_CONTEXT))
    if smaller := _largest_that_fits(shorter, entry, catalog):
        return f"No smaller quantization of it fits: take {smaller} with a shorter context, or a smaller model."
    return "No quantization of it fits at any context: take a smaller model."


def _largest_that_fits(asked: Outlook, entry: Entry, catalog: Catalog) -> str | None:
    for quant in reversed(usual_quants(entry)):
        model = catalogue_model(catalog, entry, quant)
        smaller = model.weights_bytes < asked.target.weights_bytes
        if smaller and fits_at(model, asked.host, asked.settings.context):
            return f"{entry.id}-{quant.lower()}"
    return None


def _difference(asked: Outlook, catalog: Catalog, entry: Entry) -> str | None:
    """Why the target's build would refuse this model as a draft."""
    strict = 0 < asked.build.llama_cpp_build <= LAST_BUILD_WITH_STRICT_MARKERS
    group = catalog.tokenizers[entry.tokenizer]
    if asked.target_entry is not None:
        return token_groups_incompatibility(
            catalog.tokenizers[asked.target_entry.tokenizer],
            asked.target.vocabulary.size,
            group,
            entry.shape.vocabulary_size,
            compares_unused_markers=strict,
        )
    header = catalogue_model(catalog, entry, quants_of(entry)[0]).vocabulary if quants_of(entry) else None
    if header is None:
        return "no file of it is known"
    return known_header_incompatibility(asked.target.vocabulary, header, compares_unused_markers=strict) or (
        None if header.pre == asked.target.vocabulary.pre else "its tokens are not known to be the target's"
    )


def _looks_alike(asked: Outlook, entry: Entry) -> bool:
    """A vocabulary of about the same size, or the same kind of name: somebody would try it."""
    near = abs(entry.shape.vocabulary_size - asked.target.vocabulary.size) <= 1024
    return near and entry.shape.architecture.removesuffix("moe") == asked.target.architecture.removesuffix("moe")
