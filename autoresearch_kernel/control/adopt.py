"""Adopts a train.py of the original autoresearch or of a fork: writes a new file, and says what is left to do by hand.

Nothing of the other program is run, and no file that exists is changed.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..record.study import StudyError
from ..run.notebook import check_source
from ..source.adopt.convert import adopt
from ..source.adopt.draft import Finding
from ..source.cell import SourceError, has_cell
from ..source.encoding import decode_source
from ..source.gate import SOURCE_LIMIT_BYTES, check_clock
from ..source.parameters import read_parameters
from ..system.files import write_atomic
from ..system.locations import NoProject, originals, project_root
from ..system.shell import shell_command

ADOPTED, RESULTS = "train.adopted.py", "results.adopted.tsv"
LARGE_BATCH, MOST_ROWS = 64, 4096  # a batch of more than MOST_ROWS is counted in tokens
LONGEST_CODE = 60  # characters of a line in the report


def adopt_file(path: Path, out: Path | None = None) -> str:
    """Write the new file and return the report; `path` is a train.py, a notebook, or a folder with one.

    Raises StudyError when there is nothing to adopt, or a file would be overwritten.
    """
    source_path = _train_file(path)
    is_elsewhere, project = _project()
    out = out or project / ADOPTED
    if out.exists() or out.is_symlink():
        raise StudyError(f"{out} exists and would be overwritten. Move it away, or name another file with --out.")
    if not out.parent.is_dir():
        raise StudyError(f"There is no folder {out.parent}. Make it, or name another file with --out.")
    text = _read(source_path)
    if has_cell(text) and "TrainingClock" in text:
        raise StudyError(f"{source_path} is one of this program's already: copy it over the project's train.py.")
    neighbours = {file.stem for file in source_path.parent.glob("*.py")} - {"train", "prepare", source_path.stem}
    try:
        adoption = adopt(
            text, is_notebook=source_path.suffix == ".ipynb", neighbours=neighbours, prepare_names=_prepare_names()
        )
    except SourceError as error:
        raise StudyError(f"{source_path} cannot be adopted: {error}".replace("train.py does", "it does")) from error
    write_atomic(out, adoption.source)
    return "\n\n".join(
        filter(
            None,
            (
                f"{out} is the new file; {source_path} stays as it is.",
                _table("Converted, by line of the file as it was:", adoption.converted),
                _table(f"To be done by hand in {out.name}, by line of the file as it was:", adoption.by_hand),
                _verdict(adoption.source),
                _sizes(adoption.source),
                _results(source_path.parent, out.with_name(RESULTS)),
                _next_steps(out, is_elsewhere),
            ),
        )
    )


def _train_file(path: Path) -> Path:
    if path.is_file():
        return path.resolve()
    if not path.is_dir():
        clone = " Clone the repository first." if re.match(r"\w+:/|git@", str(path)) else ""
        raise StudyError(f"There is no {path}.{clone} Name a train.py, a notebook, or the folder of a checkout.")
    if (path / "train.py").is_file():
        return (path / "train.py").resolve()
    names = sorted(file.name for pattern in ("*.py", "*.ipynb") for file in path.glob(pattern))
    there_are = f"There are {', '.join(names[:8])}: name one of them." if names else "Name the file that trains."
    raise StudyError(f"There is no train.py in {path}. {there_are}")


def _project() -> tuple[bool, Path]:
    """Whether this is no project, and the folder for the new file: the project's, or the working folder."""
    try:
        return False, project_root()
    except NoProject:
        return True, Path.cwd()


def _read(path: Path) -> str:
    """In the encoding that the file declares, as Python reads it; a notebook is UTF-8 and declares nothing."""
    data = path.read_bytes()
    if len(data) > SOURCE_LIMIT_BYTES and path.suffix != ".ipynb":
        raise StudyError(f"{path} has {len(data):,} bytes, and a train.py at most {SOURCE_LIMIT_BYTES:,}.")
    try:
        return decode_source(data, str(path))
    except SourceError as error:
        raise StudyError(str(error)) from error


def _prepare_names() -> set[str]:
    tree = ast.parse((originals() / "prepare.py").read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
    return names | {t.id for t in targets if isinstance(t, ast.Name)} | {"MAX_SEQ_LEN", "EVAL_TOKENS"}


# --- the report


def _table(heading: str, findings: Iterable[Finding]) -> str:
    """One row for all lines that have the same words."""
    rows: dict[str, list[Finding]] = {}
    for finding in findings:
        rows.setdefault(finding.words, []).append(finding)
    if not rows:
        return ""
    lines = [heading]
    for words, found in rows.items():
        code = found[0].code
        code = code if len(code) <= LONGEST_CODE else f"{code[: LONGEST_CODE - 1]}…"
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        numbers = ", ".join(str(finding.line) for finding in found[:12]) + (", ..." if len(found) > 12 else "")
        lines.append(f"  {numbers}: {code}{more}\n      → {words}")
    return "\n".join(lines)


def _verdict(source: str) -> str:
    try:
        check_source(source)
        check_clock(source)
        read_parameters(source)
    except SourceError as error:
        return f"The new file cannot run as a notebook yet: {error}"
    return "The new file passes the check that every train.py passes before it runs as a notebook."


def _sizes(source: str) -> str:
    """What to begin with where the batch was chosen for a large GPU."""
    try:
        batches = {
            p.name: p.value for p in read_parameters(source).values() if "BATCH" in p.name and p.value is not None
        }
    except SourceError:
        return ""
    large = {name: value for name, value in batches.items() if isinstance(value, int) and value >= LARGE_BATCH}
    if not large:
        return ""
    are = ", ".join(f"{name} = {value}" for name, value in large.items())
    small = ", ".join(f"{name} = {4096 if value > MOST_ROWS else 4}" for name, value in large.items())
    return (
        f"Sizes for a large GPU: {are}. On a CPU one step would take minutes. A study sets those that its preset "
        f"knows; before you try the file by hand, write {small} and a small DEPTH into its parameters cell."
    )


def _results(folder: Path, target: Path) -> str:
    """A copy of the results.tsv beside the file that was adopted, which the analysis reads."""
    table = folder / "results.tsv"
    if not table.is_file():
        return ""
    if target.exists():
        return f"{target} exists already and stays as it is."
    shutil.copyfile(table, target)
    return f"{target} is a copy of its results.tsv. analyse({str(target)!r}) in analysis.ipynb shows what it found."


def _next_steps(out: Path, is_elsewhere: bool) -> str:
    train = shlex.quote(str(out))
    if is_elsewhere:
        return (
            "Next, in a project of this program, whose train.py it becomes:\n"
            f"  {shell_command('new my-research', is_elsewhere=True)}\n  cp {train} my-research/train.py\n"
            f"  cd my-research && {shell_command('run --experiments 5', is_elsewhere=True)}"
        )
    return (
        "Next, try it, then let it replace the project's train.py and start a study:\n"
        f"  AUTORESEARCH_TIME_BUDGET=20 python {train}\n"
        f"  cp {train} {shlex.quote(str(out.with_name('train.py')))}\n"
        f"  {shell_command('run --experiments 5')}"
    )
