"""Starts one of this program's children: `python -P start.py MODULE ARGUMENTS...`, or `-c CODE` instead of a module.

Neither the working folder nor the project comes before the standard library, so a user's file such as random.py hides
no module of Python. The package is the one that this file belongs to, even where another version is installed, and
`prepare` is the project's prepare.py. This file imports only modules that Python has loaded or frozen before it starts.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def python_command(*words: str) -> list[str]:
    """The command that starts a module of this package, or `-c` and code, in this interpreter.

    The child looks for prepare.py in $AUTORESEARCH_PROJECT, else in its working folder.
    """
    return [sys.executable, "-P", os.path.abspath(__file__), *words]


class PrepareFinder:
    """Finds `prepare` in the project and nowhere else."""

    def __init__(self, project: str) -> None:
        self.file = os.path.join(project, "prepare.py")

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "prepare":
            return None
        if not os.path.isfile(self.file):
            raise ModuleNotFoundError(f"No module named 'prepare': there is no file {self.file}", name=name)
        return spec_from_file_location(name, self.file)


def import_from(project: str) -> None:
    """Let this process import prepare.py and other files of a project; all of Python's own modules come first."""
    put_last(project)
    before_path = next((i for i, finder in enumerate(sys.meta_path) if finder is PathFinder), 0)
    sys.meta_path.insert(before_path, PrepareFinder(project))


def put_last(folder: str) -> None:
    """Move a folder to the end of `sys.path`, wherever it stands there."""
    real = _real(folder)
    sys.path[:] = [*(entry for entry in sys.path if _real(entry) != real), real]


def _real(folder: str) -> str:
    try:
        return os.path.realpath(folder)
    except OSError:  # the working folder was removed
        return folder


def set_import_paths() -> None:
    """Let this process import from the project in $AUTORESEARCH_PROJECT, or from its working folder, and this package.

    Only the package of a checkout is named in `sys.path`: for the children of this process.
    """
    import_from(os.environ.get("AUTORESEARCH_PROJECT") or _real(""))
    parent = os.path.dirname(PACKAGE)
    if os.path.basename(parent) not in ("site-packages", "dist-packages"):
        put_last(parent)


def forget_project() -> None:
    """Import nothing any more from the projects that were given to `import_from`."""
    # This file may be loaded twice: as the program of this process, and as a module of the package.
    for finder in [finder for finder in sys.meta_path if type(finder).__name__ == PrepareFinder.__name__]:
        sys.meta_path.remove(finder)
        project = _real(os.path.dirname(finder.file))  # type: ignore[attr-defined]
        sys.path[:] = [entry for entry in sys.path if _real(entry) != project]


def main() -> None:
    name, *arguments = sys.argv[1:]
    set_import_paths()
    spec = spec_from_file_location("autoresearch_kernel", os.path.join(PACKAGE, "__init__.py"))
    assert spec is not None and spec.loader is not None
    sys.modules["autoresearch_kernel"] = package = module_from_spec(spec)
    spec.loader.exec_module(package)
    run(name, arguments)


def run(name: str, arguments: list[str]) -> None:
    """Run a module of this package as the program, or the code in `arguments` where the name is `-c`."""
    if name == "-c":
        sys.argv[:] = arguments
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
        return
    import runpy

    sys.argv[1:] = arguments
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
