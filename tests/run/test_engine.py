"""The papermill engine: what is recorded when a notebook fails, hangs, dies or prints without end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_kernel.run.engine import AutoresearchEngine, Execution
from autoresearch_kernel.run.notebook import read_notebook
from autoresearch_kernel.run.outputs import MOST_SWITCHES, CellOutputs, HeadTail, Printed, RateLimit
from autoresearch_kernel.run.papermill_plugin import EnginePlugin
from tests.fuzzing import EXAMPLES

KERNEL = {"kernelspec": {"name": "autoresearch", "language": "python", "display_name": "autoresearch"}}


class Ran:
    """An executed notebook, how it ended, and what was shown while it ran."""

    def __init__(self, path: Path, execution: Execution, texts: list[tuple[float, str]]) -> None:
        self.execution, self.texts = execution, texts
        self.notebook = read_notebook(path)
        self.code = [
            cell for cell in self.notebook.cells if cell.cell_type == "code" and "injected-parameters" not in tags(cell)
        ]
        self.statuses = [cell.metadata.papermill.status for cell in self.code]

    def text(self, cell: int) -> str:
        return "".join(output.get("text", "") for output in self.code[cell].outputs)


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


@pytest.fixture
def execute(tmp_path: Path) -> Callable[..., Ran]:
    import papermill
    from papermill.engines import papermill_engines

    papermill_engines.register("autoresearch", EnginePlugin)

    def run(*cells: str, on_text: Callable[[str], None] | None = None, **options: Any) -> Ran:
        notebook = nbformat.v4.new_notebook(metadata=KERNEL, cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(notebook, tmp_path / "in.ipynb")
        ends: list[Execution] = []
        texts: list[tuple[float, str]] = []

        def show(text: str) -> None:
            texts.append((time.monotonic(), text))
            if on_text is not None:
                on_text(text)

        try:
            papermill.execute_notebook(
                tmp_path / "in.ipynb",
                tmp_path / "out.ipynb",
                engine_name="autoresearch",
                progress_bar=False,
                on_text=show,
                on_execution=ends.append,
                **options,
            )
        except papermill.PapermillExecutionError:
            assert ends[0].ended != "done"
        return Ran(tmp_path / "out.ipynb", ends[0], texts)

    return run


def test_parameters_are_injected_and_output_streams_while_the_cell_runs(execute: Callable[..., Ran]) -> None:
    ran = execute("A = 1", "import time\nprint('a', A, flush=True)\ntime.sleep(0.6)\nprint('b')", parameters={"A": 5})
    assert (ran.execution.ended, ran.execution.reason, ran.execution.cell) == ("done", "", None)
    assert ran.statuses == ["completed", "completed"]
    assert ran.text(1) == "a 5\nb\n"
    (first, a), (last, b) = ran.texts
    assert (a, b) == ("a 5\n", "b\n") and last - first > 0.4
    assert ran.notebook.metadata.papermill.input_path == "in.ipynb"
    assert ran.notebook.metadata.language_info.name == "python"


def test_after_an_error_later_cells_are_skipped_not_completed(execute: Callable[..., Ran]) -> None:
    ran = execute("A = 1", "print('before')\n1 / 0", "print('never')")
    assert ran.statuses == ["completed", "failed", "skipped"]
    assert (ran.execution.ended, ran.execution.reason, ran.execution.cell) == (
        "error",
        "ZeroDivisionError: division by zero",
        2,
    )
    assert ran.text(1) == "before\n" and not ran.code[2].outputs


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(0)", "exited with SystemExit(0)"),
        ("exit()", "exited with SystemExit(None)"),
        (
            "import os, time; print('last words', flush=True); time.sleep(0.1); os._exit(3)",
            "the kernel exited with code 3",
        ),
        (
            "import os, time; print('last words', flush=True); time.sleep(0.1); os.kill(os.getpid(), 9)",
            "the kernel was killed by signal 9",
        ),
        ("import ctypes; ctypes.string_at(0)", "the kernel was killed by signal 11 (a crash in C code)"),
    ],
)
def test_a_kernel_that_goes_away_is_recorded_where_it_went(execute: Callable[..., Ran], code: str, reason: str) -> None:
    ran = execute("A = 1", code, "print('never')")
    assert (ran.execution.reason, ran.execution.cell) == (reason, 2)
    assert ran.statuses == ["completed", "failed", "skipped"]
    if "last words" in code:
        assert "last words\n" in ran.text(1)
        assert ran.code[1].outputs[-1].evalue == reason
    if "ctypes" in code:
        assert "Segmentation fault" in ran.text(1)


def test_a_loop_is_interrupted_at_the_deadline_and_keeps_its_output(execute: Callable[..., Ran]) -> None:
    begun = time.monotonic()
    ran = execute("A = 1", "print('so far', flush=True)\nwhile True: pass", "print('never')", deadline_seconds=2)
    assert ran.execution.ended == "deadline" and ran.execution.reason == "passed its hard limit of 2 s"
    assert ran.statuses == ["completed", "failed", "skipped"]
    assert ran.text(1) == "so far\n"
    assert [output.ename for output in ran.code[1].outputs[1:]] == ["HardLimitPassed", "KeyboardInterrupt"]
    assert time.monotonic() - begun < 5


HANG = """
import ctypes, signal, time
print("hanging", flush=True)
time.sleep(0.2)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
ctypes.PyDLL(None).sleep(1000)  # holds the GIL
"""


def test_a_hang_in_c_with_the_gil_held_is_killed_after_the_grace(execute: Callable[..., Ran]) -> None:
    ran = execute("A = 1", HANG, "print('never')", deadline_seconds=2, grace_seconds=0.5)
    assert ran.execution.ended == "deadline" and ran.execution.cells_seconds < 4
    assert ran.statuses == ["completed", "failed", "skipped"]
    assert ran.text(1) == "hanging\n" and ran.code[1].outputs[-1].ename == "HardLimitPassed"


def test_a_cell_that_swallows_the_interrupt_does_not_reach_the_next(execute: Callable[..., Ran]) -> None:
    code = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('no')"
    ran = execute("A = 1", code, "print('never')", deadline_seconds=1.5)
    assert ran.execution.ended == "deadline"
    assert ran.statuses[2] == "skipped" or ran.code[2].outputs[0].get("ename") == "HardLimitPassed"
    assert "never" not in ran.text(2)


def test_three_hundred_megabytes_cost_neither_memory_nor_time(execute: Callable[..., Ran]) -> None:
    code = "print('first words')\nfor _ in range(300): print('x' * 1_000_000)\nprint('last words')"
    memory = "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')])"
    ran = execute("A = 1", code, memory)
    text = ran.text(1)
    assert text.startswith("first words\n") and text.endswith("last words\n")
    assert "characters of output held back" in text
    assert len(text) < 1_100_000
    assert int(ran.text(2)) < 150_000  # KiB
    assert ran.execution.cells_seconds < 10


def test_a_child_process_that_floods_is_held_back_too(execute: Callable[..., Ran]) -> None:
    ran = execute("A = 1", "import subprocess\nsubprocess.run('yes | head -c 50000000', shell=True)\nprint('end')")
    assert len(ran.text(1)) < 1_500_000 and ran.statuses == ["completed", "completed"]


def test_thousands_of_displays_are_cut_and_counted(execute: Callable[..., Ran]) -> None:
    ran = execute(
        "A = 1",
        "from IPython.display import display\nfor i in range(900): display(i)\ndisplay({'text/plain': 'x'}, raw=True)",
    )
    outputs = ran.code[1].outputs
    assert len(outputs) == 501 and outputs[250].text == "[... 401 more outputs were not kept ...]\n"
    shown = [output.data["text/plain"] for output in outputs if "data" in output]
    assert shown == [*map(str, range(250)), *map(str, range(651, 900)), "x"]


def test_an_output_that_is_updated_later_is_still_the_same_after_others_were_taken_out(
    execute: Callable[..., Ran],
) -> None:
    code = (
        "from IPython.display import display\nfirst = display('a', display_id='first')\n"
        "for i in range(600): display(i)\nlast = display('b', display_id='last')\n"
        "for i in range(100): display(i)\nfirst.update('A')\nlast.update('B')"
    )
    shown = [o.data["text/plain"] for o in execute("A = 1", code).code[1].outputs if "data" in o]
    assert len(shown) == 500 and shown[0] == "'A'" and shown[-101] == "'B'" and shown[-1] == "99"


def test_a_loop_that_draws_its_line_anew_keeps_the_last_state_in_a_small_notebook(
    execute: Callable[..., Ran], tmp_path: Path
) -> None:
    code = (
        "import sys\nfor i in range(3_000):\n    print(f'\\rbatch {i:04d}', end='', flush=True)\n"
        "    print('seen', i, file=sys.stderr, flush=True)\n"
        "for i in range(5_000): print(f'\\rbatch {i:04d} loss 2.5', end='', flush=True)"
    )
    ran = execute("A = 1", code)
    outputs = ran.code[1].outputs
    assert (tmp_path / "out.ipynb").stat().st_size < 100_000 and len(outputs) < 60
    assert "".join(o.text for o in outputs if o.name == "stdout").endswith("batch 4999 loss 2.5")
    errors = "".join(o.text for o in outputs if o.name == "stderr")
    assert errors.startswith("seen 0\n") and "seen 2999\n" in errors
    assert ran.execution.cells_seconds < 20


def test_a_hundred_thousand_prints_do_not_slow_the_training(execute: Callable[..., Ran], tmp_path: Path) -> None:
    code = (
        "import time\nstarted = time.monotonic()\nfor i in range(100_000): print('loss', i, flush=True)\n"
        "spent = time.monotonic() - started"
    )
    ran = execute("A = 1", code, "print(spent)")
    assert float(ran.text(2)) < 20  # 30 s and more when each flush waits
    assert ran.text(1).startswith("loss 0\n") and ran.text(1).endswith("loss 99999\n")
    assert "not kept" in ran.text(1) and (tmp_path / "out.ipynb").stat().st_size < 100_000


def test_an_output_too_large_to_keep_leaves_a_word_about_its_size(execute: Callable[..., Ran]) -> None:
    code = (
        "from IPython.display import HTML, display\ndisplay(HTML('h' * 3_000_000))\nraise ValueError('v' * 1_000_000)"
    )
    ran = execute("A = 1", code)
    assert "an output of 3,000,0" in ran.code[1].outputs[0].data["text/plain"]
    assert len(nbformat.writes(ran.notebook)) < 500_000
    assert ran.execution.reason.startswith("ValueError: vvv") and len(ran.execution.reason) < 400


def test_cleared_and_updated_outputs_are_what_they_were_last(execute: Callable[..., Ran]) -> None:
    code = (
        "from IPython.display import clear_output, display\n"
        "print('old'); clear_output(wait=True); print('new')\n"
        "handle = display('one', display_id=True); handle.update('two')"
    )
    ran = execute("A = 1", code)
    assert ran.text(1) == "new\n"
    assert ran.code[1].outputs[1].data["text/plain"] == "'two'"


def test_the_notebook_on_disk_grows_while_a_cell_runs(execute: Callable[..., Ran], tmp_path: Path) -> None:
    on_disk: list[str] = []

    def look(text: str) -> None:
        if text == "c\n":
            on_disk.append((tmp_path / "out.ipynb").read_text())

    code = (
        "import time\n"
        "for x, pause in (('a', 2.1), ('b', 0.3), ('c', 0)):\n"
        "    print(x, flush=True)\n"
        "    time.sleep(pause)"
    )
    execute("A = 1", code, on_text=look)
    outputs = json.loads(on_disk[0])["cells"][1]["outputs"]
    assert "".join(outputs[0]["text"]) == "a\nb\n"


def test_a_magic_word_means_what_it_means_in_a_script(execute: Callable[..., Ran]) -> None:
    assert execute("A = 1", "ls").execution.reason == "NameError: name 'ls' is not defined"


def test_a_kernel_that_cannot_start_says_which_and_why(
    execute: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoresearch_kernel.run.kernel_process import KernelFailed

    monkeypatch.setenv("AUTORESEARCH_SEED", "not a number")
    with pytest.raises(KernelFailed, match=r"(?s)'autoresearch' \(.*autoresearch_kernel.*code 1.*not a number"):
        execute("A = 1")


SMALL = """# %% tags=["parameters"]
SEED = 1  # fixed
DEPTH = 2  # 1..12
LR = 0.5
ON = True
ACT = "relu"

# %%
print(DEPTH * 7, LR, ON, ACT)
"""


def by_hand(folder: Path, *words: str, source: bytes = SMALL.encode()) -> subprocess.CompletedProcess[str]:
    """`papermill train.py out.ipynb WORDS`."""
    (folder / "train.py").write_bytes(source)
    command = [sys.executable, "-m", "papermill", "train.py", "out.ipynb", "--no-progress-bar", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_papermill_reads_and_runs_train_py_from_the_command_line(tmp_path: Path) -> None:
    names = {point.name for point in entry_points(group="papermill.io")}
    assert {"train.py", "./train.py", "py:"} <= names, "install the project again: pip install -e ."
    given = ["-p", "DEPTH", "3", "-p", "LR", "1", "-p", "ON", "False", "-p", "ACT", "gelu", "-p", "SEED", "7"]
    done = by_hand(tmp_path, "--engine", "autoresearch", *given)
    assert done.returncode == 0, done.stderr
    assert "Warn" not in done.stderr
    assert read_notebook(tmp_path / "out.ipynb").cells[-1].outputs[0].text == "21 1 False gelu\n"


@pytest.mark.parametrize("engine", [["--engine", "autoresearch"], []], ids=["ours", "papermill's"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("-p depth 3", "this notebook has no parameter depth (did you mean DEPTH?)."),
        ("-p DEPTH None", "DEPTH cannot be None, which is no value: this notebook has DEPTH = 2, an int."),
        ("-p LR nan", "LR cannot be nan, which is no finite number: this notebook has LR = 0.5, a float."),
    ],
)
def test_a_wrong_parameter_is_one_sentence_and_nothing_runs(
    tmp_path: Path, given: str, words: str, engine: list[str]
) -> None:
    done = by_hand(tmp_path, *engine, *given.split())
    assert done.returncode == 1 and f"Error: {words}" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"print('no notebook')\n", 'train.py has 0 code cells tagged "parameters"'),
        (SMALL.encode() + b"# caf\xe9\n", "train.py is not UTF-8 text: byte"),
    ],
)
def test_a_file_that_is_no_notebook_is_one_sentence(tmp_path: Path, source: bytes, words: str) -> None:
    done = by_hand(tmp_path, "--engine", "autoresearch", source=source)
    assert done.returncode == 1 and f"Error: {words}" in done.stderr and "Traceback" not in done.stderr


def test_the_engine_of_the_entry_point_is_this_one() -> None:
    (point,) = entry_points(group="papermill.engine", name="autoresearch")
    assert point.load() is EnginePlugin
    assert EnginePlugin.nb_language(None) == "python"
    assert issubclass(AutoresearchEngine, object)


def test_head_and_tail_of_a_text_without_end_are_kept() -> None:
    kept = HeadTail(10)
    for letter in "abcdefghijklmnopqrstuvwxyz":
        kept.add(letter)
    assert kept.text() == "abcde\n[... 16 characters not kept ...]\nvwxyz"
    short = HeadTail(10)
    short.add("abc")
    assert short.text() == "abc"


@pytest.mark.parametrize(
    ("chunks", "shown"),
    [
        (["10 %\r20 %\r30 %"], "30 %"),
        (["10 %", "\r", "20", " %", "\n", "done\n"], "20 %\ndone\n"),
        (["a long line\rshort"], "shortg line"),
        (["a long line\r\x1b[Kshort", "\r\x1b[2Kx"], "x"),
        (["line\r", "\nnext\r\n"], "line\nnext\n"),
        (["50 %\r"], "50 %"),
        (["\n\n", "a\n"], "\n\na\n"),
    ],
)
def test_what_is_printed_is_kept_as_a_terminal_shows_it(chunks: list[str], shown: str) -> None:
    printed = Printed(1_000)
    for chunk in chunks:
        printed.add(chunk)
    assert printed.text() == shown and len(printed) >= len(shown)


def test_of_many_lines_the_first_and_the_last_are_kept() -> None:
    printed = Printed(400)
    for i in range(1_000):
        printed.add(f"line {i}\n")
    text = printed.text()
    assert text.startswith("line 0\nline 1\n") and text.endswith("line 998\nline 999\n")
    assert "characters not kept" in text and len(text) < 400


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text("ab\r\n\x1b[K", max_size=30)), max_size=150))
def test_any_streams_in_turn_stay_small_and_end_as_printed(pieces: list[tuple[str, str]]) -> None:
    kept, outputs = CellOutputs(1_000_000), []
    for name, text in pieces:
        kept.add_stream(outputs, name, text)
    kept.close(outputs)
    assert len(outputs) <= MOST_SWITCHES + 2
    for name in {name for name, _ in pieces}:
        assert any(output.name == name for output in outputs)
        last = next(text for n, text in reversed(pieces) if n == name)
        if last.endswith("ab"):
            line = [o for o in outputs if o.name == name][-1].text.rpartition("\n")[2]
            assert "ab" in line  # not at its end where it overwrites the beginning of a longer line


def test_a_rate_limit_says_what_it_held_back_and_ends_with_the_last_words() -> None:
    limit = RateLimit(burst=10, rate=0)
    assert limit.admit("abcdef") == "abcdef"
    assert limit.admit("gh\nij") == "gh\n"
    assert limit.admit("k" * 3_000) == ""
    assert limit.remainder() == "\n[... 1,002 characters of output held back ...]\n" + "k" * 2_000
    assert limit.remainder() == ""


def test_the_name_of_an_error_is_short_and_printable_wherever_it_is_kept(execute: Callable[..., Ran]) -> None:
    ran = execute(
        "A = 1", "raise type('Odd\\x1b[2J\\x07' + 'x' * 1_000_000, (Exception,), {})('b\\x1b]0;t\\x07ad\\x00')"
    )
    name = "Odd" + "x" * 97
    assert ran.execution.reason == f"{name}: bad"
    (output,) = ran.code[1].outputs
    assert output.ename == name and len(json.dumps(output)) < 200_000
