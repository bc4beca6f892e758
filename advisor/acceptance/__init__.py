"""Acceptance: what the draft would get right. It depends on models, text and sampling, never on the machine."""
