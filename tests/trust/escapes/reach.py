"""Ways out of a sandbox that need no notebook: each is a few lines of Python that end in `given` things outside.

Code prints "REACHED", with what it got, when it is out. `given` holds paths, ports and pids of things outside: see
`outside` in test_escapes.py, which also looks whether anything out there has changed.
"""

from __future__ import annotations

from dataclasses import dataclass

PRELUDE = """
import ctypes, json, os, signal, socket, sys
given = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def reached(what=""): print("REACHED", what, flush=True)
def attempt(act):
    try: got = act()
    except BaseException as error: print(type(error).__name__, error, flush=True)
    else: reached(repr(got)[:200])
def read(path):
    with open(path, "rb") as file: return file.read(100)
def write(path):
    with open(path, "ab") as file: file.write(b"# by the escape")
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0: raise OSError(ctypes.get_errno(), name)
"""


@dataclass(frozen=True)
class Reach:
    """One way out: what it tries, in words, and the code."""

    name: str
    what: str
    code: str


REACHES = (
    Reach("home", "read a key in the home folder", "attempt(lambda: read(given['key']))"),
    Reach("held-out", "read the held-out rows beside the corpus", "attempt(lambda: read(given['heldout']))"),
    Reach("other corpus", "read another corpus", "attempt(lambda: read(given['other_corpus']))"),
    Reach(
        "other study",
        "read another study, and this one's history",
        "attempt(lambda: read(given['other_study'])); attempt(lambda: read(given['history']))",
    ),
    Reach(
        "git",
        "read .git, and plant a hook in it",
        "attempt(lambda: read(given['git'] + '/HEAD'))\nattempt(lambda: read(given['git'] + '/config'))\n"
        "try: os.makedirs(given['git'] + '/hooks', exist_ok=True); write(given['git'] + '/hooks/pre-commit')\n"
        "except OSError as error: print(error)",
    ),
    Reach(
        "write the project",
        "write train.py, prepare.py, the package and the history",
        "for path in given['precious']:\n    try: write(path)\n    except OSError as error: print(error)",
    ),
    Reach(
        "link the project",
        "rename, link or delete what lies outside",
        "for path in given['precious']:\n"
        "    for act in (os.unlink, lambda p: os.rename(p, p + '.gone'),\n"
        "                lambda p: os.link(p, given['own'] + '/link')):\n"
        "        try: act(path)\n        except OSError as error: print(error)\n"
        "attempt(lambda: read(given['own'] + '/link'))",
    ),
    Reach(
        "modes",
        "take away the modes of files that it may read",
        "for path in (given['corpus'], *given['precious']):\n"
        "    for act in (lambda p: os.chmod(p, 0), lambda p: os.fchmod(os.open(p, os.O_RDONLY), 0)):\n"
        "        try: act(path)\n        except OSError as error: print(error)",
    ),
    Reach(
        "tcp",
        "TCP to this machine and to the world",
        "attempt(lambda: socket.create_connection(('127.0.0.1', given['tcp']), 2).send(b'x'))\n"
        "attempt(lambda: socket.create_connection(('192.0.2.1', 80), 2))",
    ),
    Reach(
        "udp",
        "UDP to this machine, and a look-up of a name",
        "try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', given['udp']))\n"
        "except OSError as error: print(error)\n"
        "attempt(lambda: socket.getaddrinfo('example.org', 80))",
    ),
    Reach(
        "unix sockets",
        "unix sockets of services (docker.sock and the like): stream, datagram, abstract",
        "def connect(kind, path):\n    s = socket.socket(socket.AF_UNIX, kind); s.connect(path); s.send(b'x')\n"
        "attempt(lambda: connect(socket.SOCK_STREAM, given['unix']))\n"
        "attempt(lambda: connect(socket.SOCK_STREAM, chr(0) + given['abstract']))\n"
        "attempt(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', given['datagram']))\n"
        "attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', given['datagram']))",
    ),
    Reach(
        "environments",
        "read the environment of every process, /proc/1 and the parents among them",
        "for pid in filter(str.isdecimal, os.listdir('/proc')):\n"
        "    try: text = read(f'/proc/{pid}/environ') and open(f'/proc/{pid}/environ', 'rb').read()\n"
        "    except OSError: continue\n"
        "    if given['canary'].encode() in text and int(pid) != os.getpid(): reached(pid)\n"
        "print('canary' if given['canary'] in str(os.environ) and reached() else 'none here')",
    ),
    Reach(
        "ptrace",
        "trace its parent and another process, and write their memory",
        "for pid in (os.getppid(), given['bystander']):\n"
        "    attempt(lambda: call('ptrace', 16, pid, 0, 0))\n"
        "    attempt(lambda: os.open(f'/proc/{pid}/mem', os.O_RDWR))\n"
        "    attempt(lambda: call('process_vm_readv', pid, 0, 0, 0, 0, 0))",
    ),
    Reach(
        "limits of others",
        "change limits and priority of another process",
        "import resource\n"
        "if given['bystander'] not in map(int, filter(str.isdecimal, os.listdir('/proc'))): print('not to be seen')\n"
        "else: attempt(lambda: resource.prlimit(given['bystander'], resource.RLIMIT_NOFILE, (3, 3)))",
    ),
    Reach(
        "kill",
        "kill -9 its parent, another process, and everybody",
        "for pid in (os.getppid(), given['bystander'], -1):\n"
        "    try: os.kill(pid, 9)\n    except OSError as error: print(error)",
    ),
    Reach(
        "system v",
        "leave shared memory and a queue for others",
        "libc.shmget(given['ipc_key'], 4096, 0o1666), libc.msgget(given['ipc_key'], 0o1666)",
    ),
    Reach(
        "shared folders",
        "leave files in /tmp, /dev/shm and /var/tmp for others",
        "for folder in ('/tmp', '/dev/shm', '/var/tmp', '/run', '/'):\n"
        "    try: write(f\"{folder}/{given['name']}\")\n    except OSError as error: print(error)",
    ),
    Reach(
        "keyring",
        "leave a key in the user's keyring",
        "number = 248 if os.uname().machine == 'x86_64' else 217\n"
        "attempt(lambda: call('syscall', number, b'user', b'escape', b'x', 1, -4))",
    ),
    Reach(
        "namespaces",
        "become root of new namespaces, mount, and change the root",
        "attempt(lambda: call('unshare', 0x10000000))\nattempt(lambda: call('unshare', 0x00020000))\n"
        "attempt(lambda: call('mount', b'none', b'/tmp', b'tmpfs', 0, 0))\nattempt(lambda: call('chroot', b'/'))",
    ),
    Reach(
        "kernel",
        "bpf, perf events, io_uring and the kernel's log",
        "numbers = {'x86_64': (321, 298, 425, 103)}.get(os.uname().machine, (280, 241, 425, 116))\n"
        "for number in numbers: attempt(lambda: call('syscall', number, 2, 0, 0, 0, 0))",
    ),
    Reach(
        "devices",
        "read disks and memory through /dev",
        "import glob\nfor path in glob.glob('/dev/[svnx]d*') + glob.glob('/dev/nvme*') + ['/dev/mem', '/dev/kmsg']:\n"
        "    attempt(lambda: read(path))",
    ),
)

# Opens for writing, and closes, each listed file and all that /proc and /sys show, and says which it could open. It
# never writes. The argument names a file with the list.
OPEN_ALL = """
import json, os, sys
def shown(top):
    for folder, _, names in os.walk(top):
        yield from (os.path.join(folder, name) for name in names)
with open(sys.argv[1]) as file: listed = json.load(file)
opened, errors = set(), set()
for path in (*listed, *shown("/proc"), *shown("/sys")):
    try: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error: errors.add(error.errno)
    else: opened.add(path)
print(json.dumps({"opened": sorted(opened), "met": [str(OSError(n, os.strerror(n))) for n in sorted(errors)]}))
"""

# Starts OPEN_ALL in the sandbox, as the user that this process has, with the files that are there outside.
OPEN_ALL_IN_SANDBOX = f"""
import json, os, subprocess, sys
from pathlib import Path
from autoresearch_kernel.sandbox.kinds import probe, wrap
from autoresearch_kernel.sandbox.policy import training_policy
from autoresearch_kernel.system.temporary import own_folder
def machine(top):
    for folder, folders, names in os.walk(top):
        if folder == "/proc": folders[:] = [name for name in folders if not name.isdecimal()]
        yield from (os.path.join(folder, name) for name in names)
code = {OPEN_ALL!r}
report = probe()
with own_folder() as folder:
    places = [folder / name for name in ("corpus", "handover", "own")]
    for place in places: place.mkdir()
    listed = [*machine("/proc"), *machine("/sys")]
    (places[2] / "listed").write_text(json.dumps(listed))
    (folder / "comm").write_text('["/proc/self/comm"]')
    policy = training_policy(places[0], Path(sys.argv[1]), *places[1:], seconds=60, gpu=False)
    python = [os.path.realpath(sys.executable), "-I", "-S", "-c", code]
    said = []
    command = wrap(policy, [*python, str(places[2] / "listed")])
    inside = subprocess.run(command, cwd=places[2], capture_output=True, text=True)
    outside = subprocess.run([*python[:-1], code.replace('*shown("/proc"), *shown("/sys")', ""), str(folder / "comm")],
                             capture_output=True, text=True)
said = [json.loads(done.stdout) if done.stdout else done.stderr for done in (inside, outside)]
print(json.dumps([report.name, report.user, report.why(), listed, *said]))
"""
