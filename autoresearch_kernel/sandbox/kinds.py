"""The kinds of sandbox that this machine has, and the command that starts one around an agent's code.

bubblewrap (with namespaces of its own) comes first, then Landlock with a system call filter, then Seatbelt on macOS.
Each starts `confine.py`, which sets limits and becomes the command. To find out whether a kind works, a sandboxed
process tries to reach out of it. Where nothing can be enforced, `require_sandbox` says why and what would help.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..system.locations import PROJECT
from ..system.machine import has_gpu
from ..system.seccomp import program
from ..system.temporary import make_folder, remove_folder
from .bubblewrap import bubblewrap_prefix, may_be_left_to
from .page_cache import settle
from .policy import Policy, memory_limit, scoring_policy
from .probe import SandboxReport, find_sandbox
from .seatbelt import seatbelt_prefix
from .template import can_become, template_socket
from .watchdog import Watchdog

SANDBOX = "AUTORESEARCH_SANDBOX"  # environment variable that chooses the sandbox; --unsafe sets it to "none"
_OWN_IN_BUBBLEWRAP = ("/tmp", "/dev/shm")
_CACHES = {  # private to each sandbox, because runs could communicate through a shared one
    "XDG_CACHE_HOME": "cache", "TRITON_CACHE_DIR": "cache/triton", "TORCHINDUCTOR_CACHE_DIR": "cache/inductor",
    "TORCH_EXTENSIONS_DIR": "cache/extensions", "CUDA_CACHE_PATH": "cache/cuda", "NUMBA_CACHE_DIR": "cache/numba",
}  # fmt: skip


class SandboxMissing(RuntimeError):
    """There is no sandbox; the message says why, what helps, and how to continue without one."""


def probe() -> SandboxReport:
    """The sandbox that this process uses, and what it enforces: the best that works, or the requested one.

    Raises ValueError when AUTORESEARCH_SANDBOX names none of them. The first call starts a sandbox; later ones
    remember.
    """
    return _probe(os.environ.get(SANDBOX, ""))


@functools.lru_cache(maxsize=8)
def _probe(wanted: str) -> SandboxReport:
    return find_sandbox(wanted, command)


def require_sandbox() -> SandboxReport:
    """The sandbox to use. Raises SandboxMissing where there is none, unless AUTORESEARCH_SANDBOX is none."""
    report = probe()
    if report.name == "none" and os.environ.get(SANDBOX) != "none":
        raise SandboxMissing(
            f"Code that an agent wrote would run here without a sandbox. {report.why()} "
            "To run it all the same, with every result marked untrusted, start with --unsafe."
        )
    return report


def wrap(policy: Policy, argv: list[str], sandbox: str | None = None) -> list[str]:
    """The command that runs `argv` under `policy`, in the named sandbox or in the one that `probe` found.

    Start it at once: this call brings the files that scorers are shown into memory, whatever ran before.
    The command runs in the caller's working folder, which the policy must allow, and in the caller's environment, which
    must not contain a secret: use one of `system.environment.environment`.
    """
    report = probe()
    name = sandbox or report.name
    user = report.user if name == report.name else None
    if user is not None and not may_be_left_to(user, policy):
        user = None
    return command(policy, argv, name, user, _template_for(policy, argv, name))


def _template_for(policy: Policy, argv: list[str], name: str) -> Path | None:
    """The socket of the template whose child can become `argv`; see `sandbox/template.py`."""
    if name != "bubblewrap" or policy.gpu or not can_become(argv):
        return None
    return template_socket(_own_places(Path("/tmp"))[0])


def command(policy: Policy, argv: list[str], name: str, user: int | None, template: Path | None = None) -> list[str]:
    """The same in the named sandbox, where the code of root gets the rights of `user`; None for its own.

    Args:
        template: the socket of the template that is asked for a process; None to start one.
    """
    if name == "none":
        return list(argv)
    if policy.in_memory is not None:
        settle(policy.in_memory)
    starter = {
        "bubblewrap": lambda: bubblewrap_prefix(policy, user, as_first=template is not None),
        "seatbelt": lambda: seatbelt_prefix(policy),
    }.get(name, list)()  # fmt: skip
    python, spec = [os.path.realpath(sys.executable), "-I", "-S"], json.dumps(_spec(policy, name, user))
    if template is None:
        return [*starter, *python, str(Path(__file__).with_name("confine.py")), spec, *argv]
    join = [*python, str(Path(__file__).with_name("join.py"))]
    return [*join, "ask", str(template), *starter, *join, "hold", spec, *argv]


# --- instructions for confine.py


def _spec(policy: Policy, name: str, user: int | None) -> dict[str, Any]:
    scratch = Path("/tmp") if name == "bubblewrap" or policy.scratch is None else Path(policy.scratch)
    env, folders = _own_places(scratch)
    links = {}
    if name != "bubblewrap" and policy.scratch is not None:  # Python cannot list a folder that is closed
        links = {str(scratch / "import" / Path(module).name): module for module in policy.modules}
        folders.append(str(scratch / "import"))
        env |= _import_through(scratch / "import", policy)
    return {
        "folders": folders if name == "bubblewrap" or policy.scratch else [],
        "links": links,
        "env": {**env, **policy.env},
        "limits": _limits(policy),
        "max_tasks": 8 * policy.max_processes,  # the system counts threads
        "user": user,
        "own": [*policy.writable, *_OWN_IN_BUBBLEWRAP],  # what `user` gets
        "landlock": _LANDLOCK_RULES.get(name, lambda policy: None)(policy),
        "seccomp": base64.b64encode(program(name == "bubblewrap")).decode() if sys.platform == "linux" else "",
    }


def _own_places(scratch: Path) -> tuple[dict[str, str], list[str]]:
    """Home, temporary files and caches below `scratch`: as environment, and as folders to make."""
    env = {name: str(scratch / folder) for name, folder in _CACHES.items()}
    env |= {"HOME": str(scratch / "home")} | dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(scratch / "tmp"))
    env |= {"USER": "sandbox", "LOGNAME": "sandbox"}  # the sandbox has no passwd
    return env, [path for name, path in env.items() if name not in ("USER", "LOGNAME")]


def _import_through(folder: Path, policy: Policy) -> dict[str, str]:
    """Variables that make Python import the package and prepare.py through links in `folder`."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = [str(folder), *(p for p in given if p in policy.read_only)]
    # Inductor's compile workers communicate through /dev/shm, which sandboxes without namespaces would share.
    return {
        "PYTHONPATH": os.pathsep.join(path), PROJECT: str(folder), "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }  # fmt: skip


def _limits(policy: Policy) -> dict[str, int]:
    limits = {"CORE": 0, "FSIZE": policy.max_file_bytes}
    if policy.memory_bytes and not policy.gpu:  # a GPU's driver maps far more than it uses
        limits["DATA"] = policy.memory_bytes
    if policy.seconds:
        limits["CPU"] = int(policy.seconds * (os.cpu_count() or 1)) + 60  # in case all other limits fail
    return limits


def _landlock_rules(policy: Policy) -> dict[str, list[str]]:
    """The rules for `confine.py`. Hidden paths are real paths, because Landlock follows links."""
    names = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")
    hidden = sorted({os.path.realpath(path) for path in policy.hidden})
    devices = [f"/dev/{name}" for name in names]
    return {
        "read": [*policy.read_only, "/proc"], "hidden": hidden, "write": list(policy.writable), "devices": devices,
    }  # fmt: skip


def _landlock_rules_in_bubblewrap(policy: Policy) -> dict[str, list[str]]:
    """What may be written in there. Where there is a GPU, its driver also names threads, through /proc."""
    devices = ["/dev", *(["/proc"] if policy.gpu else [])]
    return {"read": [], "hidden": [], "write": [*policy.writable, *_OWN_IN_BUBBLEWRAP], "devices": devices}


_LANDLOCK_RULES: dict[str, Callable[[Policy], dict[str, list[str]] | None]] = {
    "landlock": _landlock_rules, "bubblewrap": _landlock_rules_in_bubblewrap,
}  # fmt: skip


# --- scorers


class ScorerSandbox:
    """Starts scorers in sandboxes. Each has a folder for temporary files that exists as long as this object."""

    def __init__(self, project: Path, gpu: bool | None = None) -> None:
        self.project, self.gpu = project, has_gpu() if gpu is None else gpu
        self.sandbox = require_sandbox().name
        self._folders: list[Path] = []
        self._close = weakref.finalize(self, _remove, self._folders)

    def __call__(self, argv: list[str], artefact: Path) -> list[str]:
        """The command that runs `argv` where it can read `artefact`. Raises ValueError unless that is a plain file."""
        if self.sandbox == "none":
            return list(argv)
        scratch = None
        if self.sandbox != "bubblewrap":
            scratch = make_folder()
            self._folders.append(scratch)
        return wrap(scoring_policy(artefact, self.project, scratch, gpu=self.gpu), argv, self.sandbox)

    def guard(self, pid: int) -> Callable[[], str]:
        """A function that says why the scorer `pid` must end, or ""; it is called several times a second."""
        check = Watchdog(pid, Policy(memory_bytes=memory_limit(), gpu=self.gpu)).check

        def why() -> str:
            passed = check()
            return f"the scorer {passed}" if passed else ""

        return why


def scorer_options(project: Path) -> dict[str, Any]:
    """`wrap` and `guard` of a `scoring.job.ScoringJob`; each scorer gets new ones.

    Raises SandboxMissing as `require_sandbox` does.
    """
    sandbox = ScorerSandbox(project)
    return {"wrap": sandbox, "guard": sandbox.guard}


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            remove_folder(folder)
