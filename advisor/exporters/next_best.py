"""The best setting of a recommendation that a program has words for, where it has none for the pick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from advisor.errors import OptionError
from advisor.exporters.deployment import CannotExpress, Deployment, SettingRefused, answer, chosen
from advisor.types import Recommendation

Text = Callable[[Deployment], str]
NOTHING_ELSE = "No setting that it can express is sure to help: deploy this recommendation with llama-server."


def text_of_next_best(write: Text, deployment: Deployment, refusal: SettingRefused, note: Callable[[str], None]) -> str:
    """What is written instead of the pick; ``note`` is told which setting that is. Raises the refusal where no other
    can be expressed."""
    other = _expressible(write, deployment)
    if other is None:
        raise SettingRefused(refusal.what, why=refusal.why, fix=NOTHING_ELSE) from None
    text = write(replace(deployment, rec=other))
    note(f"{refusal.what} Written is the best setting that it can: {answer(other, other.best)}")
    return text


def with_a_way_out(write: Text, deployment: Deployment, refusal: SettingRefused) -> OptionError:
    """The refusal, with what can be exported instead."""
    other = _expressible(write, deployment)
    if other is None:
        return SettingRefused(refusal.what, why=refusal.why, fix=NOTHING_ELSE)
    best = answer(other, other.best)
    return SettingRefused(
        refusal.what,
        why=refusal.why,
        fix=f"The best setting that it can express: {best}\nExport that with --next-best, or the pick to llama-server.",
    )


def _expressible(write: Text, deployment: Deployment) -> Recommendation | None:
    """The recommendation with another pick: of the settings that are sure to help, and that the program can express,
    the fastest. What was seen of the first pick in a long context is not true of this one."""
    rec = deployment.rec
    is_foreseen = all(one.evidence == "prior" for one in rec.estimates)
    known = [one for one in rec.estimates if one.evidence != "prior" or is_foreseen]
    sure = [one for one in known if one.speedup_low > 1 and one.config != chosen(rec)]
    for estimate in sorted(sure, key=lambda one: -one.speedup):
        other = replace(rec, best=estimate, at_depth=None)
        if _can_be_expressed(write, replace(deployment, rec=other)):
            return other
    return None


def _can_be_expressed(write: Text, deployment: Deployment) -> bool:
    try:
        write(deployment)
    except CannotExpress:
        return False
    except OptionError:
        return True  # it lacks an option, such as the name of this draft
    return True
