"""The parameters of a train.py, read from and written into its text. Pure, standard library only.

They stand in the one percent cell tagged `parameters`. Each line in it is an assignment of a
constant, and its trailing comment says within what range an optimiser may change it:

    MATRIX_LR = 0.04        # step of the hidden matrices; 0.005..0.2 log
    WARMDOWN = 0.5          # share of the budget; 0.2..0.9 step 0.05
    BATCH_TOKENS = 2**12    # tokens a step; 2**10..2**15
    HEAD_DIM = 32           # channels; {16, 32, 64}
    VOCAB = 2048            # of the corpus, fixed

A parameter without a range gets a moderate one around its value, a bool both values. A string
without choices, a zero of unknown scale and anything marked `fixed` is not tuned.
An edit replaces the literal alone: comments, spacing and every other line stay as they are.
"""

from __future__ import annotations

import ast
import difflib
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from .cell import SourceError, assignments, comments_of, constant, num_bits, parse_source
from .syntax import parse_expression

GUESSED_FACTOR = 4  # of a range that the comment does not give: a quarter of the value to four times it
LARGEST_GUESSED_BITS = 63  # of an integer that may be tuned within a guessed range

_UNSIGNED = r"(?:\d[\d_]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?:\s*(?:\*\*|\^)\s*\d+)?"
_NUMBER = rf"[-+]?(?!0[\d_]){_UNSIGNED}"  # with leading zeros it is that of an experiment or of a month
_RANGE = re.compile(rf"(?<![\w.-])(?P<low>{_NUMBER})\s*\.\.\s*(?P<high>{_NUMBER})(?P<options>[^;]*)")
_STEP = re.compile(rf"\bstep\s+([-+]?{_UNSIGNED})")
_CHOICES = re.compile(r"\{([^{}]+)\}")
_FIXED = re.compile(r"\bfixed\b", re.IGNORECASE)
_POWER_OF_TWO = re.compile(r"2(\s*\*\*\s*)\d+")
_WITHIN_ONE = re.compile(r"BETA|MOMENTUM|DROPOUT|FRACTION|SHARE|RATIO|WARMUP|WARMDOWN|COOLDOWN|PROB")


@dataclass(frozen=True)
class Parameter:
    """One assignment of the parameters cell. `low`, `high` and `step` are in the units of `value`."""

    name: str
    value: Any
    text: str  # the literal as written, e.g. "2**16"
    kind: str  # "int", "float", "bool", "str", "pow2" (tuned over its exponent), or "other" (None, tuples)
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    step: float | int | None = None
    choices: tuple[Any, ...] | None = None
    fixed: bool = False
    comment: str = ""
    line: int = 0  # 1-based

    @property
    def tunable(self) -> bool:
        """Whether an optimiser may move it: a range or at least two choices, and not marked fixed."""
        if self.fixed:
            return False
        return (self.low is not None and self.high is not None) or len(self.choices or ()) > 1


def read_parameters(source: str) -> dict[str, Parameter]:
    """The parameters of `source`, in order. Raises SourceError without exactly one readable parameters cell.

    Of several on one line the comment belongs to the last; "fixed" in it holds for all of them.
    """
    comments = comments_of(source)
    found = assignments(parse_source(source), source)
    lines = _lines(source)
    parameters: dict[str, Parameter] = {}
    for assignment, following in zip_longest(found, found[1:]):
        statement = assignment.statement
        end = statement.end_lineno or statement.lineno
        comment = comments.get(end, (0, ""))[1].lstrip("# ").strip()
        if following is not None and following.statement.lineno == end and not _FIXED.search(comment):
            comment = ""
        value, text = constant(assignment.value), _segment(lines, assignment.value)
        parameters[assignment.name] = _parameter(assignment.name, value, text, comment, statement.lineno)
    return parameters


def set_parameters(source: str, values: Mapping[str, Any]) -> str:
    """`source` with these literals replaced in its parameters cell, in the style they were written in.

    Raises SourceError for an unknown name or a value that does not fit the parameter's kind.
    """
    parameters = read_parameters(source)
    _check_names(parameters, values)
    lines = _lines(source)
    for assignment in reversed(assignments(parse_source(source), source)):  # what stands before keeps its place
        name = assignment.name
        if name in values:
            node = assignment.value
            (row, column), (end_row, end_column) = _places(lines, node)
            new = literal(parameters[name], values[name])
            lines[row : end_row + 1] = [lines[row][:column] + new + lines[end_row][end_column:]]
    return "".join(lines)


def _lines(source: str) -> list[str]:
    """As the syntax tree counts them: a carriage return ends a line, too, and a form feed does not."""
    return io.StringIO(source, newline="").readlines()


def _places(lines: Sequence[str], node: ast.expr) -> tuple[tuple[int, int], tuple[int, int]]:
    """Row and column of the begin and the end of an expression, both from 0."""
    begin = _position(lines, node.lineno, node.col_offset)
    return begin, _position(lines, node.end_lineno or 0, node.end_col_offset or 0)


def _segment(lines: Sequence[str], node: ast.expr) -> str:
    """An expression as it is written."""
    (row, column), (end_row, end_column) = _places(lines, node)
    if row == end_row:
        return lines[row][column:end_column]
    return "".join([lines[row][column:], *lines[row + 1 : end_row], lines[end_row][:end_column]])


def _check_names(parameters: Mapping[str, Parameter], values: Mapping[str, Any], file: str = "train.py") -> None:
    if unknown := sorted(set(values) - set(parameters)):
        near = difflib.get_close_matches(unknown[0].upper(), parameters, n=1, cutoff=0.6)
        near = near or [name for name in parameters if name.upper() == unknown[0].upper()]
        raise SourceError(
            f"{file} has no parameter {', '.join(unknown)}{f' (did you mean {near[0]}?)' if near else ''}. "
            f"Its parameters cell holds: {', '.join(parameters) or 'none'}."
        )


def check_values(parameters: Mapping[str, Parameter], values: Mapping[str, Any], file: str = "train.py") -> None:
    """Raise SourceError, which names the parameter, its type and the value, for what `file` cannot have meant.

    A value of the right type may lie outside of the range, which is the optimiser's.
    """
    _check_names(parameters, values, file)
    for name, value in values.items():
        parameter = parameters[name]
        if wrong := _misfit(parameter, value):
            kind = "int" if parameter.kind == "pow2" else type(parameter.value).__name__
            raise SourceError(
                f"{name} cannot be {repr(value)[:60]}, {wrong}: {file} has {name} = {parameter.text}, "
                f"{'an' if kind == 'int' else 'a'} {kind}."
            )


def _misfit(parameter: Parameter, value: Any) -> str:
    """Why a parameter cannot have a value; "" when it can. One that is None may become anything."""
    known = parameter.value
    if known is None or _is_choice(parameter, value):
        return ""
    if isinstance(known, tuple | list):
        return _misfit_of_sequence(parameter, value)
    if value is None:
        return "which is no value"
    kinds = {float: (float, int)}.get(type(known), (type(known),))  # a bool is no int here
    if type(value) not in kinds:
        return f"{'an' if type(value) is int else 'a'} {type(value).__name__}"
    if isinstance(value, float) and not math.isfinite(value):
        return "which is no finite number"
    if num_bits(value) > LARGEST_GUESSED_BITS:
        return f"which has more than {LARGEST_GUESSED_BITS} bits"
    return ""


def _misfit_of_sequence(parameter: Parameter, value: Any) -> str:
    known = parameter.value
    if not isinstance(value, tuple | list):
        return f"a {type(value).__name__}"
    if known and len(value) != len(known):
        return f"which has {len(value)} elements instead of {len(known)}"
    found = (_misfit(replace(parameter, value=old), new) for old, new in zip(known, value, strict=False))
    return next(filter(None, found), "")


def _parameter(name: str, value: Any, text: str, comment: str, line: int) -> Parameter:
    fixed = name == "SEED" or _FIXED.search(comment) is not None
    given_range, choices = _given_range(comment), _CHOICES.search(comment)
    kind = _kind(value, text, given_range)
    if kind == "int" and given_range and not choices and not fixed and _is_fractional(given_range, name, line):
        kind, value = "float", float(value)
    common: dict[str, Any] = dict(name=name, value=value, text=text, kind=kind, fixed=fixed, comment=comment, line=line)
    if kind == "bool":
        return Parameter(**common, choices=(False, True))
    if choices:
        return Parameter(**common, choices=_choices(choices.group(1), kind, line))
    if kind not in ("int", "float", "pow2"):
        return Parameter(**common)
    if given_range:
        return Parameter(**common, **_range(given_range, kind, name, line))
    return Parameter(**common, **_guessed_range(name, value, kind))


def _given_range(comment: str) -> re.Match[str] | None:
    """The last range in a comment; a number with leading zeros is that of an experiment or of a month."""
    found = list(_RANGE.finditer(comment))
    return found[-1] if found else None


def _kind(value: Any, text: str, given_range: re.Match[str] | None) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        in_powers = given_range is not None and all(re.search(r"\*\*|\^", given_range[end]) for end in ("low", "high"))
        is_power = value > 0 and value & (value - 1) == 0
        return "pow2" if is_power and (in_powers or _POWER_OF_TWO.fullmatch(text)) else "int"
    return {float: "float", str: "str"}.get(type(value), "other")


def _number(text: str) -> float | int:
    value: float | int = constant(parse_expression(text.strip().replace("^", "**")))
    return value


def _choices(text: str, kind: str, line: int) -> tuple[Any, ...]:
    """Constants between braces; for strings the quotes may be left out."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    if kind == "str":
        return tuple(item.strip("\"'`") for item in items)
    try:
        values = [constant(parse_expression(item.replace("^", "**"))) for item in items]
    except (SyntaxError, SourceError) as error:
        raise SourceError(f"Line {line} of train.py: the choices {{{text}}} are not constants.") from error
    return tuple(float(v) if kind == "float" and isinstance(v, int) else v for v in values)


def _numbers(found: re.Match[str], name: str, line: int) -> tuple[float | int, float | int, float | int | None]:
    """Both ends of a range and its step, which is None without one."""
    step = _STEP.search(found["options"])
    try:
        return _number(found["low"]), _number(found["high"]), None if step is None else _number(step[1])
    except (SyntaxError, SourceError) as error:
        raise SourceError(
            f"Line {line} of train.py: the range of {name}, {found[0].strip()}, is not written in numbers of Python; "
            "write it as in `0.2..0.9 step 0.05`."
        ) from error


def _is_fractional(found: re.Match[str], name: str, line: int) -> bool:
    """Whether a range is one of floats: an end or the step is not whole, or is written with a decimal point."""
    step = _STEP.search(found["options"])
    has_point = any("." in text for text in (found["low"], found["high"], step[1] if step else ""))
    return has_point or any(number % 1 for number in _numbers(found, name, line) if number is not None)


def _range(found: re.Match[str], kind: str, name: str, line: int) -> dict[str, Any]:
    low, high, step = _numbers(found, name, line)
    log = re.search(r"\blog\b", found["options"]) is not None
    if not low < high:
        raise SourceError(f"Line {line} of train.py: the range of {name}, {found[0].strip()}, is empty.")
    if (log or kind == "pow2") and low <= 0:
        raise SourceError(f"Line {line} of train.py: the logarithmic range of {name} must start above 0, not at {low}.")
    cast = float if kind == "float" else int
    size = None if step is None else cast(step)
    if size is not None and size <= 0:
        raise SourceError(f"Line {line} of train.py: the step of {name} must be above 0.")
    return {"low": cast(low), "high": cast(high), "log": log or kind == "pow2", "step": size}


def _guessed_range(name: str, value: float | int, kind: str) -> dict[str, Any]:
    """A moderate range for a parameter whose comment names none; {} where its scale is unknown."""
    within_one = kind == "float" and 0 <= value <= 1 and _WITHIN_ONE.search(name.upper()) is not None
    if within_one:
        return {"low": max(0.0, value - 0.3), "high": min(1.0, value + 0.3)}
    if value <= 0 or num_bits(value) > LARGEST_GUESSED_BITS or not math.isfinite(value):
        return {}
    if kind == "float":
        return {"low": value / GUESSED_FACTOR, "high": value * GUESSED_FACTOR, "log": True}
    low, high = max(1, int(value) // GUESSED_FACTOR), int(value) * GUESSED_FACTOR
    return {"low": low, "high": high, "log": True}


def _position(lines: Sequence[str], line: int, byte_offset: int) -> tuple[int, int]:
    """The syntax tree counts columns in UTF-8 bytes; this counts characters."""
    return line - 1, len(lines[line - 1].encode()[:byte_offset].decode())


def _is_choice(parameter: Parameter, value: Any) -> bool:
    """Whether the comment lists a value, of the same type."""
    return any(value == choice and type(value) is type(choice) for choice in parameter.choices or ())


def literal(parameter: Parameter, value: Any) -> str:
    """`value` as source text in the style of `parameter.text`."""
    kind = parameter.kind
    if _is_choice(parameter, value) and type(value) is not type(parameter.value):
        return repr(value)
    if kind in ("int", "pow2", "float") and isinstance(value, (int, float)) and not isinstance(value, bool):
        if kind == "float" and math.isfinite(value):
            return _float_text(float(value), parameter.text)
        if kind != "float" and float(value).is_integer():
            return _int_text(int(value), parameter.text)
    elif kind == "bool" and isinstance(value, bool):
        return repr(value)
    elif kind == "str" and isinstance(value, str):
        return _str_text(value, parameter.text)
    elif kind == "other":
        return repr(value)
    raise SourceError(
        f"Line {parameter.line} of train.py: {parameter.name} = {parameter.text} cannot become {value!r}; "
        f"it needs {'an int' if kind in ('int', 'pow2') else 'a ' + kind}."
    )


def _int_text(value: int, style: str) -> str:
    power = _POWER_OF_TWO.fullmatch(style)
    if power and value > 0 and value & (value - 1) == 0:
        return f"2{power[1]}{value.bit_length() - 1}"
    return f"{value:_}" if "_" in style else str(value)


def _float_text(value: float, style: str) -> str:
    """The shortest text that reads back as `value`; in powers of ten when `style` is."""
    text = repr(value)
    if "e" in style.lower() and value != 0:
        text = next(t for digits in range(17) if float(t := f"{value:.{digits}e}") == value)
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return text


def _str_text(value: str, style: str) -> str:
    text = repr(value)
    return f'"{text[1:-1]}"' if style.startswith('"') and '"' not in text else text
