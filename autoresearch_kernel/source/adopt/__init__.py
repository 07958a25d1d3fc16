"""A train.py of the original autoresearch, or of a fork of it, as one of ours. Pure.

`convert.adopt` reads the text and edits it at the positions of its syntax tree, so that comments and layout stay. What
it cannot convert is listed by line. The modules are its steps: `reading`, `parameters`, `packages`, `device`, `clock`,
`cells`; `draft` collects their edits.
"""
