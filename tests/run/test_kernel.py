"""The kernel `autoresearch`: the public suite for Jupyter kernels, and the manners of our own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jupyter_kernel_test
import pytest
from jupyter_client.manager import KernelManager, start_new_kernel

from autoresearch_kernel.run.kernelspec import KERNEL_NAME, install_kernelspec, kernelspec

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kernelspec, installed where only this module sees it."""
    prefix = tmp_path_factory.mktemp("prefix")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(prefix / "share" / "jupyter"))
        yield install_kernelspec(prefix)


class TestKernelSuite(jupyter_kernel_test.KernelTests):
    """jupyter_kernel_test, with every feature that IPython has."""

    kernel_name = KERNEL_NAME
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar[list[dict[str, Any]]] = [{"text": "zi", "matches": {"zip"}}]
    complete_code_samples: ClassVar[list[str]] = ["1", "print('hello')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples: ClassVar[list[str]] = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples: ClassVar[list[str]] = ["import = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('on purpose')"
    code_execute_result: ClassVar[list[dict[str, str]]] = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data: ClassVar[list[dict[str, str]]] = [
        {"code": "from IPython.display import HTML, display; display(HTML('<b>b</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math('x'))", "mime": "text/latex"},
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "search")  # IPython answers "range" with session 0, meaning the current one
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"


class TestWelcome(jupyter_kernel_test.IopubWelcomeTests):
    kernel_name = KERNEL_NAME
    support_iopub_welcome = True


def value(client: Any, code: str) -> str:
    """What `print(code)` prints."""
    seen: list[str] = []
    client.execute_interactive(
        f"print({code})",
        timeout=20,
        output_hook=lambda message: seen.append(message["content"].get("text", "")),
    )
    return "".join(seen).strip()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    manager, client = start_new_kernel(
        kernel_name=KERNEL_NAME, cwd=str(tmp_path), env={**os.environ, "AUTORESEARCH_SEED": "7"}
    )
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_kernelspec_names_this_interpreter(installed: Path) -> None:
    assert json.loads((installed / "kernel.json").read_text()) == kernelspec()
    assert kernelspec()["argv"][0] == sys.executable
    listed = subprocess.run(
        [sys.executable, "-m", "jupyter_client.kernelspecapp", "list", "--json"], capture_output=True, check=True
    )
    assert KERNEL_NAME in json.loads(listed.stdout)["kernelspecs"]


def test_a_notebook_anywhere_imports_prepare_finds_its_generators_seeded_and_leaves_no_history(client: Any) -> None:
    assert value(client, "__import__('importlib.util').util.find_spec('prepare').origin") == str(ROOT / "prepare.py")
    import random

    import numpy

    random.seed(7)
    numpy.random.seed(7)
    assert value(client, "__import__('random').random()") == str(random.random())
    assert value(client, "'numpy' in __import__('sys').modules, 'torch' in __import__('sys').modules") == "False False"
    assert value(client, "__import__('numpy').random.rand()") == str(numpy.random.rand())
    assert value(client, "get_ipython().history_manager.hist_file") == ":memory:"


def test_torch_is_seeded_when_it_is_imported() -> None:
    import torch

    torch.manual_seed(11)
    code = (
        "from autoresearch_kernel.run.kernel import seed_everything; seed_everything(11); "
        "import torch; print(torch.rand(1).item())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT, text=True)
    assert float(printed.stdout) == torch.rand(1).item()


def test_the_kernel_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time\n"
            "from jupyter_client.manager import start_new_kernel\n"
            f"manager, client = start_new_kernel(kernel_name={KERNEL_NAME!r})\n"
            "print(manager.provisioner.process.pid, flush=True)\n"
            "time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert parent.stdout is not None
    kernel = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and Path(f"/proc/{kernel}/cmdline").exists():
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


def test_what_ordinary_kernels_print_is_not_held_back(client: Any) -> None:
    assert len(value(client, "'x' * 3_000_000")) == 3_000_000


def test_interrupt_leaves_the_kernel_usable() -> None:
    manager = KernelManager(kernel_name=KERNEL_NAME)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=20)
        client.execute("while True: pass", stop_on_error=False)  # the next request is not to be dropped
        while client.get_iopub_msg(timeout=10)["msg_type"] != "execute_input":  # it has begun
            continue
        time.sleep(0.3)
        manager.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=10))["msg_type"] != "execute_reply":
            continue  # more than one answer to the question whether it is ready
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert value(client, "6 * 7") == "42"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
