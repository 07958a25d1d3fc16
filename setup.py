"""Copies what `autoresearch new` needs from the top of the checkout into the built package.

All else is in pyproject.toml. The wheel has these files in `autoresearch_kernel/project/`; an editable
install reads the checkout itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
FILES = ("prepare.py", "train.py", "program.md", "jupytext.toml")
FOLDERS = {
    "presets": "*.yaml",
    "notebooks": "*.ipynb",
    "notebooks/lessons": "*.*",
    "notebooks/lessons/data": "*.*",
    "docs": "teaching.md",
    "docs/teaching": "*.md",
    "docs/nights": "*.zip",
}


class BuildWithProject(build_py):
    """Adds the files of a project to the modules of the package."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._project_files():
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def _project_files(self) -> list[tuple[str, str]]:
        """Pairs of a file of the checkout and the file of the build that it becomes."""
        found = [HERE / name for name in FILES]
        found += [path for folder, names in FOLDERS.items() for path in (HERE / folder).glob(names) if path.is_file()]
        into = Path(self.build_lib) / "autoresearch_kernel" / "project"
        return [(str(path), str(into / path.relative_to(HERE))) for path in sorted(found)]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        added = [] if self.editable_mode else [target for _, target in self._project_files()]
        return [*super().get_outputs(include_bytecode), *added]


setup(cmdclass={"build_py": BuildWithProject})
