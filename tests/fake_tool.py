"""A command-line tool to test with: a real program on PATH that plays a script, one behaviour for each start.

    tool = FakeTool(folder, [say(REPLY), limited("resets in 2 minutes"), "hang"])
    CommandChat(find_tool(tool.line, project)).ask(...)

`tool.prompts` keeps what it was asked, `tool.environments` what it could see. It knows nothing of the project.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PROGRAM = r"""#!{python} -IS
import fcntl, json, os, signal, subprocess, sys, time

folder = {folder!r}
with open(folder + "/count", "a+") as file:  # starts are counted, whatever becomes of them
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write("x")
    file.flush()
    number = os.fstat(file.fileno()).st_size - 1
script = json.load(open(folder + "/script.json"))
step = script[number] if number < len(script) else script[-1]
kind, text = step["kind"], step.get("text", "")


def keep(name, value):
    json.dump(value, open(f"{{folder}}/{{name}}-{{number:03d}}.json", "w"))


def out(words, to=sys.stdout):
    to.write(words)
    to.flush()


keep("argv", sys.argv[1:])
keep("environment", dict(os.environ))
keep("folder", [os.getcwd(), os.listdir(".")])
if kind != "does not read":
    prompt = sys.stdin.buffer.read().decode("utf-8")
    keep("prompt", prompt)
if kind == "hang":
    time.sleep(600)
elif kind == "slow":
    for line in text.splitlines(keepends=True):
        out(line)
        time.sleep(0.05)
elif kind == "deaf":  # ignores every signal that can be ignored
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    out(text)
    time.sleep(600)
elif kind == "killed":
    out(text)
    os.kill(os.getpid(), signal.SIGKILL)
elif kind == "error":
    out(text, sys.stderr)
elif kind == "daemon":  # with a session, an environment and an end of its own, and with our output open
    code = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(600)"
    subprocess.Popen([sys.executable, "-ISc", code], env={{}}, start_new_session=True)
    subprocess.Popen([sys.executable, "-ISc", "import time; time.sleep(600)"])
    out(text)
elif kind == "terminal":  # asks the user at the terminal, which it does not have
    try:
        out("Allow this command? [y/N] ", open("/dev/tty", "w"))
        time.sleep(600)
    except OSError:
        out("Allow this command? [y/N] no terminal\n")
        sys.exit(1)
elif kind == "question":
    out("Allow this command? [y/N] ")
    sys.exit(0 if sys.stdin.read() else 1)
elif kind == "writes":
    for name in ("train.py", "prepare.py"):
        open(name, "w").write("print('edited')")
    out(text)
elif kind == "removes":
    os.rmdir(os.getcwd())
    out(text)
elif kind == "flood":
    for _ in range(20):
        out("A line of progress.\n" * 60_000)
elif kind == "environment":
    out("".join(f"{{name}}={{value}}\n" for name, value in os.environ.items()) + text)
elif kind == "echo":
    out(prompt + "\n\n" + text)
elif kind == "garbage":
    sys.stdout.buffer.write(bytes(range(256)) * 20)
else:
    out(text)
sys.exit(step.get("status", 0))
"""


def step(kind: str = "say", text: str = "", status: int = 0) -> dict[str, Any]:
    return {"kind": kind, "text": text, "status": status}


class FakeTool:
    """The program `fake-agent` in a folder of its own. A behaviour is a text, or what `step` makes."""

    def __init__(self, folder: Path, script: Iterable[str | dict[str, Any]] = ()) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.program = folder / "fake-agent"
        self.program.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)), encoding="utf-8")
        self.program.chmod(0o755)
        self.play(script)

    def play(self, script: Iterable[str | dict[str, Any]]) -> None:
        """Play another script from its beginning; the last behaviour is repeated."""
        (self.folder / "count").unlink(missing_ok=True)
        steps = [step(text=each) if isinstance(each, str) else each for each in script] or [step()]
        (self.folder / "script.json").write_text(json.dumps(steps), encoding="utf-8")

    @property
    def line(self) -> str:
        """The command line that starts it."""
        return str(self.program)

    @property
    def num_starts(self) -> int:
        count = self.folder / "count"
        return count.stat().st_size if count.exists() else 0

    def kept(self, name: str) -> list[Any]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob(f"{name}-*.json"))]

    @property
    def prompts(self) -> list[str]:
        return self.kept("prompt")

    @property
    def environments(self) -> list[dict[str, str]]:
        return self.kept("environment")
