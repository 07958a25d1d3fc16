"""The cells of an experiment mean what `python train.py` means: the same source runs both ways."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode

from autoresearch_kernel.core.types import Status
from autoresearch_kernel.record.paths import ExperimentPaths
from autoresearch_kernel.run.kernel_process import Kernel
from autoresearch_kernel.run.notebook import read_source
from autoresearch_kernel.run.script import Script
from tests.trainings import train

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = '# %% tags=["parameters"]\nSEED = 1  # fixed\n\n'


def script(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`python train.py` without a terminal."""
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(source, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "train.py"], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


# --- what a script can do, a notebook can: each works both ways and prints the same

CODE = """
## its own file
from pathlib import Path
print(Path(__file__).name, Path(__file__).resolve().parent == Path.cwd())
## arguments
import sys
print(len(sys.argv), sys.argv[0].endswith('train.py'))
## argparse
import argparse
parser = argparse.ArgumentParser()
parser.add_argument('--lr', type=float, default=0.1)
print(parser.parse_args().lr, parser.prog)
## reconfigure
import sys
sys.stdout.reconfigure(line_buffering=True)
sys.stderr.reconfigure(encoding='utf-8')
## bytes
import sys
_ = sys.stdout.buffer.write('caf\\u00e9\\n'.encode())
sys.stdout.buffer.flush()
## descriptor
import os, sys
sys.stdout.flush()
_ = os.write(sys.stdout.fileno(), b'raw\\n')
## attributes
import sys
print(sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.writable())
## input is empty
import sys
print(repr(sys.stdin.read()), sys.stdin.isatty())
## no answer
try:
    input('go on? ')
except EOFError:
    print('nobody')
## main
def main():
    print('main')

if __name__ == '__main__':
    main()
## source of code
import inspect
class A:
    def f(self):
        return 1
print(inspect.getsource(A), inspect.getsource(A.f))
## line numbers
import sys
print(sys._getframe().f_lineno)
## pool
import multiprocessing
def square(x):
    return x * x
if __name__ == '__main__':
    with multiprocessing.Pool(1) as pool:
        print(pool.map(square, [2, 3]))
## asyncio
import asyncio
async def three():
    await asyncio.sleep(0)
    return 3
print(asyncio.run(three()))
## event loop
import asyncio
loop = asyncio.new_event_loop()
print(loop.run_until_complete(asyncio.sleep(0, 4)))
loop.close()
## signals
import signal, time
_ = signal.signal(signal.SIGALRM, lambda *_: print('alarm'))
_ = signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(0.2)
## working folder
import os
os.makedirs('sub', exist_ok=True)
os.chdir('sub')
_ = open('a.txt', 'w').write('hi')
print(open('a.txt').read())
os.chdir('..')
## global
n = 0
def count():
    global n
    n += 1
count()
print(n)
## names of IPython
for name in ('display', 'get_ipython'):
    print(name in globals() or name in dir(__builtins__))
## exit is caught
import sys
for leave in (sys.exit, exit, quit):
    try:
        leave(3)
    except SystemExit as e:
        print(e.code)
## child process
import subprocess, sys
sys.stdout.flush()
_ = subprocess.run([sys.executable, '-c', 'print(5)'], stdout=sys.stdout)
## separators in strings
print(len('a\u2028b\x85c\x0cd'))  # \u2029 \x0b
\x0cprint('form feed')
## text of the module
print(__doc__)
## pickle
import pickle
class B:
    pass
print(type(pickle.loads(pickle.dumps(B()))).__name__)
## another stdout
import sys
class Tee:
    def __init__(self, stream):
        self.stream = stream
    def write(self, text):
        self.stream.write(text)
    def flush(self):
        self.stream.flush()
sys.stdout = Tee(sys.stdout)
print('through a tee')
## that stays
print('still through it', type(sys.stdout).__name__)
## a wrapper
import io
sys.stdout = io.TextIOWrapper(sys.__stdout__.buffer, encoding='utf-8', line_buffering=True)
print('wrapped')
## the end
import atexit
_ = atexit.register(print, 'bye')
@atexit.register
def last():
    print('first')
"""
SAME = dict(part.split("\n", 1) for part in CODE.split("## ")[1:])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[str], list[str]]]:
    """What each source of SAME prints in a script and in a notebook, which has one cell for each."""
    folder = tmp_path_factory.mktemp("script")
    marked = [f"# %%\nprint('=== ', flush=True)\n{code}" for code in SAME.values()]
    source = f'"""The file."""\n{PARAMETERS}' + "\n\n".join(marked) + "\n"
    done = script(source, folder)
    assert done.returncode == 0, done.stderr
    shown: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_HOME", str(folder / "home"))
        outcome = train(source, ExperimentPaths(folder / "0001"), folder, ROOT, on_output=shown.append)
    assert outcome.reason.startswith("all cells ran"), outcome.reason
    yield parts(done.stdout), parts("".join(shown))


def parts(printed: str) -> list[str]:
    return printed.split("=== ")[1:]


@pytest.mark.parametrize("number", range(len(SAME)), ids=list(SAME))
def test_a_notebook_prints_what_the_script_prints(both: tuple[list[str], list[str]], number: int) -> None:
    as_script, as_notebook = both
    assert as_notebook[number] == as_script[number]


# --- what ends a script ends a notebook, at once and with its line

ENDS = {
    "exit": ("exit(1)", "exited with SystemExit(1)"),
    "quit": ("quit()", "exited with SystemExit(None)"),
    "sys.exit": ("sys.exit('no more')", "exited with SystemExit(no more)"),
    "raise": ("raise SystemExit", "exited with SystemExit()"),
    "os._exit": ("os._exit(4)", "the kernel exited with code 4"),
    "an error": ("float('x')", "ValueError: could not convert string to float: 'x'"),
    "no answer": ("input()", "EOFError: EOF when reading a line"),
}


LOOP = """# %%
import os, sys
for step in range(1000):
    print(step, flush=True)
    if step == 2:
        END

# %%
print('never')
"""


@pytest.mark.parametrize("name", ENDS)
def test_both_end_at_once_and_a_notebook_names_the_line(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    code, reason = ENDS[name]
    source = f"{PARAMETERS}{LOOP.replace('END', code)}"
    line = source[: source.index(code)].count("\n") + 1
    done = script(source, tmp_path)
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "home"))
    shown: list[str] = []
    outcome = train(source, ExperimentPaths(tmp_path / "0001"), tmp_path, ROOT, on_output=shown.append)
    assert done.stdout == "0\n1\n2\n" and "".join(shown).startswith("0\n1\n2\n") and "\nnever" not in "".join(shown)
    assert outcome.status is Status.CRASH
    when = "" if "Error" in reason else " before the hand-over"
    assert outcome.reason == f"{reason} in cell 3, line {line} of train.py{when}"
    if done.returncode == 1 and "Traceback" in done.stderr:
        assert f'train.py", line {line}' in done.stderr


def test_a_traceback_shows_the_lines_of_train_py_and_no_folder(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "home"))
    source = f"{PARAMETERS}# %%\ndef f():\n    return 1 / 0\n\n# %%\nimport warnings\nwarnings.warn('careful')\nf()\n"
    shown: list[str] = []
    outcome = train(source, ExperimentPaths(tmp_path / "0001"), tmp_path, ROOT, on_output=shown.append)
    printed = re.sub(r"\x1b\[[0-9;]*m", "", "".join(shown))
    assert outcome.reason == "ZeroDivisionError: division by zero in cell 4, line 6 of train.py"
    assert "File train.py, line 11" in printed and "File train.py, line 6" in printed
    assert "train.py:10: UserWarning: careful" in printed and "/train.py" not in printed


# --- parts

TWICE = '"""Doc."""\nimport os\n\n# %%\nx = 1\n\n# %%\nx = 1\n# the end\n\n# %% [markdown]\n# Bye\n'


def test_cells_are_found_in_their_order_also_when_two_are_alike() -> None:
    found = Script(Path("train.py"), TWICE)
    assert found.docstring() == "Doc."
    assert [found.find("x = 1\n"), found.is_over, found.find("SEED = 7\n")] == [4, False, None]
    assert found.find("x = 1\n# the end") == 7 and found.is_over


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_code_cell_of_a_file_is_found_with_any_line_ends(end: str) -> None:
    source = (ROOT / "train.py").read_text(encoding="utf-8").replace("\n", end)
    found = Script(Path("train.py"), source)
    cells: list[NotebookNode] = [cell for cell in read_source(source).cells if cell.cell_type == "code"]
    starts = [found.find(cell.source) for cell in cells]
    assert None not in starts and starts == sorted(starts) and found.is_over  # type: ignore[type-var]


def test_the_kernel_of_a_user_has_a_file_and_no_arguments_but_its_own_exit(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "train.py").write_text("x = 1\n")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "train.py"))
    kernel = Kernel(cwd=str(tmp_path))
    monkeypatch.undo()

    async def ask() -> dict[str, Any]:
        client = await kernel.connect(30)
        expressions = {"value": "(__file__, __import__('sys').argv)"}
        reply: dict[str, Any] = await client.execute("", user_expressions=expressions, reply=True, timeout=20)
        client.stop_channels()
        return reply

    try:
        said = asyncio.run(ask())["content"]["user_expressions"]["value"]["data"]["text/plain"]
    finally:
        kernel.end()
    assert ast.literal_eval(said) == (str(tmp_path / "train.py"), ["train.py"])
