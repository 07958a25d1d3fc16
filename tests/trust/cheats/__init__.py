"""One cheating file for each way to fake a score, built on the counting model of tests/conftest.py.

`scoring/` and `honest/` hold a cell that defines `Model`, what a train.py would hand over; `training/` a cell that runs
before the hand-over. The docstring of each says what must come of it, and what it does.
"""
