"""What is the score of a model, and is it true? Score and blind audit, each in a process of its own.

Others use `score.score` and `audit.audit` with a `job.ScoringJob` and its `job.HeldOut` rows. `scorer` is the program
that the process runs.
"""
