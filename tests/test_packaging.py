"""What is built: wheel and sdist hold all that a project needs, and work where there is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from autoresearch_kernel.control.new import COPIED
from tests.conftest import PROJECT

pytest.importorskip("setuptools")

BUILD = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
LOOK = """
import autoresearch_kernel as a
from autoresearch_kernel.run.kernelspec import LOGO
print(a.__file__, LOGO.is_file(), a.open_example().paths.history.is_file())
"""


def build(kind: str, source: Path, into: Path) -> Path:
    """A wheel or an sdist, built by what pip would call, without a network."""
    command = [sys.executable, "-c", BUILD, f"build_{kind}", str(into)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(into.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel of a copy of the checkout, and one of its sdist."""
    folder = tmp_path_factory.mktemp("build")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if (PROJECT / name).is_file() and not name.startswith("tests/"):
            (folder / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / "checkout" / name)
    for name in ("wheel", "sdist", "again"):
        (folder / name).mkdir()
    with tarfile.open(build("sdist", folder / "checkout", folder / "sdist")) as sdist:
        sdist.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return {
        "checkout": build("wheel", folder / "checkout", folder / "wheel"),
        "sdist": build("wheel", unpacked, folder / "again"),
    }


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def test_wheel_and_sdist_hold_the_same_and_all_that_new_copies(wheels: dict[str, Path]) -> None:
    files = files_of(wheels["checkout"])
    assert files == files_of(wheels["sdist"])
    for name in COPIED:
        originals = [PROJECT / name] if (PROJECT / name).is_file() else [*(PROJECT / name).glob("*.*")]
        assert originals
        for path in originals:
            if path.is_file():
                assert f"autoresearch_kernel/project/{path.relative_to(PROJECT)}" in files
    nights = [path for path in (PROJECT / "docs" / "nights").glob("*.zip")]
    assert nights and {f"autoresearch_kernel/project/docs/nights/{path.name}" for path in nights} <= files
    assert wheels["checkout"].stat().st_size < 2_000_000 + sum(path.stat().st_size for path in nights)


def test_an_installed_wheel_makes_a_project_and_finds_it(wheels: dict[str, Path], tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheels["sdist"]) as wheel:
        wheel.extractall(site)

    def python(*words: str, folder: Path) -> str:
        env = os.environ | {"PYTHONPATH": str(site)}
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    cli = ("-m", "autoresearch_kernel.cli")
    assert f"{site / 'autoresearch_kernel' / '__init__.py'} True True" in python("-c", LOOK, folder=tmp_path)
    said = python(*cli, "status", folder=tmp_path)
    assert "new DIR` makes a folder" in said and "checkout" not in said
    assert "is a project now" in python(*cli, "new", "mine", folder=tmp_path)
    assert str(tmp_path / "mine" / "studies") in python(*cli, "status", folder=tmp_path / "mine")
    assert "--vocab-size" in python(*cli, "prepare", "--help", folder=tmp_path / "mine" / "notebooks")
