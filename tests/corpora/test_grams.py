"""Which grams of a text stand in which files."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from autoresearch_kernel.corpora.grams import WIDTH, Grams, compact, find, joined, shown_files

TEXT = b"The quick brown fox jumps over the lazy dog, and nobody saw it but the farmer's daughter, who wrote it down."


def copied(grams: Grams, found: dict[str, np.ndarray]) -> dict[str, float]:
    marked = np.zeros(len(grams.hashes), np.bool_)
    for indices in found.values():
        marked[indices] = True
    return grams.shares(marked)


def found_below(folder: Path, grams: Grams, *hidden: Path) -> dict[str, np.ndarray]:
    return find(grams, [path for path, _ in shown_files([str(folder)], map(str, hidden))])


def test_a_copy_is_found_whatever_its_blanks_and_wherever_it_begins(tmp_path: Path) -> None:
    grams = Grams.of({"val": [TEXT], "test": [TEXT[::-1]]})
    for shift in range(WIDTH):
        (tmp_path / "copy.py").write_bytes(b"#" * shift + TEXT.replace(b" ", b"\n\t"))
        assert copied(grams, found_below(tmp_path, grams)) == {"val": 1.0, "test": 0.0}


def test_every_gram_counts_and_a_shorter_piece_does_not(tmp_path: Path) -> None:
    grams, text = Grams.of({"val": [TEXT]}), compact(TEXT)
    for start in range(len(text) - WIDTH + 1):
        (tmp_path / "a.txt").write_bytes(b"#" + text[start : start + WIDTH] + b"#")
        (found,) = found_below(tmp_path, grams).values()
        assert found.tolist() == [int(grams.positions["val"][start])]
        (tmp_path / "a.txt").write_bytes(b"#" + text[start : start + WIDTH - 1] + b"#")
        assert found_below(tmp_path, grams) == {}


def test_a_hidden_file_a_link_and_a_binary_are_not_searched_and_an_archive_is(tmp_path: Path) -> None:
    grams, shown = Grams.of({"val": [TEXT]}), tmp_path / "shown"
    shown.mkdir()
    (tmp_path / "copy.txt").write_bytes(TEXT)
    (shown / "link.txt").symlink_to(tmp_path / "copy.txt")
    (shown / "hidden.txt").write_bytes(TEXT)
    (shown / "binary.txt").write_bytes(b"\0" + TEXT)
    assert found_below(shown, grams, shown / "hidden.txt") == {}
    with zipfile.ZipFile(shown / "a.whl", "w") as archive:
        archive.writestr("a/b.py", TEXT)
    assert list(found_below(shown, grams, shown / "hidden.txt")) == [str(shown / "a.whl")]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_archive_and_a_file_that_has_gone_are_not_searched(tmp_path: Path, method: int) -> None:
    grams, archive = Grams.of({"val": [TEXT]}), tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("a.py", TEXT * 50)
    data = archive.read_bytes()
    for at in range(35, 80):  # in the compressed text and what leads to it
        archive.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        found_below(tmp_path, grams)
    (tmp_path / "copy.txt").write_bytes(TEXT)
    (tmp_path / "gone.txt").write_bytes(TEXT)
    paths = []
    for path, _ in shown_files([str(tmp_path)], []):
        (tmp_path / ("gone.txt" if path.endswith("copy.txt") else "copy.txt")).unlink(missing_ok=True)
        paths.append(path)
    assert len([path for path in paths if path.endswith(".txt")]) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/sys and /proc are Linux's")
def test_what_the_system_makes_at_each_start_is_left_out() -> None:
    assert list(shown_files(["/sys", "/sys/devices/system/cpu", "/proc/sys", "/proc/meminfo"], [])) == []


def test_no_gram_reaches_from_one_text_into_the_next() -> None:
    texts = [TEXT, TEXT[::-1]]
    grams = Grams.of({"val": texts})
    whole = np.unique(grams.found_in(joined([compact(b"".join(texts))]))[1])
    assert len(grams.positions["val"]) == 2 * (len(compact(TEXT)) - WIDTH + 1) == len(whole)
