"""How does one training run? papermill executes a notebook in a sandboxed kernel, within the time budget.

Others use `backend.LOCAL` and `training.run_training`. `notebook` turns train.py into the experiment's notebook,
`engine` executes it, `kernel` is the Jupyter kernel, `script` gives its cells what `python train.py` gives, and
`interactive` configures that kernel in a notebook that a user runs.
"""
