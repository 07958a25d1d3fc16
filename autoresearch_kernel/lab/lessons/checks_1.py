"""Checks of lesson 1, bits per byte."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from .exercise import Exercise, WrongAnswer, choice_of, expect, is_near, number_of, require, result_of
from .text_models import by_length, lesson_text

LETTERS = Counter(b"aaab")  # 97 three times and 98 once
MEAN_SURPRISE = (2 * -math.log2(3 / 4) + 2) / 3  # of b"aab" under these counts
PAIRS = Counter({b"ab": 3, b"ac": 1, b"bb": 4})
LOOKED_AT = 100_000  # bytes of the text that was counted
A_LOSS, A_BYTES, B_BYTES = 2.60, 1.9, 3.4  # nats per token and bytes per token of two models


def _surprise(answer: Any) -> str:
    """A function from a probability to bits."""
    at_half, at_eighth = (number_of(result_of(answer, p), "A surprise") for p in (1 / 2, 1 / 8))
    require(
        at_eighth >= 0, f"The surprise is negative: {at_eighth:.2f} for 1/8. The logarithm needs a minus before it."
    )
    require(
        not is_near(at_eighth, -math.log(1 / 8)),
        f"This is {at_eighth:.2f} for 1/8, which is in nats: math.log counts in powers of e. Bits need math.log2.",
    )
    require(
        not is_near(at_eighth, -math.log10(1 / 8)),
        f"This is {at_eighth:.2f} for 1/8, in powers of ten. Bits need math.log2.",
    )
    require(at_eighth > at_half, "A rare letter must surprise more than a common one: here 1/8 does not beat 1/2.")
    require(is_near(at_half, 1.0), f"A fair coin holds 1 bit, and your function gives {at_half:.4g} for p = 1/2.")
    require(is_near(at_eighth, 3.0), f"1/8 is three halvings, so 3 bits; your function gives {at_eighth:.4g}.")
    return (
        "A letter of probability 1/2 costs 1 bit, one of 1/8 costs 3: each halving of the probability adds a bit. One "
        f"of 1/1000 costs {math.log2(1000):.2f} bits."
    )


def _letter_bits(answer: Any) -> str:
    """A function from counts and data to the mean surprise of a byte of the data."""
    given = number_of(result_of(answer, Counter(LETTERS), b"aab"), "Bits per byte")
    require(
        not is_near(given, 3 * MEAN_SURPRISE), "This is the sum of all surprises. Bits *per byte* divide by the bytes."
    )
    require(
        not is_near(given, MEAN_SURPRISE * math.log(2)),
        "This is in nats. Use math.log2, or your function `surprise`, so that the result is in bits.",
    )
    own = (2 * -math.log2(2 / 3) - math.log2(1 / 3)) / 3
    require(
        not is_near(given, own),
        "These are the probabilities of `data` itself. The model was counted before, in another text: use `counts`.",
    )
    require(
        not is_near(given, -math.log2((3 / 4 + 3 / 4 + 1 / 4) / 3)),
        "This is the surprise of the mean probability. Take the surprise of each byte first, and the mean after it.",
    )
    require(
        not is_near(given, 3 * MEAN_SURPRISE / len(LETTERS)),
        "This divides by the number of different letters. Divide by the number of bytes in `data`.",
    )
    expect(given, MEAN_SURPRISE, "three a and one b were counted, and the data are b'aab'")
    text = lesson_text()
    code = number_of(result_of(answer, Counter(text.train), text.train[:LOOKED_AT]), "Bits per byte")
    return (
        f"b'aab' costs {MEAN_SURPRISE:.3f} bits per byte: each `a` costs {-math.log2(3 / 4):.3f}, and `b` costs 2. The "
        f"Python code that the model counted costs {code:.2f}."
    )


def _smoothed(answer: Any) -> str:
    """A function from counts, a byte and alpha to a probability."""
    unseen, seen = (number_of(result_of(answer, Counter(LETTERS), byte, 1.0), "A probability") for byte in (99, 97))
    require(unseen > 0, "A byte that was never counted has probability 0 here, so its surprise is infinite: add alpha.")
    require(
        not (is_near(seen, 4 / 4) or is_near(unseen, 1 / 4)),
        "The probabilities of all 256 bytes add up to more than 1. Each of them got alpha, so the total grows as well.",
    )
    require(
        not is_near(seen, 4 / 6),
        "Only the bytes that were seen are in your total. All 256 bytes get alpha, so it grows by 256 times alpha.",
    )
    require(
        not is_near(seen, 4 / 30),
        "There are 256 different bytes, not 26 letters: code has digits, spaces and signs too.",
    )
    total = sum(number_of(result_of(answer, Counter(LETTERS), byte, 1.0), "A probability") for byte in range(256))
    require(
        is_near(total, 1.0), f"The probabilities of all 256 bytes must add up to 1, and yours add up to {total:.4g}."
    )
    halved = number_of(result_of(answer, Counter(LETTERS), 99, 0.5), "A probability")
    require(is_near(halved, 0.5 / 132), "The result does not follow alpha: use the argument, not a fixed number.")
    expect(seen, 4 / 260, "three a and one b were counted and alpha is 1, for the byte of `a`")
    return (
        "Every byte has a chance now, and the 256 probabilities add up to 1. No surprise is infinite any more. With "
        f"three `a`, one `b` and alpha = 1, a `c` has the probability 1/260, which is {1 / 260:.4f}."
    )


def _pairs(answer: Any) -> str:
    """A function from data to a Counter of pairs of bytes."""
    given = result_of(answer, b"ababc")
    require(hasattr(given, "items"), f"Return a Counter or a dict of pairs; this is a {type(given).__name__}.")
    keys = list(given)
    require(bool(keys), "There is no pair in your counts. b'ababc' has four of them.")
    require(
        not any(isinstance(key, tuple) for key in keys),
        "Your keys are tuples of two numbers. Take slices such as data[i:i+2], whose value is two bytes.",
    )
    require(
        not any(isinstance(key, bytes) and len(key) == 1 for key in keys),
        "A key has one byte only: the last slice of the data is too short. Stop one place before the end.",
    )
    require(not any(isinstance(key, int) for key in keys), "These are counts of single bytes. A key has two bytes.")
    require(
        dict(given) != {b"ab": 2},
        "This goes in steps of two, and so b'ba' is missed. Pairs overlap: begin one at every place.",
    )
    require(b"cb" not in given, "The bytes of your pairs are turned around: b'bc' is in the data, and b'cb' is not.")
    require(
        given.get(b"ab") != 1,
        "b'ab' is there twice in b'ababc', and you counted it once: a set forgets repetitions.",
    )
    expected = {b"ab": 2, b"ba": 1, b"bc": 1}
    require(dict(given) == expected, f"b'ababc' has the pairs {expected}, and your function found {dict(given)}.")
    return "Each byte but the last begins one pair, so a text of 1000 bytes has 999 pairs."


def _conditional(answer: Any) -> str:
    """A function from pair counts, two bytes and alpha to the probability of the second after the first."""

    def given(second: bytes, alpha: float) -> float:
        return number_of(result_of(answer, Counter(PAIRS), b"a", second, alpha), "A probability")

    plain = given(b"b", 0.0)
    require(
        not is_near(plain, 3 / 8),
        "This is the share of `ab` among all pairs. After an `a`, only the pairs that begin with `a` are possible.",
    )
    require(
        not is_near(plain, 3 / 7),
        "You divide by the pairs that end with the second byte. What is known is the first one: divide by its pairs.",
    )
    require(not is_near(plain, 3.0), "This is a count. A probability is a count divided by the count of all cases.")
    require(
        is_near(plain, 3 / 4), f"Three of the four pairs after `a` are `ab`, so 0.75; your function gives {plain:.4g}."
    )
    smooth = given(b"b", 1.0)
    require(not is_near(smooth, 3 / 4), "alpha changes nothing: add it to the count of the pair, as in exercise 1.3.")
    require(
        not is_near(smooth, 4 / 4) and not is_near(smooth, 4 / 5),
        "alpha is added to the pair only. All 256 pairs after `a` get it, so the total grows by 256 times alpha.",
    )
    expect(smooth, 4 / 260, "three `ab` and one `ac` were counted, and alpha is 1")
    return (
        "After `a`, the byte `b` has probability 3/4: the model now uses the byte before. So the answer is no: the "
        "share of `ab` among all pairs is only 3/8."
    )


def _best_length(answer: Any) -> str:
    """How many bytes before the next one the model should look at."""
    found = by_length()
    best = min(found, key=lambda before: found[before][1])
    memorised = min(found, key=lambda before: found[before][0])
    number = number_of(answer, "The number of bytes")
    require(
        number != memorised or memorised == best,
        f"With {memorised} bytes the model is best on the text that it counted: it knows that text by heart. "
        "Choose by the text that it never saw: take the numbers on val.",
    )
    require(
        number != 0, "With 0 bytes the model only knows how frequent each byte is. The numbers on val fall at first."
    )
    require(
        number == int(number) and int(number) in found,
        f"Give the number of bytes, a whole number from 0 to {max(found)}, and not the bits per byte.",
    )
    worse = found[int(number)][1] - found[best][1]
    side = "shorter" if number < best else "longer"
    require(
        number == best,
        f"{int(number)} bytes cost {worse:.2f} bits per byte more on val than the best length. A {side} one is worse: "
        "look for the lowest number on val.",
    )
    return (
        f"On val, {best} bytes are best, with {found[best][1]:.2f} bits per byte. On its own text the model seems to "
        "get better and better: that number says nothing about other text."
    )


def _per_byte(answer: Any) -> str:
    """A function from nats per token and bytes per token to bits per byte."""
    given = number_of(result_of(answer, 4.0, 3.2), "Bits per byte")
    right = 4.0 / math.log(2) / 3.2
    require(
        not is_near(given, 4.0 / 3.2), "This is in nats per byte. One bit is ln 2 = 0.693 nats: divide by math.log(2)."
    )
    require(
        not is_near(given, 4.0 * math.log(2) / 3.2),
        "You multiply by ln 2. A nat is more than a bit, so the number of bits is larger: divide by math.log(2).",
    )
    require(
        not is_near(given, 4.0 / math.log(2)), "This is in bits per token. A token has 3.2 bytes here: divide by them."
    )
    require(
        not is_near(given, 4.0 / math.log(2) * 3.2),
        "You multiply by the bytes of a token. Its bits are spread over its bytes: divide.",
    )
    expect(given, right, "a token costs 4 nats and has 3.2 bytes")
    return (
        f"4 nats per token and 3.2 bytes per token are {right:.3f} bits per byte, which is lower, and so better, than "
        "each of the counting models."
    )


def _equal_loss(answer: Any) -> str:
    """The nats per token at which B is as good as A."""
    given = number_of(answer, "The loss of B")
    right = A_LOSS * B_BYTES / A_BYTES
    require(
        not is_near(given, A_LOSS, 1e-3),
        "With the same loss per token, B would spend that loss on more bytes, and so it would be the better model.",
    )
    require(
        not is_near(given, A_LOSS * A_BYTES / B_BYTES, 2e-3),
        "The ratio is upside down. A token of B has more bytes, so it may cost more nats, not fewer.",
    )
    require(
        not is_near(given, A_LOSS / math.log(2) / A_BYTES, 2e-3),
        "This is the bits per byte of A. Go on from there: at which nats per token has B the same bits per byte?",
    )
    require(
        not is_near(given, right / math.log(2), 2e-3),
        "This is in bits per token. The loss that a training prints is in nats: multiply by math.log(2).",
    )
    require(
        not is_near(given, A_LOSS + B_BYTES - A_BYTES, 2e-3),
        "Losses and bytes cannot be added. The loss per byte has to be the same for both: use the ratio of the bytes.",
    )
    expect(given, right, "both models then have the same nats per byte", 2e-3)
    return (
        f"More: at {right:.2f} nats per token B is only as good as A with {A_LOSS:.2f}. A loss per token compares "
        "models with the same tokens only; bits per byte compares all."
    )


def _compressed(answer: Any) -> str:
    """A function from bits per byte and the bytes of a file to the bytes of the packed file."""
    given = number_of(result_of(answer, 2.0, 1000), "The size of the packed file")
    require(not is_near(given, 2000.0), "This is the size in bits. A byte has 8 bits: divide by 8.")
    require(not is_near(given, 500.0), "You divide by the bits per byte. A worse model needs more bits: multiply.")
    require(
        not is_near(given, 750.0), "This is what packing saves. The question is for the size of the packed file itself."
    )
    require(not is_near(given, 0.25), "This is the share that is left. Multiply by the size of the file.")
    require(
        not is_near(given, 125.0), "This takes one bit per byte, whatever the model is: use the first argument, too."
    )
    expect(given, 250.0, "a model needs 2 bits per byte, and the file has 1000 bytes")
    at_four = number_of(result_of(answer, 4.0, 1000), "The size of the packed file")
    require(
        not is_near(at_four, 62.5),
        "This gets smaller with more bits per byte: 62.5 bytes for 4, after 250 for 2. Bits are added up, so twice as "
        "many bits take twice as many bytes.",
    )
    expect(at_four, 500.0, "a model needs 4 bits per byte, and the file has 1000 bytes")
    return (
        "A model of 2 bits per byte packs a file to a quarter: bits per byte, divided by 8, is the share that is left. "
        "Of 100 kB, a model leaves 12.5 kB for each bit per byte: with the `val_bpb` of your model, 1.5 or so, about "
        "19 kB."
    )


REPORTED = {
    "a": "The model has seen the text of `train`. It may know that text by heart, as the longest counting model does.",
    "b": "The lowest of 100 scores is partly luck: with 100 tries, one of them fits val by chance.",
    "d": "Now test is the split that you choose with, and the lowest of 100 test scores is luck again.",
    "e": "The mean of two numbers that chance may have chosen is not better than they are, and a part of it is train.",
}


def _sealed(answer: Any) -> str:
    """Which number may be reported."""
    letter = choice_of(answer, "abcde")
    if letter in REPORTED:
        raise WrongAnswer(REPORTED[letter])
    return (
        "One of the five is honest. No model was trained on test or chosen with it, so no luck on test helped the "
        "model to be chosen. Test is opened once, after the choice: the command finish does this at the end of a study."
    )


EXERCISES = (
    Exercise("surprise", "The surprise of one letter", _surprise),
    Exercise("letter-bits", "A model that counts letters", _letter_bits),
    Exercise("smoothed", "The letter that never came", _smoothed),
    Exercise("pairs", "Count pairs", _pairs),
    Exercise("conditional", "What follows an a", _conditional),
    Exercise("best-length", "How far to look back", _best_length),
    Exercise("per-byte", "From nats per token to bits per byte", _per_byte),
    Exercise("equal-loss", "Two models with different tokens", _equal_loss),
    Exercise("compressed", "What a bit per byte is worth", _compressed),
    Exercise("sealed", "The number that you may report", _sealed),
)
