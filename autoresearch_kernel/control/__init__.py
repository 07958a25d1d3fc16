"""What can people do with a study that runs elsewhere? Start, ask, stop, finish, attribute, promote and verify it.

Through files only. `actions` has one function for each button of the panel and each command; `supervisor` starts the
process that runs a study in the background; `playback` plays a recorded one in a terminal; `doctor` and `verify` check
a machine and a record. `new` makes a project, and `adopt` converts a train.py of the original.
"""
