"""An analysed study: each question is a method of `Analysis`, each answer a `Finding`."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path

from ...core.drift import machine_speeds
from ...core.format import count
from ...show import html
from ...show.plot_style import png
from ...show.study_words import correction_words
from ...system.files import write_atomic
from .data import StudyData
from .finding import Column, Finding, framed
from .gains import ATTRIBUTION, NOISE, attributed, attribution_words, noise_rows, noise_words, summary
from .pace import DRIFT, PACE, drift_words, pace_rows, pace_words, reruns, where_the_seconds_go
from .tried import FAILURES, NEAR, THEME_COLUMNS, failure_rows, near_rows, near_words, theme_rows, theme_words
from .without import WITHOUT, how_to_take_out, without_rows, without_words


class Analysis(StudyData):
    """What a study has found; a notebook shows its summary and picture. See `autoresearch_kernel.analyse`."""

    def __repr__(self) -> str:
        return f"{self.name}\n{self.summary()}"

    def _repr_html_(self) -> str:
        from ...show.plot_progress import progress_figure  # matplotlib takes half a second

        words, picture = self.summary(), ""
        if self.experiments:
            speeds = machine_speeds(self.experiments)
            figure = progress_figure(self.experiments, title=self.name, sigma=self.sigma, speeds=speeds, unit=self.unit)
            picture = html.picture(png(figure), f"Every experiment of {self.name}")
        return html.card(self.name, html.paragraph(words) + framed(picture))

    def summary(self) -> str:
        """What was found, in a few sentences."""
        return summary(self)

    def attribution(self) -> Finding:
        """Who gained what: each kept change with its share of the whole gain, its time and its cost.

        Below it, where `autoresearch attribute` trained without each of them, which carry the gain and which were luck.
        """
        from .plots import waterfall_figure

        rows = attributed(self)
        draw = (lambda: waterfall_figure(rows, self.unit)) if rows else None
        words = attribution_words(self, rows)
        if rows and self.taken_out is None and self.can_be_attributed:
            words += f" {how_to_take_out(self.name)}"
        beside = self._without_each() if self.taken_out is not None else None
        return Finding("Where the gain came from", words, rows, self._named(ATTRIBUTION), draw, beside)

    def _without_each(self) -> Finding:
        """What the champion loses without each kept change, on fresh seeds."""
        from .plots import effects_figure

        rows = without_rows(self)
        draw = (lambda: effects_figure(rows, self.unit)) if any(row["gain"] is not None for row in rows) else None
        return Finding("What the champion loses without each change", without_words(self, rows), rows, WITHOUT, draw)

    def pace(self) -> Finding:
        """How fast it went: keep and crash rates, time and cost of a gain, and where the seconds went."""
        from .plots import seconds_figure

        where = where_the_seconds_go(self)
        draw = (lambda: seconds_figure(where)) if where else None
        return Finding("How fast it went", pace_words(self), pace_rows(self), PACE, draw)

    def noise(self) -> Finding:
        """How noisy a run is, how large the gains are beside that, and how many of them may be luck."""
        from .plots import noise_figure

        rows = noise_rows(self)
        draw = (lambda: noise_figure(self, rows)) if self.sigma and rows else None
        return Finding("How sure it is", noise_words(self, rows), rows, NOISE, draw)

    def drift(self) -> Finding:
        """Whether the machine stayed what it was: its speed during the study, and the incumbents' re-runs."""
        from .plots import speed_figure

        speeds, rows = machine_speeds(self.experiments), reruns(self)
        draw = (lambda: speed_figure(self, speeds, rows)) if speeds else None
        return Finding("Whether the machine drifted", drift_words(self, speeds, rows), rows, DRIFT, draw)

    def themes(self) -> Finding:
        """What was tried: by parameter, by part of train.py, else by the words of the idea."""
        from .plots import themes_figure

        rows = theme_rows(self)
        draw = (lambda: themes_figure(self, rows)) if any(row["deltas"] for row in rows) else None
        return Finding("What was tried", theme_words(rows), rows, self._named(THEME_COLUMNS), draw)

    def near_misses(self) -> Finding:
        """Discards so close to their incumbent that another run might tell; below them what failed, by cause."""
        rows = near_rows(self)
        return Finding("Near misses", near_words(self, rows), rows, self._named(NEAR), beside=self.failures())

    def failures(self) -> Finding:
        """What failed, by cause."""
        failed, tried = len(self.failed), count(len(self.proposals), "experiment")
        words = f"{failed} of {tried} failed." if failed else "Nothing failed."
        words += f" The audit refused {len(self.refused)}." if self.refused else ""
        words += f" {corrected.capitalize()}." if (corrected := correction_words(self.proposals)) else ""
        return Finding("What failed", words, failure_rows(self), FAILURES)

    def _named(self, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        """The columns, with that of the scores under the name of what they measure."""
        return tuple(replace(c, head=self.metric) if c.head == "val_bpb" else c for c in columns)

    def findings(self) -> tuple[Finding, ...]:
        """All answers, in the order in which they are best read."""
        asked = (self.attribution, self.pace, self.noise, self.drift, self.themes, self.near_misses)
        return tuple(ask() for ask in asked)

    def save(self, path: str | Path) -> Path:
        """Write everything as one HTML page that needs nothing else. Raises OSError when it cannot."""
        parts = [self._repr_html_(), *(finding._repr_html_() for finding in self.findings())]
        head = f'<meta charset="utf-8"><title>{escape(self.name)}</title>'
        body = f'<body style="max-width:62em;margin:2em auto;padding:0 1em">{"".join(parts)}</body>'
        write_atomic(path, f'<!doctype html><html lang="en"><head>{head}</head>{body}</html>\n')
        return Path(path)
