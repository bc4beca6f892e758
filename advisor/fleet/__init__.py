"""Several machines: replays spread over those that have the draft, and one answer for all of an inventory.

The scheduler is Dask's. Workers run the code they are sent, by whoever reaches them: they belong in a network whose
members trust each other, or behind TLS (SECURITY.md).
"""
