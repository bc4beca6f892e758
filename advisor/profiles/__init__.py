"""Acceptance that travels: what one machine measured of a target's drafts, as a file that another can use.

A profile holds the answers' lengths, the traces of every draft over them and the cost curves of the machines that took
part. Acceptance is used anywhere; costs only where they were measured. The build that replayed is provenance here, not
identity: what a profile is for is told by the hashes of the models, the prompts and the sampling.
"""
