"""What the way from a model to here does to a reply: undone where that alone makes it fit, else refused by its name."""

from __future__ import annotations

import html
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_kernel.agents.edits import EditError, apply_edits
from autoresearch_kernel.agents.elisions import elided
from autoresearch_kernel.agents.reply import read_submission
from autoresearch_kernel.agents.transport import REPAIRS
from tests.fuzzing import EXAMPLES

SOURCE = """# %% tags=["parameters"]
WIDTH = 32  # the model's width; 8..64

# %%
from prepare import evaluate


class Layer:
    def forward(self, x: int) -> int:
        y = x & 7
        for i in range(WIDTH):
            y = y + i if y < 100 else y
        return y

    def cost(self):
        raise NotImplementedError


class Shape:
    def area(self) -> float:
        ...


print(f"{WIDTH} wide", "\\n")
evaluate(Layer())
"""
REASONS = "HYPOTHESIS: Wider is better.\nEXPECTED: 0.01 less.\nREFUTED BY: no change.\n\n"
OLD, NEW = "WIDTH = 32  # the model's width; 8..64", "WIDTH = 48  # the model's width; 8..64"
WIDER = SOURCE.replace(OLD, NEW)
METHOD = SOURCE[SOURCE.index("    def forward") : SOURCE.index("    def cost")].rstrip()
FASTER = METHOD.replace("range(WIDTH)", "range(2)").replace("y < 100", "y < 50 and i > 1")
FAST = SOURCE.replace(METHOD, FASTER)


def block(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE\n"


def applied(reply: str) -> str:
    return apply_edits(SOURCE, read_submission(reply))


def refusal(reply: str) -> str:
    with pytest.raises(EditError) as caught:
        applied(reply)
    return str(caught.value)


def numbered(text: str, form: str, first: int = 9) -> str:
    return "\n".join(form.format(i, line) for i, line in enumerate(text.split("\n"), first))


# --- entities

escape = html.escape


@pytest.mark.parametrize(
    "reply",
    [
        REASONS + block(escape(METHOD), escape(FASTER)),
        escape(REASONS + block(METHOD, FASTER)),
        REASONS + block(METHOD, escape(FASTER)),
        REASONS + block(escape(escape(METHOD)), escape(escape(FASTER))),
        REASONS + block(METHOD.replace(">", "&#62;"), FASTER.replace(">", "&#x3E;")),
        REASONS + block(METHOD, FASTER.replace("<", "&lt;")),
        escape(REASONS + block(numbered(METHOD, "{}: {}"), numbered(FASTER, "{}: {}"))),
    ],
)
def test_entities_are_characters_where_the_block_fits_then(reply: str) -> None:
    assert applied(reply) == FAST


def test_an_entity_that_the_code_means_stays() -> None:
    new = f'{NEW}\nESCAPED = "&lt;"  # and &gt;'
    assert applied(REASONS + block(OLD, new)) == SOURCE.replace(OLD, new)


def test_entities_that_cannot_be_undone_are_named() -> None:
    assert "holds the HTML entity &lt;: write the character '<'" in refusal(
        REASONS + block(OLD, "WIDTH = 3 if 1 &lt; 2")
    )
    text = refusal(REASONS + block("def nothing() -&gt; int:", "x = 1"))
    assert "The block has HTML entities such as &gt;" in text and "The nearest lines are" in text


# --- line numbers and marks


@pytest.mark.parametrize(
    "form",
    ["{}: {}", "{:4} | {}", "{:4}|{}", "{:6}\t{}", "{:4}\u2192{}", "{:4} \u2502 {}", "{}. {}", "{}) {}", "[{}] {}",
     "L{}: {}", "---> {} {}", "{} {}", "     {} {}", "{}:{}"],
)  # fmt: skip
def test_line_numbers_are_left_out(form: str) -> None:
    old, new = numbered(METHOD, form), numbered(FASTER, form)
    for reply in (block(old, new), block(old, FASTER), block(METHOD, new)):
        assert applied(REASONS + reply) == FAST


@pytest.mark.parametrize("mark", ["> ", ">", "| ", "\u2192", "\u00bb "])
def test_marks_before_each_line_are_left_out(mark: str) -> None:
    reply = block(*("\n".join(mark + line for line in text.split("\n")) for text in (METHOD, FASTER)))
    assert applied(REASONS + reply) == FAST


@pytest.mark.parametrize("form", ["> {1}", "{:4} | {}", "{}: {}"])
def test_a_reply_with_marks_before_all_of_it(form: str) -> None:
    assert applied(numbered(REASONS + block(OLD, NEW), form)) == WIDER


def test_the_marks_of_a_diff_in_a_block_are_left_out() -> None:
    assert applied(REASONS + block("-" + OLD, "+" + NEW)) == WIDER
    assert applied(REASONS + block(OLD, "+" + NEW)) == WIDER


def test_a_number_before_one_new_line_is_left_out_or_named() -> None:
    assert applied(REASONS + block(OLD, f"{NEW}\n  3 | DEPTH = 2")) == SOURCE.replace(OLD, f"{NEW}\nDEPTH = 2")
    text = refusal(REASONS + block(OLD, f"{NEW}\n  3 | DEPTH = = 2"))
    assert "Line 3 of the new train.py, '3 | DEPTH = = 2', begins with a line number: leave it out" in text


def test_numbers_that_the_code_has_stay() -> None:
    new = f"{NEW}\nTABLE = {{\n    1: 2,\n    3: 4,\n}}"
    assert applied(REASONS + block(OLD, new)) == SOURCE.replace(OLD, new)


# --- typographic characters


@pytest.mark.parametrize(
    ("there", "typed"),
    [("'", "\u2019"), ("'", "\u02bc"), ("-", "\u2011"), (">", "\uff1e"), (" ", "\u00a0"), ("_", "\u200b_"),
     ("W", "\uff37"), ("H", "\u041d"), ("..", "\u2025"), ("i", "\u0456")],
)  # fmt: skip
def test_look_alikes_in_quoted_lines_match(there: str, typed: str) -> None:
    edited = FAST.replace(OLD, NEW)
    reply = block(OLD.replace(there, typed), NEW.replace(there, typed)) + block(METHOD.replace(there, typed), FASTER)
    assert applied(REASONS + reply) == edited


@pytest.mark.parametrize(
    ("new", "what"),
    [
        ("WIDTH = 1e\u22122", "U+2212 (MINUS SIGN) in its code: write '-'"),
        ("W\u0406DTH = 48", "U+0406 (CYRILLIC CAPITAL LETTER BYELORUSSIAN-UKRAINIAN I) in its code: write 'I'"),
        ("\uff37\uff29\uff24\uff34\uff28 = 48", "U+FF37 (FULLWIDTH LATIN CAPITAL LETTER W) in its code: write 'W'"),
        ("WIDTH = \u201c48\u201d", "U+201C (LEFT DOUBLE QUOTATION MARK) in its code: write '\"'"),
        ("WIDTH \uff1d 48", "U+FF1D (FULLWIDTH EQUALS SIGN) in its code: write '='"),
        ("WIDTH\u00a0= 48", "U+00A0 (NO-BREAK SPACE) in its code: write a plain blank or nothing"),
        ("WIDTH\u200b = 48", "U+200B (ZERO WIDTH SPACE) in its code"),
        ("WIDTH = 4\u00d712", "U+00D7 (MULTIPLICATION SIGN) in its code"),
        ("WIDTH = 48\nD\u0395PTH = 2", "U+0395 (GREEK CAPITAL LETTER EPSILON) in its code: write 'E'"),
    ],
)
def test_look_alikes_in_new_code_are_refused_by_line_and_code_point(new: str, what: str) -> None:
    text = refusal(REASONS + block(OLD, new))
    assert what in text and f"Line {1 + len(new.splitlines())} of the new train.py" in text
    whole = f"{REASONS}```python\n{SOURCE.replace(OLD, new)}```"
    assert what in refusal(whole) or "no train.py" in refusal(whole)


@pytest.mark.parametrize(
    "new",
    [
        "WIDTH = 48  # wider \u2014 it\u2019s better",
        'NAME = "\u201cW\u201d \u2212\u200b"',
        "\u03b2 = \u00e9t\u00e9 = 1",
    ],
)
def test_comments_strings_and_names_in_other_letters_may_hold_anything(new: str) -> None:
    assert applied(REASONS + block(OLD, new)) == SOURCE.replace(OLD, new)


@pytest.mark.parametrize(
    "reply",
    [
        REASONS + block(OLD, NEW).replace("=======", "\uff1d" * 7),
        REASONS + block(OLD, NEW).replace("<<<", "\uff1c" * 3).replace(">>>", "\uff1e" * 3),
        REASONS + "\u200b" + block(OLD, NEW).replace("\n>>>", "\n\ufeff>>>"),
        REASONS.replace(":", "\uff1a") + block(OLD, NEW),
        REASONS.replace("HYPOTHESIS:", "**Idea / Hypothesis\uff1a**") + block(OLD, NEW),
        REASONS.replace(":", "\ufe55") + block(OLD, NEW),
        REASONS.replace("HYPOTHESIS", "\u041dYPOTHESIS") + block(OLD, NEW),
    ],
)
def test_marks_and_labels_in_other_characters(reply: str) -> None:
    read = read_submission(reply)
    assert (read.hypothesis, apply_edits(SOURCE, read)) == ("Wider is better.", WIDER)


# --- newlines and other forms of a block


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(REASONS + block(METHOD, FASTER)),
        f"```json\n{json.dumps(REASONS + block(METHOD, FASTER))}\n```",
        (REASONS + block(METHOD, FASTER)).replace("\n", "\\n"),
        (REASONS + block(METHOD, FASTER)).replace("\n", "\\r\\n"),
        REASONS + block(METHOD, FASTER).replace("\n", "\\n"),
        REASONS + block(METHOD.replace("\n", "\\n"), FASTER.replace("\n", "\\n")),
        REASONS + block(METHOD, FASTER.replace("\n", "\\n")),
        (REASONS + block(METHOD, FASTER)).replace("\n", "\r"),
        REASONS + block(METHOD, FASTER).replace("<<<<<<<", "-------").replace(">>>>>>>", "+++++++"),
        REASONS + block(METHOD, FASTER).replace("<<<<<<<", "\u2014" * 7).replace(">>>>>>>", "+++++++"),
        REASONS + block(METHOD, FASTER).replace("SEARCH\n", "SEARCH\n:start_line:9\n-------\n"),
        REASONS + block(METHOD, FASTER).replace("SEARCH", "ORIGINAL").replace("REPLACE", "UPDATED"),
    ],
)
def test_other_dress_of_newlines_and_marks(reply: str) -> None:
    assert applied(reply) == FAST


def test_a_backslash_and_n_that_the_code_has_stays() -> None:
    new = f'{NEW}\nRULE = "\\n=======\\n"'
    for reply in (REASONS + block(OLD, new), json.dumps(REASONS + block(OLD, new))):
        assert applied(reply) == SOURCE.replace(OLD, new)


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (f"```diff\n--- a/train.py\n+++ b/train.py\n@@ -2 +2 @@\n-{OLD}\n+{NEW}\n```", "A unified diff"),
        (f"--- train.py\n+++ train.py\n@@ @@\n-{OLD}\n+{NEW}", "A unified diff"),
        (f"*** Begin Patch\n*** Update File: train.py\n@@\n-{OLD}\n+{NEW}\n*** End Patch", "*** Begin Patch"),
        (json.dumps({"edits": [{"search": OLD, "replace": NEW}]}), "An edit in JSON"),
        (f"```json\n{json.dumps([{'old_string': OLD, 'new_string': NEW}])}\n```", "An edit in JSON"),
        (f"<search>\n{OLD}\n</search>\n<replace>\n{NEW}\n</replace>", "An edit in XML tags"),
        (f"<old_str>{OLD}</old_str><new_str>{NEW}</new_str>", "An edit in XML tags"),
        (f"<tool_call>{json.dumps({'name': 'edit'})}</tool_call>", "A call of a tool"),
        ("sed -i 's/32/48/' train.py", "A command that edits files, such as sed"),
        (f"```python\n{NEW}\n```", "A piece of code in a fence, without its place"),
        ("I would make it wider.", "A description"),
    ],
)
def test_other_forms_of_an_edit_are_named(edit: str, name: str) -> None:
    text = refusal(REASONS + edit)
    assert f"{name}" in text and "is not read" in text and "<<<<<<< SEARCH" in text


# --- code that is left out

HEAD_LINE = METHOD.split("\n")[0]
LAST_LINE = METHOD.split("\n")[-1]


@pytest.mark.parametrize(
    "line",
    [
        "...", "\u2026", "# ...", "# \u2026", "# ... existing code ...", "# ... (keep existing code) ...",
        "# ... rest unchanged", "# rest unchanged", "# rest of the method", "# [unchanged]", "[unchanged]",
        "<rest of the method unchanged>", "pass  # same as before", "...  # as before",
        "# the remaining lines stay the same", "# existing loop follows here", "# (same as above)",
        "# code omitted for brevity", "# -- snip --", "// ... existing code", "/* ... unchanged ... */",
        "... existing code ...", "# other methods remain as they are", "# previous implementation here",
        "# TODO: the loop", "# keep the rest", "# ---- no changes below ----",
        "# ...the rest of forward() stays the same...",
    ],
)  # fmt: skip
def test_a_line_that_stands_for_code_is_refused(line: str) -> None:
    for new in (f"{HEAD_LINE}\n        {line}", f"{HEAD_LINE}\n        y = x\n        {line}\n{LAST_LINE}"):
        text = refusal(REASONS + block(METHOD, new))
        assert "Block 1 leaves code out" in text and "Write the code out" in text


@pytest.mark.parametrize("line", ["pass", "# see above", "# unver\u00e4ndert", '""" unchanged """', "# \u22ee"])
def test_words_alone_in_place_of_code_are_refused(line: str) -> None:
    assert "Write the code out" in refusal(REASONS + block("        y = x & 7", f"        {line}"))


def test_lines_may_be_deleted_without_a_word() -> None:
    assert applied(REASONS + block(f"{OLD}\n", "")) == SOURCE.replace(f"{OLD}\n", "")


@pytest.mark.parametrize("dress", [repr, lambda text: repr(text.encode()), lambda text: json.dumps({"response": text})])
def test_a_reply_within_one_string_is_read(dress: Callable[[str], str]) -> None:
    assert applied(dress(REASONS + block(OLD, NEW))) == SOURCE.replace(OLD, NEW)


@pytest.mark.parametrize(("sign", "instead"), [("\u00d7", "'*'"), ("\u2264", "'<='"), ("\u2260", "'!='")])
def test_a_mathematical_sign_in_new_code_is_named_with_its_operator(sign: str, instead: str) -> None:
    assert f"write {instead}" in refusal(REASONS + block(OLD, f"{NEW}\nHALF = WIDTH {sign} 2"))


@pytest.mark.parametrize(
    "line", ["# [existing code here]", "# (unchanged)", "# same as above", "# etc.", "# <unchanged lines omitted>"]
)
def test_a_comment_that_says_nothing_else_is_refused_where_no_line_is_gone(line: str) -> None:
    assert "Write the code out" in refusal(REASONS + block(OLD, f"{NEW}\n{line}"))


@pytest.mark.parametrize("line", ["...", "# ...", "\u2026", "# ... existing code ...", "[...]"])
def test_a_quote_with_its_middle_left_out_is_refused(line: str) -> None:
    text = refusal(REASONS + block(f"{HEAD_LINE}\n        {line}\n{LAST_LINE}", f"{HEAD_LINE}\n        return 1"))
    assert "stands for lines that the block leaves out. Write the code out" in text


def test_a_whole_file_that_leaves_code_out_is_refused() -> None:
    cut = WIDER[: WIDER.index("class Layer")]
    for line in ("# ... rest of the file unchanged ...", "# (the classes are unchanged)", "# remaining code as before"):
        assert "The file leaves code out" in refusal(f"{REASONS}```python\n{cut}{line}\n```")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    def area(self) -> float:\n        ...", "    def area(self, unit: str) -> float:\n        ..."),
        ("class Shape:", "class Area:\n    def area(self) -> float:\n        ...\n\n\nclass Shape:"),
        ("        y = x & 7", "        y = x[..., :7]"),
        ("        y = x & 7", "        # the rest of the loop is unchanged, as before\n        y = x & 15"),
        ("        y = x & 7", "        y = x & 15  # unchanged otherwise"),
        (
            METHOD,
            f"{HEAD_LINE}\n        # keep the original range, summed at once\n        return x + sum(range(WIDTH))",
        ),
        (OLD, "WIDTH = 48  # 8, 16, ... 64"),
        (METHOD, f"{HEAD_LINE}\n        return x"),
    ],
)
def test_code_that_is_written_out_is_not_refused(old: str, new: str) -> None:
    assert applied(REASONS + block(old, new)) == SOURCE.replace(old, new)


# --- anything


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.text())
def test_repairs_and_elisions_take_any_text(text: str) -> None:
    assert all(isinstance(repair(text), str) for repair in REPAIRS.values())
    assert elided(text) in (True, False)
    with pytest.raises(EditError):
        applied(text)


damages = st.sampled_from([escape, *(lambda t, f=f: numbered(t, f) for f in ("{}: {}", "{:4} | {}", "{:4}\u2192{}"))])


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    st.integers(0, METHOD.count("\n")), st.integers(1, 5), damages, st.booleans(), st.sampled_from(["x = 2 > 1", "y"])
)
def test_an_undamaged_block_and_a_damaged_one_mean_the_same(first, size, damage, both, added) -> None:  # type: ignore[no-untyped-def]
    lines = METHOD.split("\n")[first : first + size]
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    old, new = "\n".join(lines), "\n".join([f"{indent}{added}", *lines])
    wanted = apply_edits(SOURCE, read_submission(REASONS + block(old, new)))
    assert applied(REASONS + block(damage(old), damage(new) if both else new)) == wanted
