"""The held-out modules of Python's standard library: the corpus `stdlib` scores on them, and sandboxes hide them."""

from __future__ import annotations

# No training needs these modules. A sandbox hides their source and compiled files, so none of them may be a module that
# torch, Jupyter or one of their packages imports, also in a function (jedi imports filecmp, and pexpect imports pty).
# Nor may installed packages contain much of their text: doctest, optparse and trace stand nearly whole in sympy,
# IPython and click. A module that a version of Python lacks is left out there.
VAL = (
    "_pydecimal", "asyncio.proactor_events", "asyncio.windows_events", "chunk", "smtpd", "smtplib", "sunau", "wave",
)  # fmt: skip
TEST = (
    "_py_abc", "_pydatetime", "aifc", "asynchat", "asyncio.windows_utils", "crypt", "ctypes._aix", "curses.has_key",
    "curses.textpad", "graphlib", "imaplib", "multiprocessing.popen_spawn_win32", "nturl2path", "pipes", "poplib",
    "sched", "sndhdr", "symtable", "tabnanny", "telnetlib", "turtle",
)  # fmt: skip
HELD_OUT = (*VAL, *TEST)

# Folders of the standard library that no training imports and that repeat much of its text; sandboxes hide them, too.
REPEATING = ("ensurepip", "idlelib", "lib2to3", "test", "turtledemo")
