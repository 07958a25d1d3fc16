"""`scripts/set_up.py` makes environments of a small project, with tiny wheels from package indexes on loopback."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parents[1]

PYPROJECT = """[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "autoresearch-kernel"
version = "1"
"""
# An editable install and a kernelspec, as the real project makes them, without anything to download.
BACKEND = """import zipfile
from pathlib import Path

def get_requires_for_build_editable(settings=None):
    return []

def build_editable(folder, settings=None, metadata=None):
    name, info = "autoresearch_kernel-1-py3-none-any.whl", "autoresearch_kernel-1.dist-info"
    needs = "".join(f"Requires-Dist: {line}\\n" for line in Path("needs.txt").read_text().split())
    with zipfile.ZipFile(Path(folder) / name, "w") as wheel:
        wheel.writestr("__editable__.autoresearch_kernel-1.pth", f"{Path.cwd()}\\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: autoresearch-kernel\\nVersion: 1\\n{needs}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\\nautoresearch = autoresearch_kernel.cli:main\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""
CLI = """import json, sys
from pathlib import Path

def main():
    folder = Path(sys.prefix) / "share/jupyter/kernels/autoresearch"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.json").write_text(json.dumps({"argv": [sys.executable]}))

if __name__ == "__main__":
    main()
"""


def write_wheel(folder: Path, name: str, version: str, source: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {file: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for file, text in files.items()}
    record = [f"{file},sha256={digest.decode().rstrip('=')},{len(files[file])}" for file, digest in digests.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)


class Indexes:
    """Two package indexes on loopback, `simple` and `cpu`, and what was asked of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[str]()
        for index in ("simple", "cpu"):
            (folder / index / "torch").mkdir(parents=True)
        outer = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, text: str, *values: object) -> None:
                outer.asked.append(self.path)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, index: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{index}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[Indexes]:
    found = Indexes(tmp_path / "indexes")
    yield found
    found.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A project that needs nothing but torch."""
    folder = tmp_path / "project"
    (folder / "scripts").mkdir(parents=True)
    (folder / "autoresearch_kernel").mkdir()
    shutil.copy(PROJECT / "scripts" / "set_up.py", folder / "scripts")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "needs.txt").write_text("torch")
    (folder / "constraints.txt").write_text("torch==2.13.0\n")
    (folder / "autoresearch_kernel" / "__init__.py").write_text("")
    (folder / "autoresearch_kernel" / "cli.py").write_text(CLI)
    return folder


def set_up(place: Path, indexes: Indexes, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the script as make does, with pip's settings of this machine left out."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": indexes.url("simple"), "PIP_NO_CACHE_DIR": "1"}
    env |= {"AUTORESEARCH_TORCH_INDEX": indexes.url("cpu"), "PIP_RETRIES": "0"} | settings
    command = [sys.executable, str(place / "scripts" / "set_up.py"), *words]
    return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)


def build_of_torch(place: Path) -> str:
    """What the torch in the environment says of itself."""
    command = [str(place / ".venv" / "bin" / "python"), "-c", "import torch; print(torch.BUILD)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_an_environment_from_nothing_and_what_becomes_of_it(place: Path, indexes: Indexes) -> None:
    """The CPU build of PyTorch's index; then nothing to do, a change, a move without a network, a repair."""
    write_wheel(indexes.folder / "simple" / "torch", "torch", "2.13.0", "BUILD = 'cuda'")
    write_wheel(indexes.folder / "cpu" / "torch", "torch", "2.13.0+cpu", "BUILD = 'cpu'")
    first = set_up(place, indexes, "--torch", "cpu")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "GB to download" in first.stdout.splitlines()[0] and "minutes" in first.stdout.splitlines()[0]
    assert "the CPU build" in first.stdout and "CUDA" not in first.stdout
    assert build_of_torch(place) == "cpu"
    indexes.asked.clear()
    again = set_up(place, indexes, "--torch", "cpu")
    assert (again.returncode, again.stdout, again.stderr, indexes.asked) == (0, "", "", [])

    write_wheel(indexes.folder / "simple" / "another", "another", "1")
    (place / "constraints.txt").write_text("torch==2.13.0\nanother==1\nsix==1\n")
    (place / "needs.txt").write_text("torch another")
    changed = set_up(place, indexes, "--torch", "cpu")
    assert changed.stdout.startswith("The required packages changed"), changed.stdout + changed.stderr
    assert list(place.glob(".venv/lib/python*/site-packages/another/__init__.py")) and build_of_torch(place) == "cpu"

    moved = place.rename(place.parent / "renamed project")
    indexes.close()
    said = set_up(moved, indexes, "--torch", "cpu")
    assert said.stdout == f"The project was moved from {place}: the paths in .venv are adapted.\n", said.stderr
    for file in ("bin/pip", "bin/activate", "pyvenv.cfg", "share/jupyter/kernels/autoresearch/kernel.json"):
        assert str(place) + "/" not in (moved / ".venv" / file).read_text()
    where = [str(moved / ".venv" / "bin" / "python"), "-c", "import autoresearch_kernel as a; print(a.__file__)"]
    found = subprocess.run(where, cwd="/", check=True, capture_output=True, text=True).stdout.strip()
    assert found == str(moved / "autoresearch_kernel" / "__init__.py")
    subprocess.run([str(moved / ".venv" / "bin" / "autoresearch")], check=True)  # its first line cannot hold a space
    assert set_up(moved, indexes).stdout == ""  # the choice of a build is remembered

    python = moved / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    gone = set_up(moved, indexes, "--torch", "cpu")  # the indexes are gone as well: it cannot succeed, and says so
    assert "were removed or replaced: the environment is made anew" in gone.stdout
    assert gone.returncode == 1 and "No package can be downloaded from here. Check the network" in gone.stderr
    assert "CUDA" not in gone.stdout


def test_the_cpu_build_where_pip_itself_finds_one(place: Path, indexes: Indexes) -> None:
    write_wheel(indexes.folder / "simple" / "torch", "torch", "2.13.0", "BUILD = 'cuda'")
    write_wheel(indexes.folder / "wheels", "torch", "2.13.0+cpu", "BUILD = 'cpu'")
    done = set_up(place, indexes, "--torch", "cpu", PIP_FIND_LINKS=str(indexes.folder / "wheels"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert build_of_torch(place) == "cpu" and not [path for path in indexes.asked if path.startswith("/cpu")]


def test_an_environment_that_another_tool_made_without_pip_stays(place: Path, indexes: Indexes) -> None:
    write_wheel(indexes.folder / "simple" / "torch", "torch", "2.13.0+cpu", "BUILD = 'cpu'")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place / ".venv")], check=True)
    (place / ".venv" / "mine.txt").write_text("kept")
    done = set_up(place, indexes, "--torch", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "installing pip" in done.stdout and build_of_torch(place) == "cpu"
    assert (place / ".venv" / "mine.txt").read_text() == "kept"


def test_the_cuda_build_after_its_size_where_no_cpu_build_can_be_had(place: Path, indexes: Indexes) -> None:
    write_wheel(indexes.folder / "simple" / "torch", "torch", "2.13.0", "BUILD = 'cuda'")
    write_wheel(indexes.folder / "simple" / "six", "six", "1")
    done = set_up(place, indexes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"neither by itself nor at {indexes.url('cpu')}: installing the CUDA build" in done.stdout
    assert "torch's CUDA build: 2.8 GB to download, 5.4 GB on the disk" in done.stdout
    assert build_of_torch(place) == "cuda"
    assert set_up(place, indexes).stdout == ""  # it stays, and is not looked for again


def test_a_gpu_gets_the_cuda_build_and_an_earlier_cpu_build_goes(place: Path, indexes: Indexes) -> None:
    write_wheel(indexes.folder / "simple" / "torch", "torch", "2.13.0+cpu", "BUILD = 'cpu'")
    assert set_up(place, indexes, "--torch", "cpu").returncode == 0
    assert build_of_torch(place) == "cpu"
    failed = set_up(place, indexes, "--torch", "cuda")  # there is none in the index yet
    assert failed.returncode == 1 and build_of_torch(place) == "cpu"
    write_wheel(indexes.folder / "simple" / "torch", "torch", "2.13.0", "BUILD = 'cuda'")
    done = set_up(place, indexes)  # goes on with what was asked for
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torch's CUDA build: 2.8 GB to download" in done.stdout and build_of_torch(place) == "cuda"


def test_what_was_interrupted_or_removed_is_made_again(place: Path, indexes: Indexes) -> None:
    write_wheel(indexes.folder / "simple" / "torch", "torch", "2.13.0+cpu", "BUILD = 'cpu'")
    subprocess.run([sys.executable, "-m", "venv", str(place / ".venv")], check=True)
    (site,) = (place / ".venv").glob("lib/python*/site-packages")
    for half in (site / "pip" / "_internal" / "utils", *site.glob("pip-*.dist-info")):
        shutil.rmtree(half)  # as if Ctrl-C had come while pip was unpacked
    done = set_up(place, indexes, "--torch", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "installing pip" in done.stdout and build_of_torch(place) == "cpu"

    shutil.rmtree(site / "torch")
    again = set_up(place, indexes)
    assert again.returncode == 0 and "the environment is made anew" in again.stdout, again.stdout + again.stderr
    assert build_of_torch(place) == "cpu"

    site.parent.rename(site.parents[1] / "python3.10")  # the system's Python became another one
    replaced = set_up(place, indexes)
    assert replaced.returncode == 0 and "the environment is made anew" in replaced.stdout
    assert build_of_torch(place) == "cpu" and set_up(place, indexes).stdout == ""


def test_two_commands_at_once_set_up_once(place: Path, indexes: Indexes) -> None:
    write_wheel(indexes.folder / "simple" / "torch", "torch", "2.13.0+cpu", "BUILD = 'cpu'")
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: set_up(place, indexes, "--torch", "cpu"), range(2)))
    assert [done.returncode for done in both] == [0, 0], [done.stdout + done.stderr for done in both]
    first, second = sorted((done.stdout for done in both), key=len, reverse=True)
    assert "done: .venv has" in first and second == (
        "Another command sets up this project: waiting until it has finished.\n"
    )


# --- parts


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("set_up", PROJECT / "scripts" / "set_up.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_long_step_says_that_it_goes_on(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.SILENCE_SECONDS < 15
    script.SILENCE_SECONDS = 0.1
    steps = script.Steps(tmp_path)
    words = "import time; print('Collecting something', flush=True); time.sleep(2.5)"
    steps.run("installing the packages", [sys.executable, "-c", words], tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 3 and lines[-1].endswith("looking for something ... (0 MB in .venv)")


def test_large_downloads_are_told_with_their_size(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [
        "  Downloading http://127.0.0.1/torch-2.13.0%2Bcpu-cp311-cp311-linux_x86_64.whl (191.8 MB)",
        "Downloading nvidia_cublas-13.1.1.3-py3-none-manylinux_2_27_x86_64.whl (1.2 GB)",
        "Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)",
        "Installing collected packages: torch, six",
    ]
    steps = script.Steps(tmp_path)
    steps.run("installing", [sys.executable, "-c", f"print({chr(10).join(said)!r})"], tmp_path)
    lines = [line.split("  ", 2)[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "installing",
        "downloading torch (191.8 MB)",
        "downloading nvidia_cublas (1.2 GB)",
        "unpacking 2 packages",
    ]
    assert "six-1.17.0" in (tmp_path / "setup.log").read_text()


def test_a_python_that_is_too_old_is_replaced_by_one_on_the_path(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    newer = tmp_path / "python3.13"
    newer.write_text('#!/bin/sh\n[ "$1" = -c ] || echo "run with $2"\n')
    newer.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    script.OLDEST, script.NEWEST = (3, 98), (3, 99)
    assert script.main(["test"]) == 1
    assert "make run PYTHON=/path/to/python3.12" in capfd.readouterr().err
    script.OLDEST = (3, 12)
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    monkeypatch.setattr(sys, "argv", ["scripts/set_up.py", "test"])
    assert script.main(["test"]) == 0
    assert f"using {newer}.\nrun with test" in capfd.readouterr().out


def test_a_disk_that_is_too_small_is_told_before_anything_is_made(
    script: ModuleType, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.PROJECT, script.SIZES_MB = place, {"cpu": (1, 10**12), "cuda": (1, 10**12)}
    assert script.main([]) == 1
    assert f"The disk of {place} has" in capsys.readouterr().err
    assert not (place / ".venv").exists()


def test_old_interpreters_can_read_the_script() -> None:
    import ast

    source = (PROJECT / "scripts" / "set_up.py").read_text()
    ast.parse(source, feature_version=(3, 8))
    with pytest.raises(SyntaxError):
        ast.parse("match 1:\n  case 1: pass\n", feature_version=(3, 8))


def test_a_build_that_does_not_exist_is_refused(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--torch", "CPU"]) == 1
    assert capsys.readouterr().err == "\nset-up: TORCH is 'CPU': use one of auto, cpu, cuda.\n"


def test_only_whole_paths_are_replaced_after_a_move(script: ModuleType) -> None:
    content = b"home = /home/a/pythons/bin\nexec /home/a/py/.venv/bin/python '/home/a/py' /mnt/home/a/py-2 /x/home/a/py"
    expected = b"home = /home/a/pythons/bin\nexec /b c/.venv/bin/python '/b c' /mnt/home/a/py-2 /x/home/a/py"
    assert script.replaced(content, b"/home/a/py", b"/b c") == expected
    assert script.json_text("/home/Müller/x") == "/home/M\\u00fcller/x"


def test_another_python_that_was_named_is_answered(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 3.9.18\n")
    python.chmod(0o755)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "constraints.txt").write_text("")
    script.PROJECT = tmp_path
    assert script.main(["--python-was-named"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(".venv has Python 3.9.18 and keeps it. Remove .venv first to use Python 3.")
    assert "has Python 3.9.18, which is not supported. Remove .venv and repeat the command." in said.err
