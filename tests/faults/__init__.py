"""What a study survives: every durable operation of a short study fails once, in every way it can.

`operations.py` numbers the operations and lets one of them fail; `stub.py` is the short study; `check.py` says what
must hold afterwards; `tool.py` is a study with pauses and notices, which a command-line tool proposes; `server.py` does
it for one fault in processes of its own; `kills.py` kills the processes of a real study. `python -m tests.faults` runs
all of it.
"""
