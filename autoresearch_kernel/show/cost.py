"""What a study's model has used: a table of experiments and its sum, and the same for scripts. Pure text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from ..core.format import thousands
from ..core.state import StudyState
from ..core.types import Limits, Spent


def tokens(number: int) -> str:
    """`812`, `31.4 k`, `1.25 M`."""
    if number < 1000:
        return str(number)
    return f"{number / 1e3:.1f} k" if number < 999_950 else f"{number / 1e6:.2f} M"


def money(spent: Spent) -> str:
    """`$0.42`; with how many calls have no known price."""
    known = f"${spent.cost:.4f}" if 0 < spent.cost < 0.1 else f"${spent.cost:.2f}"
    if spent.unpriced_calls == spent.calls:
        return "no price" if spent.calls else "–"
    return known + (f" + {spent.unpriced_calls} without price" if spent.unpriced_calls else "")


def spent_words(spent: Spent, limits: Limits) -> str:
    """`31.4 k tokens · $0.42 of $5.00`; "" before the first call."""
    if not spent.calls:
        return ""
    of_tokens = f" of {tokens(limits.max_tokens)}" if limits.max_tokens is not None else ""
    of_cost = f" of ${limits.max_cost:.2f}" if limits.max_cost is not None else ""
    has_price = spent.unpriced_calls < spent.calls or limits.max_cost is not None
    calls = f" · {spent.counted_calls} of {limits.max_calls} calls" if limits.max_calls is not None else ""
    return f"{tokens(spent.tokens)}{of_tokens} tokens{calls}" + (f" · {money(spent)}{of_cost}" if has_price else "")


def plan_words(model: str, host: str, price: tuple[float, float] | None, limits: Limits) -> str:
    """Which model is asked, where, at what price (US dollars for a million tokens in and out), and what it may use."""
    costs = "price not known" if price is None else f"${price[0]:g} in and ${price[1]:g} out for a million tokens"
    caps = [f"{tokens(limits.max_tokens)} tokens"] if limits.max_tokens is not None else []
    caps += [f"${limits.max_cost:.2f}"] if limits.max_cost is not None else []
    caps += [f"{limits.max_calls} calls"] if limits.max_calls is not None else []
    at_most = f"; at most {' and '.join(caps)} in all" if caps else ""
    words = f"Model {model} at {host}, {costs}{at_most}."
    if caps or price == (0, 0):
        return words
    return f"{words}\nNothing limits what it may spend: add --max-tokens N{' or --max-cost USD' if price else ''}."


def tool_words(who: str, reports_cost: bool, limits: Limits) -> str:
    """Which command-line tool is asked, whose limits that uses, and what the study may use of them."""
    caps = [f"{limits.max_calls} calls"] if limits.max_calls is not None else []
    caps += [f"{tokens(limits.max_tokens)} tokens"] if limits.max_tokens is not None else []
    caps += [f"${limits.max_cost:.2f}"] if limits.max_cost is not None else []
    words = f"{who} proposes, within the usage limits of your account there"
    if caps:
        return f"{words}; at most {' and '.join(caps)} in all."
    other = " or --max-cost USD" if reports_cost else ""
    return f"{words}.\nNothing else limits what it may use: add --max-calls N{other}."


def cost_table(state: StudyState) -> str:
    """One line for each experiment that a model was asked for, those never proposed included, and the sum."""
    if not state.spent.calls:
        return "No model was asked for anything."
    lines = [f"{'#':>4}  {'calls':>5}  {'tokens in':>10}  {'tokens out':>10}  {'cost':>10}  outcome"]
    lines += [f"{row}  {outcome}".rstrip() for row, outcome in _rows(state)]
    lines += [_row("sum", state.spent), spent_words(state.spent, state.limits)]
    if state.spent.unpriced_calls:
        lines.append(
            "Calls have no price while presets/prices.yaml does not name their model. Add a line to it, as in\n"
            "  MODEL: {in: 1.25, out: 10}  # US dollars for a million tokens"
        )
    return "\n".join(lines)


def _rows(state: StudyState) -> Iterable[tuple[str, str]]:
    for number, spent in sorted(state.spent_by_experiment.items()):
        experiment = state.experiments[number] if number < len(state.experiments) else None
        outcome = (experiment.status or "in work") if experiment is not None else "not proposed yet"
        yield _row(f"{number:d}", spent), str(outcome)


def _row(name: str, spent: Spent) -> str:
    return (
        f"{name:>4}  {spent.calls:>5}  {thousands(spent.tokens_in):>10}  {thousands(spent.tokens_out):>10}  "
        f"{money(spent):>10}"
    )


def cost_json(state: StudyState) -> dict[str, Any]:
    """spent, limits, and spent of each experiment by its number."""
    by_experiment = {str(number): asdict(spent) for number, spent in sorted(state.spent_by_experiment.items())}
    return {"spent": asdict(state.spent), "limits": asdict(state.limits), "experiments": by_experiment}
