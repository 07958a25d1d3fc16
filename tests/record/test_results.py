"""results.tsv read back, ours and the original's, in the states in which people have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autoresearch_kernel.core.types import Experiment, Status
from autoresearch_kernel.record.results import Results, ResultsDamaged, read_results, write_results
from tests.fuzzing import EXAMPLES

ORIGINAL = """\
commit\tval_bpb\tmemory_gb\tstatus\tdescription
a1b2c3d\t0.997900\t44.0\tkeep\tbaseline
b2c3d4e\t0.993200\t44.2\tkeep\tincrease LR to 0.04
c3d4e5f\t1.005000\t44.0\tdiscard\tswitch to GeLU activation
d4e5f6g\t0.000000\t0.0\tcrash\tdouble model width (OOM)
"""


def table(tmp_path: Path, text: str | bytes) -> Results:
    path = tmp_path / "results.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_results(path)


def read(tmp_path: Path, text: str | bytes) -> tuple[Experiment, ...]:
    return table(tmp_path, text).experiments


def test_the_table_of_the_original(tmp_path: Path) -> None:
    baseline, better, worse, crash = read(tmp_path, ORIGINAL)
    assert (baseline.val_bpb, baseline.status, baseline.parent, baseline.incumbent_bpb) == (
        0.9979,
        Status.KEEP,
        None,
        None,
    )
    assert (better.commit, better.hypothesis, better.parent) == ("b2c3d4e", "increase LR to 0.04", 0)
    assert better.delta_bpb == pytest.approx(-0.0047)
    assert worse.delta_bpb == pytest.approx(0.0118) and worse.parent == 1
    assert (crash.status, crash.val_bpb, crash.delta_bpb) == (Status.CRASH, None, None)
    assert worse.sigma is None and worse.runs == () and worse.decided_at == ""


def test_our_own_table_comes_back(tmp_path: Path) -> None:
    kept = Experiment(0, "Baseline.", "baseline", None, status=Status.KEEP, val_bpb=1.5, train_sha256="0123456789")
    slow = Experiment(1, "A deeper\nmodel.", "search", 0, status=Status.TIMEOUT)
    write_results(tmp_path / "results.tsv", [kept, slow])
    first, second = read_results(tmp_path / "results.tsv").experiments
    assert (first.commit, first.val_bpb) == ("0123456", 1.5)
    assert (second.status, second.val_bpb, second.hypothesis) == (Status.TIMEOUT, None, "A deeper model.")


@pytest.mark.parametrize(
    "text",
    [
        ORIGINAL.replace("\n", "\r\n"),
        "\ufeff" + ORIGINAL,
        ORIGINAL.replace("keep", "KEEP").replace("discard", " Discard "),
        ORIGINAL.replace("\nc3d4", "\n\nc3d4") + "\n\n",
        ORIGINAL.rstrip("\n"),
    ],
    ids=["Windows", "byte order mark", "capitals", "empty lines", "no last newline"],
)
def test_editors_leave_their_marks(tmp_path: Path, text: str) -> None:
    assert [str(e.status) for e in read(tmp_path, text)] == ["keep", "keep", "discard", "crash"]


def test_columns_may_be_more_fewer_or_elsewhere(tmp_path: Path) -> None:
    text = "status\tval_bpb\ttimestamp\tdescription\nkeep\t1.2\t2026\tbaseline\ndiscard\tnan\t2026\tit\tdiverged\n"
    baseline, diverged = read(tmp_path, text)
    assert (baseline.val_bpb, baseline.commit) == (1.2, None)
    assert (diverged.val_bpb, diverged.hypothesis) == (None, "it diverged")


def test_a_short_row_without_a_description_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, "commit\tval_bpb\tmemory_gb\tstatus\tdescription\na\t1.2\t4.0\tkeep\n")[0].hypothesis == ""


def test_a_table_of_crashes_has_no_incumbent(tmp_path: Path) -> None:
    (crash,) = read(tmp_path, ORIGINAL.split("\n")[0] + "\nd4e5f6g\t0.000000\t0.0\tcrash\tfirst try\n")
    assert crash.parent is None and crash.val_bpb is None


HEAD = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
THREE = "b1\t1.31\t2.0\tkeep\tas it was\nb2\t1.28\t2.1\tkeep\tlonger warm-up\nb3\t1.35\t2.0\tdiscard\tno bias\n"
MARKDOWN = """# What I tried

| Commit | val_bpb ↓ | Mem (GB) | Status | Description |
|:---|---:|---|---|---|
| `b1` | 1.31 | 2.0 | **keep** | as it was |
| `b2` | **1.28** | 2.1 | ✅ kept | longer warm-up |
| `b3` | 1.35 ± 0.01 | 2.0 | ❌ | no bias |
"""


def apart_by(separator: str, head: str = HEAD) -> str:
    return (head + THREE).replace("\t", separator)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + THREE,
        apart_by("  "),
        apart_by("     "),
        apart_by(" "),
        apart_by(r"\t"),
        apart_by(","),
        apart_by(";").replace("1.", "1,"),
        apart_by(" | "),
        MARKDOWN,
        THREE,
        THREE.replace("\t", " "),
        apart_by("\t", HEAD.replace("val_bpb", "Val BPB").replace("status", "Verdict").replace("description", "Idea")),
        HEAD + THREE.replace("1.28", "\x1b[32m1.28\x1b[0m").replace("keep", "\x1b[1mkeep\x1b[0m"),
        HEAD + THREE.replace("1.28", '"1,28"').replace("1.31", "1,310000").replace("1.35", "~1.35*"),
        (HEAD + THREE).encode("utf-16"),
        (HEAD + THREE).encode("utf-16-le"),
        (HEAD + THREE).encode("utf-32"),
        (HEAD + THREE).replace("\n", "\r"),
        HEAD + THREE.replace("keep", "improved", 2).replace("improved", "baseline", 1).replace("discard", "reverted"),
        HEAD + THREE.replace("keep", "keep (best)").replace("discard", "not kept"),
        HEAD + THREE.replace("\n", "\t\t\n"),
        HEAD + THREE.replace("\n", "\n\n") + HEAD,
        apart_by("\t", "# " + HEAD),
    ],
    ids=[
        "tabs", "two spaces", "many spaces", "one space", "typed tabs", "commas", "semicolons and decimal commas",
        "bars", "Markdown", "no header", "no header, spaces", "other names", "colours", "decimal commas", "UTF-16",
        "UTF-16 without a mark", "UTF-32",
        "old Macintosh", "improved and reverted", "words around", "empty cells behind", "header again",
        "header as a comment",
    ],
)  # fmt: skip
def test_a_table_is_read_as_people_have_it(tmp_path: Path, text: str | bytes) -> None:
    experiments = read(tmp_path, text)
    assert [(e.status, e.val_bpb) for e in experiments] == [
        (Status.KEEP, 1.31),
        (Status.KEEP, 1.28),
        (Status.DISCARD, 1.35),
    ]
    assert [e.hypothesis for e in experiments] == ["as it was", "longer warm-up", "no bias"]
    assert [e.commit for e in experiments] == ["b1", "b2", "b3"]
    assert experiments[2].incumbent_bpb == 1.28


@pytest.mark.parametrize(
    ("row", "outcome", "said"),
    [
        ("~~~\tfrom here on wider\t~~~\t~~~", None, "1 row left out: line 3 (no score with a status)."),
        ("~~~\tfrom here on wider\t~~~\t~~~\t~~~", None, "1 row left out: line 3 (no score with a status)."),
        ("x\t1.0", None, "1 row left out: line 3 (no score with a status)."),
        ("# stopped for lunch", None, "1 row left out: line 3 (a comment)."),
        ("We try to keep going at 1.5", None, "1 row left out: line 3 (no score with a status)."),
        ("<<<<<<< HEAD", None, "1 row left out: line 3 (the mark of a merge conflict)."),
        (">>>>>>> exp/nov23", None, "1 row left out: line 3 (the mark of a merge conflict)."),
        (HEAD.strip(), None, "1 row left out: line 3 (a header again)."),
        ("x   1.1   2.0   discard   gated", ("discard", 1.1), "1 row read all the same: line 3 (separated by two"),
        ("x,1.1,2.0,discard,gated", ("discard", 1.1), "1 row read all the same: line 3 (separated by commas)."),
        ("x\t1.1\tdiscard\tgated", ("discard", 1.1), "1 row read all the same: line 3 (cells missing or moved)."),
        ("1.1\tdiscard\tgated", ("discard", 1.1), "1 row read all the same: line 3 (cells missing or moved)."),
        ("x   crash   no memory", ("crash", None), "1 row read all the same: line 3 (cells missing or moved)."),
        ("~~~\tcrash tests below\t~~~", None, "1 row left out: line 3 (no score with a status)."),
        ("x\t1.1\t2.0\tperhaps\tgated", ("discard", 1.1), "not kept: line 3 (the status 'perhaps' is not known)."),
        ("x\t1.1\t2.0\ttentative keep\tgated", ("discard", 1.1), "line 3 (the status 'tentative keep' is not known)."),
        ("x\t1.1\t2.0\t\tgated", ("discard", 1.1), "1 row counted as not kept: line 3 (there is no status)."),
        ("x\t1.1\t2.0\tcrash, then keep\tgated", ("discard", 1.1), "line 3 (the status 'crash, then keep' is not"),
        ("x\t0.000000\t2.0\tkeep\tgated", ("discard", None), "counted as not kept: line 3 (kept without a score)."),
        ("x\tlots\t2.0\tkeep\tgated", ("discard", None), "taken without a score: line 3 (val_bpb is 'lots')."),
        ("x\t-1.5\t2.0\tdiscard\tgated", ("discard", None), "val_bpb is -1.5, which is no number of bits per byte"),
        ("x\t1,234.5\t2.0\tdiscard\tgated", ("discard", None), "val_bpb is 1,234.5, which is no number of bits"),
        ("x\t1.5\t2.0\tbaseline\tgated", ("discard", 1.5), "line 3 (a baseline after the first)."),
        ("x\tnan\t2.0\tdiscard\tgated", ("discard", None), ""),
        ("x\tinf\t-\tfailed\tgated", ("crash", None), ""),
        ("x\t0.000000\t0.0\tdiscard\tout of memory", ("discard", None), ""),
        ("x\tOOM\t\t💥\tgated", ("crash", None), ""),
        ("x\t\u22121.1\t2.0\tdiscard\t", ("discard", None), "which is no number of bits per byte"),
        ("x\t1.1\t2.0\tdiscard\t" + "g" * 200_000, ("discard", 1.1), ""),
        ("   ", None, ""),
    ],
)
def test_one_odd_row_never_refuses_the_others(
    tmp_path: Path, row: str, outcome: tuple[str, float | None] | None, said: str
) -> None:
    found = table(tmp_path, HEAD + THREE.replace("\n", "\n" + row + "\n", 1))
    others = [e for e in found.experiments if e.commit in ("b1", "b2", "b3")]
    assert [(str(e.status), e.val_bpb) for e in others] == [("keep", 1.31), ("keep", 1.28), ("discard", 1.35)]
    odd = [(str(e.status), e.val_bpb) for e in found.experiments if e not in others]
    assert odd == ([] if outcome is None else [outcome])
    assert said in " ".join(found.notes) and bool(found.notes) == bool(said)


def test_what_is_left_out_is_counted_also_when_it_is_much(tmp_path: Path) -> None:
    found = table(tmp_path, HEAD + "nothing here\n" * 12 + THREE + "".join(f"c\t1.4\t1\todd{i}\t\n" for i in range(9)))
    assert found.notes == (
        "9 rows counted as not kept: "
        + ", ".join(f"line {17 + i} (the status 'odd{i}' is not known)" for i in range(6))
        + ", 3 more for other reasons.",
        "12 rows left out: lines 2, 3, 4, 5, 6, 7, 8, 9 and 4 more (no score with a status).",
    )


@pytest.mark.parametrize(
    ("metric", "rows", "named", "scores"),
    [
        ("val_rmse", ("0.31", "0.28"), "val_rmse", [0.31, 0.28]),
        ("val_loss", ("3.31", "3.28"), "val_loss", [3.31, 3.28]),
        ("val_accuracy", ("0.75", "0.875"), "1−val_accuracy", [0.25, 0.125]),
        ("Accuracy (%)", ("75 %", "87.5 %"), "100−accuracy", [25, 12.5]),
        ("reward", ("-20", "15"), "−reward", [20, -15]),
        ("score", ("10", "8"), "score", [10, 8]),
        ("score", ("8", "10"), "−score", [-8, -10]),
        ("zeta", ("8", "7"), "zeta", [8, 7]),
    ],
)
def test_another_metric_is_named(
    tmp_path: Path, metric: str, rows: tuple[str, str], named: str, scores: list[float]
) -> None:
    found = table(tmp_path, f"commit\t{metric}\tstatus\tdescription\na\t{rows[0]}\tkeep\tx\nb\t{rows[1]}\tkeep\ty\n")
    assert (found.metric, [e.val_bpb for e in found.experiments]) == (named, scores)
    assert found.notes[0].startswith("The table measures ") and found.notes[0].endswith(", not val_bpb.")
    assert len(found.notes) == 1 + (named != found.notes[0].split()[3].rstrip(","))


def test_rows_below_a_header_with_another_metric_are_left_out_and_named(tmp_path: Path) -> None:
    found = table(tmp_path, HEAD + THREE + HEAD.replace("val_bpb", "val_loss") + "c\t3.1\t2.0\tkeep\tdeeper\n")
    assert [e.val_bpb for e in found.experiments] == [1.31, 1.28, 1.35]
    assert "line 6 (measures val_loss instead of val_bpb)" in found.notes[0]


def test_without_a_status_the_better_score_is_kept_and_that_is_said(tmp_path: Path) -> None:
    found = table(tmp_path, "exp\tval_bpb\tnotes\n1\t1.2\tstart\n2\t1.3\twider\n3\tnan\tdied\n4\t1.1\tdeeper\n")
    assert [str(e.status) for e in found.experiments] == ["keep", "discard", "crash", "keep"]
    assert found.notes == ("It has no column for the status: what scored better than all before it is taken as kept.",)


def test_rejected_is_the_audits_word_only_in_our_own_tables(tmp_path: Path) -> None:
    (_, ours) = read(tmp_path, HEAD + "a\t1.2\t1\tkeep\t\nb\t1.1\t1\trejected\t\n")
    (_, theirs) = read(tmp_path, HEAD + "a\t1.2\t1\taccepted\t\nb\t1.1\t1\trejected\t\n")
    assert (ours.status, theirs.status) == (Status.REJECTED, Status.DISCARD)


def test_text_that_is_not_utf8_and_nul_characters_are_named(tmp_path: Path) -> None:
    found = table(tmp_path, HEAD.encode() + "a\t1.2\t1\tkeep\tgrö\0ßer\n".encode("latin-1"))
    assert found.experiments[0].hypothesis == "größer"
    assert found.notes == (
        "The file is not UTF-8 and was read as Windows-1252.",
        "NUL characters were taken out of line 2.",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"results\.tsv is empty\. A results\.tsv begins with the line commit"),
        ("  \n\n", r"results\.tsv is empty"),
        ("I was here.\n", r"holds no table of results: no line names columns .* begins with 'I was here\.'"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, r"holds no table of results"),
        ('{"commit": "a", "val_bpb": 1.2, "status": "keep"}\n', r"holds no table of results"),
        (b"\xff\xfe\x00", r"holds no table of results"),
        ("a,b\n1,2\n", r"holds no table of results"),
    ],
)
def test_a_file_without_a_table_says_what_it_begins_with(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(ResultsDamaged, match=said):
        read(tmp_path, text)


def test_a_folder_or_a_giant_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ResultsDamaged, match=r"cannot be read \(Is a directory\)"):
        read_results(tmp_path)
    with open(tmp_path / "giant.tsv", "wb") as file:
        file.truncate(60_000_000)
    with pytest.raises(ResultsDamaged, match=r"giant\.tsv has more than 50 MB"):
        read_results(tmp_path / "giant.tsv")


# --- whatever a file holds

cells = st.one_of(
    st.sampled_from(
        ["keep", "discard", "crash", "1.2", "-", "", "val_bpb", "status", "commit", "0.000000", '"', "| ", "# "]
    ),
    st.floats().map(str),
    st.text(max_size=8),
)
rows = st.lists(cells, max_size=7).flatmap(
    lambda row: st.sampled_from(["\t", ",", "  ", " ", "|", r"\t"]).map(lambda s: s.join(row))
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(rows, max_size=8), st.booleans(), st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32"]))
@example(["1.2\tkeep"], False, "utf-8")
def test_any_rows_give_a_table_or_the_stated_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], with_header: bool, encoding: str
) -> None:
    data = (HEAD * with_header + "\n".join(lines)).encode(encoding, "replace")
    try:
        found = table(tmp_path_factory.mktemp("any"), data)
    except ResultsDamaged:
        return
    assert [e.number for e in found.experiments] == list(range(len(found.experiments)))
    for e in found.experiments:
        assert e.status is not Status.KEEP or e.val_bpb is not None


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_table_or_the_stated_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        table(tmp_path_factory.mktemp("any"), data)
    except ResultsDamaged as damage:
        assert "results.tsv" in str(damage)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(rows, min_size=1, max_size=5), st.integers(0, 3))
def test_odd_lines_change_no_row_before_or_after(
    tmp_path_factory: pytest.TempPathFactory, odd: list[str], place: int
) -> None:
    good = THREE.splitlines()
    folder = tmp_path_factory.mktemp("any")
    mixed = "\n".join([HEAD.strip(), *good[:place], *(line.replace("\r", " ") for line in odd), *good[place:]])
    found = [e for e in read(folder, mixed) if e.commit in ("b1", "b2", "b3")]
    if not any("val_bpb" in line or "status" in line for line in odd):  # another header may follow
        assert [(e.commit, e.val_bpb) for e in found][-3:] == [("b1", 1.31), ("b2", 1.28), ("b3", 1.35)]
