"""Names that a shell completes beside commands, options and files. A mistake in a catalogue is no matter here."""

from __future__ import annotations

from advisor.errors import AdvisorError


def models(incomplete: str) -> list[str]:
    """Ids of the catalogue that begin so."""
    from advisor.user_catalog import user_catalog

    try:
        return [name for name in user_catalog().entries if name.startswith(incomplete.lower())]
    except AdvisorError:
        return []


def hosts(incomplete: str) -> list[str]:
    """Machines of the catalogue that begin so."""
    from advisor.catalog.names import host_names
    from advisor.user_catalog import user_catalog

    try:
        return [name for name in host_names(user_catalog()) if name.startswith(incomplete.lower())]
    except AdvisorError:
        return []
