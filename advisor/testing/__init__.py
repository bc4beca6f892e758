"""What tests and demonstrations need, and the conformance suites of everything that can be added.

    zoo         real small models without a download
    builders    records made without a model or a measurement; ``saved`` has recommendations as people save them
    engines     RunnerConformance, EngineConformance: what an engine owes
    exporters   ExporterConformance: what an exporter owes
    ngram       NgramConformance: what an n-gram method owes
    families    what a file of the catalogue owes: ``python -m advisor.testing.families my-family.yaml``

A suite is a class whose methods are tests: subclass it under a name that pytest collects (``Test...``), give it what it
asks for, and run pytest. It needs nothing of this repository's own tests.
"""
