"""The one place where an error of any kind becomes a sentence: the file or value, what is wrong, and the next step.

`run_main` is around everything that a user starts from a shell. Output works in any encoding and with closed streams.
With the environment variable AUTORESEARCH_DEBUG the traceback is shown as well.
"""

from __future__ import annotations

import codecs
import errno
import json
import linecache
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

from ..core.errors import Plain, is_debugging
from ..core.sanitize import readable, shown
from .shell import shell_command

PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARY = Path(os.__file__).parent
ELSEWHERE = "Use another folder, or change the rights of this one."
TRACED = "With AUTORESEARCH_DEBUG=1 the program shows where it happened."
SUBSTITUTE = "autoresearch.substitute"  # name of an error handler of encodings
LOOKS_LIKE = dict(
    zip("\u2212\u2013\u2014\u2192\u00b1\u00d7\u03c3\u0394\u2026\u00b7\u2713\u2717\u2248", "--->~xsd..+x~", strict=True)
)
REASONS = {  # what the system refuses, and what a user can do
    errno.ENOENT: ("does not exist", "Check the name, and the working folder."),
    errno.EACCES: ("may not be used by this user", ELSEWHERE),
    errno.EPERM: ("may not be changed by this user", ELSEWHERE),
    errno.EROFS: ("is on a file system that can only be read", "Use a folder that you may write to."),
    errno.ENOSPC: ("cannot be written: the disk is full", "Free some space and run this again."),
    errno.EDQUOT: ("cannot be written: your quota is used up", "Free some space and run this again."),
    errno.ENOLCK: ("cannot be locked on its file system", "Use a folder on a local disk."),
    errno.ENOTDIR: ("has a part that is a file instead of a folder", "Check the name."),
    errno.EISDIR: ("is a folder, where a file is needed", "Name a file."),
    errno.EEXIST: ("exists already", "Choose another name, or move it away."),
    errno.ELOOP: ("is a link that leads back to itself", "Replace the link."),
    errno.ENAMETOOLONG: ("has too long a name", "Choose a shorter one."),
    errno.EMFILE: ("cannot be opened: this process has too many open files", "Raise the limit: `ulimit -n 4096`."),
    errno.ENFILE: ("cannot be opened: the system has too many open files", "End other programs."),
    errno.EAGAIN: ("cannot be used: too many processes or threads", "End other programs, or raise `ulimit -u`."),
    errno.ENOMEM: ("cannot be used: there is not enough memory", "End other programs."),
    errno.EIO: ("cannot be read or written: the disk reports an error", "Copy the folder to another disk."),
    errno.ESTALE: ("is gone: its network drive was disconnected", "Connect it again, or use a local folder."),
    errno.ENOEXEC: ("cannot be started: it is no program for this machine", "Install it again."),
}


def explain(error: BaseException) -> str:
    """What went wrong, in one or two sentences for users, whatever was raised."""
    if str(error) and (_is_made_for_users(error) or _was_raised_here(error)):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "Stopped. Nothing that was recorded is lost."
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # of pathlib
        return "This user has no home folder. Set HOME to a folder that you may write to."
    file = _file_of(error)
    where = file or "a file or folder"
    if isinstance(error, FileNotFoundError) and error.filename is None and _is_folder_gone():
        return "The working folder was removed. Change to another one."
    if isinstance(error, OSError) and error.filename is None and _is_of_a_network(error):
        return (
            f"A connection failed: {error.strerror or error}. Check the network and the address, then run this again."
        )
    if isinstance(error, OSError) and error.errno is not None:
        what, remedy = REASONS.get(error.errno, (f"cannot be used ({error.strerror})", ELSEWHERE))
        return f"{where[:1].upper()}{where[1:]} {what}. {remedy}"
    if isinstance(error, UnicodeDecodeError):
        byte = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        return f"{where} is not text in {error.encoding.upper()}: {byte}. Save it as UTF-8, or leave it out."
    if isinstance(error, UnicodeEncodeError):
        character = f"the character U+{ord(error.object[error.start]):04X}"
        return f"{where} has {character}, which {error.encoding} cannot hold. Set PYTHONUTF8=1, or remove it."
    if isinstance(error, json.JSONDecodeError):
        return f"{where if file else 'A text'} is not JSON: {error}. {'Restore it from a copy.' if file else TRACED}"
    return f"{_in_short(error, where if file else '')} {TRACED}"


def _in_short(error: BaseException, file: str) -> str:
    """Errors that carry neither a file nor a remedy of their own."""
    about = f" while it used {file}" if os.path.isfile(file) else ""
    if isinstance(error, RecursionError):
        return f"Something is nested too deeply to be read{about}. Make it flatter, or leave it out."
    if isinstance(error, MemoryError):
        return f"The program ran out of memory{about}. End other programs, or use smaller files."
    if isinstance(error, ImportError):
        return f"A module cannot be imported: {error}. `{shell_command('doctor')}` says what is missing."
    message = " ".join(str(error).split()) or "no message"
    if not isinstance(error, ValueError | RuntimeError | OSError):  # whose messages are whole sentences
        message = f"{type(error).__name__}: {message}"
    place = next((f" ({Path(f.f_code.co_filename).name}, line {n})" for f, n in _frames(error) if _is_ours(f)), "")
    return f"The program failed{about} with the message: {message}{place}."


def _is_of_a_network(error: OSError) -> bool:
    unreachable = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRINUSE, errno.EADDRNOTAVAIL)
    # The numbers of socket.gaierror, a name that no server knows, are negative.
    return isinstance(error, ConnectionError | TimeoutError) or error.errno in unreachable or (error.errno or 0) < 0


def _is_made_for_users(error: BaseException) -> bool:
    """Whether the class of the error is this program's own."""
    return isinstance(error, Plain) or type(error).__module__.partition(".")[0] in (PACKAGE.name, "prepare")


def _was_raised_here(error: BaseException) -> bool:
    """Whether a `raise` of this program or of a user's code made the error; a library's message names no file."""
    if not isinstance(error, ValueError | RuntimeError | OSError) or isinstance(error, RecursionError):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return False
    for frame, line in _frames(error):  # the innermost frame decides
        file, words = Path(frame.f_code.co_filename), linecache.getline(frame.f_code.co_filename, line).split()
        is_library = _LIBRARY in file.parents or {"site-packages", "dist-packages"} & set(file.parts)
        return words[:1] == ["raise"] and (_is_ours(frame) or not is_library)
    return True  # it was made and not raised


def _is_ours(frame: FrameType) -> bool:
    path = Path(frame.f_code.co_filename)
    return path.name == "prepare.py" or PACKAGE in path.parents


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """The frames of the traceback and their lines, the innermost first."""
    return reversed(list(traceback.walk_tb(error.__traceback__)))


def _file_of(error: BaseException) -> str | None:
    """The file that the error names, else one that is there and that the innermost functions worked on."""
    if isinstance(error, OSError) and isinstance(name := error.filename, str | bytes | os.PathLike):
        return shown(name)
    for index, (frame, line) in enumerate(_frames(error)):
        if index == 0 and "print(" in linecache.getline(frame.f_code.co_filename, line):
            return "the output"
        for value in frame.f_locals.values():
            if isinstance(value, Path) and os.path.isfile(value):
                return shown(value)
    return None


def _is_folder_gone() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False


# --- programs


def run_main(main: Callable[[], int | None], program: str = "autoresearch") -> int:
    """Run a program's main function; the exit status: its own, 1 for an error that was explained, 130 for Ctrl-C.

    A reader of the output that has gone, as in `autoresearch status | head -1`, ends the program quietly.
    """
    open_streams()
    try:
        try:
            return int(main() or 0)
        finally:
            _flush()
    except SystemExit:
        raise
    except KeyboardInterrupt as error:
        _complain(f"\n{explain(error)}")
        return 130
    except BaseException as error:  # a panic of a library in Rust is no Exception
        if isinstance(error, BrokenPipeError) and _has_lost_its_reader():
            _drop_output()
            return 1
        if is_debugging():
            traceback.print_exception(error)
        _complain(f"{program}: {explain(error)}")
        if isinstance(error, OSError):
            _drop_output()  # it may be the output that failed, and Python flushes it once more at its end
        return 1


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        error.filename = "The output"
        raise


def open_streams() -> None:
    """Make all three standard streams usable: a closed one is empty, and any character can be written.

    One that the encoding does not have is written as one that looks like it, and as "?" where there is none.

    Without this the next file that is opened would take the number of a closed stream, and output would go into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", encoding="utf-8", closefd=False))
        elif descriptor and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=SUBSTITUTE)


def _substitutes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(LOOKS_LIKE.get(character, "?") for character in error.object[error.start : error.end]), error.end


codecs.register_error(SUBSTITUTE, _substitutes)


def _complain(words: str) -> None:
    with suppress(OSError, ValueError):  # stderr may be closed or full; the exit status says it then
        print(readable(words), file=sys.stderr, flush=True)


def _has_lost_its_reader() -> bool:
    """Whether the reader of stdout has gone; another pipe that broke is an error to be explained."""
    try:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        return bool(watched.poll(0))
    except (OSError, ValueError, AttributeError):
        return True


def _drop_output() -> None:
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
