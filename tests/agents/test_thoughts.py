"""The answer in a reply: thoughts in any spelling and other channels never reach the proposal."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_kernel.agents.edits import EditError, apply_edits
from autoresearch_kernel.agents.reply import read_submission
from tests.fuzzing import EXAMPLES
from tests.processor_time import processor_seconds

SOURCE = """# %% tags=["parameters"]
SEED = 1
WIDTH = 32
RATE = 0.04

# %%
print(WIDTH, RATE)
"""
WIDER = SOURCE.replace("WIDTH = 32", "WIDTH = 48")


def block(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE\n"


REASONS = "HYPOTHESIS: Wider is better.\nEXPECTED: 0.01 less.\nREFUTED BY: no change.\n"
ANSWER = REASONS + "\n" + block("WIDTH = 32", "WIDTH = 48")
HOT = block("RATE = 0.04", "RATE = 9.0")
DRAFT = f"What about a hot rate?\n\nHYPOTHESIS: Hotter.\n\n{HOT}\nNo, that would diverge.\n"

PAIRS = {
    "think": ("<think>", "</think>"),
    "upper case": ("<THINK>", "</THINK>"),
    "thinking": ("<thinking>", "</thinking>"),
    "thought": ("<thought>", "</thought>"),
    "thoughts": ("<thoughts>", "</thoughts>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "reflection": ("<reflection>", "</reflection>"),
    "scratchpad": ("<scratchpad>", "</scratchpad>"),
    "scratch_pad": ("<scratch_pad>", "</scratch_pad>"),
    "analysis": ("<analysis>", "</analysis>"),
    "inner monologue": ("<inner_monologue>", "</inner_monologue>"),
    "chain of thought": ("<chain_of_thought>", "</chain_of_thought>"),
    "with a name space": ("<seed:think>", "</seed:think>"),
    "with a prefix": ("<longcat_think>", "</longcat_think>"),
    "with attributes": ('<think effort="high" budget="2000">', "</think>"),
    "two spellings": ("<think>", "</thinking>"),
    "with blanks": ("< think >", "< / think >"),
    "with bars": ("<|thinking|>", "<|/thinking|>"),
    "begin and end": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "start and end": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "begin and end behind": ("<|thought_begin|>", "<|thought_end|>"),
    "fullwidth bars": ("<\uff5cbegin\u2581of\u2581thinking\uff5c>", "<\uff5cend\u2581of\u2581thinking\uff5c>"),
    "square": ("[THINK]", "[/THINK]"),
    "square in small letters": ("[reasoning]\n", "\n[/reasoning]\n"),
    "triangles": ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    "angle brackets": ("\u27e8think\u27e9", "\u27e8/think\u27e9"),
    "escaped": ("&lt;think&gt;", "&lt;/think&gt;"),
    "escaped for markdown": ("\\<think\\>", "\\</think\\>"),
    "doubled": ("<<think>>", "<</think>>"),
    "dots": ("Thinking...\n", "\n...done thinking.\n"),
    "one sign of dots": ("Thinking\u2026\n", "\n\u2026done thinking.\n"),
    "a sentence": ("Here is my thought process:\n", "\nHere is my response:\n"),
    "details": ('<details type="reasoning" done="true">', "</details>"),
    "details with a summary": ("<details>\n<summary>Thought for 9 seconds</summary>", "</details>"),
    "fullwidth square": ("\uff3bTHINK\uff3d", "\uff3b/THINK\uff3d"),
    "bold square": ("**[Thinking]**\n", "\n**[/Thinking]**\n"),
    "braces": ("{think}\n", "\n{/think}\n"),
    "round": ("(thinking)\n", "\n(/thinking)\n"),
    "guillemets": ("\u00abthink\u00bb", "\u00ab/think\u00bb"),
    "Chinese in corners": ("\u300e\u601d\u8003\u300f", "\u300e/\u601d\u8003\u300f"),
    "self-critique": ("<self_critique>", "</self_critique>"),
    "a turn of its own": ("<|im_start|>think\n", "<|im_end|>"),
    "a comment": ("<!-- ", " -->"),
    "marks without a meaning": ("<unused94>thought\n", "<unused95>"),
    "a broken tag": ("<think\n>", "</think\n>"),
    "a fence": ("```thinking\n", "\n```\n"),
    "Chinese": ("<\u601d\u8003>", "</\u601d\u8003>"),
}
ENDS_LIKE_OTHERS = {"a fence", "details", "details with a summary", "a turn of its own", "a comment"}
BEFORE = PAIRS | {"the start of a response": ("<thinking>", "[BEGIN FINAL RESPONSE]")}


def test_thirty_spellings_are_known() -> None:
    assert len(PAIRS) >= 30


@pytest.mark.parametrize("spelling", BEFORE)
@pytest.mark.parametrize("space", ["", "\n"])
def test_a_draft_in_a_thought_before_the_answer_never_lands(spelling: str, space: str) -> None:
    begin, end = BEFORE[spelling]
    assert read_submission(f"{begin}{space}{DRAFT}{space}{end}{space}{ANSWER}") == read_submission(ANSWER)


@pytest.mark.parametrize("spelling", PAIRS)
def test_a_draft_in_a_thought_after_the_answer_never_lands(spelling: str) -> None:
    begin, end = PAIRS[spelling]
    for reply in (f"{ANSWER}{begin}{DRAFT}{end}", f"{ANSWER}\n{begin}{HOT}", f"{ANSWER}{begin}{DRAFT}{end}\nDone."):
        assert read_submission(reply) == read_submission(ANSWER)


def test_a_word_in_brackets_behind_a_label_is_no_thought() -> None:
    marked = ANSWER.replace("HYPOTHESIS: ", "HYPOTHESIS: [VERIFIED] ") + "\nDone as planned.\n"
    assert read_submission(marked).edits == read_submission(ANSWER).edits


@pytest.mark.parametrize("spelling", PAIRS)
def test_a_draft_between_the_hypothesis_and_its_block_never_lands(spelling: str) -> None:
    begin, end = PAIRS[spelling]
    reply = f"{REASONS}{begin}{DRAFT}{end}\n{block('WIDTH = 32', 'WIDTH = 48')}"
    assert apply_edits(SOURCE, read_submission(reply)) == WIDER


@pytest.mark.parametrize("spelling", PAIRS)
def test_a_mark_alone_before_the_answer(spelling: str) -> None:
    begin, end = PAIRS[spelling]
    assert read_submission(f"{begin}{DRAFT}\n{ANSWER}") == read_submission(ANSWER)
    if spelling not in ENDS_LIKE_OTHERS:
        assert read_submission(f"{DRAFT}{end}{ANSWER}") == read_submission(ANSWER)


@pytest.mark.parametrize(
    "reply",
    [
        f"<think>a<think>{HOT}</think>b\n{DRAFT}</think>{ANSWER}",
        f"<think>a<think>{DRAFT}</think>{ANSWER}",
        f"<think>a</think>{DRAFT}</think>{ANSWER}",
        f"<think><reasoning>{DRAFT}</reasoning>{HOT}</think>{ANSWER}",
        f"<think>{DRAFT}{ANSWER}<think>{HOT}</think>",
        f"<seed:think>{HOT}<seed:cot_budget_reflect>I used 9 tokens.</seed:cot_budget_reflect></seed:think>{ANSWER}",
        f"<think>The mark </scratchpad> ends nothing. {DRAFT}</think>{ANSWER}",
        f"<think>I have to end with `</think>`.\n{DRAFT}</think>{ANSWER}",
        f"<think>{DRAFT}<<<<<<< SEARCH\nRATE = 0.04\n=======\n</think>{ANSWER}",
        f"<think></think>{ANSWER}</think>",
        f"<think>{DRAFT}</think>{ANSWER}</think>\nThat is all.",
        f"<think>{DRAFT}</think><answer>{ANSWER}</answer>",
        f"<|begin_of_thought|>{DRAFT}<|end_of_thought|>\n<|begin_of_solution|>{ANSWER}<|end_of_solution|>",
        f"<|im_start|>assistant\n<think>{DRAFT}</think>\n{ANSWER}<|im_end|>\n<|im_start|>user\n{DRAFT}",
        f"{ANSWER}<|endoftext|>{DRAFT}",
        f"{ANSWER}</s>",
        f"<think>{ANSWER}</think>",
        f"<think><think>{DRAFT}</think>{ANSWER}</think>",
        f"{DRAFT}\nBetter so:\n\n{ANSWER}",
        f"{DRAFT}\n---\n{ANSWER}\n> HYPOTHESIS: Hotter.\n> {HOT}",
        f"<<<<<<< SEARCH\nRATE = 0.04\n\nNo.\n\n{ANSWER}",
    ],
)
def test_only_the_answer_is_read(reply: str) -> None:
    assert apply_edits(SOURCE, read_submission(reply)) == WIDER


@pytest.mark.parametrize(
    "reply",
    [
        f"<think>{DRAFT}</think>",
        f"<think>{DRAFT}</think>\nI could not decide.",
        f"{DRAFT}</think>\nI could not decide.",
        f"<|channel|>analysis<|message|>{ANSWER}<|end|>",
        f"<|channel|>commentary<|message|>{ANSWER}",
        f"<think>{ANSWER}\nNo, that is too slow.</think>",
        f"<think>{ANSWER}\nNo, that is too slow.",
        f"{HOT}\n{REASONS}",
    ],
)
def test_a_draft_without_an_answer_is_no_proposal(reply: str) -> None:
    with pytest.raises(EditError):
        read_submission(reply)


def test_marks_within_code_and_notes_are_text() -> None:
    code = 'OPEN = "<think>"\n# </think>\n<think>\nWIDTH = 48'
    notes = "A <think> that is never closed, and <|channel|>final<|message|>."
    read = read_submission(f"{REASONS}{block('WIDTH = 32', code)}<notes>{notes}</notes>")
    assert (read.edits[0].replace, read.notes) == (code + "\n", notes)
    whole = f'{WIDER}PROMPT = "<think> "\nEND = "<|im_start|>user"\n'
    assert read_submission(f"{REASONS}```\n{whole}```\n").whole == whole
    assert read_submission(f"HYPOTHESIS: Without `<think>` it is shorter.\n{block('A', 'B')}").edits


# --- channels


HEAD = "<|channel|>analysis<|message|>"
FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    "reply",
    [
        f"{HEAD}{DRAFT}{FINAL}{ANSWER}",
        f"{HEAD}{DRAFT}{FINAL}{ANSWER}<|return|>",
        f"{HEAD}{DRAFT}{FINAL}\n{ANSWER}<|end|>{HEAD}{DRAFT}",
        f"{HEAD}{DRAFT}<|end|><|start|>assistant{HEAD}{HOT}{FINAL}{ANSWER}",
        f"{HEAD}{DRAFT}<|end|><|start|>assistant<|message|>{ANSWER}",
        f"{HEAD}{DRAFT}<|end|>\n{ANSWER}",
        f"<|start|>assistant<|channel|>final<|message|>{ANSWER}",
        f"<|channel|>final <|constrain|>json<|message|>{ANSWER}",
        f"<|channel|>commentary to=functions.edit <|constrain|>json<|message|>{{}}<|call|>{HEAD}{DRAFT}{FINAL}{ANSWER}",
        f"{DRAFT}{FINAL}{ANSWER}",
        f"<|channel>thought\n{DRAFT}\n<channel|>{ANSWER}",
        f"<|channel>thought\n{DRAFT}\n<channel|>{ANSWER}<|channel>thought\n{HOT}<channel|>",
        f"<|channel|>analysis\n{DRAFT}\n<|channel|>final\n{ANSWER}",
        f"channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}",
        f"<\uff5cchannel\uff5c>analysis<\uff5cmessage\uff5c>{DRAFT}<\uff5cchannel\uff5c>final<\uff5cmessage\uff5c>{ANSWER}",
        f"< | channel | >analysis< | message | >{DRAFT}< | channel | >final< | message | >{ANSWER}",
        f"&lt;|channel|&gt;analysis&lt;|message|&gt;{DRAFT}&lt;|channel|&gt;final&lt;|message|&gt;{ANSWER}",
        f"analysis{DRAFT}assistantfinal{ANSWER}",
        f"analysis{DRAFT}assistantcommentary{HOT}assistantfinal{ANSWER}assistantanalysis{DRAFT}",
        f"analysis\n{DRAFT}\nassistant\nfinal\n{ANSWER}",
        f"assistantfinal{ANSWER}",
        f"final{ANSWER}",
        f"{HEAD}{DRAFT}{FINAL}<think>{HOT}</think>{ANSWER}",
    ],
)
def test_only_the_final_channel_is_read(reply: str) -> None:
    assert apply_edits(SOURCE, read_submission(reply)) == WIDER


# --- replies that were cut off


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (f"<think>{DRAFT}", "cut off while the model was thinking"),
        (f"<think>{ANSWER}", "cut off while the model was thinking"),
        (f"{ANSWER}<think>Or rather", "cut off while the model was thinking"),
        (f"{HEAD}{ANSWER}", "cut off while the model was thinking"),
        ("Let me see. Depth, then rates, then", "cut off before it held an edit"),
        (f"{DRAFT}", "a part of the edit may be missing"),
        (f"{ANSWER}", "a part of the edit may be missing"),
        (f"{ANSWER}And then", "a part of the edit may be missing"),
        (f"{ANSWER}{HOT[:-20]}", "Block 2 has no >>>>>>> REPLACE line: it was cut off"),
        (f"{REASONS}```python\n{WIDER[:-10]}", "was cut off: no ``` line closes it"),
        (f"<notes>learned</notes>{ANSWER}", "a part of the edit may be missing"),
    ],
)
def test_a_reply_that_was_cut_off_is_no_proposal(reply: str, message: str) -> None:
    with pytest.raises(EditError, match=message):
        read_submission(reply, is_cut=True)


@pytest.mark.parametrize("notes", ["<notes>What I lear", "<notes>learned</notes>"])
def test_a_reply_that_was_cut_off_in_its_notes_holds_the_whole_edit(notes: str) -> None:
    assert apply_edits(SOURCE, read_submission(ANSWER + notes, is_cut=True)) == WIDER


SAID = f"{REASONS}\nThe first change:\n```\n{block('WIDTH = 32', 'WIDTH = 48')}```\n"


@pytest.mark.parametrize(
    ("reply", "is_used"),
    [
        (ANSWER, True),
        (f"```\n{ANSWER}```\n", True),
        (SAID, True),
        (f"{REASONS}```\n{WIDER}```\n", True),
        (f"{ANSWER}<notes>\nWhat I learned.\n</notes>\n\n", True),
        (f"<think>{DRAFT}</think>\n{ANSWER}", True),
        (f"{DRAFT}</think>\n{ANSWER}", True),
        (f"{ANSWER}\nThe second change", False),
        (f"{ANSWER}<notes>\nWhat I lear", False),
        (f"{ANSWER}```python\n", False),
        (f"{ANSWER}```\n", False),  # a fence that begins and is not closed
        (SAID.removesuffix("```\n"), False),
        (f"<think>{ANSWER}</think>\n", False),
        (f"<think>{ANSWER}", False),
        (f"Thinking...\n{ANSWER}\n...done thinking.\n", False),
        (f"Thinking...\n{ANSWER}", False),
        (f"{ANSWER}</think>\n", False),
        (f"{ANSWER}...done thinking.\n\n", False),
        (f"{ANSWER}<think>\nWait", False),
    ],
)
def test_a_reply_whose_end_may_be_missing_is_used_where_it_stands_outside_of_thoughts_and_ends(
    reply: str, is_used: bool
) -> None:
    if is_used:
        assert apply_edits(SOURCE, read_submission(reply, may_lack_end=True)) == WIDER
    else:
        with pytest.raises(EditError):
            read_submission(reply, may_lack_end=True)


# --- anything

lines = st.sampled_from(
    ["", "Hm.", "HYPOTHESIS: Hotter.", "EXPECTED: more", "RATE = 0.04", "=======", ">>>>>>> REPLACE", "<<<<<<< SEARCH",
     "------- SEARCH", "+++++++ REPLACE", HOT, DRAFT, f"```python\n{SOURCE}```", "```python\nx\n```", "> quoted",
     "<notes>draft</notes>", "train.py", "prepare.py", "- a list", "so we have `<think>`", "a < b > c", "x[0]", "&lt;"]
)  # fmt: skip
drafts = st.lists(st.one_of(lines, st.text("ab <>[]/|=:#*.\n", max_size=20)), max_size=8).map("\n".join)
answers = st.sampled_from(
    [
        ANSWER,
        ANSWER + block("SEED = 1", "SEED = 2"),
        f"**Hypothesis:** Wider.\n\n```\n{block('WIDTH = 32', 'WIDTH = 48')}```\n",
        f"{REASONS}\n```python\n{WIDER}```\n",
        f"{ANSWER}<notes>\nWider is better.\n</notes>\n",
    ]
)


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.sampled_from(sorted(PAIRS)), drafts, answers, st.sampled_from(["before", "after", "both", "no end", "open"]))
def test_any_thought_leaves_the_proposal_of_the_answer_alone(spelling: str, draft: str, answer: str, how: str) -> None:
    begin, end = PAIRS[spelling]
    thought = f"{begin}\n{draft}\n{end}\n"
    reply = {
        "before": thought + answer,
        "after": answer + thought,
        "both": thought + answer + thought,
        "no end": f"{answer}{begin}\n{draft}",
        "open": f"{begin}\n{draft}\n{answer}",
    }[how]
    assert read_submission(reply) == read_submission(answer)


@pytest.mark.parametrize(
    "text",
    ["<think>", "</think>", "<<<<<<<", "<<<<<<< SEARCH\n", "<", ">", "[", "[THINK]", "<|channel|>", "<|channel|>final",
     "analysis", "assistantfinal", "\n", " ", "*", "```thinking\n", "Thinking...\n", "<notes>", "&lt;", "<think", "<|",
     "\\n", '"', "HYPOTHESIS: x\n", "# ...\n", "12 | x\n", "=======\n", "<think></think>", "> ", "((((", "\u200b",
     "<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n", "<details><summary>", "\x00", "HYPOTHESIS\\n", "<|im_end|>"],
)  # fmt: skip
def test_one_mark_again_and_again_takes_no_long_time(text: str) -> None:
    size = 1_000_000 if text in ("<think>", "<<<<<<<") else 200_000
    for reply in (text * (size // len(text)), REASONS + text * (size // len(text))):
        assert processor_seconds(partial(refused, reply), limit=2) < 2


def refused(reply: str) -> None:
    with pytest.raises(EditError):
        apply_edits(SOURCE, read_submission(reply))


def test_nested_thoughts_are_no_recursion() -> None:
    deep = "<think>" * 50_000 + ANSWER + "</think>" * 50_000
    with pytest.raises(EditError):
        read_submission(deep)
