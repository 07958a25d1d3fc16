"""The system calls that the code of an agent is refused, as BPF programs.

`program` is the filter of a sandbox: it closes ways out that namespaces and Landlock leave open. `without_paths` is one
more filter of a scorer on a CPU, which `scoring/no_paths.py` installs. The numbers are those of x86_64 and aarch64,
from the kernel's own tables. On other machines there is no filter.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterable

ALLOW, ERRNO = 0x7FFF0000, 0x00050000  # <linux/seccomp.h>
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_STREAM, SOCK_DGRAM, NETLINK_ROUTE = 1, 2, 0
NEW_NAMESPACES = 0x7E020000  # any CLONE_NEW* flag of clone
X32 = 0x40000000
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant

# name: (x86_64, aarch64); None where the machine has no such call
_ALWAYS = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "mount": (165, 40), "umount2": (166, 39), "unshare": (272, 97), "setns": (308, 268), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "fanotify_init": (300, 262),
    "open_by_handle_at": (304, 265), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
    "migrate_pages": (256, 238), "move_pages": (279, 239),
}  # fmt: skip
_UNKNOWN = {  # answered with ENOSYS, so that libraries use older calls
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "clone3": (435, 435),
    "openat2": (437, 437),
}  # fmt: skip
_WITHOUT_NAMESPACES = {  # calls that reach other processes, and those that Landlock does not restrict
    "connect": (42, 203), "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "msgget": (68, 186),
    "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}  # fmt: skip
_IGNORED = {  # without namespaces they do nothing and report success: copying files and starting threads need that
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "setpriority": (141, 140),
}  # fmt: skip
_SETS_MODE = {  # with the position of the mode
    "chmod": ((90, None), 1), "fchmod": ((91, 52), 1), "fchmodat": ((268, 53), 2), "fchmodat2": ((452, 452), 2),
    "creat": ((85, None), 1), "mknod": ((133, None), 1), "mknodat": ((259, 33), 2),
}  # fmt: skip
_OPENS = {"open": ((2, None), 1), "openat": ((257, 56), 2)}  # with the position of the flags, which the mode follows
_CREATES = 0x400040  # O_CREAT and O_TMPFILE
_SETUID_OR_SETGID = 0o6000
_OF_PATHS = {  # calls that take a path, list a folder or open a socket, and io_uring, which does all of it
    "open": (2, None), "stat": (4, None), "lstat": (6, None), "access": (21, None), "socket": (41, 198),
    "connect": (42, 203), "bind": (49, 200), "socketpair": (53, 199), "execve": (59, 221), "truncate": (76, 45),
    "getdents": (78, None), "chdir": (80, 49), "rename": (82, None), "mkdir": (83, None), "rmdir": (84, None),
    "creat": (85, None), "link": (86, None), "unlink": (87, None), "symlink": (88, None), "readlink": (89, None),
    "chmod": (90, None), "chown": (92, None), "lchown": (94, None), "utime": (132, None), "mknod": (133, None),
    "statfs": (137, 43), "setxattr": (188, 5), "lsetxattr": (189, 6), "getxattr": (191, 8), "lgetxattr": (192, 9),
    "listxattr": (194, 11), "llistxattr": (195, 12), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "getdents64": (217, 61), "utimes": (235, None), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "inotify_add_watch": (254, 27), "openat": (257, 56), "mkdirat": (258, 34), "mknodat": (259, 33),
    "fchownat": (260, 54), "futimesat": (261, None), "newfstatat": (262, 79), "unlinkat": (263, 35),
    "renameat": (264, 38), "linkat": (265, 37), "symlinkat": (266, 36), "readlinkat": (267, 78), "fchmodat": (268, 53),
    "faccessat": (269, 48), "utimensat": (280, 88), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "renameat2": (316, 276), "execveat": (322, 281), "statx": (332, 291), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "openat2": (437, 437), "faccessat2": (439, 439),
    "fchmodat2": (452, 452),
}  # fmt: skip
_FIRST_UNKNOWN = 463  # later calls, of which some take paths
_SOCKET, _SOCKETPAIR, _CLONE, _IOCTL = (41, 198), (53, 199), (56, 220), (16, 29)
_PRLIMIT = (302, 261)
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # put characters into another terminal

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_*


def program(has_namespaces: bool, machine: str = "") -> bytes:
    """The filter as an array of struct sock_filter; b"" on a machine without known numbers."""
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        return b""
    column, arch = _ARCHITECTURES[machine]
    steps = _begin(arch)
    steps += [(0x35, 0, 1, X32), _refuse(errno.EPERM)] if machine == "x86_64" else []
    denied = _ALWAYS | ({} if has_namespaces else _WITHOUT_NAMESPACES)
    unchanged = {} if has_namespaces else _IGNORED
    for names, error in ((denied, errno.EPERM), (_UNKNOWN, errno.ENOSYS), (unchanged, 0)):
        known = [number for both in names.values() if (number := both[column]) is not None]
        steps += [step for number in known for step in _when(number, [_refuse(error)])]
    for both, body in _bodies(has_namespaces):
        if (number := both[column]) is not None:
            steps += _when(number, body)
    return _packed([*steps, _ALLOW])


def without_paths(machine: str = "") -> bytes:
    """The filter that refuses every call that looks up a path; b"" on a machine without known numbers."""
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        return b""
    column = _ARCHITECTURES[machine][0]
    return refusing([number for both in _OF_PATHS.values() if (number := both[column]) is not None], machine)


def refusing(numbers: Iterable[int], machine: str = "") -> bytes:
    """The filter that refuses the calls with these numbers, and all that are newer than this table."""
    _, arch = _ARCHITECTURES[machine or platform.machine()]
    no = _refuse(errno.EPERM)
    calls = [step for number in numbers for step in _when(number, [no])]
    return _packed([*_begin(arch), (0x35, 0, 1, _FIRST_UNKNOWN), no, *calls, _ALLOW])


def allow_all() -> bytes:
    """The filter that refuses nothing, to try whether a filter can be installed."""
    return _packed([_ALLOW])


_ALLOW: Instruction = (0x06, 0, 0, ALLOW)


def _packed(steps: list[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _begin(arch: int) -> list[Instruction]:
    """Refuse calls of another machine's kind, and load the number of the call."""
    return [_load(_ARCH), (0x15, 1, 0, arch), _refuse(errno.EPERM), _load(_NR)]


def _refuse(error: int) -> Instruction:
    return (0x06, 0, 0, ERRNO | error)


def _load(offset: int) -> Instruction:
    return (0x20, 0, 0, offset)


def _argument(index: int) -> Instruction:
    """Load the lower half of an argument (both machines are little-endian)."""
    return _load(_ARGS + 8 * index)


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    """`body`, which returns in every case, for this system call alone."""
    return [(0x15, 0, len(body), number), *body]


def _bodies(has_namespaces: bool) -> list[tuple[tuple[int, int | None], list[Instruction]]]:
    """The system calls that are decided by their arguments."""
    no = _refuse(errno.EPERM)
    clone = [_argument(0), (0x45, 0, 1, NEW_NAMESPACES), no, _ALLOW]
    ioctl = [_argument(1), (0x15, 1, 0, _TIOCSTI), (0x15, 0, 1, _TIOCLINUX), no, _ALLOW]
    plain_mode = [(0x45, 0, 1, _SETUID_OR_SETGID), no, _ALLOW]
    always: list[tuple[tuple[int, int | None], list[Instruction]]] = [
        (_CLONE, clone), (_IOCTL, ioctl),
        *((call, [_argument(at), *plain_mode]) for call, at in _SETS_MODE.values()),
        *((call, [_argument(at), (0x45, 0, 3, _CREATES), _argument(at + 1), *plain_mode])
          for call, at in _OPENS.values()),
    ]  # fmt: skip
    if has_namespaces:  # its network is separate, so only families without namespaces are refused
        families = [(0x15, 4 - i, 0, f) for i, f in enumerate((AF_UNIX, AF_INET, AF_INET6, AF_NETLINK))]
        return [*always, (_SOCKET, [_argument(0), *families, no, _ALLOW])]
    socket = [
        _argument(0),
        (0x15, 0, 4, AF_UNIX), _argument(1), (0x54, 0, 0, 0xF), (0x15, 0, 4, SOCK_STREAM), _ALLOW,
        (0x15, 0, 2, AF_NETLINK), _argument(2), (0x15, 1, 0, NETLINK_ROUTE), no, _ALLOW,
    ]  # fmt: skip
    socketpair = [_argument(1), (0x54, 0, 0, 0xF), (0x15, 0, 1, SOCK_DGRAM), no, _ALLOW]
    only_self = [_argument(0), (0x15, 1, 0, 0), no, _ALLOW]
    return [*always, (_SOCKET, socket), (_SOCKETPAIR, socketpair), (_PRLIMIT, only_self)]
