"""What a quant name means: the rules of llama.cpp's quantizer as a table, and the habits of publishers.

A quant name is a mix: most matrices have its default type, some roles another, often only in some layers. ``MIXES``
writes down the rules of ``llama_tensor_get_type`` in src/llama-quant.cpp (b11312), one line a role: the first step
that applies decides. Fused query-key-value matrices follow the older rule that published files show; b11312 treats them
as value matrices. ``assign.py`` applies the table to tensors.

Publishers differ: files made with an importance matrix get other types in a few places, and names that llama.cpp does
not know (``Q4_K_L``, ``Q3_K_XL``) mean another type for the embedding. ``Publisher`` holds these habits, found by
comparing with published file sizes. Not covered here: unsloth's ``UD-`` files, whose recipe is not published (see
``dynamic.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["embedding", "output", "v", "qkv", "k", "q", "o", "down", "gate_up", "other", "unquantized"]
Where = Literal["all", "eighth", "sixteenth", "more", "first2", "first4", "middle"]
Given = Literal["", "gqa", "gqa or experts", "imatrix", "no imatrix", "8 experts", "not 8 experts"]


@dataclass(frozen=True)
class Step:
    """``kind`` in the layers of ``where``, when ``given`` holds.

    "eighth" and "sixteenth": the first layers; "middle": without the first and last eighth; "more": the first and last
    eighth and every third layer between.
    """

    kind: str
    where: Where = "all"
    given: Given = ""


Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Mix:
    """``default`` for every matrix that has no step that applies. ``embedding``: where it is not the output matrix too,
    "" for the default. ``low``: below three bits, where value matrices of 70B models get nothing extra."""

    default: str
    roles: dict[Role, Steps]
    output: str = "Q6_K"
    embedding: str = ""
    low: bool = False


def _same(kind: str, output: str = "Q6_K") -> Mix:
    return Mix(kind, {}, output=output)


Q4, Q5, Q8 = Step("Q4_K"), Step("Q5_K"), Step("Q8_0")
Q4_GQA, Q5_GQA = Step("Q4_K", given="gqa"), Step("Q5_K", given="gqa")
O8: Steps = (Step("Q5_K", given="8 experts"),)
IQ3_M_DOWN: Steps = (Step("Q4_K", "eighth"), Step("Q4_K", "more", "8 experts"))
V8, K8 = Step("Q8_0", given="8 experts"), (Step("Q8_0", given="8 experts"),)


def _low(default: str, small: str, o: str, embedding: str) -> Mix:
    """The mixes below three bits. ``small``: where llama.cpp spends a little more."""
    return Mix(
        default,
        {
            "v": (Step("Q4_K", given="gqa or experts"), Step("Q2_K" if small == "Q2_K" else "IQ3_S")),
            "qkv": (Step("Q4_K", given="gqa or experts"), Step("Q2_K" if small == "Q2_K" else "IQ3_S")),
            "k": (Step("Q4_K", given="8 experts"),),
            "down": (Step(small, "eighth"),),
            "o": (*O8, Step(o)),
        },
        output="Q5_K",
        embedding=embedding,
        low=True,
    )


MIXES: dict[str, Mix] = {
    "F32": _same("F32", "F32"),
    "F16": _same("F16", "F16"),
    "BF16": _same("BF16", "BF16"),
    "Q8_0": _same("Q8_0", "Q8_0"),
    "Q4_0": Mix("Q4_0", {"v": (V8,), "k": K8, "down": (Step("Q4_1", "eighth", "imatrix"),)}),
    "Q4_1": Mix("Q4_1", {"v": (V8,), "k": K8}),
    "Q5_0": Mix("Q5_0", {"v": (V8,), "k": K8, "down": (Step("Q5_1", "eighth", "imatrix"),)}),
    "Q5_1": Mix("Q5_1", {"v": (V8,), "k": K8}),
    "Q2_K": Mix(
        "Q2_K",
        {
            "v": (V8, Q4_GQA, Step("Q3_K")),
            "k": K8,
            "down": (Step("Q3_K"),),
            "o": (*O8, Step("Q3_K")),
        },
    ),
    "Q2_K_S": Mix("Q2_K", {"v": (V8, Q4_GQA), "k": K8, "down": (Step("Q4_K", "eighth"),)}),
    "Q3_K_S": Mix("Q3_K", {"v": (V8,), "k": K8, "o": O8}),
    "Q3_K_M": Mix(
        "Q3_K",
        {
            "v": (V8, Step("Q5_K", "first2"), Q4),
            "qkv": (Q4,),
            "k": K8,
            "down": (Step("Q5_K", "sixteenth"), Q4),
            "o": (*O8, Q4),
        },
    ),
    "Q3_K_L": Mix(
        "Q3_K", {"v": (V8, Q5), "qkv": (Q4,), "k": K8, "down": (Q5,), "o": (Step("Q5_K", given="not 8 experts"),)}
    ),
    "Q4_K_S": Mix("Q4_K", {"v": (V8, Step("Q5_K", "first4")), "k": K8, "down": (Step("Q5_K", "eighth"),), "o": O8}),
    "Q4_K_M": Mix(
        "Q4_K", {"v": (V8, Step("Q6_K", "more")), "qkv": (Q5,), "k": K8, "down": (Step("Q6_K", "more"),), "o": O8}
    ),
    "Q5_K_S": Mix("Q5_K", {"v": (V8,), "k": K8}),
    "Q5_K_M": Mix(
        "Q5_K", {"v": (V8, Step("Q6_K", "more")), "qkv": (Step("Q6_K"),), "k": K8, "down": (Step("Q6_K", "more"),)}
    ),
    "Q6_K": Mix("Q6_K", {"v": (V8,), "k": K8}),
    "IQ1_S": _low("IQ1_S", "Q2_K", "IQ2_XXS", "Q2_K"),
    "IQ1_M": _low("IQ1_M", "Q2_K", "IQ2_XXS", "Q2_K"),
    "IQ2_XXS": _low("IQ2_XXS", "Q2_K", "IQ2_XXS", "Q2_K"),
    "IQ2_XS": _low("IQ2_XS", "Q2_K", "IQ2_XS", "Q2_K"),
    "IQ2_S": _low("IQ2_XS", "IQ3_S", "IQ3_S", "IQ3_S"),
    "IQ2_M": _low("IQ2_S", "IQ3_S", "IQ3_S", "IQ3_S"),
    "IQ3_XXS": Mix(
        "IQ3_XXS",
        {
            "v": (V8, Q4_GQA, Step("IQ3_S", given="no imatrix")),
            "q": (Step("IQ2_S"),),
            "k": (*K8, Step("IQ2_S")),
            "down": (Step("Q4_K", "eighth", "no imatrix"), Step("Q3_K", given="no imatrix")),
            "o": (*O8, Step("IQ3_S")),
        },
        output="Q5_K",
        embedding="IQ3_S",
    ),
    "IQ3_XS": Mix(
        "IQ3_S",
        {
            "v": (V8, Q4_GQA),
            "q": (Step("IQ3_XXS"),),
            "k": (*K8, Step("IQ3_XXS")),
            "gate_up": (Step("IQ3_XXS", "middle"),),
            "o": O8,
        },
    ),
    "IQ3_S": Mix("IQ3_S", {"v": (V8, Q4_GQA), "k": K8, "o": O8}),
    "IQ3_M": Mix("IQ3_S", {"v": (V8, Q4), "qkv": (Q4,), "k": K8, "down": IQ3_M_DOWN, "o": (*O8, Q4)}),
    "IQ4_XS": Mix("IQ4_XS", {"v": (V8, Q5_GQA), "k": K8, "down": (Step("Q5_K", "eighth", "no imatrix"),), "o": O8}),
    "IQ4_NL": Mix("IQ4_NL", {"v": (V8, Q5_GQA), "k": K8, "down": (Step("Q5_K", "eighth", "no imatrix"),), "o": O8}),
    "TQ1_0": Mix("TQ1_0", {"v": (V8,), "k": K8}, embedding="Q4_K"),
    "TQ2_0": Mix("TQ2_0", {"v": (V8,), "k": K8}, embedding="Q4_K"),
    "MXFP4_MOE": _same("Q8_0", "Q8_0"),
}
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}
REPACKED = {"Q4_0_4_4": "Q4_0", "Q4_0_4_8": "Q4_0", "Q4_0_8_8": "Q4_0"}
LARGER = {
    "Q2_K_L": "Q2_K",
    "Q3_K_XL": "Q3_K_L",
    "Q4_K_L": "Q4_K_M",
    "Q5_K_L": "Q5_K_M",
    "Q6_K_L": "Q6_K",
}


@dataclass(frozen=True)
class Publisher:
    """Habits of who made a file.

    ``larger_embedding``: the ``_L`` names also mean a Q8_0 token embedding. ``output``: the type of the output matrix
    whatever the mix. ``gemma4_embedding``: a Gemma 4 token embedding has the mix' default, and the table of embeddings
    per layer the type named here for that default.
    """

    imatrix: bool = True
    larger_embedding: bool = True
    output: str = ""
    gemma4_embedding: dict[str, str] = field(default_factory=dict)


PLAIN = Publisher(imatrix=False)
PUBLISHERS: dict[str, Publisher] = {
    "Qwen": PLAIN,
    "microsoft": PLAIN,
    "ibm-granite": PLAIN,
    "hugging-quants": PLAIN,
    "ggml-org": PLAIN,
    "google": PLAIN,
    "unsloth": Publisher(
        larger_embedding=False,
        gemma4_embedding={
            "Q3_K": "Q4_K",
            **dict.fromkeys(("Q4_0", "Q4_1", "Q4_K", "IQ4_XS", "IQ4_NL", "Q5_K"), "Q5_K"),
            "Q6_K": "Q8_0",
        },
    ),
}
TRAINED_IN_Q4_0 = re.compile(r"(ggml-org|google)/gemma-3-.*-qat-")  # files in the type they were trained for
TRAINED = Publisher(imatrix=False, output="Q8_0")
DEFAULT_PUBLISHER = Publisher()


def publisher_of(repo: str) -> Publisher:
    """The habits of a Hugging Face repository's owner; those of most publishers when they are not known."""
    if TRAINED_IN_Q4_0.match(repo):
        return TRAINED
    return PUBLISHERS.get(repo.split("/")[0], DEFAULT_PUBLISHER)


def known(quant: str) -> bool:
    """Whether a quant name is one of llama.cpp's mixes, or a publisher's name for a variant of one."""
    return mix_name(quant) in MIXES


def mix_name(quant: str) -> str:
    """The mix behind a name: "Q4_K_M" for "Q4_K" and "Q4_K_L"."""
    quant = quant.upper()
    for table in (ALIASES, REPACKED, LARGER):
        quant = table.get(quant, quant)
    return quant
