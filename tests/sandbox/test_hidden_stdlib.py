"""Which files of Python's own library a sandbox hides: tests/trust reaches for them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from autoresearch_kernel.corpora.sources import split_of_path, stdlib_files
from autoresearch_kernel.sandbox.hidden_stdlib import held_out_paths
from autoresearch_kernel.sandbox.kinds import wrap
from autoresearch_kernel.sandbox.policy import Policy
from autoresearch_kernel.sandbox.seatbelt import profile

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
        "print(sorted({name.partition('.')[0] for name in sys.modules} & set(HELD_OUT)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


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


def test_seatbelt_denies_after_it_allowed() -> None:
    text = profile(Policy(read_only=("/usr",), hidden=("/usr/lib/python3.9",)))
    assert text.index('(subpath "/usr")') < text.index('(deny file-read* (subpath "/usr/lib/python3.9"))')


def test_bubblewrap_covers_a_file_and_a_folder_once_they_are_shown(tmp_path: Path) -> None:
    other = _library(tmp_path / "python3.9")
    policy = Policy(read_only=(str(tmp_path),), hidden=(str(other), str(tmp_path / "x.zip")))
    command = wrap(policy, ["true"], "bubblewrap")
    shown = command.index(str(tmp_path))
    assert command.index("--tmpfs", shown) < command.index(str(other), shown)
    assert ["--ro-bind", "/dev/null", str(tmp_path / "x.zip")] == command[command.index("/dev/null") - 1 :][:3]
