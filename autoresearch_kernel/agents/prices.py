"""What a request to a language model takes: an estimate of its tokens, and its price by the table that people edit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml


def count_tokens(text: str) -> int:
    """Tokens that `text` takes, rather too many: a character of a number each, else one for 3 bytes of UTF-8.

    Against cl100k_base and o200k_base this is 1.2 to 1.5 times the count in code and prose and 1.1 to 1.5 in tables
    of numbers, where bytes alone give half; vocabularies with a token for each digit count up to 8 % more there.
    """
    of_numbers = sum(map(text.count, "0123456789.+-|"))
    return of_numbers + math.ceil((len(text.encode("utf-8", "replace")) - of_numbers) / 3)


@dataclass(frozen=True)
class Prices:
    """US dollars for a million tokens in and out, by the model's name or a pattern such as "local/*"."""

    table: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)

    def cost(self, model: str, tokens_in: int, tokens_out: int) -> float | None:
        """US dollars; None when the table does not name the model. The name itself wins, then the longest pattern."""
        wanted = model.lower()
        undated = re.sub(r"-(20\d\d-\d\d-\d\d|20\d{6})$", "", wanted)  # a dated snapshot costs what its model costs
        names = {name.lower(): name for name in self.table}
        fitting = [n for n in names if fnmatchcase(wanted, n) or fnmatchcase(undated, n)]
        if not fitting:
            return None
        best = max(fitting, key=lambda n: (n == wanted, n == undated, len(n)))
        price_in, price_out = self.table[names[best]]
        return (tokens_in * price_in + tokens_out * price_out) / 1e6


def read_prices(path: Path) -> Prices:
    """The table in `path`; an empty one without the file. Raises ValueError naming what is wrong in it."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Prices()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"The prices in {path} cannot be read: {error}. Mend or remove the file.") from error
    if values is None:
        return Prices()
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {values!r:.80}. It needs lines `MODEL: {{in: 1.25, out: 10}}`.")
    return Prices({str(name): _price(path, str(name), value) for name, value in values.items()})


def _price(path: Path, name: str, value: Any) -> tuple[float, float]:
    try:
        price = float(value["in"]), float(value["out"])
        if set(value) == {"in", "out"} and all(math.isfinite(p) and p >= 0 for p in price):
            return price
    except (TypeError, KeyError, ValueError):
        pass  # said below, like a price below zero
    raise ValueError(
        f"{path}: the price of {name} is {value!r:.80}. Write `{name}: {{in: 1.25, out: 10}}`, US dollars for a "
        "million tokens."
    )
