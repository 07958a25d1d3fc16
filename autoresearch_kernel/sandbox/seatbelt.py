"""macOS: a Seatbelt profile for `sandbox-exec`. Written from Apple's own profiles; it has not been run on a Mac.

`autoresearch doctor` on a Mac tells whether it holds there, because the probe tries to reach out of the sandbox. Apple
calls sandbox-exec deprecated and has shipped it with every release so far.
"""

from __future__ import annotations

import json

from .policy import Policy

_BASE = """(version 1)
(deny default)
(allow process-fork)
(allow process-exec)
(allow signal (target same-sandbox))
(allow process-info* (target same-sandbox))
(allow sysctl-read)
(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo"))
(allow file-read-metadata)
(allow file-read* (subpath "/System") (subpath "/Library/Frameworks") (subpath "/private/var/db/timezone")
  (subpath "/dev") (literal "/"))
(allow file-write-data (literal "/dev/null") (literal "/dev/zero") (literal "/dev/tty"))
(allow file-ioctl (literal "/dev/tty"))
(allow ipc-posix-sem)
(deny network*)
"""
_METAL = """(allow iokit-open)
(allow mach-lookup (global-name "com.apple.MTLCompilerService"))
"""


def profile(policy: Policy) -> str:
    """The profile: deny everything, allow what the policy lists, and deny what it hides there.

    Unix sockets are allowed in the writable folders only.
    """
    parts = [_BASE, _METAL if policy.gpu else ""]
    parts += [f"(allow file-read* (subpath {json.dumps(path)}))\n" for path in policy.read_only]
    for path in map(json.dumps, policy.writable):
        parts.append(f"(allow file-read* file-write* (subpath {path}))\n")
        parts.append(f"(allow network-bind network-inbound (local unix-socket (subpath {path})))\n")
    parts += [f"(deny file-read* (subpath {json.dumps(path)}))\n" for path in policy.hidden]
    return "".join(parts)


def seatbelt_prefix(policy: Policy) -> list[str]:
    """The beginning of the command."""
    return ["/usr/bin/sandbox-exec", "-p", profile(policy)]
