"""Which modules of Python's own library are held out: the corpus `stdlib` scores on them, every sandbox hides them."""

from __future__ import annotations

# Modules and packages that no training imports. A sandbox hides their source and compiled files, which would be
# impossible for modules that torch or Jupyter import.
HELD_OUT = (
    "aifc", "asynchat", "asyncore", "cgi", "cgitb", "compileall", "dbm", "doctest", "fileinput", "ftplib", "graphlib",
    "imaplib", "mailbox", "modulefinder", "nntplib", "optparse", "poplib", "pyclbr", "sched", "shelve", "smtpd",
    "smtplib", "sunau", "symtable", "tabnanny", "telnetlib", "trace", "turtle", "venv", "wave", "webbrowser", "wsgiref",
    "zipapp",
)  # fmt: skip
