"""How a build of llama-server wants to be told to speculate: the one place that knows its spelling and its defaults.

Three spellings exist (llama.cpp's common/arg.cpp and tools/server/README.md at b8672, b9101, b11434):

    before b8981     --draft-max, --draft-min, --draft-p-min; a draft file alone speculates
    b8981 to b9463   --spec-draft-n-max and its relatives; a draft file alone still speculates
    from b9464       the same, and --spec-type draft-simple, without which the draft is loaded and never used

A Dialect is made from the number of a build (``dialect_of``) or from what its ``--version`` and ``--help`` print
(``read_dialect``), where the help is believed when the two disagree: forks keep old numbers and add flags. What it
spells out is argv only: nothing here runs a program.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from advisor.errors import EngineRefusal, OptionError
from advisor.ngram import METHODS
from advisor.types import PLAIN_CACHE, Config

FIRST_WITH_SPEC_FLAGS = 8981
FIRST_REEVALUATING = 9222  # the draft decodes the verified tokens again; see cost/step_law.py
LAST_UNSURE_OF_DEFAULTS = 9245  # n_max went from 16 to 3 and p_min from 0.75 to 0 somewhere in b9222 to b9245
FIRST_THAT_NEEDS_TYPE = 9464
FIRST_WITH_FORCED_ACCEPTANCE = 11434  # read there; builds between b11312 and it were not looked at

SPEC_FLAGS = ("--spec-draft-n-max", "--spec-draft-n-min", "--spec-draft-p-min")
OLD_FLAGS = ("--draft-max", "--draft-min", "--draft-p-min")
DRAFT_SAMPLING = "--spec-draft-sampling"
DRAFT_METHODS = ("draft-simple", "draft-eagle3", "draft-mtp")
OLDER_SERVER = "Update llama.cpp, or name a newer binary with --llama-server."


@dataclass(frozen=True)
class Dialect:
    """``build`` is a build that speaks so, 0 for a current one of unknown number. ``borrowed``: it is not the program's
    own number, because a fork speaks otherwise than llama.cpp under its number. ``methods``: what can be asked for.

    ``spec_flags``: the spelling since b8981. ``names_draft``: a draft must be asked for by ``--spec-type``.
    ``reevaluates`` decides the step law. ``forced_acceptance`` and ``rejection_sampling`` are ``--spec-synth-rates``
    and ``--spec-draft-sampling``.
    """

    build: int
    spec_flags: bool
    names_draft: bool
    methods: frozenset[str]
    default_n_max: int
    default_n_min: int
    default_p_min: float
    reevaluates: bool
    forced_acceptance: bool
    rejection_sampling: bool
    metrics: bool = True
    no_repack: bool = True
    cache_ram: bool = True
    poll: bool = False
    borrowed: bool = False

    def speculation(self, config: Config, draft: Sequence[str] = ()) -> list[str]:
        """The flags of a config. ``draft`` names the draft model where the method has one: ["-md", path].

        Raises EngineRefusal when this build has no such method, or not its way to sample.
        """
        if config.method not in self.methods:
            raise EngineRefusal(
                f"This llama-server cannot speculate with {config.method}.",
                why=f"Its methods are: {', '.join(sorted(self.methods)) or 'none'}.",
                fix=OLDER_SERVER,
            )
        if config.draft_sampling == "probabilistic" and not self.rejection_sampling:
            raise EngineRefusal(
                "This llama-server cannot verify by rejection sampling.",
                why=f"It has no {DRAFT_SAMPLING}.",
                fix=OLDER_SERVER,
            )
        if config.method in METHODS:
            return ["--spec-type", config.method, *self._ngram(config)]
        asked = ["--spec-type", config.method] if self.names_draft or config.method != "draft-simple" else []
        return [*draft, *asked, *self._drafting(config)]

    def forced(self, k: int, rates: Sequence[float]) -> list[str]:
        """Flags that accept place i of a draft of k tokens at random, at ``rates[i]``.

        Raises EngineRefusal on older builds, and for rates that make llama-server end as it starts.
        """
        if not self.forced_acceptance:
            raise EngineRefusal(
                "This llama-server cannot force acceptance.", why="It has no --spec-synth-rates.", fix=OLDER_SERVER
            )
        falling = all(later <= earlier for earlier, later in itertools.pairwise((1.0, *rates, 0.0)))
        if len(rates) != k or not falling:
            raise EngineRefusal(
                f"Acceptance cannot be forced at the rates {', '.join(f'{rate:g}' for rate in rates) or 'none'}.",
                why=f"A draft of {k} needs {k} of them, from 1 down to 0, none above the one before it: a place is "
                "accepted only where all before it were.",
                fix="Give the share of all steps in which each place is accepted.",
            )
        return ["--spec-synth-rates", ",".join(f"{rate:g}" for rate in rates)]

    def layers(self, count: int) -> str:
        """The value of ``-ngl`` and ``-ngld``; -1 is all, a word that older builds do not know."""
        if count >= 0:
            return str(count)
        return "all" if self.spec_flags else "999"

    def _drafting(self, config: Config) -> list[str]:
        n_max, n_min, p_min = SPEC_FLAGS if self.spec_flags else OLD_FLAGS
        argv = [n_max, str(config.k)]
        if config.n_min > 0 or self.default_n_min > 0:
            argv += [n_min, str(config.n_min)]
        if config.p_min > 0 or self.default_p_min > 0:
            argv += [p_min, f"{config.p_min:g}"]
        if config.draft_sampling == "probabilistic":
            argv += [DRAFT_SAMPLING, config.draft_sampling]
        return argv

    def _ngram(self, config: Config) -> list[str]:
        if config.method == "ngram-mod":
            names = (
                ("--spec-ngram-mod-n-match", "--spec-ngram-mod-n-min", "--spec-ngram-mod-n-max")
                if self.spec_flags
                else ("--spec-ngram-size-n", "--draft-min", "--draft-max")
            )
            values = (config.ngram_size, config.n_min, config.k)
        else:
            prefix = f"--spec-{config.method}" if self.spec_flags else "--spec-ngram"
            names = (f"{prefix}-size-n", f"{prefix}-size-m", f"{prefix}-min-hits")
            values = (config.ngram_size, config.k, config.ngram_min_hits)
        return [part for name, value in zip(names, values, strict=True) for part in (name, str(value))]


def cache_flags(cache_type: str, *, of_draft: bool = False) -> list[str]:
    """How keys and values are kept; nothing where it is what every build does by itself."""
    of = "d" if of_draft else ""
    return [] if cache_type == PLAIN_CACHE else [f"-ctk{of}", cache_type, f"-ctv{of}", cache_type]


def dialect_of(build: int) -> Dialect:
    """What a build of this number speaks; 0, a build that is not known, is taken for a current one."""
    number = build or 1 << 30
    needs_type = number >= FIRST_THAT_NEEDS_TYPE
    old_defaults = number <= LAST_UNSURE_OF_DEFAULTS
    return Dialect(
        build=build,
        spec_flags=number >= FIRST_WITH_SPEC_FLAGS,
        names_draft=needs_type,
        methods=frozenset((*METHODS, *(DRAFT_METHODS if needs_type else ("draft-simple",)))),
        default_n_max=16 if old_defaults else 3,
        default_n_min=0,
        default_p_min=0.75 if old_defaults else 0.0,
        reevaluates=number >= FIRST_REEVALUATING,
        forced_acceptance=number >= FIRST_WITH_FORCED_ACCEPTANCE,
        rejection_sampling=number >= FIRST_WITH_FORCED_ACCEPTANCE,
    )


def read_dialect(version_text: str, help_text: str) -> Dialect:
    """The dialect of a binary from what ``--version`` and ``--help`` print. Raises OptionError when it has none."""
    options = _options(help_text)
    if not {SPEC_FLAGS[0], OLD_FLAGS[0]} & set(options):
        raise OptionError(
            "This program does not say how it speculates.",
            why="Its --help names neither --spec-draft-n-max nor --draft-max, so it is no llama-server, or one from "
            "before speculative decoding.",
            fix=OLDER_SERVER,
        )
    spec_flags = SPEC_FLAGS[0] in options
    types = _types(options.get("--spec-type", ""))
    number = _number(version_text)
    said = dialect_of(number)
    if spec_flags != said.spec_flags or ("draft-simple" in types) != said.names_draft:
        said = dialect_of(_number_that_speaks(spec_flags, "draft-simple" in types, options, number))
    n_max, n_min, p_min = SPEC_FLAGS if spec_flags else OLD_FLAGS
    return Dialect(
        build=said.build,
        spec_flags=spec_flags,
        names_draft="draft-simple" in types,
        methods=frozenset(("draft-simple", *types)) & frozenset((*DRAFT_METHODS, *METHODS)),
        default_n_max=int(_default(options, n_max, said.default_n_max)),
        default_n_min=int(_default(options, n_min, said.default_n_min)),
        default_p_min=_default(options, p_min, said.default_p_min),
        reevaluates=said.reevaluates,
        forced_acceptance="--spec-synth-rates" in options,
        rejection_sampling=DRAFT_SAMPLING in options,
        metrics="--metrics" in options,
        no_repack="--no-repack" in options,
        cache_ram="--cache-ram" in options,
        poll="--poll" in options,
        borrowed=said.build != number,
    )


def _number_that_speaks(spec_flags: bool, names_draft: bool, options: dict[str, str], number: int) -> int:
    """A build whose dialect the help shows, so that what is saved under its number is spelled the same later."""
    if not spec_flags:
        return FIRST_WITH_SPEC_FLAGS - 1
    if names_draft:  # builds shortly before it was mandatory know the name too
        return number if FIRST_REEVALUATING <= number < FIRST_THAT_NEEDS_TYPE else 0
    old = _default(options, SPEC_FLAGS[2], 0.0) > 0
    return FIRST_REEVALUATING - 1 if old else FIRST_THAT_NEEDS_TYPE - 1


def _number(version_text: str) -> int:
    """ "version: 8846 (bcdcc1044)" and "version: 0.3.0-dev (build 10749, commit dfc29b64e)"; 0 where there is none."""
    found = re.search(r"\(build (\d+)", version_text) or re.search(r"version: b?(\d+) \(", version_text)
    return int(found[1]) if found else 0


def _options(help_text: str) -> dict[str, str]:
    """Each name of each option with the whole entry; options that are only listed as removed are left out.

    An entry begins at the left margin with its names, "-md,   --model-draft FNAME", and goes on indented.
    """
    entries: list[str] = []
    for line in help_text.splitlines():
        if re.match(r" {0,8}-{1,2}[A-Za-z]", line):
            entries.append(line)
        elif entries:
            entries[-1] += "\n" + line
    options: dict[str, str] = {}
    for entry in entries:
        if "argument has been removed" in " ".join(entry.split()):
            continue
        names = re.match(r"\s*(-[^\s,]+(?:,\s+-[^\s,]+)*)", entry)
        if names:
            options.update(dict.fromkeys(re.split(r",\s+", names[1]), entry))
    return options


def _types(entry: str) -> tuple[str, ...]:
    """ "--spec-type [none|ngram-cache|…]", later "--spec-type none,draft-simple,…"."""
    found = re.search(r"--spec-type\s+\[?([a-z0-9|,-]+)", entry)
    return tuple(re.split(r"[|,]", found[1])) if found else ()


def _default(options: dict[str, str], name: str, otherwise: float) -> float:
    found = re.search(r"\(default:\s+([\d.]+)\)", options.get(name, ""))
    return float(found[1]) if found else otherwise
