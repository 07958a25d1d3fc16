"""What code that an agent wrote may read, write and use: the policy of a sandbox, which `sandbox/kinds.py` enforces.

Everything is an allow-list. A folder that contains something to hide, such as a home or a project with its studies, is
never allowed as a whole: only those of its children are that contain nothing of the kind.
"""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..system.locations import cache_dir, home_folder
from ..system.slot import present_seat
from .hidden_stdlib import held_out_paths
from .libraries import needed_libraries
from .page_cache import Shown

GIB = 2**30
SANDBOX_FOLDER = "kernel"  # the subfolder of a run's folder that its kernel may write to
PACKAGE = Path(__file__).resolve().parents[1]

# What Python, its libraries and their threads read of the machine.
_SYS = (
    "/sys/devices/system/cpu", "/sys/devices/system/node/online", "/sys/devices/system/node/possible",
    "/sys/kernel/mm/transparent_hugepage", *(f"/sys/fs/cgroup/{name}" for name in (
        "cgroup.controllers", "cpu.max", "memory.max", "cpuset.cpus.effective",
        "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us", "memory/memory.limit_in_bytes",
    )),
)  # fmt: skip
# Programs, libraries, and files that these read. No passwd, no ssh, no machine-id. Of /sys only the number of
# processors and the limits of a container, unless there is a GPU, whose driver reads much of it.
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/ld.so.conf",
    "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/fonts", "/nix/store", "/run/current-system/sw",
    "/run/opengl-driver",
    *_SYS,
)  # fmt: skip
_GPU_SYSTEM = ("/sys", "/opt/rocm", "/etc/OpenCL", "/opt/intel")
# What a scorer on Linux without a GPU is shown of the system, besides single libraries.
_SYSTEM_OF_SCORERS = ("/etc/ld.so.cache", "/etc/localtime", "/usr/lib/locale/C.utf8")
_NOT_HELD = ("/nix/store", *_SYS)  # what it is shown as well: too large, or without pages
_SYSTEM_PREFIXES = ("/usr", "/usr/local")
_PREFIX_PARTS = ("bin", "lib", "lib64", "include", "share", "libexec", "nvvm", "targets", "pyvenv.cfg")


@dataclass(frozen=True)
class Policy:
    """What the code in one sandbox may do. All paths are absolute, and a path that is not listed cannot be read."""

    read_only: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()  # files and folders below read_only that must not be read
    writable: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()  # of read_only: modules to import from a checkout that is itself closed
    in_memory: Shown | None = None  # files that are brought into memory before the sandbox starts
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
    hidden, modules = hidden_paths(project, corpus_dir), _modules(project)
    paths = [*system_paths(gpu), *python_paths(hidden), *modules, corpus_dir.resolve()]
    shown = _shown_to_scorers(project, gpu)
    policy = _policy(_readable(paths, hidden, modules), project, folder, shown, gpu, seconds)
    policy = replace(policy, hidden=held_out_paths(policy.read_only), writable=(str(handover), str(folder)))
    large = {"max_file_bytes": 16 * GIB, "writable_bytes": 16 * GIB, "tmp_bytes": 4 * GIB} if gpu else {}
    return replace(policy, **(large | limits))


def scoring_policy(artefact: Path, project: Path, scratch: Path | None, *, gpu: bool) -> Policy:
    """The policy of a scorer: it reads one artefact and prepare.py, no corpus, and writes nothing that lasts.

    Raises ValueError when the artefact is not a plain file, because a link would open its target.
    """
    if artefact.is_symlink() or not artefact.is_file():
        raise ValueError(f"{artefact} is not a plain file, so it is not scored: train again.")
    file, shown = str(artefact.resolve()), _shown_to_scorers(project, gpu)
    policy = _policy((*shown.paths, *shown.own, file), project, scratch, shown, gpu)
    return replace(policy, hidden=shown.hidden, in_memory=replace(shown, own=(*shown.own, file)))


def _policy(
    read_only: tuple[str, ...], project: Path, scratch: Path | None, shown: Shown, gpu: bool, seconds: float = 0.0
) -> Policy:
    """The parts that all policies have in common: what can be read, and only `scratch` to write to."""
    return Policy(
        read_only=read_only,
        writable=() if scratch is None else (str(scratch),),
        modules=tuple(map(str, _modules(project))),
        in_memory=shown,
        scratch=None if scratch is None else str(scratch),
        gpu=gpu,
        memory_bytes=memory_limit(),
        seconds=seconds,
    )


def _modules(project: Path) -> list[Path]:
    return [PACKAGE, project.resolve() / "prepare.py"]


# --- what scorers are shown


def _shown_to_scorers(project: Path, gpu: bool) -> Shown:
    """All that a scorer may read besides its artefact.

    On Linux without a GPU it is shown the interpreter, the import folders, and of the rest of the system only the
    libraries that these need: what it cannot open cannot carry a message to other sandboxes, and all else has to be
    held in memory. With a GPU it is shown the whole system, as drivers and compilers load files by rules of their own;
    of that only the interpreter and the packages are held.
    """
    hidden, modules = hidden_paths(project), _modules(project)
    found = _paths_of_scorers(hidden, gpu)
    shown = _readable([*found.shown, *found.held, *found.code, *modules], hidden, modules)
    own, links = [path for path in shown if path == str(modules[1])], inner_links(shown)
    roots = [path for path in shown if path not in links]
    closed = [
        root + folder[len(os.path.realpath(root)) :]  # at each path that leads to it
        for folder in found.unused
        for root in roots
        if folder.startswith(f"{os.path.realpath(root)}/")
    ]
    return Shown(
        paths=tuple(path for path in shown if path not in own),
        hidden=(*held_out_paths(roots), *closed),
        own=tuple(own),
        held=_readable(found.held, hidden, modules[:1]),
        code=tuple(path for path in _readable(found.code, hidden, []) if path not in own),
        memory_bytes=memory_limit(),
    )


@dataclass(frozen=True)
class _PathsOfScorers:
    """Paths of Python and the system for scorers, each in one of three groups; see `page_cache.Shown`."""

    shown: tuple[Path, ...]
    held: tuple[Path, ...] = ()
    code: tuple[Path, ...] = ()
    unused: tuple[str, ...] = ()  # folders of packages in them that this interpreter does not import from


@functools.lru_cache(maxsize=8)
def _paths_of_scorers(hidden: tuple[Path, ...], gpu: bool) -> _PathsOfScorers:
    if sys.platform != "linux":
        return _PathsOfScorers((*system_paths(gpu), *python_paths(hidden)))
    programs = _links_to(Path(sys.executable))
    library = Path(sysconfig.get_paths()["stdlib"])
    prefixes = [prefix for prefix in _prefixes() if str(prefix) not in _SYSTEM_PREFIXES]
    python = [*programs, library, *_parts(prefixes, ("bin", "lib", "lib64", "pyvenv.cfg"))]
    packages = [path for folder in _site_folders() for path in _without_checkout(folder, hidden)]
    others = [folder for folder in _import_folders() if folder not in _site_folders()]
    code = [path for folder in others for path in _without_checkout(folder, hidden)]
    if gpu:
        return _PathsOfScorers((*system_paths(gpu), *python_paths(hidden)), (*python, *packages), tuple(code))
    imports = [*packages, *code]
    unused = [library / name for name in ("site-packages", "dist-packages")]
    unused = [folder for folder in unused if folder.is_dir() and not _lies_in_any(folder, tuple(imports))]
    libraries = needed_libraries(tuple(map(str, [library / "lib-dynload", *imports])), (str(programs[-1]),))
    return _PathsOfScorers(
        tuple(map(Path, _NOT_HELD)),
        (*map(Path, (*_SYSTEM_OF_SCORERS, *libraries)), *python, *packages),
        (*map(Path, _library_path()), *code),
        tuple(os.path.realpath(folder) for folder in unused),
    )


def _links_to(program: Path) -> list[Path]:
    """The links that lead to a program, and the program itself at last."""
    found = [program]
    while found[-1].is_symlink() and len(found) < 40:
        found.append(found[-1].parent / found[-1].readlink())
    return [*found, program.resolve()]


def memory_limit() -> int:
    """Bytes that a sandbox may use: all of the machine or its container, less 15 % and at least 2 GiB (or half).

    On one of several slots it is that slot's share of it.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text().strip()
        except OSError:
            continue
        total = min(total, int(text)) if text.isdecimal() else total
    seat = present_seat()
    return int(max(total - max(2 * GIB, 0.15 * total), total / 2)) // (seat.num_slots if seat is not None else 1)


# --- paths


def hidden_paths(project: Path, corpus_dir: Path | None = None) -> tuple[Path, ...]:
    """Folders that no sandbox may see as a whole: homes, the project, and every corpus with its held-out rows."""
    paths = [home_folder() or Path("/root"), Path("/root"), project, cache_dir()]
    if rows := os.environ.get("AUTORESEARCH_HELDOUT"):
        paths.append(Path(os.path.expanduser(rows)))
    if corpus_dir is not None:
        corpora = corpus_dir.resolve().parent
        paths += [corpora, corpora.parent / "heldout"]
    real = dict.fromkeys(path.resolve() for path in paths)
    return tuple(path for path in real if path != path.parent)  # a home of / would hide Python as well


def system_paths(gpu: bool) -> list[Path]:
    """Programs and libraries of the system, and the folders in LD_LIBRARY_PATH."""
    return [Path(path) for path in (*_SYSTEM, *(_GPU_SYSTEM if gpu else ()), *_library_path())]


def _library_path() -> list[str]:
    return [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if os.path.isabs(path)]


def python_paths(hidden: Iterable[Path]) -> list[Path]:
    """This interpreter, its virtual environment, and its import folders; of a checkout only this program's modules."""
    paths: list[Path] = []
    for prefix in _prefixes():
        paths += _parts([prefix], _PREFIX_PARTS) if _holds_any(prefix, hidden) else [prefix]
    return [*paths, *(path for folder in _import_folders() for path in _without_checkout(folder, hidden))]


def _prefixes() -> list[Path]:
    prefixes = {Path(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)}
    return sorted({*prefixes, *(p.resolve() for p in prefixes)})


def _parts(prefixes: Iterable[Path], names: tuple[str, ...]) -> list[Path]:
    return [prefix / name for prefix in prefixes for name in names]


def _without_checkout(folder: Path, hidden: Iterable[Path]) -> list[Path]:
    """An import folder, or of a checkout only this program's modules."""
    is_checkout = (folder / ".git").exists() or (folder / "studies").exists() or _holds_any(folder, hidden)
    return [folder / PACKAGE.name, folder / "prepare.py"] if is_checkout else [folder]


def _import_folders() -> list[Path]:
    """The folders that modules come from: site-packages, its .pth files (editable installs), and PYTHONPATH."""
    sites = _site_folders()
    lines = [line for folder in sites for file in sorted(folder.glob("*.pth")) for line in _lines(file)]
    named = [*map(str, sites), *lines, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return [Path(path) for path in dict.fromkeys(named) if os.path.isabs(path) and os.path.isdir(path)]


def _site_folders() -> list[Path]:
    sites = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    return [Path(path) for path in sites if os.path.isdir(path)]


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
    return tuple(path for path in found if not any(path.startswith(f"{other}/") for other in found))


def readable_parts(path: Path, hidden: tuple[Path, ...]) -> list[Path]:
    """`path`, or those of its children that contain nothing hidden, when it contains something hidden itself."""
    if not _holds_any(path, hidden):
        return [path] if path.exists() else []
    if path.resolve() in hidden or not path.is_dir():
        return []
    inside = [child for child in sorted(path.iterdir()) if not _lies_in_any(child, hidden)]
    return [piece for child in inside for piece in readable_parts(child, hidden)]


def inner_links(paths: Iterable[str]) -> dict[str, str]:
    """The links among listed paths that lead into another one of them, and where to: as `lib64` of an environment.

    They stay links in a sandbox, so what is hidden need not be hidden at them a second time.
    """
    listed = tuple(paths)
    real = [path for path in listed if path == os.path.realpath(path)]
    alone = [path for path in listed if not any(other.startswith(f"{path}/") for other in listed)]
    found = ((path, os.path.realpath(path)) for path in alone if os.path.islink(path))
    return {path: to for path, to in found if any(f"{to}/".startswith(f"{root}/") for root in real)}


def _lies_in_any(path: Path, hidden: tuple[Path, ...]) -> bool:
    real = path.resolve()
    return any(place in (real, *real.parents) for place in hidden)
