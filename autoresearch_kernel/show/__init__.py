"""How does a study look? In words, HTML and pictures: values in, text and PNG out.

`follow.look` gives a Snapshot, and `playback.Playback` one of a moment of a recorded study.
"""
