"""What to download for the name that somebody gives."""

from __future__ import annotations

from advisor.catalog.describe import file_size_bytes, quants_of, repository_of
from advisor.catalog.load import Catalog
from advisor.catalog.names import Named, quant_named, resolve
from advisor.catalog.pull.meter import amount
from advisor.catalog.pull.plan import PullPlan, plan_pull
from advisor.catalog.records import Entry, Repository
from advisor.errors import OptionError


def plan_named(name: str, catalog: Catalog, quant: str | None = None) -> PullPlan:
    """The plan for a name with a quantization, or for one without and ``quant``. One request to the hub.

    Raises OptionError where the quantization is not said, not known or not published, with those that are; HubError.
    """
    named = resolve(name, catalog)
    wanted = _quant(named, quant, catalog)
    return plan_pull(named.entry, wanted, _repository(named, wanted, catalog))


def _quant(named: Named, option: str | None, catalog: Catalog) -> str:
    if option is None:
        if named.quant is None:
            raise OptionError(
                f"Which quantization of {named.entry.id}?",
                why=_offered(named.entry, catalog),
                fix=f"Add it to the name, such as {_example(named.entry)}, or name it with --quant.",
            )
        return named.quant
    quant = quant_named(option)
    if quant is None:
        raise OptionError(f"--quant: {option} is not a quantization.", fix="Write for example Q8_0 or Q4_K_M.")
    if named.quant not in (None, quant):
        raise OptionError(f"The name says {named.quant}, --quant says {quant}.", fix="Leave one of them out.")
    return quant


def _repository(named: Named, quant: str, catalog: Catalog) -> Repository:
    repository = named.repository or repository_of(named.entry, quant)
    if repository is None:
        raise OptionError(
            f"No repository is known to publish {named.entry.id} in {quant}.",
            why=_offered(named.entry, catalog),
            fix="Choose one of these, or name a repository: owner/name:QUANT.",
        )
    return repository


def _offered(entry: Entry, catalog: Catalog) -> str:
    """The quantizations of an entry with their sizes, smallest first."""
    group = catalog.tokenizers[entry.tokenizer]
    sizes = [f"{quant} {amount(file_size_bytes(entry, quant, group))}" for quant in quants_of(entry)]
    return f"There is {', '.join(sizes)}." if sizes else "The catalogue knows no files of it."


def _example(entry: Entry) -> str:
    known = quants_of(entry)
    quant = next((one for one in ("Q4_K_M", "Q8_0") if one in known), known[0] if known else "Q4_K_M")
    return f"{entry.id}-{quant.lower()}"
