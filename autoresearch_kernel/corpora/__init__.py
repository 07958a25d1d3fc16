"""Which text becomes a corpus, and how is it built? Sources, downloads, splits, tokens, and the files of both sides.

`python prepare.py` and `prepare.prepare(...)` call `command.main` and `build.build_corpus`. What training and scoring
depend on (the tokenizer, the rows, the reading of a corpus) is in the project's prepare.py, which this room imports.
It knows no study.
"""
