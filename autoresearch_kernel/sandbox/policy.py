"""What code that an agent wrote may read, write and use: the policy of a sandbox, which `sandbox/kinds.py` enforces.

Everything is an allow-list. A folder that contains something to hide, such as a home or a project with its studies, is
never allowed as a whole: only those of its children are that contain nothing of the kind.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..system.locations import cache_dir
from .hidden_stdlib import held_out_paths

GIB = 2**30
SANDBOX_FOLDER = "kernel"  # the subfolder of a run's folder that its kernel may write to
PACKAGE = Path(__file__).resolve().parents[1]

# Programs, libraries, and files that these read. No passwd, no ssh, no machine-id.
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/ld.so.conf",
    "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/fonts", "/nix/store", "/run/current-system/sw",
    "/run/opengl-driver", "/sys",
)  # fmt: skip
_GPU_SYSTEM = ("/opt/rocm", "/etc/OpenCL", "/opt/intel")
_PREFIX_PARTS = ("bin", "lib", "lib64", "include", "share", "libexec", "nvvm", "targets", "pyvenv.cfg")


@dataclass(frozen=True)
class Policy:
    """What the code in one sandbox may do. All paths are absolute, and a path that is not listed cannot be read."""

    read_only: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()  # files and folders below read_only that must not be read
    writable: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()  # of read_only: modules to import from a checkout that is itself closed
    env: Mapping[str, str] = field(default_factory=dict)  # added to the child's own
    scratch: str | None = None  # folder for home, tmp and caches, in a sandbox without its own file system
    gpu: bool = False
    memory_bytes: int = 0  # of all processes together; 0 means no limit, here and below
    max_processes: int = 512
    max_file_bytes: int = 4 * GIB
    tmp_bytes: int = GIB  # of /tmp, and again of /dev/shm
    writable_bytes: int = 4 * GIB  # of the writable folders together
    seconds: float = 0.0


def training_policy(
    corpus_dir: Path, project: Path, handover: Path, folder: Path, *, seconds: float, gpu: bool, **limits: Any
) -> Policy:
    """The policy of a training: it reads the corpus and prepare.py and writes to its hand-over and its own `folder`.

    `limits` are fields of Policy that replace their defaults.
    """
    policy = _policy(project, gpu, folder, seconds=seconds, corpus_dir=corpus_dir)
    policy = replace(policy, writable=(str(handover), str(folder)))
    large = {"max_file_bytes": 16 * GIB, "writable_bytes": 16 * GIB, "tmp_bytes": 4 * GIB} if gpu else {}
    return replace(policy, **(large | limits))


def scoring_policy(artefact: Path, project: Path, scratch: Path | None, *, gpu: bool) -> Policy:
    """The policy of a scorer: it reads one artefact and prepare.py, no corpus, and writes nothing that lasts.

    Raises ValueError when the artefact is not a plain file, because a link would open its target.
    """
    if artefact.is_symlink() or not artefact.is_file():
        raise ValueError(f"{artefact} is not a plain file, so it is not scored: train again.")
    policy = _policy(project, gpu, scratch)
    return replace(policy, read_only=(*policy.read_only, str(artefact.resolve())))


def _policy(
    project: Path, gpu: bool, scratch: Path | None, *, seconds: float = 0.0, corpus_dir: Path | None = None
) -> Policy:
    """Python with its libraries, prepare.py and the corpus can be read; only `scratch` can be written."""
    hidden = hidden_paths(project, corpus_dir)
    modules = [PACKAGE, project.resolve() / "prepare.py"]
    corpus = [] if corpus_dir is None else [corpus_dir.resolve()]
    read_only = _readable([*system_paths(gpu), *python_paths(hidden), *modules, *corpus], hidden, modules)
    return Policy(
        read_only=read_only,
        hidden=held_out_paths(read_only),
        writable=() if scratch is None else (str(scratch),),
        modules=tuple(map(str, modules)),
        scratch=None if scratch is None else str(scratch),
        gpu=gpu,
        memory_bytes=memory_limit(),
        seconds=seconds,
    )


def memory_limit() -> int:
    """Bytes that a sandbox may use: all of the machine or its container, less 15 % and at least 2 GiB (or half)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text().strip()
        except OSError:
            continue
        total = min(total, int(text)) if text.isdecimal() else total
    return int(max(total - max(2 * GIB, 0.15 * total), total / 2))


# --- paths


def hidden_paths(project: Path, corpus_dir: Path | None = None) -> tuple[Path, ...]:
    """Folders that no sandbox may see as a whole: homes, the project, and every corpus with its held-out rows."""
    paths = [Path.home(), Path("/root"), project, cache_dir()]
    if rows := os.environ.get("AUTORESEARCH_HELDOUT"):
        paths.append(Path(rows))
    if corpus_dir is not None:
        corpora = corpus_dir.resolve().parent
        paths += [corpora, corpora.parent / "heldout"]
    return tuple(dict.fromkeys(path.resolve() for path in paths))


def system_paths(gpu: bool) -> list[Path]:
    """Programs and libraries of the system, and the folders in LD_LIBRARY_PATH."""
    libraries = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    return [Path(path) for path in (*_SYSTEM, *(_GPU_SYSTEM if gpu else ()), *libraries) if os.path.isabs(path)]


def python_paths(hidden: Iterable[Path]) -> list[Path]:
    """This interpreter, its virtual environment, and its import folders; of a checkout only this program's modules."""
    prefixes = {Path(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)}
    paths: list[Path] = []
    for prefix in sorted({*prefixes, *(p.resolve() for p in prefixes)}):
        whole = not _holds_any(prefix, hidden)
        paths += [prefix] if whole else [prefix / part for part in _PREFIX_PARTS]
    for folder in _import_folders():
        is_checkout = (folder / ".git").exists() or (folder / "studies").exists() or _holds_any(folder, hidden)
        paths += [folder / PACKAGE.name, folder / "prepare.py"] if is_checkout else [folder]
    return paths


def _import_folders() -> list[Path]:
    """The folders that modules come from: site-packages, its .pth files (editable installs), and PYTHONPATH."""
    sites = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    lines = [line for folder in sites for file in sorted(Path(folder).glob("*.pth")) for line in _lines(file)]
    named = [*sites, *lines, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return [Path(path) for path in dict.fromkeys(named) if os.path.isabs(path) and os.path.isdir(path)]


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines()


def _holds_any(path: Path, hidden: Iterable[Path]) -> bool:
    real = path.resolve()
    return any(real == place or real in place.parents for place in hidden)


def _readable(paths: Iterable[Path], hidden: tuple[Path, ...], modules: list[Path]) -> tuple[str, ...]:
    """Those of `paths` that exist, without hidden parts, and without paths that lie in another of them."""
    kept = [*modules]
    for path in paths:
        kept += readable_parts(path, hidden)
    found = dict.fromkeys(str(path) for path in kept if path.exists())
    return tuple(p for p in found if not any(q != p and Path(q) in Path(p).parents for q in found))


def readable_parts(path: Path, hidden: tuple[Path, ...]) -> list[Path]:
    """`path`, or those of its children that contain nothing hidden, when it contains something hidden itself."""
    if not _holds_any(path, hidden):
        return [path] if path.exists() else []
    if path.resolve() in hidden or not path.is_dir():
        return []
    inside = [child for child in sorted(path.iterdir()) if not _lies_in_any(child, hidden)]
    return [piece for child in inside for piece in readable_parts(child, hidden)]


def _lies_in_any(path: Path, hidden: tuple[Path, ...]) -> bool:
    real = path.resolve()
    return any(place in (real, *real.parents) for place in hidden)
