"""Several machines: replays spread over those that have the draft, and one answer for all of an inventory.

The scheduler is Dask's. What comes from it is code to run, so it belongs in a network whose members trust each other,
or behind TLS (docs/fleet.md).
"""
