"""The tuned sizes of the baseline for a CPU, by amount of computing, and what lies between them.

An amount of computing is counted in *reference seconds*: what two cores of the machine where the points were tuned do
in a second. Sizes between two points are interpolated on a logarithmic scale of seconds. docs/presets.md says which
points were measured. The module measures nothing and knows no study.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

CONTEXT, VOCAB_SIZE, HEAD_DIM = 256, 2048, 64  # of every point: scores of all budgets are of the same rows
WIDTHS = (128, 192, 256, 320, 384)  # multiples of HEAD_DIM that train.py's range has
LEAST_EPOCHS = 1.25  # up to here a text hardly repeats, and dropout would only slow learning down
DROPOUT_PER_DOUBLING, MOST_DROPOUT = 0.1, 0.3


@dataclass(frozen=True)
class Point:
    """What suits `seconds` of the reference machine. The fields of a point that lies between two need not be whole."""

    seconds: float
    depth: float  # transformer blocks
    width: float  # of the residual stream
    batch_tokens: float  # tokens a step
    matrix_lr: float
    tokens_per_second: float  # of training, on the reference machine
    is_measured: bool = False  # by whole trainings; otherwise the sizes follow from shorter ones


# Up to 300 s by trainings of fixed steps on two cores with bf16, where the measured speed is 2.9 times the reference's;
# 900 s by whole trainings there. Above: model size and tokens grow with the square root of computing. Tokens a second
# lie between those of processors with bf16 and without, which differ by a factor of two for one measured speed.
CPU_POINTS = (
    Point(10, 1, 128, 1024, 0.015, 15_000),
    Point(30, 1, 128, 1024, 0.015, 15_000, is_measured=True),
    Point(60, 1, 128, 1024, 0.015, 15_000, is_measured=True),
    Point(170, 1, 128, 1024, 0.015, 15_000, is_measured=True),
    Point(300, 2, 128, 1024, 0.015, 9_500, is_measured=True),
    Point(900, 4, 192, 2048, 0.015, 3_300, is_measured=True),
    Point(3000, 6, 320, 4096, 0.02, 2_000),
    Point(5000, 6, 384, 4096, 0.02, 1_600),
)


@dataclass(frozen=True)
class Sizes:
    """Parameters of train.py for an amount of computing, and how many tokens the training will see."""

    parameters: Mapping[str, Any]
    num_tokens: float
    is_measured: bool  # a point of the table that whole trainings measured


def sizes_for(seconds: float) -> Sizes:
    """The sizes for so many reference seconds; beyond either end of the table those of its end."""
    point = interpolated(seconds)
    width = min(WIDTHS, key=lambda known: abs(math.log(known / point.width)))
    batch_tokens = 2 ** round(math.log2(point.batch_tokens))
    parameters = {
        "DEPTH": round(point.depth),
        "MODEL_DIM": width,
        "NUM_HEADS": width // HEAD_DIM,
        "HEAD_DIM": HEAD_DIM,
        "MLP_RATIO": 2,
        "NGRAM_ROWS": 2**16,
        "SEQUENCE_LENGTH": CONTEXT,
        "DEVICE_BATCH_SIZE": 8,
        "TOTAL_BATCH_SIZE": batch_tokens,
        "MATRIX_LR": float(f"{point.matrix_lr:.2g}"),
    }
    return Sizes(parameters, point.tokens_per_second * max(seconds, 0.0), point.is_measured)


def interpolated(seconds: float) -> Point:
    """Between the two nearest points, logarithmic in seconds and in every size but the depth, which is linear."""
    clamped = min(max(seconds, CPU_POINTS[0].seconds), CPU_POINTS[-1].seconds)
    above = next(point for point in CPU_POINTS if point.seconds >= clamped)
    if above.seconds == clamped:
        return above
    below = CPU_POINTS[CPU_POINTS.index(above) - 1]
    share = math.log(clamped / below.seconds) / math.log(above.seconds / below.seconds)
    sizes = {f.name: (getattr(below, f.name), getattr(above, f.name)) for f in fields(Point)[:-1]}
    between = {name: low ** (1 - share) * high**share for name, (low, high) in sizes.items()}
    return Point(**between | {"depth": below.depth + share * (above.depth - below.depth)})


def dropout_for(num_tokens: float, corpus_tokens: int) -> float:
    """DROPOUT for a training that sees `num_tokens` of a corpus that has `corpus_tokens` to train on."""
    epochs = num_tokens / max(1, corpus_tokens)
    if epochs <= LEAST_EPOCHS:
        return 0.0
    return round(min(MOST_DROPOUT, DROPOUT_PER_DOUBLING * math.log2(2 * epochs / LEAST_EPOCHS)), 2)
