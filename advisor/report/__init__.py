"""A recommendation made readable: for people on a terminal, for programs as JSON.

Every renderer works on a Recommendation alone, also on one that was made elsewhere and read from a file. The command
line to run comes from advisor.exporters and is handed in: exporters may use this package, not it them.
"""
