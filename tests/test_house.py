"""The house: a table of floors. An import goes to a lower floor or stays in its room; heavy packages have one home."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "autoresearch_kernel"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = (  # from the lowest; "" is the package's root
    {"core", "source"},
    {"system"},
    {"record", "sandbox", "scoring"},
    {"agents", "run", "show", "corpora"},
    {"study"},
    {"share"},
    {"control"},
    {"lab"},
    {""},
)
LARGEST_ROOT = 4  # modules
HOMES = {
    "openai": {"agents/chat.py", "agents/failures.py"},
    "psutil": {"system/environment.py", "system/processes.py"},
    "papermill": {"run/engine.py", "run/papermill_plugin.py"},
    "ipykernel": {"run/kernel.py", "__main__.py"},
    "jupytext": {"run/notebook.py"},
    "torch": {"scoring/scorer.py", "control/gpu_check/in_torch.py"},
    "mcp": {"control/mcp_server.py"},
    "matplotlib": {
        "show/plot_style.py", "show/plot_scale.py", "show/plot_labels.py", "show/plot_progress.py",
        "show/plot_curve.py", "lab/analysis/plots.py", "lab/lessons/figures.py", "lab/lessons/noise_figures.py",
    },
    "ipywidgets": {
        *(f"lab/panel/{part}.py" for part in ("panel", "view", "elements", "form")), "lab/lessons/sliders.py",
    },
    "anywidget": {"lab/panel/elements.py", "lab/panel/player.py"},
    "dask": {"run/local_cluster.py", "run/remote.py", "run/slurm.py"},
    "dask_jobqueue": {"run/slurm.py"},
    "distributed": {"run/connection.py", "run/local_cluster.py", "run/slurm.py"},
    "prepare": {
        "control/gpu_check/in_torch.py",
        *(
            f"corpora/{name}.py"
            for name in (
                "build", "command", "downloads", "folder", "own_files", "packages", "readers", "tokens",
            )
        ),
    },
}  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(name: str) -> str:
    return name.split("/")[0] if "/" in name else ""


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def own_imports(path: Path) -> set[str]:
    """Modules of this package that `path` imports anywhere, as 'room/module.py'; those of type checking count."""
    found = set()
    package = [*name_of(path).split("/")[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = package[: len(package) - (node.level - 1)] + (node.module.split(".") if node.module else [])
        elif node.module and node.module.split(".")[0] == "autoresearch_kernel":
            base = node.module.split(".")[1:]
        else:
            continue
        for candidate in ["/".join(base), *("/".join([*base, alias.name]) for alias in node.names)]:
            for file in (f"{candidate}.py", f"{candidate}/__init__.py".lstrip("/")):
                if (PACKAGE / file).is_file():
                    found.add(file)
    return found - {name_of(path)}


def top_level_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_an_import_goes_to_a_lower_floor_or_stays_in_its_room(path: Path) -> None:
    room = room_of(name_of(path))
    wrong = {m for m in own_imports(path) if room_of(m) != room and floor(room_of(m)) >= floor(room)}
    assert not wrong


def test_no_module_imports_itself_through_others() -> None:
    graph = {name_of(path): own_imports(path) for path in MODULES}
    while leaves := {name for name, imported in graph.items() if not imported}:
        graph = {name: imported - leaves for name, imported in graph.items() if name not in leaves}
    assert not graph


def test_every_room_is_in_the_table_and_the_root_is_small() -> None:
    rooms = {room_of(name_of(path)) for path in MODULES}
    assert rooms == set().union(*FLOORS)
    assert len([path for path in PACKAGE.glob("*.py")]) <= LARGEST_ROOT


@pytest.mark.parametrize("room", sorted(set().union(*FLOORS) - {""}))
def test_a_room_opens_with_the_question_that_it_answers(room: str) -> None:
    words = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))
    assert words and "?" in words.splitlines()[0]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_dependencies_stay_at_home(path: Path) -> None:
    strangers = {p for p in top_level_packages(path) & set(HOMES) if name_of(path) not in HOMES[p]}
    assert not strangers


def test_the_reader_of_imports_sees_what_is_there() -> None:
    assert {"record/history.py", "run/backend.py", "scoring/job.py"} <= own_imports(PACKAGE / "study" / "session.py")
    assert "torch" in top_level_packages(PACKAGE / "scoring" / "scorer.py")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, autoresearch_kernel; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {*HOMES, "numpy", "IPython", "nbformat"}
