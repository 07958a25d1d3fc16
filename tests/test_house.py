"""The house: imports point down only, and each heavy dependency has one home."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "autoresearch_kernel"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")

HOMES = {
    "openai": {"propose/llm.py"},
    "optuna": {"propose/search.py"},
    "psutil": {"record/children.py", "run/processes.py"},
    "papermill": {"run/engine.py"},
    "ipykernel": {"run/kernel.py", "__main__.py"},
    "jupytext": {"run/notebook.py"},
    "torch": {"judge/scorer.py"},
    "matplotlib": {"show/plots.py", "show/analysis_plots.py"},
    "ipywidgets": {"show/panel.py", "show/form.py"},
    "anywidget": {"show/panel.py"},
    "dask": {"run/slots.py"},
}
FLOOR_1 = {
    "propose/parameters.py",
    "propose/compare.py",
    "propose/edits.py",
    "judge/decide.py",
    "judge/drift.py",
    "judge/rule.py",
    "judge/overtime.py",
}
ROOMS = {"propose", "run", "judge", "show"}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def floor(name: str) -> int:
    if name == "record/experiment.py":
        return 0
    if name.startswith("record/") or name in FLOOR_1:
        return 1
    if name.split("/")[0] in ROOMS:
        return 2
    return {"cli.py": 4, "__main__.py": 4}.get(name, 3)


def own_imports(path: Path) -> set[str]:
    """Modules of this package that `path` imports, as 'room/module.py', wherever in the file."""
    found = set()
    package = [*name_of(path).split("/")[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - (node.level - 1)] + (node.module.split(".") if node.module else [])
            elif node.module and node.module.split(".")[0] == "autoresearch_kernel":
                base = node.module.split(".")[1:]
            else:
                continue
            for candidate in ["/".join(base), *("/".join([*base, alias.name]) for alias in node.names)]:
                if (PACKAGE / f"{candidate}.py").is_file():
                    found.add(f"{candidate}.py")
    return found


def top_level_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    name = name_of(path)
    for imported in own_imports(path):
        neighbours = floor(name) != 2 or imported.split("/")[0] == name.split("/")[0]  # rooms never import each other
        assert floor(imported) < floor(name) or (neighbours and floor(imported) == floor(name)), (
            f"{name} imports {imported}"
        )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_dependencies_stay_at_home(path: Path) -> None:
    strangers = {p for p in top_level_packages(path) & set(HOMES) if name_of(path) not in HOMES[p]}
    assert not strangers


def test_the_reader_of_imports_sees_what_is_there() -> None:
    assert {"record/history.py", "run/slots.py", "judge/score.py"} <= own_imports(PACKAGE / "session.py")
    assert "torch" in top_level_packages(PACKAGE / "judge" / "scorer.py")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, autoresearch_kernel; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {*HOMES, "numpy", "IPython", "nbformat"}
