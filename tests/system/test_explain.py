"""Every error becomes a sentence, and output works in any encoding and with closed streams."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from autoresearch_kernel.lab.errors import StepError, in_one_sentence
from autoresearch_kernel.record.study import StudyError, explained
from autoresearch_kernel.system.explain import SUBSTITUTE, explain, run_main
from tests.conftest import counting_study

ROOT = Path(__file__).parents[2]


class PanicException(BaseException):
    """As a library in Rust raises it."""


def nested(path: Path) -> None:
    json.loads("[" * 1_000_000)


def unreadable(path: Path) -> None:
    path.write_bytes(b"ab\xff")
    path.read_text(encoding="utf-8")


def no_json(path: Path) -> None:
    path.write_text("{")
    json.loads(path.read_text())


def panic(path: Path) -> None:
    raise PanicException("called `Option::unwrap()` on a `None` value")


def bad_text(path: Path) -> None:
    project = path.parent
    json.loads("{")
    assert project


def bad_array(path: Path) -> None:
    path.write_bytes(b"\x93NUMPY\x01")
    numpy.load(path)


def encode(path: Path) -> None:
    path.touch()
    "●".encode("ascii")


def out_of_memory(path: Path) -> None:
    raise MemoryError


def refuse(number: int) -> Callable[[Path], None]:
    def raise_it(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return raise_it


CASES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: path.read_text(), "{path} does not exist. Check the name, and the working folder."),
    (lambda path: path.parent.read_text(), "{parent} is a folder, where a file is needed. Name a file."),
    (unreadable, "{path} is not text in UTF-8: byte 0xff at position 2. Save it as UTF-8, or leave it out."),
    (no_json, "{path} is not JSON: Expecting property name enclosed in double quotes"),
    (bad_text, "A text is not JSON: Expecting property name enclosed in double quotes"),
    (bad_array, "The program failed while it used {path} with the message: EOF: reading"),
    (nested, "Something is nested too deeply to be read. Make it flatter, or leave it out."),
    (encode, "{path} has the character U+25CF, which ascii cannot hold. Set PYTHONUTF8=1, or remove it."),
    (out_of_memory, "The program ran out of memory. End other programs, or use smaller files."),
    (panic, "The program failed with the message: PanicException: called `Option::unwrap()` on a `None` value. With"),
    (lambda path: {}["missing"], "The program failed with the message: KeyError: 'missing'"),
    (lambda path: __import__("no_such_module"), "A module cannot be imported: No module named 'no_such_module'."),
    (lambda path: socket.create_connection(("127.0.0.1", 9), 1), "A connection failed: Connection refused."),
    (lambda path: socket.getaddrinfo("no.such.invalid", 80), "A connection failed: "),
    *((refuse(number), "{path} ") for number in (errno.EACCES, errno.EROFS, errno.EIO, errno.ESTALE, errno.EBADF)),
    (refuse(errno.ENOSPC), "{path} cannot be written: the disk is full. Free some space and run this again."),
    (refuse(errno.EMFILE), "{path} cannot be opened: this process has too many open files."),
]


def raised(act: Callable[[Path], Any], path: Path) -> BaseException:
    try:
        act(path)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(("act", "words"), CASES)
def test_an_error_is_one_sentence_with_the_file_and_the_next_step(
    act: Callable[[Path], Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "given.txt"
    said = explain(raised(act, path))
    assert said.startswith(words.format(path=path, parent=path.parent))
    assert "\n" not in said and said.endswith((".", "happened.")) and len(said) < 400
    assert run_main(lambda: act(path)) == 1
    begin = re.split(r" \(|\. With", said)[0]  # the line of a failure of the program is another one each time
    assert capsys.readouterr().err.startswith(f"autoresearch: {begin}")
    with pytest.raises(StepError) as in_a_step, in_one_sentence():
        act(path)
    with pytest.raises(StudyError) as in_the_panel, explained():
        act(path)
    assert all(str(error.value).startswith(begin) for error in (in_a_step, in_the_panel))


def test_a_message_of_this_program_is_said_as_it_is() -> None:
    from autoresearch_kernel.record.paths import study_paths

    assert explain(raised(lambda path: study_paths("a b", path), Path("/"))).startswith("Study name 'a b': use letters")


def test_the_traceback_is_shown_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTORESEARCH_DEBUG", "1")
    assert run_main(lambda: panic(Path("/"))) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "in panic" in said


def test_an_interrupt_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    assert run_main(interrupt) == 130
    assert capsys.readouterr().err == "\nStopped. Nothing that was recorded is lost.\n"


# --- streams


def shell(words: str, project: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """A command of a shell, with $ar for the program."""
    program = f"{sys.executable} -P -m autoresearch_kernel.cli"
    variables = os.environ | {"PYTHONPATH": str(ROOT), "ar": program} | env
    return subprocess.run(["bash", "-o", "pipefail", "-c", words], cwd=project, env=variables, capture_output=True)


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
@pytest.mark.parametrize("words", ["status", "cost", "verify", "attach"])
def test_a_character_that_the_output_cannot_hold_is_replaced(
    env: dict[str, str], words: str, project: Path, small_corpus: Path
) -> None:
    counting_study(project, small_corpus).paths.history.touch()  # else attach waits for its first record
    done = shell(f"$ar {words}", project, **env)
    assert b"codec" not in done.stderr and b"Traceback" not in done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("$ar status >&-", 0, b""),
        ("$ar status 2>&- >/dev/null", 0, b""),
        ("$ar status <&- >/dev/null", 0, b""),
        ("$ar status <&- >&- 2>&-", 0, b""),
        ("$ar status | head -1 >/dev/null", (0, 1), b""),
        ("$ar status | true", (0, 1), b""),
        ("$ar --help | true", (0, 1), b""),
        ("$ar --help >&-", 0, b""),
        ("$ar status >/dev/full", 1, b"autoresearch: The output cannot be written: the disk is full."),
        ("$ar status --name none 2>&-", 1, b""),
        ("mkdir gone && cd gone && rmdir ../gone && $ar status", 1, b"autoresearch: The working folder was removed."),
    ],
)
def test_streams_that_are_closed_full_or_gone(
    words: str, status: int | tuple[int, ...], said: bytes, project: Path, small_corpus: Path
) -> None:
    counting_study(project, small_corpus)
    done = shell(words, project)
    assert done.returncode in ((status,) if isinstance(status, int) else status)
    assert done.stderr.startswith(said) and (said or not done.stderr)
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


def test_no_file_takes_the_number_of_a_closed_stream(project: Path) -> None:
    code = (
        "from autoresearch_kernel.system.explain import run_main\nimport os\n"
        "def main():\n    file = open('record', 'w')\n    os.write(1, b'output')\n    return file.fileno()\n"
        "raise SystemExit(run_main(main))"
    )
    done = shell(f'{sys.executable} -c "{code}" <&- >&- 2>&-', project)
    assert done.returncode > 2 and (project / "record").read_bytes() == b""


def test_a_character_that_the_output_lacks_becomes_one_that_looks_like_it() -> None:
    words = "\u22120.01 \u00b1 0.02, 3 \u03c3 \u2192 \u2713 \u25cf"
    assert words.encode("ascii", SUBSTITUTE) == b"-0.01 ~ 0.02, 3 s > + ?"
    assert words.encode("latin-1", SUBSTITUTE) == b"-0.01 \xb1 0.02, 3 s > + ?"
