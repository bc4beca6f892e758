"""The records of an explanation. Frozen, no logic beyond a sum or a difference.

Explanation
  DraftReasons        one draft under its best setting
    LengthPoint       speedup at one draft length
    BreakEven         where the draft would be as fast as the target alone
    AcceptancePoint   speedup at another agreement
    Step, StepParts   where the time of a step goes
    Position          acceptance by place in the draft
    CategoryPoint     one category of answers
    CostPoint         one point of t(b) or d(b)
  Change              what happens when one thing changes
  Sureness, Source    how sure, and why not surer
  ColouredAnswer      the target's words and who would have written them
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from advisor.types import Estimate, Evidence, Model, Rejected, Verdict

TokenRole = Literal["accepted", "corrected", "bonus", "alone"]


@dataclass(frozen=True)
class LengthPoint:
    """One draft length of a draft, at the p_min of its best setting. The interval is the 80 % one."""

    k: int
    speedup: float
    low: float
    high: float
    acceptance_rate: float
    tokens_per_step: float
    evidence: Evidence


@dataclass(frozen=True)
class AcceptancePoint:
    """A config at one ``agreement``: the share of positions where the draft's own choice is the target's token.
    ``acceptance_rate`` is accepted / drafted, what llama-server prints."""

    agreement: float
    acceptance_rate: float
    speedup: float


@dataclass(frozen=True)
class BreakEven:
    """The agreement at which a pairing is as fast as the target alone, None where even full agreement loses.

    ``textbook``: k drafted tokens at c = d(1) / t(1) each, verification free, agreement independent of position.
    ``verification_priced``: the same with the measured t(k + 1). ``reevaluation_priced``: with d(k + 1) too.
    ``measured``: nothing assumed, the answers themselves with agreement moved. ``acceptance_rate`` is accepted /
    drafted there. Both are None without replayed answers.
    """

    textbook: float | None
    verification_priced: float | None
    reevaluation_priced: float | None
    measured: float | None = None
    acceptance_rate: float | None = None


@dataclass(frozen=True)
class Position:
    """``survival``: share of steps whose first ``position`` drafted tokens are all accepted. ``hazard``: share of those
    that got this far whose next token is accepted too, None where fewer than FEW_STEPS did."""

    position: int
    survival: float
    hazard: float | None
    steps: int


@dataclass(frozen=True)
class CategoryPoint:
    """One category under the draft's best setting. ``survival`` by position is for p_min = 0."""

    category: str
    answers: int
    acceptance_rate: float
    speedup: float
    survival: tuple[Position, ...] = ()


@dataclass(frozen=True)
class CostPoint:
    """Seconds of one decode of ``b`` tokens: median, smallest and largest of the rounds, drift taken out."""

    b: int
    seconds: float
    low_s: float
    high_s: float
    rounds: int


@dataclass(frozen=True)
class Jump:
    """A decode of ``b`` tokens that costs ``passes`` target passes more than one of b - 1, as where kernels switch."""

    b: int
    passes: float


@dataclass(frozen=True)
class StepParts:
    """Seconds of the decodes of an average step: counted in the answers, priced by the curves."""

    drafting_s: float
    verifying_s: float
    reevaluating_s: float

    @property
    def total_s(self) -> float:
        return self.drafting_s + self.verifying_s + self.reevaluating_s


@dataclass(frozen=True)
class Step:
    """An average step of ``tokens`` tokens, in seconds. ``plain_s`` is what the target alone needs for as many, so that
    plain_s / total_s is the speedup of the draft. ``parts`` is None where only whole runs were timed. ``beyond_s`` is
    what real runs took beyond the parts (sampling, the loop, what the curves did not see), negative where they took
    less, None where no real run corrected the estimates or there are no parts."""

    tokens: float
    plain_s: float
    total_s: float
    parts: StepParts | None = None
    beyond_s: float | None = None

    @property
    def token_s(self) -> float:
        return self.total_s / self.tokens


@dataclass(frozen=True)
class DraftReasons:
    """One draft under its best setting. Empty tuples and None stand for what the record does not hold. ``label`` is
    the draft's own where it is the only one of that name and quantization; ``row`` is the label without the
    quantization. ``positions_in`` says what positions were counted in."""

    draft: Model
    label: str
    row: str
    best: Estimate
    lengths: tuple[LengthPoint, ...]
    flat: tuple[int, ...]
    agreement: float | None
    break_even: BreakEven | None
    curve: tuple[AcceptancePoint, ...]
    textbook_curve: tuple[tuple[float, float], ...]
    step: Step | None
    positions: tuple[Position, ...]
    categories: tuple[CategoryPoint, ...]
    cost: tuple[CostPoint, ...]
    verdict: str
    positions_in: Literal["answers", "runs"] = "answers"

    @property
    def margin(self) -> float | None:
        """Agreement over break-even agreement, negative where the pairing loses."""
        if self.agreement is None or self.break_even is None or self.break_even.measured is None:
            return None
        return self.agreement - self.break_even.measured


@dataclass(frozen=True)
class Change:
    """What happens when one thing changes. ``speedup`` is None where the record cannot say; ``sentence`` says why."""

    what: str
    speedup: float | None
    sentence: str


@dataclass(frozen=True)
class Source:
    """One source of uncertainty. ``share`` of the variance of log(speedup), ``low`` .. ``high``: the interval after
    ``remedy``, the measurement that reduces it."""

    name: str
    share: float
    remedy: str
    low: float
    high: float


@dataclass(frozen=True)
class Sureness:
    """``gain_chance``: that the pairing is faster than the target alone. ``lead_chance``: that it is faster than the
    runner-up, None where the record does not compare the two on the same prompts. ``command`` makes the measurement
    that ``advice`` names, () where no command does."""

    gain_chance: float
    lead_chance: float | None
    sources: tuple[Source, ...]
    advice: str
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class ColouredToken:
    """``step`` counts from 1, 0 before the first; ``position`` is the place in the step's draft, 0 for the target's own
    token. ``confidence`` is the draft's for its own choice at this place."""

    text: str
    role: TokenRole
    step: int
    position: int
    confidence: float


@dataclass(frozen=True)
class ColouredAnswer:
    category: str
    tokens: tuple[ColouredToken, ...]


@dataclass(frozen=True)
class Explanation:
    """``pick`` is the estimate of the pick, or with the verdict no of what came nearest; ``subject`` is its draft, None
    where nothing could run. Where it is one of ``methods``, the best setting of each method without a draft, the
    subject is the best of the drafts. ``drafts`` are in the order of the ranking, the subject first. ``answered``
    counts the answers it rests on, ``k_max`` is the longest draft considered, ``caveats`` are sentences on what a
    reader should know before trusting the numbers. ``is_upper_bound``: something that only slows down was left out."""

    verdict: Verdict
    sentence: str
    evidence: Evidence
    category: str | None
    subject: DraftReasons | None
    drafts: tuple[DraftReasons, ...]
    target_cost: tuple[CostPoint, ...]
    jumps: tuple[Jump, ...]
    changes: tuple[Change, ...]
    sureness: Sureness | None
    rejected: tuple[Rejected, ...]
    answers: tuple[ColouredAnswer, ...]
    why_formulas_differ: str
    answered: int
    k_max: int
    pick: Estimate | None = None
    methods: tuple[Estimate, ...] = ()
    is_upper_bound: bool = False
    caveats: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
