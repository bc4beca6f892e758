"""A recommendation as the configuration of a program that serves models: one module per consumer."""
