"""Edits of a train.py as text: a model's reply read and applied."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from autoresearch_kernel.agents.edits import Edit, EditError, Submission, apply_edits
from autoresearch_kernel.agents.reply import read_submission
from tests.fuzzing import EXAMPLES
from tests.processor_time import processor_seconds

PROJECT = Path(__file__).parents[2]
TRAIN = (PROJECT / "train.py").read_text(encoding="utf-8")
TREE = ast.dump(ast.parse(TRAIN))
REPLIES = PROJECT / "tests" / "data" / "replies"

SOURCE = """# %% tags=["parameters"]
SEED = 1
MATRIX_LR = 0.04  # stép; 0.005..0.2 log

# %%
print(MATRIX_LR)
"""

CLASSES = '''class A:
    """
    Title
    =======
    text
    """

    def step(self):
        x = 1
        return x


class B:
    def step(self):
        x = 1
        y  =  2
        return x + y
'''

REASONS = "HYPOTHESIS: A larger step.\nEXPECTED: 0.01 less.\nREFUTED BY: no change.\n\n"
FROM, TO = "MATRIX_LR = 0.04  # stép; 0.005..0.2 log", "MATRIX_LR = 0.055  # stép; 0.005..0.2 log"
CHANGED = SOURCE.replace("0.04", "0.055")
BLOCK = f"<<<<<<< SEARCH\n{FROM}\n=======\n{TO}\n>>>>>>> REPLACE\n"


def block(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE\n"


def applied(source: str, reply: str) -> str:
    return apply_edits(source, read_submission(reply))


def submission(*edits: Edit, whole: str | None = None) -> Submission:
    return Submission("h", "", "", "", edits, whole)


def refusal(source: str, reply: str) -> str:
    with pytest.raises(EditError) as caught:
        applied(source, reply)
    return str(caught.value)


# --- reading


def test_a_reply_in_the_asked_form() -> None:
    read = read_submission(REASONS + BLOCK)
    assert (read.hypothesis, read.expected, read.refutation) == ("A larger step.", "0.01 less.", "no change.")
    assert (read.edits, read.whole, read.notes) == ((Edit(FROM + "\n", TO + "\n"),), None, "")
    assert apply_edits(SOURCE, read) == CHANGED


@pytest.mark.parametrize(
    "reply",
    [
        REASONS + f"```python\n{BLOCK}```\n",
        REASONS + f"train.py\n```python\n{BLOCK}```\nThat is all.",
        REASONS + f"### `train.py`\n\n{BLOCK}",
        REASONS + f"**File: `./train.py`**\n{BLOCK}",
        REASONS + f"```python title=train.py\n{BLOCK}```",
        REASONS + BLOCK.replace("SEARCH", "SEARCH train.py"),
        REASONS + BLOCK.replace("SEARCH\n", "SEARCH\ntrain.py\n"),
        REASONS + BLOCK.replace("SEARCH", "search").replace("REPLACE", "replace"),
        REASONS + BLOCK.replace("<<<<<<<", "<<<<<").replace("=======", "=========").replace(">>>>>>>", ">>>>>> "),
        REASONS + BLOCK.replace("\n", "  \n"),
        (REASONS + BLOCK).replace("\n", "\r\n"),
        REASONS + "".join("   " + line + "\n" for line in BLOCK.splitlines()),
        REASONS + f"```\n{block(f'```python{chr(10)}{FROM}{chr(10)}```', f'```python{chr(10)}{TO}{chr(10)}```')}```",
        f"```\n{REASONS}{BLOCK}```",
        "<think>\nHYPOTHESIS: no, wrong\n" + block("SEED = 1", "SEED = 2") + "</think>\n" + REASONS + BLOCK,
        "a thought that nobody opened\n" + block("SEED = 1", "SEED = 2") + "</think>\n" + REASONS + BLOCK,
        f"<think>{REASONS}{BLOCK}</think>",
        f"Sure! I will do it.\n\n{REASONS}{BLOCK}\nGood luck = always\n=======\n",
        "\ufeff" + REASONS + BLOCK,
    ],
)
def test_replies_in_other_dress_mean_the_same(reply: str) -> None:
    read = read_submission(reply)
    assert (read.hypothesis, read.expected, read.refutation) == ("A larger step.", "0.01 less.", "no change.")
    assert apply_edits(SOURCE, read) == CHANGED


@pytest.mark.parametrize(
    "labels",
    [
        "**Hypothesis:** A larger step.\n**Refuted by:** no change.\n**Expected:** 0.01 less.\n",
        "**HYPOTHESIS**: A larger\nstep.\n\n*EXPECTED EFFECT*: 0.01\n  less.\n- REFUTED IF: no change.\n\nThe edit:\n",
        "## Hypothesis\n\nA larger step.\n\n## Expected\n0.01 less.\n\n## Refuted by\nno change.\n\n## Edit\nof x\n",
        "1. hypothesis (one sentence): A larger step.\n2. expected — 0.01 less.\n3. Refutation - no change.\n---\nSo\n",
        "> HYPOTHESIS：A larger step.\n> EXPECTED: 0.01 less.\n> REFUTED BY: no change.\n\nBelow:\n\n`train.py`\n",
        "HYPOTHESIS: a draft\nHYPOTHESIS: A larger step.\n**EXPECTED: 0.01 less.**\nREFUTED WHEN: no change.\n",
    ],
)
def test_labels_in_any_order_and_dress(labels: str) -> None:
    read = read_submission(labels + BLOCK)
    assert (read.hypothesis, read.expected, read.refutation) == ("A larger step.", "0.01 less.", "no change.")


def test_an_essay_of_a_hypothesis_is_cut() -> None:
    read = read_submission("HYPOTHESIS: " + "word " * 5000 + "\n" + BLOCK)
    assert 900 < len(read.hypothesis) <= 1000 and read.hypothesis.endswith("word …")


def test_notes_are_taken_apart_and_may_hold_anything() -> None:
    notes = "# Learned\n```\n<<<<<<< SEARCH\nHYPOTHESIS: an old one\n```"
    for reply in (f"<notes>\n{notes}\n</notes>\n{REASONS}{BLOCK}", f"{REASONS}{BLOCK}\n<NOTES>{notes}</NOTES>"):
        read = read_submission(reply)
        assert (read.notes, read.hypothesis) == (notes, "A larger step.")
        assert apply_edits(SOURCE, read) == CHANGED


def test_notes_that_were_cut_off_are_none() -> None:
    read = read_submission(f"{REASONS}{BLOCK}\n<notes>\nWhat I lear")
    assert (read.notes, len(read.edits)) == ("", 1)


def test_what_cannot_be_written_to_a_file_is_replaced() -> None:
    read = read_submission(REASONS + BLOCK.replace("0.055", "0.055\0").replace("stép; 0.005..0.2 log\n>", "\ud800\n>"))
    assert "\ufffd" in read.edits[0].replace and "\0" not in read.edits[0].replace
    assert read_submission("HYPOTHESIS: \ud83d\ude00\n" + BLOCK).hypothesis == "\U0001f600"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("", "The reply is empty.*<<<<<<< SEARCH"),
        (" \n\t\n", "The reply is empty"),
        ("I would lower ALPHA.\n\nShall I go on?", "holds no edit of train.py.*<<<<<<< SEARCH"),
        (REASONS, "holds no edit"),
        (
            REASONS + "```diff\n--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-SEED = 1\n+SEED = 2\n```",
            "A unified diff is not read",
        ),
        (REASONS + "<notes>learned</notes>", "holds no edit"),
        (BLOCK + REASONS, "No edit stands under the last HYPOTHESIS.*<<<<<<< SEARCH"),
        (BLOCK, "states no hypothesis.*HYPOTHESIS: one sentence"),
        ("EXPECTED: a lot\n" + BLOCK, "states no hypothesis"),
        (REASONS + BLOCK.replace(">>>>>>> REPLACE", ""), "Block 1 has no >>>>>>> REPLACE line: it was cut off"),
        (REASONS + BLOCK + BLOCK[:40], "Block 2 has no >>>>>>> REPLACE"),
        (REASONS + BLOCK.replace(">>>>>>> REPLACE", "") + BLOCK, "Block 1 has no >>>>>>> REPLACE"),
        (REASONS + BLOCK.replace("=======\n", ""), "Block 1 has no ======= line"),
        (REASONS + block("  ", "x = 1"), "Block 1 has an empty SEARCH part. .* quote a line"),
        (REASONS + BLOCK + "prepare.py\n" + BLOCK, "Block 2 is for prepare.py. Only train.py may change"),
        (REASONS + BLOCK.replace("SEARCH", "SEARCH src/prepare.py"), "Block 1 is for prepare.py"),
        (REASONS + f"```python:program.md\n{BLOCK}```", "Block 1 is for program.md"),
        (REASONS + "**prepare.py**\n```python\nprint(1)\n```", "is about prepare.py. Only train.py"),
    ],
)
def test_replies_without_a_usable_edit(reply: str, message: str) -> None:
    with pytest.raises(EditError, match=f"(?s){message}"):
        read_submission(reply)


@pytest.mark.parametrize("title", ["As in prepare.py:", "See results.json:", "Unlike in prepare.py:"])
def test_a_sentence_that_names_another_file_is_no_title(title: str) -> None:
    assert "0.055" in applied(SOURCE, f"{REASONS}{title}\n{BLOCK}")


@pytest.mark.parametrize("title", ["File: prepare.py", "In prepare.py:", "Edit 1: prepare.py", "1. prepare.py"])
def test_a_title_names_another_file(title: str) -> None:
    with pytest.raises(EditError, match=r"Block 1 is for prepare\.py"):
        read_submission(f"{REASONS}{title}\n{BLOCK}")


def test_a_comment_that_says_what_was_removed_stands_for_nothing() -> None:
    edit = block("print(MATRIX_LR)", "# the output is removed")
    assert applied(SOURCE, REASONS + edit).endswith("# the output is removed\n")
    for words in ("# the training loop", "# rest of the code"):
        with pytest.raises(EditError, match="leaves code out"):
            applied(SOURCE, REASONS + block("print(MATRIX_LR)", words))


# --- the whole file


def test_a_whole_file_in_a_fence() -> None:
    read = read_submission(f"{REASONS}```python\n{CHANGED}\n\n```\nDone.")
    assert (read.edits, read.whole, read.hypothesis) == ((), CHANGED, "A larger step.")
    assert apply_edits(SOURCE, read) == CHANGED
    assert read_submission(
        f"{REASONS}- so:\n  ~~~\n" + "".join(f"  {x}\n" for x in CHANGED.split("\n")) + "  ~~~"
    ).whole


def test_fences_inside_a_whole_file_do_not_cut_it() -> None:
    whole = CHANGED + 'TEXT = """\n```\nprint(1)\n```\n=======\n"""\n# ```\n'
    reply = f"First a look:\n```\nSEED\n```\n{REASONS}```python\n{whole}```\nThen:\n```\nmore\n```\n"
    assert read_submission(reply).whole == whole


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (f"```python\n{CHANGED}", "was cut off: no ``` line closes it. Send search/replace blocks"),
        (f"```python\n{CHANGED}def f(:\n```", "no train.py: line 7: .*Mend it"),
        (f"```python\n{CHANGED}{SOURCE}```", "exactly one cell that begins with: # %%"),
        (f"```python\n{SOURCE}```\nbecomes\n```python\n{CHANGED}```", "holds 2 whole files"),
        (f"prepare.py\n```python\n{CHANGED}```", "The file is for prepare.py"),
        (f"```python\n{SOURCE}```", "leaves train.py as it is"),
    ],
)
def test_whole_files_that_are_none(reply: str, message: str) -> None:
    with pytest.raises(EditError, match=message):
        applied(SOURCE, REASONS + reply)


# --- applying


def test_blocks_apply_in_order_on_the_evolving_text() -> None:
    first = block("SEED = 1", "SEED = 1\nDEPTH = 3")
    assert applied(SOURCE, REASONS + first + block("DEPTH = 3", "DEPTH = 4")) == SOURCE.replace(
        "SEED = 1", "SEED = 1\nDEPTH = 4"
    )
    assert "An earlier block of this reply changed" in refusal(SOURCE, REASONS + BLOCK + block(FROM, "X = 1"))


def test_lines_can_be_deleted_and_the_end_is_one_newline() -> None:
    assert applied(SOURCE, REASONS + "<<<<<<< SEARCH\nSEED = 1\n=======\n>>>>>>> REPLACE") == SOURCE.replace(
        "SEED = 1\n", ""
    )
    assert apply_edits("a = 1", submission(Edit("a = 1", "a = 2"))) == "a = 2\n"
    assert apply_edits("a = 1\n\n\n", submission(Edit("a = 1\n", "a = 2\n"))) == "a = 2\n"
    assert apply_edits("a = 1", submission(whole="a = 2\n\n")) == "a = 2\n"


def test_windows_line_ends_stay() -> None:
    assert applied(SOURCE.replace("\n", "\r\n"), REASONS + BLOCK) == CHANGED.replace("\n", "\r\n")


def test_a_marker_inside_the_code_does_not_split_the_block() -> None:
    old = '    """\n    Title\n    =======\n    text\n    """'
    new = old.replace("Title", "Heading").replace("text", "text\n    =======\n    more")
    assert applied(CLASSES, REASONS + block(old, new)) == CLASSES.replace(old, new)
    docstring = '        x = 1\n        y  =  2\n        """\n=======\n        """'
    assert docstring in applied(CLASSES, REASONS + block("        x = 1\n        y  =  2", docstring))


def test_several_matches_are_counted() -> None:
    text = refusal(CLASSES, REASONS + block("        x = 1", "        x = 2"))
    assert "Block 1 matches 2 places of train.py, lines 9, 15" in text and "Quote more lines" in text
    assert "x = 1" in text


def test_an_exact_match_wins_over_one_that_is_only_alike() -> None:
    assert apply_edits("x = 1 \nx = 1\n", submission(Edit("x = 1\n", "x = 2\n"))) == "x = 1 \nx = 2\n"


def test_the_nearest_lines_are_shown_with_their_numbers() -> None:
    reply = REASONS + BLOCK + block("SEED = 1\nMATRX_LR = 0.040 # step", "SEED = 2")
    text = refusal(SOURCE, reply)
    assert "Block 2 matches nothing in train.py. It begins with:\n      | SEED = 1\n      | MATRX_LR" in text
    assert "    2 | SEED = 1\n    3 | MATRIX_LR = 0.055" in text and "send the whole reply again" in text
    assert "Nothing there is like it" in refusal(SOURCE, REASONS + block("@@@@@@@@@@@@@", "x"))


def test_an_edit_without_effect_is_sent_back() -> None:
    assert "Block 2 replaces lines by themselves" in refusal(SOURCE, REASONS + BLOCK + block("SEED = 1", "SEED = 1"))
    back = REASONS + BLOCK + block(TO, FROM)
    assert "leaves train.py as it is" in refusal(SOURCE, back)
    assert "leaves train.py as it is" in refusal(SOURCE, REASONS + block(FROM + "  ", FROM))


def test_a_shifted_block_is_shifted_back_and_what_it_repeats_stays() -> None:
    new = applied(
        CLASSES, REASONS + block("\nx = 1\ny = 2 \nreturn x + y", "\nx = 1\ny = 2 \nif y:\n    x = 3\nreturn x * y")
    )
    assert new == CLASSES.replace("return x + y", "if y:\n            x = 3\n        return x * y")


def test_tabs_stay_tabs() -> None:
    source = "def f():\n\tif a:\n\t\tb()\n\treturn 1\n"
    new = applied(source, REASONS + block("    if a:\n        b()", "    if a:\n        c()\n        b()"))
    assert new == "def f():\n\tif a:\n\t\tc()\n\t\tb()\n\treturn 1\n"


# --- anything at all

code_line = st.text(st.characters(exclude_characters="\n\r\0<>=`", exclude_categories=["Cs"]), max_size=12)
markers = ["<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", "```", "```python", "~~~", "<notes>", "</notes>", "<think>"]
markers += [
    "</think>",
    "[THINK]",
    "```thinking",
    "Thinking...",
    "<|channel|>final<|message|>",
    "<|end|>",
    "assistantfinal",
]
markers += [
    "------- SEARCH",
    "+++++++ REPLACE",
    "&lt;" * 7,
    "# ...",
    "...",
    "12 | ",
    "> ",
    '"',
    "\\n",
    "\u200b",
    "\uff1d" * 7,
]
labels = ["# %%", "HYPOTHESIS: h", "EXPECTED:", "**", "train.py", "prepare.py", '# %% tags=["parameters"]', "İ"]
code = ["SEED = 1", "        y  =  2", "    def step(self):", "class B:", '"""', "\0", "\ud800", "\t", ""]
pieces = st.sampled_from([*markers, *labels, *code])


joined = st.sampled_from(["\n", "\n", "\n", "", "\\n", "\r\n"])


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    st.one_of(
        st.text(),
        st.builds(str.join, joined, st.lists(st.one_of(pieces, code_line), max_size=25)),
        st.just(REASONS + BLOCK),
    ),
    st.booleans(),
)
@example("HYPOTHESIS: h\n<<<<<<< SEARCH\n=======\n\n=======\n>>>>>>> REPLACE", False)
def test_any_reply_ends_in_a_source_or_in_an_edit_error(reply: str, is_cut: bool) -> None:
    try:
        read = read_submission(reply, is_cut=is_cut)
        new = apply_edits(CLASSES, read)
    except EditError as error:
        assert str(error).endswith((".", "REPLACE"))
    else:
        assert read.hypothesis and (read.whole is None) == bool(read.edits)
        assert new.encode() and new.endswith("\n") and not new.endswith("\n\n") and new != CLASSES


@settings(deadline=None)
@given(st.lists(code_line, min_size=1, max_size=12), st.lists(code_line, max_size=4), st.data())
def test_a_block_that_quotes_lines_of_the_source_applies(lines: list[str], new: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(lines) - 1))
    end = data.draw(st.integers(start + 1, len(lines)))
    quoted = lines[start:end]
    assume(any(map(str.strip, quoted)) and new != quoted and lines[-1].strip())
    assume(sum(lines[i : i + len(quoted)] == quoted for i in range(len(lines))) == 1)
    expected = [*lines[:start], *new, *lines[end:]]
    edit = Edit("".join(line + "\n" for line in quoted), "".join(line + "\n" for line in new))
    source, wanted = ("\n".join(text).rstrip("\n") + "\n" for text in (lines, expected))
    assume(source != wanted)
    try:
        assert apply_edits(source, submission(edit)) == wanted
    except EditError as error:
        assert "in its code" in str(error) or "leaves code out" in str(error)


@settings(deadline=None)
@given(st.integers(0, TRAIN.count("\n") - 1), st.integers(1, 30), st.integers(-8, 8), st.booleans())
def test_a_quote_of_train_py_with_other_blanks_applies_all_the_same(
    start: int, size: int, shift: int, tail: bool
) -> None:
    lines = TRAIN.split("\n")
    quoted = lines[start : start + size]
    indents = [len(line) - len(line.lstrip()) for line in quoted if line.strip()]
    assume(indents and min(indents) + shift >= 0 and any(len(line) > 20 for line in quoted))
    moved = [" " * (len(x) - len(x.lstrip()) + shift) + x.strip() + "  " * tail if x.strip() else x for x in quoted]
    mark = moved[next(i for i, line in enumerate(moved) if line.strip())]
    new = [" " * (len(mark) - len(mark.lstrip())) + "# new", *moved]
    edit = Edit("".join(x + "\n" for x in moved), "".join(x + "\n" for x in new))
    try:
        result = apply_edits(TRAIN, submission(edit))
    except EditError as error:
        assert "places of train.py" in str(error)
        return
    rest = [line for line in result.split("\n") if line.strip() != "# new"]
    assert rest == lines
    assert ast.dump(ast.parse(result)) == TREE


@pytest.mark.parametrize(
    "reply",
    [
        "```\n# %% tags=['parameters']\n" * 2000,
        REASONS + "<notes>\n" * 50_000,
        "HYPOTHESIS" + "*" * 200_000 + "\n" + BLOCK,
        REASONS + block("x\n" * 30_000, "y"),
        REASONS + "<<<<<<< SEARCH\n" + "x\n=======\n" * 20_000 + ">>>>>>> REPLACE",
        REASONS + block("y" * 1_000_000, "y") + "\n\n" * 100_000,
    ],
    ids=["fences", "notes", "stars", "long search", "dividers", "long line"],
)
def test_a_hostile_reply_takes_no_long_time(reply: str) -> None:
    def read() -> None:
        with pytest.raises(EditError):
            applied(TRAIN, reply)

    assert processor_seconds(read, limit=5) < 5


# --- recorded replies


def test_recorded_replies() -> None:
    source = (REPLIES / "whole_file.md").read_text().split("```")[1].removeprefix("python\n")
    source = source.replace("ALPHA = 0.1 ", "ALPHA = 1.0 ").replace("NUM_BATCHES = 30 ", "NUM_BATCHES = 20 ")
    replies = {path.stem: path.read_text() for path in REPLIES.glob("*.md")}
    assert applied(source, replies["good_edit"]) == source.replace("ALPHA = 1.0 ", "ALPHA = 0.01 ")
    assert "ALPHA = 0.1 " in applied(source, replies["whole_file"])
    assert "    =======\n    ```python\n    Bigram(counts)(idx)\n    ```\n" in applied(source, replies["fence_inside"])
    assert "val_bpb = 0.1\n" in applied(source, replies["fake_score"])  # whether it may count is the audit's affair
    assert "The nearest lines are" in refusal(source, replies["no_match"])
    assert "holds no edit" in refusal(source, replies["prose"])
    assert "Block 1 is for prepare.py" in refusal(source, replies["prepare_edit"])
