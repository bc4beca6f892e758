"""Every n-gram method through the suite that a new one has to pass."""

from __future__ import annotations

from advisor.ngram import METHODS
from advisor.testing.ngram import NgramConformance


class TestNgramSimple(NgramConformance):
    method = "ngram-simple"


class TestNgramMapK(NgramConformance):
    method = "ngram-map-k"


class TestNgramMapK4V(NgramConformance):
    method = "ngram-map-k4v"


class TestNgramMod(NgramConformance):
    method = "ngram-mod"
    minimum = True


def test_every_method_is_tested() -> None:
    kinds = (TestNgramSimple, TestNgramMapK, TestNgramMapK4V, TestNgramMod)
    assert {kind.method for kind in kinds} == set(METHODS)
