"""results.tsv read back, ours and the original's, in the states in which people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_kernel.core.types import Experiment, Status
from autoresearch_kernel.record.results import ResultsDamaged, read_results, write_results

ORIGINAL = """\
commit\tval_bpb\tmemory_gb\tstatus\tdescription
a1b2c3d\t0.997900\t44.0\tkeep\tbaseline
b2c3d4e\t0.993200\t44.2\tkeep\tincrease LR to 0.04
c3d4e5f\t1.005000\t44.0\tdiscard\tswitch to GeLU activation
d4e5f6g\t0.000000\t0.0\tcrash\tdouble model width (OOM)
"""


def read(tmp_path: Path, text: str | bytes) -> tuple[Experiment, ...]:
    path = tmp_path / "results.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_results(path)


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
    first, second = read_results(tmp_path / "results.tsv")
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"results\.tsv is empty"),
        ("a,b\n1,2\n", r"line 1: no column val_bpb and no status and no description in 'a,b'\. Its columns are apart"),
        ("commit\tval_rmse\tstatus\tdescription\n", r"line 1: no column val_bpb in"),
        (HEAD + "a\tabc\t1.0\tkeep\tx\n", r"line 2: val_bpb is 'abc'\. Write a number"),
        (HEAD + "a\t1.0\t1.0\tgood\tx\n", r"line 2: the status is 'good'\. Write one of keep, discard"),
        (HEAD + "a\t1.0\n", r"line 2: 2 cells where there are 5 columns"),
        (HEAD + "\na\t0.000000\t0.0\tkeep\tx\n", r"line 3: kept with val_bpb 0\.000000"),
        (HEAD + "a\t-1.5\t0.0\tdiscard\tx\n", r"line 2: val_bpb is -1\.5, which is not a number of bits per byte"),
        (b"\xff\xfe\x00", r"results\.tsv is not UTF-8 text"),
    ],
)
def test_a_damaged_table_says_where_and_what_to_do(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(ResultsDamaged, match=said):
        read(tmp_path, text)
