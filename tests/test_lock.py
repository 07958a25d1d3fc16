"""constraints.txt: one exact version of each package, on every Python that the project names, by `make lock` alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
UV = (sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate")


def supported_pythons() -> list[str]:
    """The lowest version that pyproject.toml allows, and the first of each later minor version that it names."""
    lowest = next(s.version for s in SpecifierSet(SETTINGS["requires-python"]) if s.operator == ">=")
    named = [line.rpartition(" ")[2] for line in SETTINGS["classifiers"] if "Python ::" in line]
    return [f"{version}.0" if version.count(".") == 1 else version for version in dict.fromkeys([lowest, *named])]


def pins(text: str) -> list[Requirement]:
    """Every line that is not a comment. Raises InvalidRequirement for one that pip would refuse."""
    return [Requirement(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pinned(text: str, python: str, system: str) -> dict[str, list[Version]]:
    """Normal name -> the versions that hold on one Python and system."""
    machine = {"python_full_version": python, "python_version": ".".join(python.split(".")[:2])}
    machine |= {"linux": {"sys_platform": "linux", "os_name": "posix"}, "darwin": {"sys_platform": "darwin"}}[system]
    found: dict[str, list[Version]] = {}
    for pin in pins(text):
        if pin.marker is None or pin.marker.evaluate(machine):
            (exact,) = pin.specifier
            assert exact.operator == "==" and "*" not in exact.version, str(pin)
            found.setdefault(canonicalize_name(pin.name), []).append(Version(exact.version))
    return found


def required() -> list[Requirement]:
    extras = SETTINGS["optional-dependencies"].values()
    return [Requirement(line) for lines in [SETTINGS["dependencies"], *extras] for line in lines]


def required_by_tests() -> list[Requirement]:
    """What `make setup-test` installs: the dependencies, the extra `test`, and the extras that it names."""
    extras = SETTINGS["optional-dependencies"]
    tests = [Requirement(line) for line in extras["test"]]
    named = [name for requirement in tests for name in requirement.extras if requirement.name == SETTINGS["name"]]
    lines = [*SETTINGS["dependencies"], *(line for name in named for line in extras[name])]
    return [*map(Requirement, lines), *(each for each in tests if each.name != SETTINGS["name"])]


def test_the_supported_pythons_are_these() -> None:
    assert supported_pythons() == ["3.11.0", "3.12.0", "3.13.0", "3.14.0"]


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("python", supported_pythons())
def test_every_requirement_has_one_exact_version_that_satisfies_it(python: str, system: str) -> None:
    found = pinned((PROJECT / "constraints.txt").read_text(), python, system)
    assert [name for name, versions in found.items() if len(versions) > 1] == []
    for requirement in required():
        if canonicalize_name(requirement.name) != SETTINGS["name"]:
            (version,) = found[canonicalize_name(requirement.name)]
            assert version in requirement.specifier, f"{requirement}, but {version} on Python {python}"


def test_a_pin_without_a_version_is_found() -> None:
    with pytest.raises(ValueError, match="pyee"):
        pins("numpy==2.4.6\npyee==\n")


# --- with an index of packages


@pytest.fixture(scope="module")
def index() -> None:
    """Skips where no index of packages answers."""
    asked = subprocess.run([*UV, "--no-deps", "-"], input="packaging", capture_output=True, text=True, env=settings())
    if asked.returncode and re.search("Failed to fetch|error sending request|dns error|offline", asked.stderr):
        pytest.skip("no index of packages can be reached from here")
    assert asked.returncode == 0, asked.stderr


def settings() -> dict[str, str]:
    """uv trusts certificates of its own: one that pip was told of is told to uv, too."""
    certificate = os.environ.get("PIP_CERT")
    return {**os.environ, **({"SSL_CERT_FILE": certificate} if certificate else {})}


def resolve(constraints: str, python: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Resolve the project and all its extras with these pins on Linux, from packages with a wheel for that Python."""
    pinned_to = folder / "constraints.txt"
    pinned_to.write_text(constraints)
    words = ["--all-extras", "--only-binary", ":all:", "--python-platform", "x86_64-manylinux_2_28"]
    command = [*UV, *words, "--python-version", python, "-c", str(pinned_to), str(PROJECT / "pyproject.toml")]
    return subprocess.run(command, capture_output=True, text=True, env=settings(), cwd=folder)


def locked(folder: Path) -> subprocess.CompletedProcess[str]:
    """`make lock` in a folder."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, folder)
    command = ["make", "lock", "PYTHON=true", f"IN_VENV={sys.executable} -m"]  # `true` stands in for the set-up
    return subprocess.run(command, cwd=folder, env=settings(), capture_output=True, text=True)


def newest_pip(folder: Path) -> subprocess.CompletedProcess[str]:
    """Download the newest pip into a folder."""
    fetch = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    return subprocess.run([*fetch, "--target", str(folder / "pip"), "pip"], capture_output=True, text=True)


Asked = dict[str, tuple[Path, "Future[subprocess.CompletedProcess[str]]"]]


@pytest.fixture(scope="module")
def asked(index: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """What the tests below ask the index, each in a folder of its own, several at once: most of it is waiting."""
    text = (PROJECT / "constraints.txt").read_text()
    questions: dict[str, Callable[[Path], subprocess.CompletedProcess[str]]] = {
        python: partial(resolve, text, python) for python in supported_pythons()
    }
    questions |= {"lock": locked, "pip": newest_pip}
    with ThreadPoolExecutor(4) as pool:
        folders = {name: tmp_path_factory.mktemp(f"lock-{name}") for name in questions}
        yield {name: (folders[name], pool.submit(ask, folders[name])) for name, ask in questions.items()}


@pytest.mark.parametrize("python", supported_pythons())
def test_every_pin_allows_every_supported_python(python: str, asked: Asked) -> None:
    """By `requires_python` of the index, and each has a wheel there: nothing is compiled on a user's machine."""
    text = (PROJECT / "constraints.txt").read_text()
    done = asked[python][1].result()
    assert done.returncode == 0, done.stderr
    resolved = {canonicalize_name(pin.name) for pin in pins(done.stdout)}
    assert resolved <= set(pinned(text, python, "linux")) and len(resolved) > 100


@pytest.mark.usefixtures("index")
def test_a_pin_that_needs_a_later_python_is_found(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^soupsieve==.*$", "soupsieve==4.1.2", (PROJECT / "constraints.txt").read_text())
    assert resolve(text, "3.11.7", tmp_path).returncode == 0
    done = resolve(text, "3.11.2", tmp_path)
    assert done.returncode != 0 and "soupsieve" in done.stderr and "Python" in done.stderr


def test_the_lock_is_what_make_lock_writes(asked: Asked) -> None:
    folder, done = asked["lock"][0], asked["lock"][1].result()
    assert done.returncode == 0, done.stderr
    assert (folder / "constraints.txt").read_text() == (PROJECT / "constraints.txt").read_text()


def test_the_newest_pip_takes_the_lock(asked: Asked, tmp_path: Path) -> None:
    """It finds nothing to install: the environment that runs the tests is the one that the lock describes."""
    newest, done = asked["pip"][0] / "pip", asked["pip"][1].result()
    assert done.returncode == 0, done.stderr
    words = ["install", "--dry-run", "--no-build-isolation", "-c", str(PROJECT / "constraints.txt")]
    names = [str(requirement) for requirement in required_by_tests()]
    env = {**os.environ, "PYTHONPATH": str(newest)}
    command = [sys.executable, "-m", "pip", *words, *names]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    version = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, env=env).stdout
    assert Version(version.split()[1]) >= Version("26.0") and "Would install" not in done.stdout, done.stdout
