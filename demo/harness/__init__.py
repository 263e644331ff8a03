"""The demo's stage: it starts the workers, causes the faults, watches, and judges.

The workers (`demo/elixir`, `demo/c`, `demo/python`) use the library; this package does not. What it concludes
rests on the database, on what the workers recorded call by call, and on an oracle of its own.
"""
