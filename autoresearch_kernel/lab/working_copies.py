"""Users' own copies of the project's notebooks, so that using a notebook changes no file that git follows.

`autoresearch lab` copies `notebooks/` into `my-notebooks/`, which git ignores. It never changes a copy whose code or
text a user has edited. After an upgrade it replaces a copy that was only run, and keeps the old one if it has outputs.
The Jupyter servers of this environment do not save the outputs of an original: see `protect_originals`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from ..core.sanitize import parse_object
from ..record.paths import LESSONS, MY_NOTEBOOKS, NOTEBOOKS
from ..record.study import sha256
from ..system.files import ensure_folder, write_atomic

TOLD = ".told.json"  # beside the copies: of which version of each notebook a person was told
SERVER_CONFIG = Path("etc/jupyter/jupyter_server_config.d/autoresearch.json")  # below the prefix of an environment
KEY = "autoresearch"  # of a copy's metadata: what it was copied from
Notebook = dict[str, Any]


def update_copies(project: Path) -> Iterator[str]:
    """Make or refresh the copies, and say what a person should know; nothing where all is as it was."""
    made = []
    for original in _originals(project):
        copy = project / MY_NOTEBOOKS / original.relative_to(project / NOTEBOOKS)
        if not copy.exists():
            _copy(original, copy)
            made.append(f"{LESSONS}/" if copy.parent.name == LESSONS else copy.name)
        elif words := _refresh(project, original, copy):
            yield words
    if made:
        names = ", ".join(dict.fromkeys(made))
        yield f"Your copies of the notebooks are in {MY_NOTEBOOKS}/: {names}. Git ignores them; edit them freely."


def _originals(project: Path) -> list[Path]:
    """The notebooks of the project, those of the lessons last."""
    folder = project / NOTEBOOKS
    return [*sorted(folder.glob("*.ipynb")), *sorted((folder / LESSONS).glob("*.ipynb"))]


def _copy(original: Path, copy: Path) -> None:
    content = original.read_bytes()
    notebook = json.loads(content)
    notebook["metadata"][KEY] = {"copied_from": sha256(content), "sources": sources_sha256(notebook)}
    ensure_folder(copy.parent)
    write_atomic(copy, json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n")  # as Jupyter does


def _refresh(project: Path, original: Path, copy: Path) -> str:
    """Replace a copy of another version that was not edited; what a person should know, "" when nothing was done."""
    content, notebook = original.read_bytes(), _read(copy)
    mark = notebook["metadata"].get(KEY, {}) if notebook else {}
    if mark.get("copied_from") == sha256(content):
        return ""
    if notebook and sources_sha256(notebook) == sources_sha256(json.loads(content)):
        return ""
    name = copy.relative_to(project).as_posix()
    if notebook is None or mark.get("sources") != sources_sha256(notebook):
        if _was_told(copy, sha256(content)):
            return ""
        new = original.relative_to(project).as_posix()
        return f"{name} has your edits and stays as it is. The project has another version of it now: {new}."
    kept = ""
    if has_outputs(notebook):
        older = _free(copy)
        copy.rename(older)
        kept = f" What yours showed is in {older.relative_to(project).as_posix()}."
    _copy(original, copy)
    return f"{name} is now the project's new version.{kept}"


def _was_told(copy: Path, version: str) -> bool:
    """Whether the user was told of this version of an edited copy's original; records that they are told now.

    The record is beside the copies: if an open notebook changed on disk, Jupyter would ask which version to keep.
    """
    path = copy.parent / TOLD
    told = (parse_object(path.read_bytes()) if path.is_file() else None) or {}
    if told.get(copy.name) == version:
        return True
    write_atomic(path, json.dumps({**told, copy.name: version}, indent=1, sort_keys=True) + "\n")
    return False


def _read(path: Path) -> Notebook | None:
    """A notebook; None where the file is none that can be read."""
    notebook = parse_object(path.read_bytes())
    return notebook if notebook and {"cells", "metadata"} <= set(notebook) else None


def _free(copy: Path) -> Path:
    paths = (copy.with_name(f"{copy.stem}-before-upgrade-{number}.ipynb") for number in count(1))
    return next(path for path in paths if not path.exists())


def sources_sha256(notebook: Notebook) -> str:
    """Digest of the code and text of its cells, without empty ones: running the last cell of a notebook adds one."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps([cell for cell in cells if cell[1].strip()]).encode()).hexdigest()


def has_outputs(notebook: Notebook) -> bool:
    return any(cell.get("outputs") for cell in notebook["cells"])


def keep_original(model: dict[str, Any], path: str, contents_manager: Any, **_: Any) -> None:
    """Before Jupyter saves an original that was only run: put what the file holds already in its place."""
    file = Path(contents_manager.root_dir) / path
    folder = file.parent.parent if file.parent.name == LESSONS else file.parent
    if folder.name != NOTEBOOKS or not (folder.parent / "prepare.py").is_file() or not file.is_file():
        return
    saved, now = _read(file), model.get("content")
    if model.get("type") != "notebook" or saved is None or now is None or has_outputs(saved):
        return
    if sources_sha256(saved) == sources_sha256(now):
        model["content"] = saved


def protect_originals(prefix: Path) -> Path:
    """Let each Jupyter server of the environment at `prefix` load `keep_original`; returns the file that says so."""
    path = prefix / SERVER_CONFIG
    content = json.dumps({"ServerApp": {"jpserver_extensions": {__name__: True}}}, indent=1) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        write_atomic(path, content)
    return path


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called while the server starts. Jupytext's extension, which loads later, replaces the contents manager."""
    server.io_loop.add_callback(lambda: server.contents_manager.register_pre_save_hook(keep_original))
