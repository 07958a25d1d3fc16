"""The control panel of a study, for a notebook: a view of its files, with a button for each thing a person can do.

The study runs in a process of its own. A thread here looks at its files once a second and shows what is new, so the
panel may be closed, reloaded or made anew at any time, and nothing depends on it. It draws in the browser (`panel.js`),
because what draws on the machine that trains takes time from the training. It decides nothing: what a button does
is a function of `Control`, and it is also a method, for those who would rather type.
"""

from __future__ import annotations

import itertools
import json
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

import anywidget
import ipywidgets as widgets
from IPython.display import display, update_display
from traitlets import Int, Unicode

from ...control import actions
from ...core.errors import Plain, with_arguments
from ...core.format import clock
from ...core.state import StudyState, replay
from ...core.types import Experiment, Status
from ...record.archive import StudyArchive
from ...record.history import read_state
from ...record.study import Remedied, Study, StudyError, WouldOverwrite, explained
from ...show import html
from ...show.follow import View
from ...show.snapshot import Snapshot
from ...show.status import standing
from ...show.study_words import counts, sealed_words
from ...system.files import utc_now
from ...system.locations import project_root
from ...system.processes import memory_mb
from ...system.shell import shell_command
from ..results import Picture, Table, figure_of
from . import pages
from .chart import Known, curve_data, found, history_data, table_data
from .form import StudyForm

HERE = Path(__file__).parent
LOOK_EVERY_SECONDS = 1.0
STUDIES_EVERY_LOOKS = 5  # one may have been started elsewhere
MEMORY_EVERY_LOOKS = 5  # asking for the memory of a process tree takes ten times as long as a look
STILL_EVERY_SECONDS = 300.0  # the picture that stays in the notebook, while the study runs
LOG_LINES, LOG_BYTES = 60, 16_000
FOLDS = {"notes": "Agent's notes", "log": "Log", "cost": "Cost", "settings": "Settings of this study"}
FINISH, GO_ON_FINISHING = "Finish", "Go on finishing"
PROMOTE, OVERWRITE = "Promote the best", "Overwrite train.py"
BEAT_EVERY_LOOKS = 5  # panel.js misses it after 30 seconds
NO_MORE_BEATS = -1  # of a panel that was closed, in a kernel that lives
FOLLOW = -1  # nothing is selected: the card shows what runs

P = ParamSpec("P")
T = TypeVar("T")

_open: weakref.WeakSet[Panel] = weakref.WeakSet()  # panels whose thread runs


class Control(Protocol):
    """What the buttons do: the functions of `autoresearch_kernel/control/actions.py`."""

    @property
    def AGENTS(self) -> Sequence[str]: ...
    @property
    def NO_READERS(self) -> Mapping[str, str]: ...  # agents to which a hint says nothing, and why
    @property
    def CORPORA(self) -> Sequence[str]: ...
    @property
    def PRESETS(self) -> Sequence[str]: ...

    def study_names(self, project: Path) -> list[str]: ...
    def open_study(self, name: str, project: Path) -> Study: ...
    def problems(self, name: str, project: Path, fields: Mapping[str, Any]) -> dict[str, str]: ...
    def begin(self, name: str, project: Path, fields: Mapping[str, Any], say: Callable[[str], None]) -> Study: ...
    def go_on(self, study: Study, fields: Mapping[str, Any]) -> int: ...
    def say_to(self, study: Study, command: str, text: str = "") -> str: ...
    def stop(self, study: Study, now: bool = False) -> str: ...
    def approve(self, study: Study, source: str | None = None, why: str = "") -> str: ...
    def finish(self, study: Study, unsafe: bool = False) -> str: ...
    def promote(self, study: Study, force: bool = False) -> str: ...


class Drawing(anywidget.AnyWidget):
    """One of the drawings of `panel.js`."""

    _esm = HERE / "panel.js"
    _css = HERE / "panel.css"
    kind = Unicode("history").tag(sync=True)  # "history", "curve", "table", or "spoken": a line of HTML
    data = Unicode("null").tag(sync=True)  # JSON: as a string it goes through a widget untouched, ten times as fast
    selected = Int(FOLLOW).tag(sync=True)  # number of an experiment
    beat = Int(0).tag(sync=True)  # counts up while the kernel lives: without it the browser says that it does not

    def draw(self, numbers: dict[str, Any]) -> None:
        self.numbers = numbers
        self.data = json.dumps(numbers, allow_nan=False)


def _button(words: str, does: str, style: str = "") -> widgets.Button:
    return widgets.Button(
        description=words, tooltip=does, button_style=style, layout=widgets.Layout(width="auto", height="28px")
    )


def _fold(words: str) -> widgets.ToggleButton:
    return widgets.ToggleButton(description=f"▸ {words}", layout=widgets.Layout(width="auto", height="28px"))


def _explained(method: Callable[P, T]) -> Callable[P, T]:
    """A method for people: what they can mend is said in one sentence, in the words of Python."""

    @wraps(method)
    def wrapped(*arguments: P.args, **fields: P.kwargs) -> T:
        with explained(_in_python):
            return method(*arguments, **fields)

    return wrapped


class Panel:
    """A study in a notebook. Show it by ending a cell with it.

    Methods, each a button: start, go_on, pause, resume, stop, hint, approve, reject, finish, promote, select, choose,
    close.
    """

    def __init__(self, control: Control, project: Path, study: str | None = None) -> None:
        self.control, self.project = control, project
        self.study: Study | None = None
        self.now: Snapshot | None = None
        self._view: View | None = None
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._shown: dict[str, Any] = {}  # what each part was last made of
        self._points: Known = {}
        self._rows: Known = {}
        self._filled: Any = None  # the proposal that the editor was filled with
        self._laid = ""  # what it was filled with
        self._is_picking = False
        self._key = secrets.token_hex(4)  # of its output in a notebook
        self._still_at: float | None = None  # when that was last drawn; None while it is not shown
        self._looks = 0
        self._is_wrong = False  # what the notice says
        self._is_overwrite_offered = False  # by the promote button, as edits would be lost
        self._is_acting = False  # a button was pressed, and its answer is not there yet
        self._memory: float | None = None
        self._build()
        names = control.study_names(project)
        self._choose_first(study, names)
        for panel in list(_open):  # the cell was run again: one thread looks, not two
            panel.close()
            panel.gauge.value = "This panel looks no more, as another was made. Run its cell again to see the study."
        _open.add(self)
        threading.Thread(target=self._watch, name="autoresearch panel", daemon=True).start()

    # --- what it is made of

    def _build(self) -> None:
        self.picker = widgets.Dropdown(description="Study", layout=widgets.Layout(width="260px"))
        self.picker.style.description_width = "44px"
        self.new_button = _button("New study ...", "Fill in a form and start another study")
        self.go_on_button = _button("Continue", "Let the study go on in the background", "primary")
        self.pause_button = _button("Pause", "Begin nothing new once the present experiment is decided")
        self.resume_button = _button("Resume", "Go on after a pause", "primary")
        self.stop_button = _button("Stop after this", "End the study once the present experiment is decided")
        self.stop_now_button = _button("Stop now", "End what runs, too; it is taken up again later")
        self.finish_button = _button(FINISH, "Measure the result: fresh seeds, then the sealed test split, once")
        self.promote_button = _button(PROMOTE, "Make the best train.py of this study the project's")
        self.acts = widgets.HBox(layout=widgets.Layout(flex_flow="row wrap"))
        self.top = widgets.HBox([self.picker, self.new_button, self.acts], layout=widgets.Layout(flex_flow="row wrap"))
        self.said = Drawing(kind="spoken", data="")
        self.result, self.gauge, self.notice = widgets.HTML(), widgets.HTML(), widgets.HTML()
        choices = self.control.AGENTS, self.control.CORPORA, self.control.PRESETS
        self.form = StudyForm(*choices, self._check, self._start_clicked)
        self._build_review()
        self.history = Drawing(kind="history")
        self.curve = Drawing(kind="curve")
        self.experiments = Drawing(kind="table")
        self.head, self.body = widgets.HTML(), widgets.HTML()
        self.follow_button = _button("Show what runs", "Close this experiment and follow the running one")
        self.side = widgets.VBox([self.follow_button, self.head, self.curve, self.body])
        self.side.add_class("ar-side")
        self.middle = widgets.Box([self.history, self.side])  # one column or two, by its width: panel.css
        self.middle.add_class("ar-middle")
        self.hint_text = widgets.Text(
            description="Hint",
            layout=widgets.Layout(flex="1 1 auto"),
        )
        self.hint_text.style.description_width = "44px"
        self.hint_button = _button("Send", "Say it to the agent")
        self.hints = widgets.HBox([self.hint_text, self.hint_button])
        self.folds = {name: _fold(words) for name, words in FOLDS.items()}
        self.fold = widgets.HTML()
        folds = widgets.HBox([*self.folds.values()], layout=widgets.Layout(flex_flow="row wrap"))
        self.live = widgets.VBox([self.middle, self.experiments, self.hints, folds, self.fold])
        above = [self.top, self.said, self.result, self.gauge, self.notice]
        self.gone = widgets.HTML(pages.gone())
        self.gone.add_class("ar-gone")  # seen when the kernel is gone, and all else hidden: panel.css
        self.root = widgets.VBox([self.gone, *above, self.form.root, self.review, self.live])
        self.root.add_class("ar-panel")
        self.root.add_class(f"ar-live-{self._key}")
        self._wire()

    def _build_review(self) -> None:
        self.review_words = widgets.HTML()
        self.source = widgets.Textarea(description="train.py", layout=widgets.Layout(width="auto", height="320px"))
        self.source.add_class("ar-source")
        self.editor = widgets.Accordion([self.source], titles=("Edit train.py before it trains",))
        self.why = widgets.Text(
            description="Why",
            placeholder="why not (the agent reads it), or the idea of your edit",
            layout=widgets.Layout(flex="1 1 auto"),
        )
        self.why.style.description_width = "34px"
        self.approve_button = _button("Approve", "Let it train as it stands below", "primary")
        self.reject_button = _button("Refuse, because ...", "Give it back to the agent with your reason")
        row = widgets.HBox([self.approve_button, self.reject_button, self.why])
        self.review = widgets.VBox([self.review_words, row, self.editor], layout=widgets.Layout(display="none"))
        self.review.add_class("ar-review")

    def _wire(self) -> None:
        for button, act in (
            (self.go_on_button, self.go_on),
            (self.pause_button, self.pause),
            (self.resume_button, self.resume),
            (self.stop_button, self.stop),
            (self.stop_now_button, lambda: self.stop(now=True)),
            (self.finish_button, self.finish),
            (self.promote_button, self._promote_clicked),
            (self.approve_button, self._approve_clicked),
            (self.reject_button, lambda: self.reject(self.why.value)),
            (self.hint_button, lambda: self.hint(self.hint_text.value)),
        ):
            button.on_click(lambda _, act=act: self._do(act))
        self.hint_text.on_submit(lambda _: self._do(lambda: self.hint(self.hint_text.value)))
        self.new_button.on_click(lambda _: self._open_form())
        self.follow_button.on_click(lambda _: self.select(None))
        self.picker.observe(lambda change: self._picked(change["new"]), "value")
        for drawing in (self.history, self.experiments):
            drawing.observe(lambda change: self._select(change["new"]), "selected")
        for name, toggle in self.folds.items():
            toggle.observe(lambda change, name=name: self._unfold(name, change["new"]), "value")

    def _ipython_display_(self) -> None:
        """The panel, and below it what stands in its place where it is not live: `pages.still` says where that is."""
        live, still = self._outputs()
        display(live, raw=True)
        display(still, raw=True, display_id=self._key)
        self._still_at = time.monotonic()
        if self.now is not None:
            self._is_new("still", _still_of(self.now))

    def _outputs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of its cell. The sentence is in the second alone: where no widget can be shown, both are seen."""
        live = self._repr_mimebundle_()
        still = {"text/plain": live.pop("text/plain"), "text/html": live.pop("text/html")}
        return {**live, "text/plain": ""}, still

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        view = self.root._repr_mimebundle_(**options)
        return view | {"text/plain": repr(self), "text/html": self._still()}

    def _show_still(self, now: Snapshot) -> None:
        """What the cell's output keeps, drawn anew now and then: drawing takes time from a training."""
        if self._still_at is None or (now.is_running and time.monotonic() - self._still_at < STILL_EVERY_SECONDS):
            return
        if self._is_new("still", _still_of(now)):
            self._still_at = time.monotonic()
            update_display({"text/plain": repr(self), "text/html": self._still()}, display_id=self._key, raw=True)

    def _still(self) -> str:
        if self.now is None or not self.now.state.decided:
            return pages.still(self._key, repr(self))
        picture = figure_of(self.now.study.name, self.now.state)
        return pages.still(self._key, repr(self), html.picture(picture.small(), picture.words))

    def __repr__(self) -> str:
        """What it shows, in a sentence, for a console and wherever no widget can be shown."""
        shows = "without a study yet"
        if self.now is not None:
            found = counts(self.now.state.experiments)
            shows = f"of study {self.now.study.name}: {found}, as of {clock(utc_now())}"
        return f"Control panel {shows}. In JupyterLab, run the cell to see it live."

    # --- buttons

    @_explained
    def start(self, name: str, **fields: Any) -> str:
        """Create study `name` and let it run in the background.

        Args:
            fields: agent, model, share, recording, prompt_tokens, max_tokens, max_cost, budget (seconds a run), corpus,
                files_folder, preset, seed; experiments, hours and approve say how long and on whose word.
        """
        study = self.control.begin(name, self.project, fields, self._tell)
        self.form.close()
        self.choose(study.name)
        return f"Study {study.name} runs in the background. This notebook may be closed."

    @_explained
    def go_on(self, **fields: Any) -> str:
        """Continue the study in the background; `fields` as for `start`: experiments, hours, approve, max_cost ..."""
        pid = self.control.go_on(self._named(), fields)
        until = "" if {"hours", "experiments"} & set(fields) else " It goes on until you stop it."
        return f"Process {pid} runs the study in the background.{until} This notebook may be closed."

    @_explained
    def pause(self) -> str:
        """Begin nothing new once the present experiment is decided."""
        return self.control.say_to(self._named(), "pause")

    @_explained
    def resume(self) -> str:
        """Go on after a pause."""
        return self.control.say_to(self._named(), "resume")

    @_explained
    def stop(self, now: bool = False) -> str:
        """End the study once the present experiment is decided, or `now`."""
        return self.control.stop(self._named(), now)

    @_explained
    def hint(self, text: str) -> str:
        """Say something to the agent."""
        if not text.strip():
            raise StudyError("There is nothing in the hint. Write what the agent should know.")
        answer = self.control.say_to(self._named(), "hint", text.strip())
        self.hint_text.value = ""
        return answer

    @_explained
    def approve(self, source: str | None = None, why: str = "") -> str:
        """Let what waits for you train: as it is, or as your `source`."""
        return self.control.approve(self._named(), source, why)

    @_explained
    def reject(self, why: str) -> str:
        """Give what waits for you back to the agent, with the reason."""
        if not why.strip():
            raise StudyError("Say why: the agent reads it before it proposes something else.")
        return self.control.say_to(self._named(), "reject", why.strip())

    @_explained
    def finish(self, unsafe: bool = False) -> str:
        """Measure the study's result in the background, once: fresh seeds, then the sealed test split."""
        return self.control.finish(self._named(), unsafe)

    @_explained
    def promote(self, force: bool = False) -> str:
        """Make the best train.py of the study the project's."""
        self._offer_overwrite(False)
        try:
            return self.control.promote(self._named(), force)
        except WouldOverwrite:
            self._offer_overwrite(True)
            raise

    @_explained
    def figure(self) -> Picture:
        """The study shown, as a picture that stays in a saved notebook."""
        study, state = self._on_record()
        return figure_of("No study yet" if study is None else study.name, state)

    @_explained
    def table(self, last: int | None = None) -> Table:
        """Its experiments, the latest first, as a table that stays; the last few with `last`."""
        state = self._on_record()[1]
        return Table(state.experiments, last, sealed_words(state))

    @_explained
    def select(self, number: int | None) -> None:
        """Show one experiment beside the history; None for what runs."""
        self._select(FOLLOW if number is None else number)

    def _choose_first(self, study: str | None, names: Sequence[str]) -> None:
        """The named study, else the latest that can be read; what is wrong with a later one is said."""
        if study is not None or not names:
            self.choose(study)
            return
        wrong = []
        for name in names:
            try:
                self.choose(name)
                break
            except (ValueError, RuntimeError, OSError) as error:
                wrong.append(str(error))
        else:
            self.choose(None)
        self._tell("\n".join(wrong), is_wrong=True)

    @_explained
    def choose(self, name: str | None) -> None:
        """Show another study; None when there is none yet."""
        with self._lock:
            self.study = None if name is None else self.control.open_study(name, self.project)
            self._view = None if self.study is None else View(self.study)
            for kept in (self._shown, self._points, self._rows):
                kept.clear()
            self.now, self._memory = None, None
            self._still_at = None if self._still_at is None else -STILL_EVERY_SECONDS
            self._offer_overwrite(False)
            self._offer_studies()
        self._select(FOLLOW)
        if name is None:
            self._open_form()
        self.refresh()

    def _offer_studies(self) -> None:
        """All studies in the picker, in an order that does not jump."""
        names = sorted(self.control.study_names(self.project))
        name = self.study.name if self.study is not None and self.study.name in names else None
        self._is_picking = True  # new options choose the first of them for a moment
        try:
            if list(self.picker.options) != names:
                self.picker.options = names
            self.picker.value = name
        finally:
            self._is_picking = False

    def close(self) -> None:
        """Look no more. The study goes on."""
        self._ended.set()
        _open.discard(self)

    # --- what happens behind them

    def _on_record(self) -> tuple[Study | None, StudyState]:
        """The study shown and what its history says now."""
        if self.study is None:
            return None, replay([])
        return self.study, read_state(self.study.paths.history)

    def _named(self) -> Study:
        if self.study is None:
            raise StudyError("There is no study yet. Start one with the form above.")
        return self.study

    def _do(self, act: Callable[[], str]) -> None:
        """Do what a button says, in a thread: a click must not wait, and an answer may take seconds."""

        def work() -> None:
            try:
                self._tell(act())
            except Exception as error:  # whatever it is, a person pressed a button and should hear of it
                self._tell(_words_of(error), is_wrong=True)
            finally:
                self._is_acting = False
                for button in self._buttons():
                    button.disabled = False
                self.refresh()

        self._is_acting = True
        for button in self._buttons():
            button.disabled = True
        threading.Thread(target=work, name="autoresearch button", daemon=True).start()

    def _buttons(self) -> list[widgets.Button]:
        return [
            self.go_on_button, self.pause_button, self.resume_button, self.stop_button, self.stop_now_button,
            self.finish_button, self.promote_button, self.approve_button, self.reject_button, self.form.start_button,
            *([] if self.hint_text.disabled else [self.hint_button]),
        ]  # fmt: skip

    def _tell(self, words: str, is_wrong: bool = False) -> None:
        self._is_wrong = is_wrong
        self.notice.value = pages.notice(words, is_wrong) if words else ""

    def _open_form(self) -> None:
        if self.form.is_open:
            return
        taken = set(self.control.study_names(self.project))
        name = today = datetime.now().strftime("%b%d").lower()
        for suffix in "bcdefghij":
            name = f"{today}{suffix}" if name in taken else name
        self.form.open(name, can_cancel=bool(taken))
        self.live.layout.display = "none" if self.study is None else ""

    def _check(self, name: str, fields: Mapping[str, Any]) -> dict[str, str]:
        return self.control.problems(name, self.project, fields)

    def _start_clicked(self) -> None:
        filled = self.form.read()
        if filled is None:
            self._tell("Nothing was started: correct what the form marks, then press Start.", is_wrong=True)
            return
        name, fields = filled

        def start() -> str:
            try:
                return self.start(name, **fields)
            except RuntimeError as error:  # whatever was typed stays as it is
                self.form.refuse(getattr(error, "problems", {}))
                self._offer_studies()
                raise

        self._do(start)

    def _picked(self, name: str | None) -> None:
        if self._is_picking or name is None or (self.study is not None and name == self.study.name):
            return
        self.form.close()
        self._tell("")
        try:
            self.choose(name)
        except (ValueError, RuntimeError, OSError) as error:
            self._tell(str(error), is_wrong=True)
            self._offer_studies()

    def _promote_clicked(self) -> str:
        """A first press loses no edit of train.py; where it would, the button then says what a second one does."""
        return self.promote(force=self._is_overwrite_offered)

    def _offer_overwrite(self, is_offered: bool) -> None:
        self._is_overwrite_offered = is_offered
        self.promote_button.description = OVERWRITE if is_offered else PROMOTE
        self.promote_button.button_style = "danger" if is_offered else ""

    def _approve_clicked(self) -> str:
        desk, mine = self._named().paths.desk.read_text(encoding="utf-8"), self.source.value
        if mine not in (self._laid, desk) and desk != self._laid:
            raise StudyError("train.py was edited both in its file and here. Undo one of the two, then approve.")
        return self.approve(mine if mine not in (self._laid, desk) else None, self.why.value.strip())

    def _select(self, number: int) -> None:
        for drawing in (self.history, self.experiments):
            drawing.selected = number
        self.refresh()

    # --- looking

    def _watch(self) -> None:
        for look in itertools.count(1):
            if self._ended.wait(LOOK_EVERY_SECONDS):
                self.said.beat = NO_MORE_BEATS
                return
            if look % BEAT_EVERY_LOOKS == 1:
                self.said.beat = look
            try:
                self.refresh()
            except Exception as error:  # a damaged history, a study that was removed: it is said and looked at again
                self._tell(_words_of(error), is_wrong=True)

    def refresh(self) -> None:
        """Look once and show what is new."""
        with self._lock:
            if self.form.is_open and not self._is_acting:  # a key may have been given, a name taken meanwhile
                self.form.check()
            if self._view is None:
                self._show_nothing()
                return
            if self.study is not None and not self.study.paths.folder.is_dir():
                raise StudyError(f"{self.study.paths.folder} was removed. Choose another study, or start one.")
            now = self.now = self._view.look()
            self._looks += 1
            if self._looks % STUDIES_EVERY_LOOKS == 0:
                self._offer_studies()
            if now.activity in ("training", "scoring") and self._looks % MEMORY_EVERY_LOOKS == 1:
                self._memory = memory_mb(now.study.paths.running)
            self.live.layout.display = ""
            self._show_hint(now)
            self._show_state(now)
            self._show_review(now)
            self._show_history(now)
            self._show_experiment(now)
            self._show_fold(now)
            self._show_still(now)

    def _is_new(self, part: str, made_of: Any) -> bool:
        """Whether a part must be made again, because what it is made of has changed."""
        if part in self._shown and self._shown[part] == made_of:
            return False
        self._shown[part] = made_of
        return True

    def _show_nothing(self) -> None:
        self.said.data = pages.spoken("No study yet", "Fill in the form and press Start.")
        self.gauge.value = self.result.value = ""
        self.acts.children = ()

    def _show_state(self, now: Snapshot) -> None:
        memory = self._memory if now.activity in ("training", "scoring") else None
        self.said.data = pages.spoken(pages.heading(now), standing(now) or found(now) * (not now.is_running))
        self.result.value = pages.result(now.state)
        self.gauge.value = pages.gauge(now, memory)
        if not now.is_running:
            acts = self._acts_of_ended(now)
        else:
            is_ours = now.phase == "paused" and now.state.is_paused_by_person
            acts = [self.resume_button if is_ours else self.pause_button, self.stop_button, self.stop_now_button]
        if self._is_new("acts", acts):
            self.acts.children = acts
        if self._is_new("ended", not now.is_running) and not now.is_running and not (self._is_wrong or self._is_acting):
            self._tell("")  # "Process 1234 runs the study": it was true until now

    def _acts_of_ended(self, now: Snapshot) -> list[widgets.Button]:
        """The first of them is what the study was at, and the primary one."""
        is_finishing = now.is_finishing and _can_finish(now)
        self.finish_button.description = GO_ON_FINISHING if is_finishing else FINISH
        self.finish_button.button_style = "primary" if is_finishing else ""
        self.go_on_button.button_style = "" if is_finishing else "primary"
        finish = [self.finish_button] if _can_finish(now) else []
        acts = [*finish, self.go_on_button] if is_finishing else [self.go_on_button, *finish]
        return [*acts, self.promote_button] if _has_better(now) else acts

    def _show_hint(self, now: Snapshot) -> None:
        """A field where the agent reads hints; where it does not, why, and nothing to type into."""
        why_not = self.control.NO_READERS.get(now.study.agent, "")
        self.hint_text.placeholder = why_not or "what the agent should know before its next proposal"
        self.hint_text.disabled = bool(why_not)
        self.hint_button.disabled = bool(why_not) or self._is_acting

    def _show_review(self, now: Snapshot) -> None:
        review, desk = now.state.review if now.phase == "reviewing" else None, now.study.paths.desk
        laid_at = desk.stat().st_mtime_ns if review is not None and desk.is_file() else 0
        if not self._is_new("review", (review, laid_at)):
            return
        self.review.layout.display = "none" if review is None else ""
        if review is None:
            return
        source = desk.read_text(encoding="utf-8", errors="replace") if desk.is_file() else ""
        parent = now.study.train_source(now.state.incumbent.number) if now.state.incumbent else ""
        if self._filled != (now.study.name, review):  # what a person has typed since is theirs
            self._filled, self.why.value = (now.study.name, review), ""
            self.editor.selected_index = 0 if review.is_draft else None
            self.source.value = self._laid = source
        elif self.source.value == self._laid:  # edited in its file, and not here
            self.source.value = self._laid = source
        self.review_words.value = pages.review(now.study, review, parent, source)
        self.reject_button.layout.display = "none" if review.is_draft else ""

    def _show_history(self, now: Snapshot) -> None:
        state = now.state
        if self._is_new("history", _scores(state.experiments)):
            self.history.draw(history_data(state.experiments, state.sigma, self._points))
        work = (now.experiment.number, now.activity) if now.experiment and now.is_running else None
        if self._is_new("table", (_scores(state.experiments), len(state.experiments), work)):
            self.experiments.draw(table_data(state.experiments, now, self._rows))

    def _show_experiment(self, now: Snapshot) -> None:
        """The card on the right: the selected experiment, else the one in work, else the best."""
        chosen = self.experiments.selected
        experiments = now.state.experiments
        is_chosen = 0 <= chosen < len(experiments)
        shown = experiments[chosen] if is_chosen else (now.experiment or now.state.incumbent)
        self.follow_button.layout.display = "" if is_chosen else "none"
        in_work = shown is not None and now.experiment is not None and shown.number == now.experiment.number
        self._show_curve(now, shown, is_live=in_work and now.is_running)
        made_of = None if shown is None else (shown.number, shown.status, len(shown.runs), shown.val_bpb, is_chosen)
        if not self._is_new("experiment", made_of):
            return
        if shown is None:
            self.head.value, self.body.value = html.paragraph("Nothing has been tried yet.", is_faint=True), ""
            return
        self.head.value = pages.experiment_head(shown, now.study.facts)
        self.body.value = pages.experiment_body(now.study, shown, StudyArchive(now.study.paths))

    def _show_curve(self, now: Snapshot, shown: Experiment | None, is_live: bool) -> None:
        """Of the run in work, growing; of any other experiment as it was."""
        if shown is not None and is_live:
            compared = now.incumbent
            label = "" if compared is None else "first run" if compared.number == shown.number else name_of(compared)
            if self._is_new("curve", (shown.number, now.run and now.run.index, len(now.curve), label)):
                self._set_curve(now, now.curve, now.incumbent_curve, label)
        elif self._is_new("curve", shown and (shown.number, len(shown.runs), shown.status)):
            archive = StudyArchive(now.study.paths)
            parent = None if shown is None or shown.parent is None else now.state.experiments[shown.parent]
            mine = archive.curve(shown.number) if shown else []
            theirs = archive.curve(parent.number) if parent else []
            self._set_curve(now, mine, theirs, name_of(parent) if parent else "")

    def _set_curve(self, now: Snapshot, mine: Sequence[Any], theirs: Sequence[Any], label: str) -> None:
        budget = now.study.time_budget_seconds
        self.curve.draw(curve_data(mine, theirs, theirs_label=label, budget_seconds=budget))

    def _show_fold(self, now: Snapshot) -> None:
        """Of the parts that fold, the open one alone is kept up to date."""
        state = now.state
        match next((name for name, toggle in self.folds.items() if toggle.value), ""):
            case "notes" if self._is_new("fold", ("notes", state.notes, state.hints, state.refusals, now.commands)):
                self.fold.value = pages.notes(now)
            case "log":
                self._shown.pop("fold", None)
                self.fold.value = pages.log(_tail(now.study.paths.supervisor_log))
            case "cost" if self._is_new("fold", ("cost", state.spent, state.limits)):
                self.fold.value = pages.cost(state)
            case "settings" if self._is_new("fold", ("settings", state.limits, state.approve, state.sigma)):
                self.fold.value = pages.settings(now)
            case "" if self._is_new("fold", ""):
                self.fold.value = ""

    def _unfold(self, name: str, is_open: bool) -> None:
        """Open one part, closing another; or close it."""
        for other, toggle in self.folds.items():
            if is_open and other != name:
                toggle.value = False
            toggle.description = ("▾ " if toggle.value else "▸ ") + FOLDS[other]
        self.refresh()


def name_of(experiment: Experiment) -> str:
    return f"{experiment.number:04d}"


def _in_python(error: Exception) -> str:
    """What a person in a notebook reads of an error that was made for people."""
    return error.for_panel if isinstance(error, Remedied) else with_arguments(str(error))


def _words_of(error: Exception) -> str:
    """What a person reads of an error: its own words where it was made for people, else what to do."""
    if isinstance(error, Plain | ValueError | RuntimeError | OSError) and str(error):
        return _in_python(error)
    again = f"run this cell again, or use `{shell_command('status')}`"
    return f"The panel failed ({error}). The study was not affected: {again}."


def _has_better(now: Snapshot) -> bool:
    return any(e.status is Status.KEEP and e.number > 0 for e in now.state.experiments)


def _can_finish(now: Snapshot) -> bool:
    """Whether something beat the baseline and has no result yet."""
    return now.state.incumbent is not None and now.state.incumbent.number > 0 and now.state.result is None


def _still_of(now: Snapshot) -> Any:
    """What the picture that stays is made of."""
    return now.study.name, len(now.state.decided), now.state.result


def _scores(experiments: Sequence[Experiment]) -> list[Any]:
    return [(e.status, e.val_bpb, len(e.scores)) for e in experiments if e.status is not None or e.scores]


def _tail(path: Path) -> str:
    """The last lines of a log that may be large, or not be there."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LOG_LINES:])


def panel(study: str | None = None, project: Path | None = None) -> Any:
    """The control panel, for a notebook: shows a study, starts one, talks to it.

    Args:
        study: its name; the one touched last when left out.
        project: folder of train.py and prepare.py; found from the working folder when left out.

    Every button is a method: `start`, `pause`, `resume`, `stop`, `hint`, `approve`, `reject`, `promote`, `select`.

    Example:
        >>> from autoresearch_kernel import panel
        >>> p = panel()  # doctest: +SKIP
        >>> p.hint("leave the learning rates alone")  # doctest: +SKIP
    """
    with explained():
        return Panel(actions, project or project_root(), study)
