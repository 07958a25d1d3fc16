"""The sandbox around code that an agent wrote: which kinds this machine has, and the command that starts one.

bubblewrap (namespaces of its own) comes first, then Landlock with a system call filter, then Seatbelt on macOS. Each
starts `confine.py`, which sets limits and becomes the command. Whether a kind works is found by starting a sandbox and
reaching out of it. It refuses to guess: where nothing can be enforced, `require_sandbox` says why and what would help.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .bubblewrap import bubblewrap_prefix
from .policy import Policy, memory_limit, scoring_policy
from .probe import SandboxReport, find_sandbox
from .seatbelt import seatbelt_prefix
from .seccomp import program
from .watchdog import Watchdog

__all__ = [
    "SANDBOX",
    "SandboxMissing",
    "SandboxReport",
    "ScorerSandbox",
    "probe",
    "require_sandbox",
    "scorer_options",
    "scorer_wrapper",
    "wrap",
]

SANDBOX = "AUTORESEARCH_SANDBOX"  # in the environment: which sandbox to use; "none" is what --unsafe sets
_CACHES = {  # private to each sandbox: a shared one is a channel between runs
    "XDG_CACHE_HOME": "cache", "TRITON_CACHE_DIR": "cache/triton", "TORCHINDUCTOR_CACHE_DIR": "cache/inductor",
    "TORCH_EXTENSIONS_DIR": "cache/extensions", "CUDA_CACHE_PATH": "cache/cuda", "NUMBA_CACHE_DIR": "cache/numba",
}  # fmt: skip


class SandboxMissing(RuntimeError):
    """No sandbox can be had; the message says why, what helps, and how to go on without one."""


def probe() -> SandboxReport:
    """Which sandbox this process uses, what it enforces and what it lacks: the best that works, or the one asked for.

    Example:
        >>> probe().name in ("bubblewrap", "landlock", "seatbelt", "none")
        True

    Raises ValueError when AUTORESEARCH_SANDBOX names none of them. Starts a sandbox the first time, then remembers.
    """
    return _probe(os.environ.get(SANDBOX, ""))


@functools.lru_cache(maxsize=8)
def _probe(wanted: str) -> SandboxReport:
    return find_sandbox(wanted, lambda policy, argv, sandbox: wrap(policy, argv, sandbox))


def require_sandbox() -> SandboxReport:
    """The sandbox to use. Raises SandboxMissing where there is none, except with AUTORESEARCH_SANDBOX=none."""
    report = probe()
    if report.name == "none" and os.environ.get(SANDBOX) != "none":
        raise SandboxMissing(
            f"Code that an agent wrote would run here without a sandbox. {report.why()} "
            "To run it all the same, with every result marked untrusted, start with --unsafe."
        )
    return report


def wrap(policy: Policy, argv: list[str], sandbox: str | None = None) -> list[str]:
    """The command that runs `argv` under `policy`, in the sandbox named or in the one that `probe` found.

    The folder it runs in is the caller's, and it must be one that the policy lets it see. The environment is the
    caller's, too: start it with one that holds no secret, as `record.children.environment` makes it.

    Example:
        >>> wrap(Policy(), ["true"], "none")
        ['true']
    """
    name = sandbox or probe().name
    if name == "none":
        return list(argv)
    starter = {"bubblewrap": bubblewrap_prefix, "seatbelt": seatbelt_prefix}.get(name, lambda policy: [])(policy)
    python = os.path.realpath(sys.executable)
    confine = [python, "-I", "-S", str(Path(__file__).with_name("confine.py")), json.dumps(_spec(policy, name))]
    return [*starter, *confine, *argv]


# --- what confine.py is to do


def _spec(policy: Policy, name: str) -> dict[str, Any]:
    scratch = Path("/tmp") if name == "bubblewrap" or policy.scratch is None else Path(policy.scratch)
    env, folders = _own_places(scratch)
    links = {}
    if name != "bubblewrap" and policy.scratch is not None:  # a checkout that is closed cannot be listed
        links = {str(scratch / "import" / Path(module).name): module for module in policy.modules}
        folders.append(str(scratch / "import"))
        env |= _import_through(scratch / "import", policy)
    return {
        "folders": folders if name == "bubblewrap" or policy.scratch else [],
        "links": links,
        "env": {**env, **policy.env},
        "limits": _limits(policy),
        "max_tasks": 8 * policy.max_processes,  # the system counts threads
        "landlock": _landlock_rules(policy) if name == "landlock" else None,
        "seccomp": base64.b64encode(program(name == "bubblewrap")).decode() if sys.platform == "linux" else "",
    }


def _own_places(scratch: Path) -> tuple[dict[str, str], list[str]]:
    """Home, temporary files and caches below `scratch`, as environment and as folders to make."""
    env = {name: str(scratch / folder) for name, folder in _CACHES.items()}
    env |= {"HOME": str(scratch / "home")} | dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(scratch / "tmp"))
    env |= {"USER": "sandbox", "LOGNAME": "sandbox"}  # there is no passwd to look them up in
    return env, [path for name, path in env.items() if name not in ("USER", "LOGNAME")]


def _import_through(folder: Path, policy: Policy) -> dict[str, str]:
    """Variables that make Python import the package and prepare.py through links in `folder`."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = [str(folder), *(p for p in given if p in policy.read_only)]
    # Inductor's compile workers talk through /dev/shm, which sandboxes without namespaces would share.
    return {
        "PYTHONPATH": os.pathsep.join(path), "AUTORESEARCH_PROJECT": str(folder), "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }  # fmt: skip


def _limits(policy: Policy) -> dict[str, int]:
    limits = {"CORE": 0, "FSIZE": policy.max_file_bytes}
    if policy.memory_bytes and not policy.gpu:  # a GPU's driver maps far more than it uses
        limits["DATA"] = policy.memory_bytes
    if policy.seconds:
        limits["CPU"] = int(policy.seconds * (os.cpu_count() or 1)) + 60  # should all else fail
    return limits


def _landlock_rules(policy: Policy) -> dict[str, list[str]]:
    """`hidden` by its real paths: Landlock goes by what a path leads to."""
    devices = [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/ptmx",
        "/dev/pts",
    ]
    hidden = sorted({os.path.realpath(path) for path in policy.hidden})
    return {
        "read": [*policy.read_only, "/proc"], "hidden": hidden, "write": list(policy.writable), "devices": devices,
    }  # fmt: skip


# --- scorers


class ScorerSandbox:
    """Wraps the commands of scorers; each gets a place of its own for temporary files, gone when this object is."""

    def __init__(self, project: Path, gpu: bool, limits: Mapping[str, Any]) -> None:
        self.project, self.gpu, self.limits = project, gpu, dict(limits)
        self.sandbox = require_sandbox().name
        self._folders: list[str] = []
        self._close = weakref.finalize(self, _remove, self._folders)

    def __call__(self, argv: list[str], artefact: Path) -> list[str]:
        """The command that runs `argv` where `artefact` can be read. Raises ValueError when that is no plain file."""
        if self.sandbox == "none":
            return list(argv)
        scratch = None
        if self.sandbox != "bubblewrap":
            scratch = Path(tempfile.mkdtemp(prefix="ar-")).resolve()
            self._folders.append(str(scratch))
        return wrap(scoring_policy(artefact, self.project, scratch, gpu=self.gpu, **self.limits), argv, self.sandbox)

    def guard(self, pid: int) -> Callable[[], str]:
        """What says, called again and again, why the scorer `pid` must end; "" while it need not."""
        limits = {"memory_bytes": memory_limit(), "gpu": self.gpu} | self.limits
        look = Watchdog(pid, Policy(**limits)).look

        def why() -> str:
            passed = look()
            return f"the scorer {passed}" if passed else ""

        return why

    def close(self) -> None:
        self._close()


def scorer_options(project: Path) -> dict[str, Any]:
    """`wrap` and `guard` of `judge.score.score` and of an audit, made anew for each scorer."""
    sandbox = scorer_wrapper(project)
    return {"wrap": sandbox, "guard": sandbox.guard}


def scorer_wrapper(project: Path, *, gpu: bool | None = None, **limits: Any) -> ScorerSandbox:
    """What `judge.score.score(wrap=...)` takes: (command, artefact) -> the command in a sandbox. One for each scoring.

    Raises SandboxMissing where there is no sandbox and none was renounced.
    """
    from ..system.machine import has_gpu

    return ScorerSandbox(project, has_gpu() if gpu is None else gpu, limits)


def _remove(folders: list[str]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
