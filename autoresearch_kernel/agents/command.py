"""Asks a command-line tool of the user, such as Claude Code or Codex, as `chat.py` asks a server.

The tool gets the prompt on standard input and answers on standard output. It works in an empty folder, without our
secrets, in processes of its own that end with the question. Its sign-in is its own affair: this program starts it as
the user would and neither reads nor stores a token. `tools.py` knows the tools, `tool_output.py` reads what they say.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from ..core.types import Call, ignore
from ..system.contained import MOST_BYTES, Ended, run_contained
from ..system.processes import ProgramHung, run_program
from ..system.temporary import own_folder
from .causes import ServerAction, ServerCause
from .failures import Failure, ModelUnavailable, PromptTooLong, quoted
from .model import Reply
from .prices import Prices, count_tokens
from .reset_time import seconds_until_reset
from .server import keep_secret, read_key, redact
from .server_numbers import Sizes, sizes_of
from .stream import mended
from .tool_causes import advice, cause_of_success, cause_of_tool
from .tool_output import (
    LONGEST_MESSAGE,
    MOST_WORDS,
    Said,
    cleaned,
    holds_proposal,
    looks_like_reply,
    may_be_message,
    read_output,
    words_so_far,
)
from .tools import Tool
from .writing import Telling

WAITS_SECONDS = (1.0, 4.0, 15.0, 60.0)  # before a tool that failed is asked again: five attempts, as for servers
TOLD_BY_TOOLS = (ServerCause.KEY, ServerCause.RATE, ServerCause.QUOTA, ServerCause.PERMISSION)
MOST_SAID = 300  # characters of a tool's last words
MOST_TOLD_BYTES = 2**20  # of the output that is read for people who watch
MOST_LOOKED_AT = 2**18  # characters of a failed reply that are read to see whether a model answered
MOST_LATE = 2  # attempts that may end at the deadline, which is up to twenty minutes each
QUIET_SECONDS = 2.0  # in which the output did not grow: so it is not cut off between two edits
WORKING_FOLDER = "empty"
HELP_SECONDS = 30.0  # for --help and --version, which some tools begin with a look at the network
INSTRUCTIONS = (
    "You propose one experiment with train.py. You have no tools and no files: answer the message with text alone, "
    "in the form that it asks for."
)
OURS = ("AUTORESEARCH_", "OPENAI_")  # variables that no tool gets unless its preset keeps them
# Claude Code sets them for what it starts, and it refuses to start where it finds them: within itself.
NESTED = ("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT")
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:(?:api|access|private|secret)?_?key|token|secret|passw(?:or)?d|passphrase|cred(?:ential)?|auth|cookie"
    r"|pat|dsn|jwt|conn(?:ection)?_?str(?:ing)?)s?(?:_|$)|apikey|webhook|[a-z](?:passw(?:or)?d|tokens?|secret)$"
    r"|(?<!^old)(?<!^)pwd$"
    r"|(?<!ask)(?<!com)(?<!by)(?<!tres)(?<!sur)(?<!over)(?<!under)(?<!multi)(?<!low)(?<!high)(?<!band)(?<!all)pass$"
    r"|(?<!desktop)(?<!full)_session$|^op_session_",  # of a password manager and such; those of a desktop are harmless
    re.IGNORECASE,
)
# The user of an address, with the password or a key in its place, as in postgres://me:secret@host/data.
_USER_IN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/@:\s]*:[^/@\s]+|[^/@:?#\s]+)@")
LEAST_KEY = 12  # characters of a user without a password who is kept out of texts, as a key; others are words


class CommandChat:
    """Questions to one tool, each in a process of its own; ask from one thread."""

    def __init__(
        self,
        tool: Tool,
        model: str | None = None,
        *,
        project: Path | None = None,
        prices: Prices | None = None,
        waits_seconds: Sequence[float] = WAITS_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        """Arguments of `tool` that name files of `project` become absolute, as the tool works in another folder.

        A `model` that no argument of the tool names is not asked for: it is a name for the record and for the prices.
        """
        self.tool, self.asked_model = tool, model if tool.takes_model else None
        self.model = model or tool.name
        self.prices = prices or Prices()
        self._is_priced_by_tool = bool(tool.cost) and self.prices.cost(self.model, 1, 1) is None
        if self._is_priced_by_tool:  # it says afterwards what a call has cost
            self.prices = Prices({**self.prices.table, self.model: (0.0, 0.0)})
        self.project, self.waits_seconds, self.sleep, self.now = project, tuple(waits_seconds), sleep, now
        self.limit_seconds = tool.limit_seconds
        self._size, self._grown_at = 0, 0.0  # of the output, and when it grew last
        self.on_wait: Callable[[str], None] = ignore
        self.on_words: Callable[[str], None] = ignore

    @property
    def who(self) -> str:
        return f"{self.tool.called} with {self.asked_model}" if self.asked_model else self.tool.called

    @property
    def place(self) -> str:
        return self.tool.called

    @property
    def reports_cost(self) -> bool:
        return self._is_priced_by_tool

    @property
    def facts(self) -> Mapping[str, str]:
        return {"tool": self.tool.name} | ({"tool_version": self.version} if self.version else {})

    @cached_property
    def version(self) -> str:
        """As the tool states it; "" where it states none."""
        return version_in(self.told(self.tool.version)) if self.tool.version else ""

    def program(self) -> str | None:
        """The path of the tool's program; None while it is not installed."""
        found = shutil.which(self.tool.command, path=os.environ.get("PATH"))
        if found is None and self.project is not None and (self.project / self.tool.command).is_file():
            found = str(self.project / self.tool.command)
        return None if found is None else os.path.abspath(found)

    def told(self, arguments: Sequence[str]) -> str:
        """What the tool prints for such arguments as --help; "" when it does not start or does not end soon."""
        program = self.program()
        if program is None:
            return ""
        try:
            with own_folder() as folder:
                ended = run_program([program, *arguments], HELP_SECONDS, cwd=folder, env=self.environment(folder))
        except (OSError, ProgramHung):
            return ""
        return cleaned((ended.stdout + b"\n" + ended.stderr).decode("utf-8", "replace"))

    def context_tokens(self) -> int | None:
        return None  # no tool states it without a request

    def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        max_reply_tokens: int,
        on_failed: Callable[[Call], None] = ignore,
    ) -> Reply:
        """The reply to `messages`; no tool can be held to `max_reply_tokens`. See `ModelClient.ask`."""
        prompt, failures, num_late = as_text(messages), 0, 0
        while True:
            answer = self.ask_once(prompt)
            if isinstance(answer, Reply):
                return answer
            if answer.call is not None:
                on_failed(answer.call)
            if answer.action is ServerAction.SHORTER:
                raise PromptTooLong(f"{self.who}: {answer.why}", sizes=answer.sizes)
            failures, num_late = failures + 1, num_late + (answer.cause is ServerCause.SLOW)
            is_last = failures > len(self.waits_seconds) or num_late == MOST_LATE
            if answer.action is ServerAction.PAUSE or answer.cause is ServerCause.RATE or is_last:
                words = self.failure_words(answer, failures)
                raise ModelUnavailable(words, cause=answer.cause, again_in_seconds=answer.retry_after)
            self._wait(answer, failures)

    def failure_words(self, failure: Failure, attempts: int = 1) -> str:
        """What failed and the next step."""
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        step = advice(self.tool, failure.cause, self.limit_seconds)
        return f"No reply from {self.who}{tried}: {failure.why}. {step}"

    def _wait(self, failure: Failure, failures: int) -> None:
        seconds = self.waits_seconds[failures - 1] * random.uniform(0.8, 1.2)
        asked = f"{failures} of {len(self.waits_seconds) + 1}"
        self.on_wait(f"{self.who}: {failure.why}. Attempt {asked}; the next in {seconds:.0f} s.")
        self.sleep(seconds)

    def ask_once(self, prompt: str) -> Reply | Failure:
        """One start of the tool, without a retry."""
        program = self.program()
        if program is None:
            return Failure(f"there is no program {self.tool.command}", ServerCause.REQUEST, may_cost=False)
        ended, left = None, list[str]()
        try:
            with own_folder() as folder:
                ended = self._run(program, prompt, folder)
                left = self._left_in(folder)
        except OSError as error:  # of this machine: its disk is full, or it starts no further process
            why = quoted(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
            if ended is None:
                failed = Call(self.model, 0, 0, 0.0, 0.0, failed=f"this machine cannot start it ({why})")
                return Failure(failed.failed, ServerCause.SERVER, may_cost=False, call=failed)
            self.on_wait(f"The temporary folder of {self.who} cannot be removed ({why}); its reply counts.")
        if left:
            self.on_wait(f"{self.who} wrote {', '.join(left[:5])}; the file is removed, only the reply counts.")
        return self._answer(prompt, ended)

    def _run(self, program: str, prompt: str, folder: Path) -> Ended:
        """Start the tool in an empty folder below `folder`, and wait for its end. Raises OSError."""
        working_folder = folder / WORKING_FOLDER
        working_folder.mkdir()
        (folder / "prompt.txt").write_text(prompt, encoding="utf-8")
        (folder / "instructions.txt").write_text(INSTRUCTIONS, encoding="utf-8")
        for name, text in self.tool.files.items():
            (working_folder / name).parent.mkdir(parents=True, exist_ok=True)
            (working_folder / name).write_text(text, encoding="utf-8")
        return run_contained(
            [program, *self.arguments(folder)],
            folder=folder,
            working_folder=working_folder,
            stdin=prompt.encode("utf-8") if self.tool.stdin else b"",
            environment=self.environment(folder),
            limit_seconds=self.limit_seconds,
            on_look=self._tell_words(),
        )

    def _left_in(self, folder: Path) -> list[str]:
        """Names of what the tool wrote into its working folder."""
        given = {Path(name).parts[0] for name in self.tool.files}
        with suppress(OSError):  # it removed the folder, or closed it
            return sorted({path.name for path in (folder / WORKING_FOLDER).iterdir()} - given)
        return []

    def arguments(self, folder: Path) -> list[str]:
        """Of the program, for one question."""
        words = list(self.tool.arguments)
        if self.asked_model:
            words = [word.replace("{model}", self.asked_model) for word in (*words, *self.tool.model)]
        return [_filled(self._absolute(word), folder) for word in words]

    def _absolute(self, word: str) -> str:
        path = self.project / word if self.project is not None and word else None
        return str(path) if path is not None and os.path.isfile(path) else word  # no error for a word of any length

    def environment(self, folder: Path) -> dict[str, str]:
        """Of the tool: the user's, without variables of ours and without secrets that its preset does not keep.

        A tool may need its proxy, so that is kept with its password, which no text shows.
        """
        kept = {}
        key = read_key()  # which the supervisor has taken out of its environment
        given = os.environ | ({"OPENAI_API_KEY": key} if key else {})
        for name, value in given.items():
            if name in NESTED:
                continue
            is_count = name.upper().endswith("TOKENS") and _is_plain_value(value)  # such as MAX_THINKING_TOKENS
            may_be_secret = _SECRET_NAME.search(name) is not None and not is_count
            users = [user for scheme, user in _USER_IN_URL.findall(value) if ":" in user or not _is_login(scheme)]
            is_wanted = any(fnmatchcase(name, pattern) for pattern in self.tool.keep)
            is_harmless = not (name.startswith(OURS) or may_be_secret or redact(value) != value)
            is_proxy = bool(users) and name.upper().endswith("PROXY") and not (name.startswith(OURS) or may_be_secret)
            if users or (is_wanted and may_be_secret and not _is_plain_value(value)):
                for secret in (value, *(user for user in users if ":" in user or len(user) >= LEAST_KEY)):
                    keep_secret(secret)  # a tool may print its environment
            if is_wanted or is_proxy or (is_harmless and not users):
                kept[name] = value
        own = {"NO_COLOR": "1", "TERM": "dumb", "CI": "1"}
        return kept | own | {name: _filled(value, folder) for name, value in self.tool.environment.items()}

    # --- what comes of it

    def _tell_words(self) -> Callable[[Path], None]:
        """Tells what the tool has written, now and then; "" where its output is no reply before it is whole."""
        self._size, self._grown_at = 0, time.monotonic()
        telling, is_whole_only = Telling(self.on_words), self.tool.output == "json"

        def look(stdout: Path) -> None:
            if (size := stdout.stat().st_size) != self._size:
                self._size, self._grown_at = size, time.monotonic()
            telling.tell(lambda: "" if is_whole_only else words_so_far(self.tool, _beginning_of(stdout)))

        return look

    def _answer(self, prompt: str, ended: Ended) -> Reply | Failure:
        said = read_output(self.tool, ended.stdout, ended.stderr)
        failure = self._failure(ended, said)
        call = self._call(prompt, said, ended.seconds)
        if failure is None:
            return Reply(redact(mended(said.reply)), "stop", call)
        is_counted = bool(said.tokens_in or said.tokens_out or said.cost)
        beginning = said.reply[:MOST_LOOKED_AT]
        has_replied = bool(beginning) and (self.tool.output != "text" or looks_like_reply(beginning))
        if not (failure.may_cost or is_counted or has_replied):
            call = Call(self.model, 0, 0, 0.0, ended.seconds)
        failure.call = Call(**vars(call) | {"failed": failure.why})
        return failure

    def _failure(self, ended: Ended, said: Said) -> Failure | None:
        """Why the output is no reply; None when it is one. A whole proposal counts whatever the exit status says.

        After a failure the end of the proposal may be missing: it counts where nothing shows that.
        """
        if ended.not_started:
            return Failure(f"it cannot be started ({ended.not_started})", ServerCause.REQUEST, may_cost=False)
        if ended.is_flood:
            return Failure(f"it wrote more than {MOST_BYTES // 2**20} MB and was ended", ServerCause.SERVER)
        if said.error is not None:
            if holds_proposal(said.reply, may_lack_end=True):
                self.on_wait(f"{self.who} reported {quoted(said.error.message)!r} after a whole reply, which is used.")
                return None
            return self._failed(said.error.words or said.error.message, said.error.status, said.error.message)
        words = self._own_words(ended, said)
        if ended.is_late:
            if holds_proposal(said.reply, may_lack_end=True) and time.monotonic() - self._grown_at > QUIET_SECONDS:
                self.on_wait(f"{self.who} did not end after a whole reply, which is used.")
                return None
            return self._late(words)
        if ended.returncode < 0:
            return Failure(f"it was killed by signal {-ended.returncode}", ServerCause.SERVER)
        if ended.returncode > 0:
            if holds_proposal(said.reply, may_lack_end=True):
                self.on_wait(
                    f"{self.who} ended with exit status {ended.returncode} after a whole reply, which is used."
                )
                return None
            lacks_end = ", and the end of its reply may be missing" if looks_like_reply(said.reply) else ""
            return self._failed(words, None, words, f"exit status {ended.returncode}{lacks_end}")
        if said.is_unreadable and not said.reply:
            printed = cleaned(_last(ended.stderr) + "\n" + _last(ended.stdout))
            return self._failed(words, None, printed, "its output is not what its preset expects")
        if not said.reply:
            return self._failed(words, None, words, "it printed no reply")
        is_message = self.tool.output == "text" and may_be_message(said.reply)
        if is_message and cause_of_success(self.tool, said.reply) is not None:
            return self._failed(said.reply, None, said.reply)
        return None

    def _own_words(self, ended: Ended, said: Said) -> str:
        """What the tool itself says, in which its cause is looked for: nothing that looks like the model's words."""
        printed, error = (cleaned(_last(output)) for output in (ended.stdout, ended.stderr))
        if looks_like_reply(said.reply or printed):
            return error if printed else ""  # without `printed`, the reply stands on standard error
        if self.tool.output == "text" and len(said.reply) > LONGEST_MESSAGE:  # prose of the model, or a long log
            end = printed[-MOST_SAID:]
            printed = end if cause_of_success(self.tool, end) is not None else ""
        return f"{error}\n{printed}".strip()

    def _late(self, words: str) -> Failure:
        """A tool that was ended at its deadline; some wait or ask again without end, and say why."""
        if not looks_like_reply(words) and cause_of_tool(self.tool, words) in TOLD_BY_TOOLS:
            return self._failed(words, None, words[-MOST_SAID:], "it did not end in time")
        return Failure("it did not end in time", ServerCause.SLOW)

    def _failed(self, words: str, status: int | None, message: str, what: str = "") -> Failure:
        """A failure that the tool explains, perhaps."""
        cause = cause_of_tool(self.tool, words, status) or ServerCause.SERVER
        why = ": ".join(filter(None, (what, quoted(message)))) or "it says nothing"
        failure = Failure(why, cause, status, words, may_cost=cause is ServerCause.SERVER)
        if cause is ServerCause.CONTEXT:
            failure.sizes = sizes_of(words, 0) if words else Sizes()
        if cause is ServerCause.RATE:
            failure.retry_after = seconds_until_reset(words, self.now()) or 60 * self.tool.limit_minutes
        return failure

    def _call(self, prompt: str, said: Said, seconds: float) -> Call:
        """What a question took, as the tool counts or by our estimate."""
        is_counted = bool(said.tokens_in)
        told = count_tokens(said.reply) if said.tokens_out is None else said.tokens_out
        counts = said.tokens_in or count_tokens(prompt), told
        cost = said.cost
        if cost is None and not self.tool.cost:
            cost = self.prices.cost(self.model, *counts)
        return Call(self.model, *counts, cost, seconds, not is_counted)


def as_text(messages: Sequence[Mapping[str, str]]) -> str:
    """A conversation as one text, for a tool that takes one question: the prompt, and what was said since."""
    first, *rest = (mended(message["content"]) for message in messages)
    titles = ("# Your reply to this", "# The answer to your reply")
    said = [f"\n\n{titles[i % 2]}\n\n{text}" for i, text in enumerate(rest)]
    end = "\n\nSend your whole reply again, in the form above.\n" if rest else ""
    return first + "".join(said) + end


def _last(output: bytes) -> str:
    return output[-MOST_WORDS:].decode("utf-8", "replace")


def _beginning_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_TOLD_BYTES)


def _is_plain_value(value: str) -> bool:
    """Whether a value is a number or a switch, as of `..._MAX_OUTPUT_TOKENS`, and no secret."""
    return value.strip().lower() in ("true", "false", "yes", "no", "on", "off") or bool(
        re.fullmatch(r"\s*-?\d{1,12}(?:\.\d+)?\s*", value)
    )


def _is_login(scheme: str) -> bool:
    """Whether the user in an address of this scheme is a name alone, as git in ssh://git@host."""
    return not {"ssh", "sftp", "rsync"}.isdisjoint(scheme.lower().split("+"))


def version_in(text: str) -> str:
    """The first version number in what a tool prints."""
    found = re.search(r"\d+\.\d+(?:\.\d+)*(?:[-+.][0-9A-Za-z.]+)?", text)
    return found[0].rstrip(".") if found else ""


def _filled(word: str, folder: Path) -> str:
    values = {
        "instructions": INSTRUCTIONS,
        "instructions_file": str(folder / "instructions.txt"),
        "prompt_file": str(folder / "prompt.txt"),
    }
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word
