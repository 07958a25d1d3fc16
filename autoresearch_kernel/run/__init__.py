"""How does one training run? A notebook executed by papermill in a sandboxed kernel, within the time budget.

Others use `backend.LOCAL` and `training.run_training`. `notebook` turns train.py into the experiment's notebook,
`engine` executes it, `kernel` is the Jupyter kernel, `interactive` what that kernel does for a notebook that a user
runs.
"""
