"""What is the score of a model, and is it true? Score and blind audit, each in a process of its own.

Others use `score.score`, `audit.audit` and the held-out rows `score.HeldOut`. `scorer` is what the process runs.
"""
