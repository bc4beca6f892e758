"""Names of drafts that tell two files of one name and quantization apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from advisor.types import Model

MIB = 1 << 20
HASH_SHOWN = 6


def suffixes(drafts: Sequence[Model]) -> dict[str, str]:
    """What follows the name of each draft, by content hash: nothing, its size, or the beginning of its hash."""
    alike = Counter(draft.label for draft in drafts)
    alike_in_size = Counter((draft.label, _size(draft)) for draft in drafts)
    return {
        draft.content_hash: ""
        if alike[draft.label] == 1
        else f" ({_size(draft)})"
        if alike_in_size[draft.label, _size(draft)] == 1
        else f" ({draft.content_hash[:HASH_SHOWN]})"
        for draft in drafts
    }


def _size(draft: Model) -> str:
    return f"{draft.weights_bytes / MIB:.0f} MiB"
