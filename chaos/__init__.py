"""Tries to break the promises of SECURITY.md, and counts what was lost. ``python -m chaos``, or ``make chaos``."""
