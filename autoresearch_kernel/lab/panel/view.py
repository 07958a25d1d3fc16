"""What the panel shows: its widgets, and the thread that reads the study's files once a second and draws what is new.

The browser draws (`panel.js`), because drawing on the machine that trains takes time from the training.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from IPython.display import display, update_display

from ...core.errors import Plain, with_arguments
from ...core.format import clock
from ...core.types import Experiment, Status
from ...record.study import Remedied, Study, StudyError
from ...show import html
from ...show.cost import cost_table
from ...show.follow import View
from ...show.playback import Playback
from ...show.snapshot import Snapshot
from ...show.status import standing
from ...show.study_words import counts
from ...system.explain import explain
from ...system.files import StudyInUse, utc_now
from ...system.processes import memory_mb
from ..pictures import figure_of
from . import pages
from .chart import Known, found, history_data, table_data
from .elements import Drawing, Drawn, ExperimentCard, ReviewForm, button, fold
from .form import StudyForm
from .player import Player, Replay, as_json

LOOK_EVERY_SECONDS = 1.0
REPLAY_LOOK_SECONDS = 0.25  # between two looks of a replay, which moves faster than a study
MEMORY_EVERY_LOOKS = 5  # asking for the memory of a process tree takes ten times as long as a look
STUDIES_EVERY_LOOKS = 5  # one may have been started elsewhere
STILL_EVERY_SECONDS = 300.0  # the picture that stays in the notebook, while the study runs
LOG_LINES, LOG_BYTES = 60, 16_000
FOLDS = {"notes": "Agent's notes", "log": "Log", "cost": "Cost", "settings": "Settings of this study"}
FINISH, GO_ON_FINISHING = "Finish", "Go on finishing"
PROMOTE, OVERWRITE = "Promote the incumbent", "Overwrite train.py"
SHARE, SHARE_WITHOUT = "Share", "Share without these words"
START, SHARING, STEER = "start", "share", "steer"  # groups of buttons: one that works disables those of its own
BEAT_EVERY_LOOKS = 5  # panel.js misses it after 30 seconds
NO_MORE_BEATS = -1  # of a panel that was closed, in a kernel that lives


class PanelView:
    """The widgets of a panel, kept up to date. `no_readers` names the agents that read no hints, and why."""

    def __init__(self, form: StudyForm, no_readers: Any) -> None:
        self.no_readers = no_readers
        self.study: Study | None = None
        self.now: Snapshot | None = None
        self.playing: Replay | None = None  # a replay is shown in the place of a study
        self._view: View | Playback | None = None
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._shown = Drawn()
        self._points: Known = {}
        self._rows: Known = {}
        self._key = secrets.token_hex(4)  # of its output in a notebook
        self._still_at: float | None = None  # when that was last drawn; None while it is not shown
        self._looks = 0
        self._is_wrong = False  # what the notice says
        self._is_damaged = False  # the history that was looked at last
        self._acting: list[str] = []  # of each button that was pressed and has no answer yet, its group
        self._failed = ""  # why the last look failed
        self._made: Any = None  # the study.json of the study: another file is another study of its name
        self._memory: float | None = None
        self._build(form)

    def _build(self, form: StudyForm) -> None:
        self.form = form
        self.picker = widgets.Dropdown(description="Study", layout=widgets.Layout(width="260px"))
        self.picker.style.description_width = "44px"
        self.new_button = button("New study ...", "Fill in a form and start another study")
        self.replay_button = button("Replay", "Play this study again: pause, jump, and a quiz before each verdict")
        self.share_button = button(SHARE, "Make one file of this study, which others open, read and check")
        self.example_button = button("Replay the example night", "Play a recorded night: nothing trains")
        self.go_on_button = button("Continue", "Let the study go on in the background", "primary")
        self.pause_button = button("Pause", "Begin nothing new once the present experiment is decided")
        self.resume_button = button("Resume", "Go on after a pause", "primary")
        self.stop_button = button("Stop after this", "End the study once the present experiment is decided")
        self.stop_now_button = button("Stop now", "End what runs, too; it is taken up again later")
        self.finish_button = button(FINISH, "Measure the result: fresh seeds, then the sealed test split, once")
        self.attribute_button = button("Attribute", "Which kept changes carry the gain: train without each of them")
        self.promote_button = button(PROMOTE, "Make the best train.py of this study the project's")
        self.acts = widgets.HBox(layout=widgets.Layout(flex_flow="row wrap"))
        top = [self.picker, self.new_button, self.replay_button, self.share_button, self.acts]
        self.top = widgets.HBox(top, layout=widgets.Layout(flex_flow="row wrap"))
        self.said = Drawing(kind="spoken", data="")
        self.result, self.gauge, self.notice = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.player = Player()
        self.player.layout.display = "none"
        self.writes = widgets.HTML()
        self.history = Drawing(kind="history")
        self.experiments = Drawing(kind="table")
        self.card, self.review = ExperimentCard(), ReviewForm()
        self.middle = widgets.Box([self.history, self.card.root])  # one column or two, by its width: panel.css
        self.middle.add_class("ar-middle")
        self.hint_text = widgets.Text(description="Hint", layout=widgets.Layout(flex="1 1 auto"))
        self.hint_text.style.description_width = "44px"
        self.hint_button = button("Send", "Say it to the agent")
        self.hints = widgets.HBox([self.hint_text, self.hint_button])
        self.folds = {name: fold(words) for name, words in FOLDS.items()}
        self.fold = widgets.HTML()
        folds = widgets.HBox([*self.folds.values()], layout=widgets.Layout(flex_flow="row wrap"))
        self.live = widgets.VBox([self.middle, self.experiments, self.hints, folds, self.fold])
        above = [self.top, self.said, self.player, self.result, self.gauge, self.writes, self.notice]
        self.gone = widgets.HTML(pages.gone())
        self.gone.add_class("ar-gone")  # seen when the kernel is gone, and all else hidden: panel.css
        self.root = widgets.VBox([self.gone, *above, self.form.root, self.review.root, self.live])
        self.root.add_class("ar-panel")
        self.root.add_class(f"ar-live-{self._key}")

    def _ipython_display_(self) -> None:
        """The panel, and below it what stands in its place where it is not live: `pages.still` says where that is."""
        live, still = self._outputs()
        display(live, raw=True)
        display(still, raw=True, display_id=self._key)
        self._still_at = time.monotonic()
        if self.now is not None:
            self._shown.is_new("still", _still_of(self.now))

    def _outputs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The two outputs of its cell; only the second has the sentence, as both are seen where widgets are not."""
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
        if self._shown.is_new("still", _still_of(now)):
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

    def close(self) -> None:
        """Look no more. The study goes on."""
        self._ended.set()

    def _tell(self, words: str, is_wrong: bool = False) -> None:
        self._is_wrong = is_wrong
        self.notice.value = pages.notice(words, is_wrong) if words else ""

    def _tell_failure(self, words: str) -> None:
        """Say once why a look fails; take it back when one succeeds, unless something else was said since."""
        if words == self._failed:
            return
        if words or self.notice.value == pages.notice(self._failed, True):
            self._tell(words, is_wrong=bool(words))
        self._failed = words

    def _offer_studies(self) -> None:
        """Offer all studies in the picker."""

    def _choose_again(self) -> None:
        """Show the study anew that has the name of the one shown."""

    def _watch(self) -> None:
        for look in itertools.count(1):
            if self._ended.wait(LOOK_EVERY_SECONDS if self.playing is None else REPLAY_LOOK_SECONDS):
                self.said.beat = NO_MORE_BEATS
                return
            if look % BEAT_EVERY_LOOKS == 1:
                self.said.beat = look
            self._refresh()

    def _refresh(self) -> None:
        """Look once; a look that fails is said, as no cell waits for it."""
        try:
            self.refresh()
            self._tell_failure("")
        except Exception as error:  # a damaged history, a study that was removed: it is said and looked at again
            self._tell_failure(in_python(error))

    def refresh(self) -> None:
        """Look once and show what is new."""
        with self._lock:
            self._show_player()
            if self.form.is_open and not self.form.is_starting:  # a key may have been given, a name taken meanwhile
                self.form.check()
            self._looks += 1
            if self._looks % STUDIES_EVERY_LOOKS == 0:
                self._offer_studies()
            if self._view is None:
                self._show_nothing()
                return
            if self.study is not None and not self.study.paths.folder.is_dir():
                raise StudyError(f"{self.study.paths.folder} was removed. Choose another study, or start one.")
            if self._is_another():
                self._choose_again()
                return
            now = self.now = self._view.look()
            is_live = self.playing is None and now.activity in ("training", "scoring")
            if is_live and self._looks % MEMORY_EVERY_LOOKS == 1:
                self._memory = memory_mb(now.study.paths.running)
            self.live.layout.display = ""
            self._show_damage(now)
            self._show_hint(now)
            if self.playing is None:
                self._show_state(now)
            else:
                self._show_moment(now, self.playing)
            self.review.show(now, is_live=self.playing is None)
            if self.review.refused:
                self._tell(self.review.refused, is_wrong=True)
            self._show_history(now)
            self.card.show(now, self.experiments.selected)
            self._show_fold(now)
            if self.playing is None:
                self._show_still(now)

    def _is_another(self) -> bool:
        """Whether the study shown was removed, and another one has its name by now."""
        if self.study is None or self.playing is not None:
            return False
        return made_of(self.study) not in (None, self._made)

    def _show_player(self) -> None:
        """The controls of a replay, or none; what belongs to a study that runs is hidden meanwhile."""
        is_replay = self.playing is not None
        if self._shown.is_new("player", (is_replay, self.study is None)):
            self.player.layout.display = "" if is_replay else "none"
            self.hints.layout.display = "none" if is_replay else ""
            for one in (self.replay_button, self.share_button):
                one.layout.display = "none" if is_replay or self.study is None else ""

    def _show_moment(self, now: Snapshot, playing: Replay) -> None:
        """A replay at its moment. Its head stays the same while it plays: a screen reader says each change."""
        words = pages.replay_words(now, playing.playback.is_over)
        self.said.data = pages.spoken(f"Replay of study {now.study.name}", words)
        self.result.value = pages.result(now.state) + pages.attribution(now.state)
        self.gauge.value = pages.moment(now)
        if self._shown.is_new("acts", []):
            self.acts.children = ()
        data = playing.data()
        if self._shown.is_new("playing", data):
            self.player.data = as_json(data)

    def _show_damage(self, now: Snapshot) -> None:
        """What of the history cannot be shown, until the file is restored."""
        if now.damage or self._is_damaged:
            self._tell(now.damage, is_wrong=bool(now.damage))
        self._is_damaged = bool(now.damage)

    def _forget(self) -> None:
        """Draw everything anew: the study is another one."""
        for kept in (self._shown, self._points, self._rows, self.card.drawn):
            kept.clear()

    def _show_nothing(self) -> None:
        self.said.data = pages.spoken("No study yet", "Fill in the form and press Start, or watch a recorded night.")
        self.gauge.value = self.result.value = self.writes.value = ""
        self.acts.children = (self.example_button,)

    def _show_state(self, now: Snapshot) -> None:
        memory = self._memory if now.activity in ("training", "scoring") else None
        self.said.data = pages.spoken(pages.heading(now), standing(now) or found(now) * (not now.is_running))
        self.result.value = pages.result(now.state) + pages.attribution(now.state)
        self.gauge.value = pages.gauge(now, memory)
        self.writes.value = pages.writing(now)
        if not now.is_running:
            acts = self._acts_of_ended(now)
        else:
            is_ours = now.phase == "paused" and now.state.is_paused_by_person
            acts = [self.resume_button if is_ours else self.pause_button, self.stop_button, self.stop_now_button]
        if self._shown.is_new("acts", acts):
            self.acts.children = acts
        if (
            self._shown.is_new("ended", not now.is_running)
            and not now.is_running
            and not (self._is_wrong or self._acting)
        ):
            self._tell("")  # "Process 1234 runs the study": it was true until now

    def _acts_of_ended(self, now: Snapshot) -> list[widgets.Button]:
        """The first of them is what the study was at, and the primary one."""
        is_finishing = now.is_finishing and _can_finish(now)
        self.finish_button.description = GO_ON_FINISHING if is_finishing else FINISH
        self.finish_button.button_style = "primary" if is_finishing else ""
        self.go_on_button.button_style = "" if is_finishing else "primary"
        finish = [self.finish_button] if _can_finish(now) else []
        acts = [*finish, self.go_on_button] if is_finishing else [self.go_on_button, *finish]
        has_better = any(e.status is Status.KEEP and e.number > 0 for e in now.state.experiments)
        attribute = [self.attribute_button] if _can_attribute(now) else []
        if now.is_attributing:
            acts = [*attribute, *acts]
            attribute = []
        return [*acts, *attribute, self.promote_button] if has_better else acts

    def _show_hint(self, now: Snapshot) -> None:
        """A field where the agent reads hints; where it does not, why, and nothing to type into."""
        why_not = self.no_readers.get(now.study.agent, "")
        self.hint_text.placeholder = why_not or "what the agent should know before its next proposal"
        self.hint_text.disabled = bool(why_not)
        self.hint_button.disabled = bool(why_not) or STEER in self._acting

    def _show_history(self, now: Snapshot) -> None:
        state = now.state
        if self._shown.is_new("history", _scores(state.experiments)):
            self.history.draw(history_data(state.experiments, state.sigma, self._points))
        work = (now.experiment.number, now.activity) if now.experiment and now.is_running else None
        on_slots = tuple((row.get("experiment"), row["phase"]) for row in now.slots)
        if self._shown.is_new("table", (_scores(state.experiments), len(state.experiments), work, on_slots)):
            of_replay = {} if self.playing is None else {"now": now.time}
            self.experiments.draw(table_data(state.experiments, now, self._rows) | of_replay)

    def _show_fold(self, now: Snapshot) -> None:
        """Update the part that is unfolded."""
        state = now.state
        match next((name for name, toggle in self.folds.items() if toggle.value), ""):
            case "notes" if self._shown.is_new(
                "fold", ("notes", state.notes, state.hints, state.refusals, now.commands)
            ):
                self.fold.value = pages.notes(now)
            case "log":
                self._shown.pop("fold", None)
                self.fold.value = pages.log(_tail(now.study.paths.supervisor_log))
            case "cost" if self._shown.is_new(
                "fold", ("cost", state.spent, state.limits, [e.status for e in state.experiments])
            ):
                self.fold.value = html.printed(cost_table(state))
            case "settings" if self._shown.is_new("fold", ("settings", state.limits, state.approve, state.sigma)):
                self.fold.value = pages.settings(now)
            case "" if self._shown.is_new("fold", ""):
                self.fold.value = ""

    def _unfold(self, name: str, is_open: bool) -> None:
        """Open one part, closing another; or close it."""
        for other, toggle in self.folds.items():
            if is_open and other != name:
                toggle.value = False
            toggle.description = ("▾ " if toggle.value else "▸ ") + FOLDS[other]
        self._refresh()


def in_python(error: BaseException) -> str:
    """What an error says to users, in the words of Python."""
    if isinstance(error, Remedied | StudyInUse):
        return error.for_panel
    if isinstance(error, Plain | ValueError | RuntimeError | OSError | MemoryError | ImportError) and str(error):
        return with_arguments(explain(error))
    return f"The panel failed ({error}). The study was not affected: run this cell again."


def made_of(study: Study) -> tuple[int, int] | None:
    """What tells the study.json of a study from that of a later one of its name; None where there is none."""
    try:
        found = study.paths.study.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _can_finish(now: Snapshot) -> bool:
    """Whether something beat the baseline and has no result yet."""
    return now.state.incumbent is not None and now.state.incumbent.number > 0 and now.state.result is None


def _can_attribute(now: Snapshot) -> bool:
    """Whether something beat the baseline, and which kept changes carry the gain is not known."""
    champion, known = now.state.incumbent, now.state.attribution
    return champion is not None and champion.number > 0 and (known is None or not known.is_ended)


def _still_of(now: Snapshot) -> Any:
    """The values that the picture in the saved notebook is made of."""
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
