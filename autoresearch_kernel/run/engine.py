"""The papermill engine `autoresearch`: one deadline for the whole notebook, live output, and a record of how it ended.

papermill itself saves a notebook whose kernel hung or died as if every cell had completed. This engine appends an error
to the cell where it happened, marks later cells `skipped`, and limits the output that is kept. Whether a run counts is
decided by `run/training.py`, from what the run produced.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_core.utils import run_sync

from .imports import without

with without("rfc3987_syntax", "pyarrow", "boto3", "azure", "gcsfs", "github"):  # optional; importing them takes 2.3 s
    import papermill
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from nbformat import NotebookNode
    from nbformat.v4 import new_output
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import Engine, NotebookExecutionManager, papermill_engines
    from papermill.iorw import papermill_io
    from papermill.models import Parameter
    from papermill.translators import PythonTranslator, papermill_translators
    from zmq import ZMQError

from ..core.sanitize import NAME_LIMIT, Private, one_line
from ..system.files import write_atomic
from .kernel_process import GRACE_SECONDS, Deadline, Kernel, KernelFailed, describe_exit
from .outputs import NOTEBOOK_LIMIT_BYTES, NOTEBOOK_TEXT, TRACEBACK_LIMIT, CellOutputs, make_plain, shorten_traceback

SAVE_EVERY_SECONDS = 2.0  # at most this often while cells run
START_SECONDS = 150.0  # with the import of torch, which a cold disk makes slow
NOTHING_PRIVATE = Private()  # of a notebook that stays with its user
REASON_LIMIT = 300  # characters of an error's message
LARGEST_LINE = 10**6  # of a train.py, whatever a kernel says
_EXIT_LINE = re.compile(r"^os\._exit\(.*\) in train\.py, line (\d{1,6})$", re.MULTILINE)  # written by `run/script.py`


@dataclass(frozen=True)
class Execution:
    """How the execution of a notebook ended."""

    ended: str  # "done", "error", "exit", "died", "deadline", "stopped", "no kernel"
    reason: str  # one line; "" when all cells ran
    cell: int | None  # the execution count of the cell where it ended; None when all cells ran
    line: int | None  # of train.py, where that is known
    exit_code: int | None  # of a kernel that ended by itself
    kernel_start_seconds: float  # from the start of the process to its first answer
    cells_seconds: float  # from there to the end of the last cell that ran
    shutdown_seconds: float


class Record(NotebookExecutionManager):
    """The notebook as it is saved: at intervals while cells run, and completely at the end."""

    SKIPPED = "skipped"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flush_output: Callable[[], None] = lambda: None  # writes pending output into the notebook before a save
        self.saved = float("-inf")

    def notebook_start(self, **kwargs: Any) -> None:
        for key in ("input_path", "output_path"):  # a shared notebook must not name folders of this machine
            path = self.nb.metadata.papermill.get(key)
            if isinstance(path, str) and Path(path).is_absolute():
                self.nb.metadata.papermill[key] = Path(path).name
        super().notebook_start(**kwargs)

    def save(self, **kwargs: Any) -> None:
        if time.monotonic() - self.saved >= SAVE_EVERY_SECONDS:
            self.save_now()

    def save_now(self) -> None:
        self.flush_output()
        super().save()
        self.saved = time.monotonic()

    def autosave_cell(self) -> None:
        if self.autosave_cell_every:
            self.save()

    def notebook_complete(self, **kwargs: Any) -> None:
        for cell in self.nb.cells:
            if cell.metadata.papermill["status"] in (self.PENDING, self.RUNNING):
                cell.metadata.papermill["status"] = self.SKIPPED
        super().notebook_complete(**kwargs)
        self.save_now()


class Client(PapermillNotebookClient):
    """Runs the cells one after the other.

    With `plain`, it keeps only text and pictures, because the code is not the user's own.
    """

    def __init__(
        self,
        record: Record,
        kernel: Kernel,
        *,
        deadline: Deadline,
        on_text: Callable[[str], None],
        stopping: Callable[[], bool],
        plain: bool,
        private: Private,
        **kwargs: Any,
    ) -> None:
        super().__init__(record, km=kernel.manager, raise_on_iopub_timeout=False, **kwargs)
        self.kernel, self.deadline, self.on_text = kernel, deadline, on_text
        self.stopping, self.plain, self.private = stopping, plain, private
        self.allowance, self.text_allowance = NOTEBOOK_LIMIT_BYTES, NOTEBOOK_TEXT
        self.kept = CellOutputs(self.allowance, self.text_allowance)
        self.clear_before_next_output: bool = False
        self.exited = False  # a cell called exit() of IPython, which raises no exception
        self.line: int | None = None  # of train.py, where the last cell failed
        self.on_cell_executed = self._notice_end
        record.flush_output = self.kept.flush

    def run_cells(self) -> tuple[str, str, int | None]:
        """Execute the cells; returns how that ended, why, and in which cell (its execution count)."""
        count = 0
        for index, cell in enumerate(self.nb.cells):
            if self.deadline.has_passed or self.stopping():
                return (*self._ended("deadline", "", cell), count or None)
            runs = cell.cell_type == "code" and bool(cell.source.strip())
            count += runs
            self.kept = CellOutputs(self.allowance, self.text_allowance)
            self.nb_man.flush_output = self.kept.flush
            self.nb_man.cell_start(cell, index)
            ended = self._run_cell(cell, index)
            self.allowance -= self.kept.used
            self.text_allowance -= self.kept.text_used
            self.nb_man.cell_complete(cell, cell_index=index)
            if ended is not None:
                return (*ended, count)
        return "done", "", None

    def _run_cell(self, cell: NotebookNode, index: int) -> tuple[str, str] | None:
        """Execute one cell; None when the next one may run, else how the execution ended and why."""
        failure: tuple[str, str] | None = None
        try:
            self.execute_cell(cell, index)
        except CellExecutionError as error:
            failure = self._failed(error, cell)
        except DeadKernelError:
            self._drain(cell, index)
            failure = self._died(cell)
        except Exception as error:
            if not self.plain or isinstance(error, OSError | ZMQError):
                raise
            # Code of an experiment can answer in its kernel's place; a message without its parts is its own crash.
            failure = self._ended("error", f"the kernel sent a message that no kernel sends ({error!r:.80})", cell)
        if cell.cell_type == "code":
            self.kept.close(cell.outputs)
        if failure is None and self.exited:
            failure = self._ended("exit", "exited with exit()", cell)
        if failure is not None:
            self.nb_man.cell_exception(cell, cell_index=index)
        return failure

    def _failed(self, error: CellExecutionError, cell: NotebookNode) -> tuple[str, str]:
        if self.deadline.has_passed or self.stopping():
            return self._ended("deadline", "", cell)
        message, name = one_line(self.private.clean(str(error.evalue)), REASON_LIMIT), _error_name(error.ename)
        if name == "SystemExit":
            return "exit", f"exited with SystemExit({message})"
        return "error", f"{name}: {message}" if message else name

    def _died(self, cell: NotebookNode) -> tuple[str, str]:
        if tail := self.kernel.stderr_tail():
            cell.outputs.append(new_output("stream", name="stderr", text=self.private.clean(tail) + "\n"))
        if found := _EXIT_LINE.search(tail):
            self.line = int(found[1])
        return self._ended("died", f"the kernel {describe_exit(self.kernel.poll())}", cell)

    def _ended(self, ended: str, reason: str, cell: NotebookNode) -> tuple[str, str]:
        """Append an error to the cell that ended the execution. A deadline or a stop is the cause of a later death."""
        if self.stopping():
            ended, reason, name = "stopped", "stopped from outside", "Stopped"
        elif self.deadline.has_passed:
            ended, name = "deadline", "HardLimitPassed"
            reason = f"passed its hard limit of {self.deadline.seconds:.0f} s"
        else:
            name = {"died": "KernelDied", "error": "WrongMessage"}.get(ended, "Exited")
        if cell.cell_type == "code":
            output = new_output("error", ename=name, evalue=reason, traceback=[f"{name}: {reason}"])
            interrupted = [i for i, o in enumerate(cell.outputs) if o.output_type == "error"]
            cell.outputs.insert(interrupted[0] if interrupted else len(cell.outputs), output)
            self.on_text(f"{name}: {reason}\n")
        return ended, reason

    def _notice_end(self, cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
        content = execute_reply["content"]
        self.exited = any(item.get("source") == "ask_exit" for item in content.get("payload") or [])
        self.line = line if type(line := content.get("line")) is int and 0 < line < LARGEST_LINE else None

    def _drain(self, cell: NotebookNode, index: int) -> None:
        """Process the messages that the kernel sent before it died, because they may explain its death."""
        read = run_sync(self.kc.iopub_channel.get_msg)
        try:
            while True:
                message = read(timeout=0.05)
                if message["msg_type"] in ("stream", "error", "display_data", "execute_result"):
                    self.process_message(message, cell, index)
        except Empty:
            return
        except (LookupError, TypeError, AttributeError, ValueError):
            if not self.plain:  # else the code of the experiment sent it
                raise

    async def _async_poll_kernel_alive(self) -> None:
        # nbclient itself checks only once a second
        while self.kernel.poll() is None:
            await asyncio.sleep(0.1)
        # Its reply to this cell may still be on the way.
        await asyncio.sleep(0.2)
        if self.task_poll_for_reply is not None:
            self.task_poll_for_reply.cancel()

    # --- outputs

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        if self.plain and not make_plain(msg):
            return None
        msg["content"] = self.private.clean_all(msg["content"])
        return super().process_message(msg, cell, cell_index)

    def output(
        self, outs: list[NotebookNode], msg: dict[str, Any], display_id: str | None, cell_index: int
    ) -> NotebookNode | None:
        content, kind = msg["content"], msg["msg_type"]
        if self.clear_before_next_output:
            self.clear_before_next_output = False
            self._clear(outs, cell_index)
        if kind == "stream" and not self.output_hook_stack.get(msg["parent_header"].get("msg_id")):
            self.on_text(content["text"])
            return self.kept.add_stream(outs, content["name"], content["text"])
        if kind == "error":
            self.kept.flush(close=True)
            content["traceback"] = shorten_traceback(content.get("traceback", []))
            content["ename"] = _error_name(content.get("ename"))
            content["evalue"] = str(content.get("evalue", ""))[:TRACEBACK_LIMIT]
            self.on_text("\n".join(content["traceback"]) + "\n")
        else:
            if (place := self.kept.admit(outs, content)) is not None:
                self._take_out(outs, place, cell_index)
            if text := content.get("data", {}).get("text/plain"):
                self.on_text(text + "\n")
        return super().output(outs, msg, display_id, cell_index)

    def _take_out(self, outs: list[NotebookNode], place: int, cell_index: int) -> None:
        """Remove an output; the outputs after it, which later messages may replace, move up by one."""
        del outs[place]
        for places in self._display_id_map.values():
            if cell_index in places:
                places[cell_index] = [at - (at > place) for at in places[cell_index] if at != place]

    def clear_output(self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        super().clear_output(outs, msg, cell_index)
        if not outs:
            self._clear(outs, cell_index)

    def _clear(self, outs: list[NotebookNode], cell_index: int) -> None:
        outs[:] = []
        self.clear_display_id_mapping(cell_index)
        self.kept.clear()

    def _update_display_id(self, display_id: str, msg: dict[str, Any]) -> None:
        self.kept.shrink(msg["content"])
        super()._update_display_id(display_id, msg)


def _error_name(name: Any) -> str:
    """The name of an exception; untrusted code may give a class any name of any length."""
    return one_line(str(name), NAME_LIMIT) or "Error"


class AutoresearchEngine(Engine):
    """`papermill ... --engine autoresearch`; its `--execution-timeout` applies to the whole notebook."""

    @classmethod
    def execute_notebook(
        cls,
        nb: NotebookNode,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: bool | dict[str, Any] = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        **kwargs: Any,
    ) -> NotebookNode:
        record = Record(nb, output_path, log_output, progress_bar, autosave_cell_every)
        record.notebook_start()
        try:
            cls.execute_managed_notebook(record, kernel_name, log_output=log_output, **kwargs)
        finally:
            record.cleanup_pbar()
            record.notebook_complete()
        return record.nb

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Record,
        kernel_name: str,
        *,
        kernel: Kernel | None = None,
        deadline_seconds: float | None = None,
        grace_seconds: float = GRACE_SECONDS,
        start_timeout: float = START_SECONDS,
        execution_timeout: float | None = None,
        on_text: Callable[[str], None] = lambda text: None,
        on_execution: Callable[[Execution], None] = lambda execution: None,
        stopping: Callable[[], bool] = lambda: False,
        plain: bool = False,
        private: Private = NOTHING_PRIVATE,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        **_: Any,
    ) -> None:
        """Run the cells in `kernel` (by default a new one) and report how that ended to `on_execution`.

        `deadline_seconds` counts from the kernel's start, on the monotonic clock. Raises KernelFailed, after the
        report, when the kernel did not start. All that happens in the notebook is data.
        """
        kernel = kernel or Kernel(kernel_name)
        deadline = Deadline(kernel, deadline_seconds or execution_timeout or None, grace_seconds)
        outputs = {"log_output": log_output, "stdout_file": stdout_file, "stderr_file": stderr_file}
        client = Client(
            nb_man, kernel, deadline=deadline, on_text=on_text, stopping=stopping, plain=plain,
            private=private, kernel_name=kernel_name, iopub_timeout=30, **outputs,
        )  # fmt: skip
        execution, failure = _execute(client, min(start_timeout, deadline_seconds or start_timeout))
        on_execution(execution)
        if failure is not None:
            raise failure


def _execute(client: Client, start_timeout: float) -> tuple[Execution, KernelFailed | None]:
    """Wait for the kernel, run the cells and end the kernel; the error when it did not start."""
    kernel, ready = client.kernel, None
    ended, reason, cell = "no kernel", "", None
    failure: KernelFailed | None = None
    try:
        client.kc = run_sync(kernel.connect)(start_timeout)
        client.kc.allow_stdin = False
        ready = time.monotonic()
        client.nb.metadata["language_info"] = {"name": "python"} if client.plain else kernel.language_info
        ended, reason, cell = client.run_cells()
        if not client.plain:
            client.set_widgets_metadata()
    except KernelFailed as error:
        failure, reason = error, str(error)
        ended = "stopped" if client.stopping() else "no kernel"
    finally:
        client.deadline.finished.set()
        ended_at = time.monotonic()
        kernel.end(client.kc)
    execution = Execution(
        ended=ended,
        reason=reason,
        cell=cell,
        line=client.line,
        exit_code=kernel.exit_code,
        kernel_start_seconds=(ready or ended_at) - kernel.started,
        cells_seconds=ended_at - ready if ready else 0.0,
        shutdown_seconds=time.monotonic() - ended_at,
    )
    return execution, failure


class AbsolutePaths:
    """papermill's files, written so that readers see the old or the new one whole."""

    @classmethod
    def read(cls, path: str) -> str:
        return Path(path).read_text(encoding="utf-8")

    @classmethod
    def write(cls, buf: str, path: str) -> None:
        write_atomic(path, buf)

    @classmethod
    def pretty_path(cls, path: str) -> str:
        return path


def _translator(parameters: Mapping[str, Any]) -> type[PythonTranslator]:
    """papermill's translator, which takes the parameters to be those of the notebook: they need no check here.

    papermill reads a parameters cell in a time that grows with the square of the blanks in it, and this time belongs to
    the start of a training, which shows how busy the machine is. An agent must not be able to lengthen it.
    """

    class Translator(PythonTranslator):
        @classmethod
        def inspect(cls, parameters_cell: Any) -> list[Parameter]:
            return [Parameter(name, "None", "", "") for name in parameters]

    return Translator


def execute(
    notebook: str,
    output: str,
    parameters: dict[str, Any],
    *,
    kernel: Kernel,
    deadline_seconds: float,
    on_text: Callable[[str], None],
    stopping: Callable[[], bool],
    plain: bool = False,
    private: Private = NOTHING_PRIVATE,
) -> Execution:
    """Execute a notebook through papermill, in a kernel that is starting; paths are absolute.

    With `plain`, only text and pictures of its output are kept; what is `private` is left out. Call it once, in a
    process that does nothing else, because papermill keeps state in its modules.
    """
    papermill_engines.register("autoresearch", AutoresearchEngine)
    papermill_io.register("/", AbsolutePaths)
    papermill_translators.register("autoresearch", _translator(parameters))
    ends: list[Execution] = []
    with suppress(papermill.PapermillExecutionError, KernelFailed):  # `ends` has the outcome
        papermill.execute_notebook(
            _literal(notebook),
            _literal(output),
            parameters=parameters,
            engine_name="autoresearch",
            progress_bar=False,
            kernel=kernel,
            deadline_seconds=deadline_seconds,
            on_text=on_text,
            on_execution=ends.append,
            stopping=stopping,
            plain=plain,
            private=private,
        )
    return ends[0]


def _literal(path: str) -> str:
    """Escape a path, because papermill passes paths through str.format."""
    return path.replace("{", "{{").replace("}", "}}")
