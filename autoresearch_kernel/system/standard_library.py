"""The held-out modules of Python's standard library: the corpus `stdlib` scores on them, and sandboxes hide them."""

from __future__ import annotations

# No training needs these modules. A sandbox hides their source and compiled files, so none of them may be a module that
# torch or Jupyter imports.
HELD_OUT = (
    "aifc", "asynchat", "asyncore", "cgi", "cgitb", "compileall", "dbm", "doctest", "fileinput", "ftplib", "graphlib",
    "imaplib", "mailbox", "modulefinder", "nntplib", "optparse", "poplib", "pyclbr", "sched", "shelve", "smtpd",
    "smtplib", "sunau", "symtable", "tabnanny", "telnetlib", "trace", "turtle", "venv", "wave", "webbrowser", "wsgiref",
    "zipapp",
)  # fmt: skip
