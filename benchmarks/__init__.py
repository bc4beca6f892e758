"""Reproducible figures: how fast the advisor answers, how good its answer is, how far its predictions are off.

    python -m benchmarks               every part, and docs/benchmarks.md written from it (make bench)
    python -m benchmarks PART ...      some parts, printed; with --keep written there too

Everything is measured on real models at the time of the call; nothing comes from a store. Each part is a function of an
engine and its models, so the tests run the same code in seconds on the simulated engine.
"""
