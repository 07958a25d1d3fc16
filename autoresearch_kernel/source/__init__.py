"""What does a train.py say? A train.py as text: syntax, parameters, comparison, merge and diff.

Pure. Others use `parameters.read_parameters` and `edit_parameters`, `compare.fingerprint` and `rebase`, `syntax.parse`.
"""
