"""Which files of Python's own library a sandbox hides: tests/trust reaches for them."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from autoresearch_kernel.core.errors import MachineFailed
from autoresearch_kernel.corpora.sources import split_of_path, stdlib_files
from autoresearch_kernel.sandbox.hidden_stdlib import copies_file, held_out_paths
from autoresearch_kernel.sandbox.kinds import command, wrap
from autoresearch_kernel.sandbox.policy import PACKAGE, Policy, inner_links, python_paths, system_paths
from autoresearch_kernel.sandbox.probe import find_sandbox
from autoresearch_kernel.sandbox.seatbelt import profile
from autoresearch_kernel.system import held_out_packages
from autoresearch_kernel.system.standard_library import HELD_OUT

SHOWN = tuple(str(path) for path in (*system_paths(gpu=False), *python_paths(()), PACKAGE) if path.exists())
STDLIB = Path(sysconfig.get_paths()["stdlib"])


def test_what_the_corpus_holds_out_is_what_a_sandbox_hides() -> None:
    hidden = {Path(path) for path in held_out_paths([str(STDLIB)])}
    for path in stdlib_files(STDLIB):
        split = split_of_path(path.relative_to(STDLIB).as_posix())
        assert bool({path, path.parent} & hidden) == (split in ("val", "test")), path


def test_no_training_imports_a_held_out_module() -> None:
    code = (
        "import sys, torch, torch.utils.data, torch._dynamo, torch._inductor.compile_fx, torch.distributed, numpy\n"
        "import cloudpickle, tiktoken, IPython, ipykernel.debugger, ipykernel.kernelapp, prepare\n"
        "import multiprocessing.managers, concurrent.futures.process, unittest.mock, asyncio\n"
        "import autoresearch_kernel.scoring.scorer\n"
        "from autoresearch_kernel.system.standard_library import HELD_OUT\n"
        "print(sorted(set(sys.modules) & set(HELD_OUT)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


PACKAGES = (
    "IPython",
    "ipykernel",
    "jedi",
    "matplotlib",
    "numpy",
    "parso",
    "pexpect",
    "ptyprocess",
    "tiktoken",
    "torch",
)
NAMES = "|".join(re.escape(name.rpartition(".")[2]) for name in HELD_OUT)
HELD_OUT_WORD = re.compile(rf"^[ \t]*(?:import|from)[^\n]*\b(?:{NAMES})\b", re.MULTILINE)
FOR_SOUND = {("IPython/lib/display.py", "wave"), ("torch/utils/tensorboard/summary.py", "wave")}  # inside functions


def _imports(file: Path) -> Iterator[str]:
    """The held-out modules that a file imports anywhere, also in functions."""
    text = file.read_text(encoding="utf-8", errors="replace")
    for node in ast.walk(ast.parse(text)) if HELD_OUT_WORD.search(text) else ():
        if isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & set(HELD_OUT)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)} & set(HELD_OUT)


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_no_package_of_a_training_imports_one_in_a_function() -> None:
    specs = [spec for name in PACKAGES if (spec := importlib.util.find_spec(name))]
    folders = [Path(folder) for spec in specs for folder in spec.submodule_search_locations or ()]
    files = [(file, file.relative_to(folder.parent)) for folder in folders for file in folder.rglob("*.py")]
    read = [(file, name) for file, name in files if not {"test", "tests", "testing"} & set(name.parts)]
    assert len(read) > 2000
    assert {(name.as_posix(), module) for file, name in read for module in _imports(file)} <= FOR_SOUND


def _library(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("os", "abc", "codecs", "traceback", "turtle"):
        (folder / f"{name}.py").write_text("pass")
    return folder


def test_other_libraries_are_hidden_whole_and_found_behind_links(tmp_path: Path) -> None:
    other = _library(tmp_path / "real" / "opt" / "sdk" / "lib" / "python3.9")
    archive = tmp_path / "real" / "python39.zip"
    archive.touch()
    (tmp_path / "real" / "os.py").touch()
    (tmp_path / "link").symlink_to("real")
    real = {str(other), str(archive)}
    assert set(held_out_paths([str(tmp_path / "real")])) == real
    both = {path.replace(f"{tmp_path}/real", f"{tmp_path}/link") for path in real}
    assert set(held_out_paths([str(tmp_path / "link")])) == both


def test_copies_that_prepare_found_are_hidden_and_nothing_is_hidden_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = _library(tmp_path / "shown" / "tool" / "lib" / "python3.9").parents[1]
    (tmp_path / "shown" / "quotes.py").touch()
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "cache"))
    known = copies_file(tmp_path / "cache", "stdlib-v2048-t256")
    known.parent.mkdir(parents=True)
    hidden = {str(tool), str(tmp_path / "shown" / "quotes.py")}
    known.write_text(json.dumps({"hidden": [*hidden, str(tmp_path / "gone.py")]}))
    assert set(held_out_paths([str(tmp_path / "shown")])) == hidden


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"hidden": [1]}', '{"hidden": ["/usr/a'])
def test_no_sandbox_starts_with_a_damaged_list_of_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    known = copies_file(tmp_path, "stdlib-v2048-t256")
    known.parent.mkdir()
    known.write_text(damaged)
    with pytest.raises(MachineFailed, match=r"stdlib-v2048-t256\.json is damaged .*Remove it and run `.* prepare`"):
        held_out_paths([str(tmp_path)])
    report = find_sandbox("", command)
    assert report.name == "none" and any(str(known) in reason for _, reason, _ in report.missing)


def test_of_a_package_the_tests_are_hidden_as_one_folder_each() -> None:
    """Each hidden path makes the start of a sandbox longer; no training imports from a package's tests."""
    packages = Path(torch.__file__).parents[1]
    hidden = {Path(path).relative_to(packages).as_posix() for path in held_out_paths([str(packages)])}
    for name in held_out_packages.HELD_OUT:
        above = {folder.as_posix() for folder in Path(name).parents if folder.name == "tests"}
        assert (above & hidden if above else name in hidden) and len(above) <= 1, name
    assert not any("/tests/" in path for path in hidden)


def test_a_link_into_another_listed_folder_stays_one_and_shows_nothing_hidden(tmp_path: Path) -> None:
    """As `lib64` of an environment, whose paths would all have to be hidden twice."""
    library = tmp_path / "env" / "lib"
    other = _library(library / "sdk" / "python3.9")
    (library / "module.py").write_text("x = 1\n")
    for name, target in (("lib64", "lib"), ("out", str(tmp_path / "elsewhere"))):
        (tmp_path / "env" / name).symlink_to(target)
    (tmp_path / "elsewhere").mkdir()
    paths = tuple(str(tmp_path / "env" / name) for name in ("lib", "lib64", "out"))
    assert inner_links(paths) == {paths[1]: str(library)}
    policy = Policy(read_only=(*SHOWN, *paths), hidden=held_out_paths(paths))
    assert policy.hidden == (str(other), str(other).replace("/lib/", "/lib64/"))
    assert inner_links((*paths, f"{paths[1]}/module.py")) == {}, "its folder is made for what is listed in it"
    look = f"cat {paths[1]}/module.py; ls {paths[1]}/sdk/python3.9 {paths[0]}/sdk/python3.9; readlink {paths[1]}"
    done = subprocess.run(wrap(policy, ["sh", "-c", look], "bubblewrap"), capture_output=True, text=True, check=True)
    assert "os.py" not in done.stdout and done.stdout.splitlines()[0] == "x = 1"
    assert done.stdout.splitlines()[-1] == str(library)


def test_seatbelt_denies_after_it_allowed() -> None:
    text = profile(Policy(read_only=("/usr",), hidden=("/usr/lib/python3.9",)))
    assert text.index('(subpath "/usr")') < text.index('(deny file-read* (subpath "/usr/lib/python3.9"))')


def test_bubblewrap_covers_a_file_and_a_folder_once_they_are_shown(tmp_path: Path) -> None:
    other = _library(tmp_path / "python3.9")
    policy = Policy(read_only=(str(tmp_path),), hidden=(str(other), str(tmp_path / "x.zip")))
    command = wrap(policy, ["true"], "bubblewrap")
    shown = command.index(str(tmp_path))
    assert command.index("--tmpfs", shown) < command.index(str(other), shown)
    covered = command.index(str(tmp_path / "x.zip"))
    assert covered > shown and command[covered - 2 : covered] == ["--ro-bind", "/dev/null"]
