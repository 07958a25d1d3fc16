"""The control panel of a study, for a notebook: a view of its files, with a button for each thing a person can do.

The study runs in a process of its own, so the panel may be closed, reloaded or made anew at any time. What a button
does is a function of `control/actions.py`, and each button is also a method.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import ipywidgets as widgets

from ...control import actions
from ...control.playback import bundles_in, recording_path
from ...core.playback import USUAL_SPEED
from ...core.state import StudyState, replay
from ...record.study import Study, StudyError, WouldOverwrite, explained
from ...share.command import Unanswered
from ...show.follow import View, look
from ...show.study_words import sealed_words
from ...system.locations import project_root
from ..pictures import Picture, Table, figure_of
from .elements import FOLLOW
from .form import StudyForm
from .player import Replay, count_of
from .view import (
    OVERWRITE,
    PROMOTE,
    SHARE,
    SHARE_WITHOUT,
    SHARING,
    START,
    STEER,
    STILL_EVERY_SECONDS,
    PanelView,
    in_python,
    made_of,
)

P = ParamSpec("P")
T = TypeVar("T")

_open: weakref.WeakSet[Panel] = weakref.WeakSet()  # panels whose thread runs


def _explained(method: Callable[P, T]) -> Callable[P, T]:
    """A method for people: what they can mend is said in one sentence, in the words of Python."""

    @wraps(method)
    def wrapped(*arguments: P.args, **fields: P.kwargs) -> T:
        with explained(in_python):
            return method(*arguments, **fields)

    return wrapped


class Panel(PanelView):
    """A study in a notebook; each button is also a method.

    Args:
        control: what the buttons do: `control/actions.py`, or an object with the same functions.
    """

    def __init__(self, control: Any, project: Path, study: str | None = None) -> None:
        self.control, self.project = control, project
        self._is_picking = False
        self._is_overwrite_offered = False  # by the promote button, as edits would be lost
        self._is_removal_offered = False  # by the share button, of words that may be private
        super().__init__(StudyForm(self._check, self._start_clicked), control.NO_READERS)
        self._wire()
        self._choose_first(study, control.study_names(project))
        for panel in list(_open):  # the cell was run again: one thread looks, not two
            panel.close()
            panel.gauge.value = "Another panel was made, so this one is no longer kept up to date. Run its cell again."
        _open.add(self)
        threading.Thread(target=self._watch, name="autoresearch panel", daemon=True).start()

    def _acts(self) -> list[tuple[widgets.Button, Callable[[], str]]]:
        """Each button, and what it does."""
        why, edited = self.review.why, self.review.edited_source
        return [
            (self.go_on_button, self.go_on),
            (self.pause_button, self.pause),
            (self.resume_button, self.resume),
            (self.stop_button, self.stop),
            (self.stop_now_button, lambda: self.stop(now=True)),
            (self.finish_button, self.finish),
            (self.attribute_button, self.attribute),
            (self.promote_button, lambda: self.promote(force=self._is_overwrite_offered)),  # see _offer_overwrite
            (self.review.approve_button, lambda: self.approve(edited(self._named()), why.value.strip())),
            (self.review.reject_button, lambda: self.reject(why.value)),
            (self.hint_button, lambda: self.hint(self.hint_text.value)),
            (self.replay_button, self.replay),
            (self.share_button, lambda: self.share(yes=self._is_removal_offered)),
            (self.example_button, lambda: self.replay("example")),
        ]

    def _wire(self) -> None:
        for button, act in self._acts():
            button.on_click(lambda pressed, act=act: self._do(act, self._group(pressed)))
        self.hint_text.on_submit(lambda _: self._do(lambda: self.hint(self.hint_text.value)))
        self.new_button.on_click(lambda _: self._open_form())
        self.player.observe(lambda change: self._asked(change["new"]), "asked")
        self.card.follow_button.on_click(lambda _: self.select(None))
        self.picker.observe(lambda change: self._picked(change["new"]), "value")
        for drawing in (self.history, self.experiments):
            drawing.observe(lambda change: self._select(change["new"]), "selected")
        for name, toggle in self.folds.items():
            toggle.observe(lambda change, name=name: self._unfold(name, change["new"]), "value")

    @_explained
    def start(self, name: str, **fields: Any) -> str:
        """Create study `name` and let it run in the background.

        Args:
            fields: agent, with_, model, share, recording, prompt_tokens, reply_tokens, max_tokens, max_cost, max_calls,
                notify, budget (seconds a run), corpus, files_folder, text_key, preset, start, seed; experiments, hours
                and approve say how long and on whose word.
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
    def hint(self, text: str = "", clear: bool = False) -> str:
        """Say something to the agent; with `clear` it no longer gets what was said before."""
        answer = self.control.hint(self._named(), text, clear)
        if self.hint_text.value == text:  # else the user has typed something else since
            self.hint_text.value = ""
        return answer

    @_explained
    def approve(self, source: str | None = None, why: str = "") -> str:
        """Let what waits for you train: as it is, or as your `source`."""
        return self.control.approve(self._named(), source, why, self.review.seen_sha256)

    @_explained
    def reject(self, why: str) -> str:
        """Give what waits for you back to the agent, with the reason."""
        if not why.strip():
            raise StudyError("Say why: the agent reads it before it proposes something else.")
        return self.control.say_to(self._named(), "reject", why.strip(), train_sha256=self.review.seen_sha256)

    @_explained
    def finish(self, unsafe: bool = False) -> str:
        """Measure the study's result in the background, once: fresh seeds, then the sealed test split."""
        return self.control.finish(self._named(), unsafe)

    @_explained
    def attribute(self, seeds: int | None = None, unsafe: bool = False) -> str:
        """Train the champion without each of its kept changes in the background, on up to `seeds` fresh seeds."""
        return self.control.attribute(self._named(), seeds, unsafe)

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
    def share(self, prompts: bool = False, yes: bool = False) -> str:
        """Make one zip of the study in the project's folder, which others can open, read and check.

        Args:
            prompts: with the prompts and replies of its model.
            yes: remove all words that may be private. Without it, they are named when there are any.
        """
        study = self._named()
        self._offer_removal(False)
        try:
            return self.control.share(study, prompts, yes, self._say_shared)
        except Unanswered:
            self._offer_removal(True)
            raise

    @_explained
    def replay(
        self,
        recording: str | None = None,
        speed: float = USUAL_SPEED,
        experiment: int | None = None,
        quiz: bool = False,
    ) -> str:
        """Play a recorded night here: nothing trains, and no key is needed.

        Args:
            recording: the zip of a bundle, the folder of a study, or its name; the study shown when left out, else the
                example that comes with the program.
            speed: times the study's own; 60 shows a minute in a second.
            experiment: with which to begin.
            quiz: stop before each verdict and ask: keep, discard or once more?
        """
        shown = self.study.name if self.study is not None and self.playing is None else None
        if self.playing is not None:
            shown, recording = self.playing.before, recording or str(self.playing.path)
        playing = Replay(recording_path(recording or shown or "example", self.project), shown)
        playback = playing.playback
        try:
            playback.set_speed(speed)
            if experiment is not None:
                playback.jump(experiment)
            playback.ask(quiz)
        except BaseException:
            playing.close()
            raise
        with self._lock:
            if self.playing is not None:
                playing.before = self.playing.before
                self.playing.close()
            playing.count = count_of(self.player.asked)  # the buttons in the browser count on
            self.playing, self.study, self._view = playing, playback.study, playback
            self.form.close()
            self._show_another()
        playback.play()
        self._select(FOLLOW)
        return f'Replay of study {playback.study.name}. "End the replay" or `lab.end_replay()` ends it.'

    @_explained
    def end_replay(self) -> str:
        """Show the study again that was shown before."""
        if self.playing is None:
            return "No replay plays."
        with self._lock:
            before = self.playing.before
            self.playing.close()
            self.playing = self.study = self._view = None
            names = self.control.study_names(self.project)
            self._choose_first(None, sorted(names, key=lambda name: name != before))
        return ""

    def _asked(self, asked: str) -> None:
        """What a viewer did with the controls of the replay."""
        playing = self.playing
        if playing is None or not asked:
            return
        try:
            if playing.act(asked):
                self._tell("")
                self.refresh()
            else:
                self.end_replay()
        except (ValueError, RuntimeError, OSError) as error:
            self._tell(in_python(error), is_wrong=True)

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
        """Show the named study, else the latest that can be read; say what is wrong with later ones."""
        wrong = []
        for name in [*names, None] if study is None else [study]:
            try:
                self.choose(name)
                break
            except (ValueError, RuntimeError, OSError) as error:
                if study is not None:
                    raise
                wrong.append(in_python(error))
        self._tell("\n".join(wrong), is_wrong=True)

    @_explained
    def choose(self, name: str | None) -> None:
        """Show another study; None when there is none yet."""
        with self._lock:
            self.study = None if name is None else self.control.open_study(name, self.project)
            self._view = None if self.study is None else View(self.study)
            self._made = None if self.study is None else made_of(self.study)
            if self.playing is not None:
                self.playing.close()
                self.playing = None
            self._show_another()
        self._select(FOLLOW)
        if name is None:
            self._open_form()
        self.refresh()

    def _show_another(self) -> None:
        """Forget what is drawn: a study or a replay takes its place."""
        self._forget()
        self.now, self._memory = None, None
        self._still_at = None if self._still_at is None else -STILL_EVERY_SECONDS
        self._offer_overwrite(False)
        self._offer_removal(False)
        self._offer_studies()

    def _choose_again(self) -> None:
        assert self.study is not None
        self.choose(self.study.name)
        self._tell("")

    def _offer_studies(self) -> None:
        """All studies in the picker, in an order that does not jump, and the bundles that can be replayed."""
        names = sorted(self.control.study_names(self.project))
        bundles = [(f"replay {path.name}", path) for path in bundles_in(self.project)]
        options: list[tuple[str, str | Path]] = [*((name, name) for name in names), *bundles]
        shown = None if self.study is None or self.playing is not None else self.study.name
        name = shown if shown in names else None
        self._is_picking = True  # new options choose the first of them for a moment
        try:
            if list(self.picker.options) != options:
                self.picker.options = options
            self.picker.value = name
        finally:
            self._is_picking = False

    def close(self) -> None:
        """Look no more. The study goes on."""
        super().close()
        _open.discard(self)
        if self.playing is not None:
            self.playing.close()

    def _on_record(self) -> tuple[Study | None, StudyState]:
        """The study shown and what its history says now."""
        if self.playing is not None:
            return self.study, self.playing.playback.look().state
        if self.study is None:
            return None, replay([])
        return self.study, look(self.study).state

    def _named(self) -> Study:
        if self.playing is not None:
            raise StudyError("This is a replay: nothing runs that could be steered. End the replay first.")
        if self.study is None:
            raise StudyError("There is no study yet. Start one with the form above.")
        return self.study

    def _do(self, act: Callable[[], str], group: str = STEER) -> None:
        """Do what a button says, in a thread: a click must not wait, and an answer may take seconds.

        The buttons of its group are disabled meanwhile, and no others: a study that runs can still be stopped.
        """

        def work() -> None:
            try:
                self._tell(act())
            except Exception as error:  # whatever it is, a person pressed a button and should hear of it
                self._tell(in_python(error), is_wrong=True)
            finally:
                self._acting.remove(group)
                self._disable(group)
                self._refresh()

        self._acting.append(group)
        self._disable(group)
        threading.Thread(target=work, name="autoresearch button", daemon=True).start()

    def _disable(self, group: str) -> None:
        """Disable the buttons of a group while one of them works, and enable them afterwards."""
        is_acting = group in self._acting
        if group == START:
            self.form.is_starting = self.form.start_button.disabled = is_acting
        for button, _ in self._acts():
            if self._group(button) == group and not (button is self.hint_button and self.hint_text.disabled):
                button.disabled = is_acting

    def _group(self, button: widgets.Button) -> str:
        return SHARING if button is self.share_button else STEER

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
        if self.form.is_starting:  # a second click, before the browser has heard of the first
            return
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

        self._do(start, START)

    def _picked(self, name: str | Path | None) -> None:
        is_shown = self.playing is None and self.study is not None and name == self.study.name
        if self._is_picking or name is None or is_shown:
            return
        self.form.close()
        self._tell("")
        if isinstance(name, Path):
            bundle = str(name)
            self._do(lambda: self.replay(bundle))
            return
        try:
            self.choose(name)
        except (ValueError, RuntimeError, OSError) as error:
            self._tell(in_python(error), is_wrong=True)
            self._offer_studies()

    def _offer_overwrite(self, is_offered: bool) -> None:
        """A first press loses no edit of train.py; where it would, the button then says what a second one does."""
        self._is_overwrite_offered = is_offered
        self.promote_button.description = OVERWRITE if is_offered else PROMOTE
        self.promote_button.button_style = "danger" if is_offered else ""

    def _say_shared(self, done: int, of: int) -> None:
        """How far a bundle is, every tenth experiment."""
        if done % 10 == 0:
            self._tell(f"The bundle is being made: experiment {done} of {of}.")

    def _offer_removal(self, is_offered: bool) -> None:
        """A first press removes no word that only the user can judge; the button then says what a second one does."""
        self._is_removal_offered = is_offered
        self.share_button.description = SHARE_WITHOUT if is_offered else SHARE
        self.share_button.button_style = "warning" if is_offered else ""

    def _select(self, number: int) -> None:
        for drawing in (self.history, self.experiments):
            drawing.selected = number
        self._refresh()


def panel(study: str | None = None, project: Path | None = None) -> Any:
    """The control panel, for a notebook: shows a study, starts one, talks to it. Every button is a method, too.

    Args:
        study: its name; the one touched last when left out.
        project: folder of train.py and prepare.py; found from the working folder when left out.

    >>> from autoresearch_kernel import panel
    >>> p = panel()  # doctest: +SKIP
    >>> p.hint("leave the learning rates alone")  # doctest: +SKIP
    """
    with explained():
        return Panel(actions, project_root(project), study)
