"""A user's own files: which documents they give, how they are split, and how what is left out is named."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import prepare
from autoresearch_kernel.corpora import tokens
from autoresearch_kernel.corpora.build import build_corpus, look_at_files
from autoresearch_kernel.corpora.kinds import guess_encoding
from autoresearch_kernel.corpora.own_files import own_files_source
from autoresearch_kernel.corpora.readers import LONGEST_RUN, ShortRuns, parquet_texts
from autoresearch_kernel.corpora.sources import Document, Source
from prepare import PrepareError
from tests.stories import folders_left, make_files_corpus, read_back, story, write_stories


def read(folder: Path, text_key: str | None = None) -> tuple[list[Document], str]:
    """The documents of a folder, and all that is said to be left out."""
    lines: list[str] = []
    documents = list(own_files_source(folder, text_key, lines.append).documents())
    return documents, "\n".join(lines)


def beside_stories(folder: Path, name: str, content: bytes) -> tuple[str, str]:
    """The text that a file gives among sixty stories, and what is said of it."""
    write_stories(folder)
    (folder / name).write_bytes(content)
    documents, said = read(folder)
    assert len([document for document in documents if document.name.startswith("story")]) == 60
    return "".join(document.text for document in documents if document.name == name), said


# ---------------------------------------------------------------- what is read


def test_every_kind_of_file_becomes_documents(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine", 60)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "notes.md").write_text("# Markdown marker\n" + story(900))
    (folder / "code.py").write_text("# Python marker\n" + story(901))
    lines = [json.dumps({"text": "Object marker\n" + story(902)}), "", json.dumps("String marker\n" + story(903))]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    table = pyarrow.table({"text": ["Parquet marker\n" + story(904), None], "id": [1, 2]})
    pyarrow.parquet.write_table(table, folder / "table.parquet")
    (folder / ".hidden.txt").write_text("Hidden marker\n" + story(905))
    (folder / "picture.png").write_bytes(b"\x89PNG")
    corpus = make_files_corpus(tmp_path / "home", folder)
    text = "".join(read_back(corpus).values())
    meta = prepare.read_meta(corpus)
    assert meta["num_documents"] == 65
    for kind in ("Markdown", "Python", "Object", "String", "Parquet"):
        assert f"{kind} marker" in text
    assert "Hidden marker" not in text
    assert meta["left_out"] == [
        "Left out in part: 1 file",
        "  table.parquet: 1 row with null under 'text' (row 2)",
        "Kinds of files that are not read: 1 .png",
        "Left out: hidden files or folders: 1",
    ]


def test_documents_are_in_one_split_each_and_copies_are_gone_and_counted(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine", 60)
    (folder / "copy.txt").write_text(story(3))
    documents, said = read(folder)
    assert said == "Left out: copies of other documents or pieces: 1"
    assert sorted(document.text for document in documents) == sorted(story(number) for number in range(60))
    counts = {split: sum(document.split == split for document in documents) for split in tokens.SPLITS}
    assert counts["train"] >= 40 and min(counts.values()) >= 1


def test_the_splits_follow_from_the_content_under_any_name(tmp_path: Path) -> None:
    first = write_stories(tmp_path / "one", 60)
    (tmp_path / "two").mkdir()
    for number, path in enumerate(sorted(first.iterdir())):
        shutil.copy(path, tmp_path / "two" / f"{900 - number}.md")
    splits = [{document.text: document.split for document in read(folder)[0]} for folder in (first, tmp_path / "two")]
    assert splits[0] == splits[1]


@pytest.mark.parametrize("given", ["folder", "file", "file without a suffix"])
def test_one_large_file_is_cut_into_contiguous_pieces(tmp_path: Path, given: str) -> None:
    text = "\n\n".join(story(number) for number in range(150))
    path = tmp_path / "mine" / ("enwik" if given == "file without a suffix" else "book.txt")
    path.parent.mkdir()
    path.write_text(text)
    corpus = make_files_corpus(tmp_path / "home", path.parent if given == "folder" else path)
    documents, said = read(path.parent if given == "folder" else path)
    assert said == ""
    assert "".join(document.text for document in documents) == text
    assert 40 <= len(documents) <= 60
    assert all(document.text.endswith("\n") for document in documents[:-1])
    sizes = {split: sum(len(d.text) for d in documents if d.split == split) / len(text) for split in tokens.SPLITS}
    assert 0.1 <= sizes["val"] < 0.13 and 0.03 < sizes["test"] < 0.08 and 0.01 < sizes["dev"] < 0.06
    held_out = read_back(corpus)["val"]
    assert prepare.read_meta(corpus)["num_documents"] == len(documents)
    assert not any(line in read_back(corpus)["train"] for line in held_out.splitlines() if line.startswith("Story "))


@pytest.mark.parametrize("name", ["a.txt", "b.txt", "zz.txt", "m/n.txt"])
def test_a_giant_among_small_files_is_split_whatever_its_name(tmp_path: Path, name: str) -> None:
    folder = write_stories(tmp_path / "mine", 66)
    (folder / "m").mkdir()
    (folder / name).write_text("".join(f"{number}\n" for number in range(60_000)))
    documents, _ = read(folder)
    sizes = {split: sum(len(d.text) for d in documents if d.split == split) for split in tokens.SPLITS}
    assert 0.1 <= sizes["val"] / sum(sizes.values()) < 0.13
    assert {"train", "val"} <= {document.split for document in documents if document.name == name}


def test_a_character_that_the_end_of_the_file_cuts_is_named(tmp_path: Path) -> None:
    text, said = beside_stories(tmp_path / "mine", "head.txt", ("naïve " * 20 + "é").encode()[:-1])
    assert text == "naïve " * 20
    assert "head.txt: its last character is cut off" in said


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["marked.txt", "marked.jsonl"])
def test_text_with_a_mark_of_unicode_is_read(tmp_path: Path, encoding: str, name: str) -> None:
    words = "Ärger mit Öl, 日本語 und 𝄞.\r\nEnde."
    content = words if name.endswith("txt") else json.dumps({"text": words}, ensure_ascii=False) + "\r\n"
    assert beside_stories(tmp_path / "mine", name, content.encode(encoding)) == (words, "")


@pytest.mark.parametrize("content", ["utf-16-be", "utf-32-be"])
def test_text_with_a_big_endian_mark_is_read(tmp_path: Path, content: str) -> None:
    text, said = beside_stories(tmp_path / "mine", "marked.txt", ("\ufeff" + "größer " * 9).encode(content))
    assert (text, said) == ("größer " * 9, "")


def test_a_name_that_is_not_utf8_is_read_and_shown_with_its_bytes(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / os.fsdecode(b"caf\xe9"))
    for name, content in ((b"th\xe9.txt", story(100).encode()), (b"bad\xff\x1b\n.txt", b"\xff\xff")):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(content)
    lines: list[str] = []
    corpus = make_files_corpus(tmp_path / "home", folder, log=lines.append)
    assert prepare.read_meta(corpus)["num_documents"] == 61
    assert any(line.startswith(r"  bad\xff\x1b\n.txt: not UTF-8") for line in lines)
    assert "\n".join(lines).encode()


# ---------------------------------------------------------------- files that are left out

LEFT_OUT = {
    "a NUL between words": ("n.txt", b"left \0\0 and right\n" * 9, "character 6 is NUL"),
    "a NUL after much text": ("n.md", b"word " * 300_000 + b"\0", "character 1,500,001 is NUL"),
    "UTF-16 without a mark": ("u.txt", "plain words".encode("utf-16-le"), "UTF-16LE text without its mark"),
    "UTF-32 without a mark": ("u.txt", "plain words".encode("utf-32-be"), "UTF-32BE text without its mark"),
    "UTF-16 that is damaged": ("u.txt", b"\xff\xfea\0\x00\xd8\x00\xd8b\0", "its mark says UTF-16-LE"),
    "Latin-1": ("l.txt", "voilà l'été, déjà\n".encode("latin-1"), "Western European.*iconv -f WINDOWS-1252"),
    "Shift-JIS": ("s.txt", "これは日本語の文です。\n".encode("cp932") * 9, "Shift-JIS.*iconv -f SHIFT_JIS"),
    "damaged UTF-8": ("d.txt", "日本語の文。".encode() * 9 + b"\xff\n", "damaged bytes.*iconv -c -f UTF-8"),
    "noise": ("r.txt", bytes(range(253, 100, -1)) * 3, "its encoding is not recognised"),
    "a wrong byte far inside": ("w.txt", b"word " * 300_000 + b"\xe9\n", "0xe9 at position 1,500,000"),
    "Git LFS": ("p.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "git lfs pull"),
    "git-annex": ("p.txt", b"/annex/objects/SHA256E-s9--12.txt\n", "git annex get"),
    "PNG": ("i.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
    "JPEG": ("i.md", b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
    "PDF": ("i.txt", b"%PDF-1.7\n%\xe2\xe3", "pdftotext"),
    "ZIP": ("z.txt", b"PK\x03\x04\x14\0\x06\0", "a ZIP archive"),
    "gzip": ("g.txt", gzip.compress(b"words"), "gunzip"),
    "zstd as JSON lines": ("g.jsonl", b"\x28\xb5\x2f\xfd\x24", "unzstd"),
    "a program": ("e.py", b"\x7fELF\x02\x01\x01", r"a program \(ELF\)"),
    "a program of Windows": ("e.txt", b"MZ\x90\0\x03\0", r"a program \(Windows\)"),
    "a pickle": ("p.txt", b"\x80\x04K\x01.", "a Python pickle"),
    "Parquet named .txt": ("q.txt", b"PAR1\x15\x04", "name it .parquet"),
    "empty": ("e.txt", b"", "e.txt: empty"),
    "empty JSON lines": ("e.jsonl", b"\n \n", "no text in it"),
    "a web page": ("h.txt", b"\n<!DOCTYPE html>\n<html><title>502 Bad Gateway</title>", r"a web page \(HTML\)"),
    "a web page as JSON lines": ("h.jsonl", b"<html>\n<body>Sign in</body></html>", r"a web page \(HTML\)"),
    "a web page as Parquet": ("h.parquet", b"<!doctype html><html>", r"a web page \(HTML\)"),
    "an error of a store": ("x.txt", b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>", "a server"),
    "an error in words": ("x.txt", b"404: Not Found", "a server"),
    "another key": ("k.jsonl", b'{"id": 1, "content": "words"}\n' * 2, "its keys are 'id', 'content'.*--text-key"),
    "no object": ("k.jsonl", b'[1, 2]\n[{"text": "words"}]\n', "2 lines with a list instead of an object"),
    "deep JSON": ("k.jsonl", b'{"text": "words", "tree": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", "nested too deeply"),
    "one JSON document": ("k.jsonl", b'{\n  "text":\n}\n', r"3 lines without JSON \(the first is line 1\)"),
    "no Parquet": ("q.parquet", b"nothing of the kind", "no whole Parquet file"),
    "half of a Parquet file": ("q.parquet", b"PAR1\x15\x04\x15", "no whole Parquet file"),
}


@pytest.mark.parametrize(("name", "content", "words"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_file_without_text_is_named_with_what_it_is_and_the_rest_is_read(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    text, said = beside_stories(tmp_path / "mine", name, content)
    assert text == ""
    first, line = said.splitlines()
    assert first == "Left out: 1 file" and line.startswith(f"  {name}: ") and re.search(words, line)
    with pytest.raises(PrepareError, match=f"(?s)No text can be read in .*{words}"):
        read(tmp_path / "mine" / name)


ENCODINGS = {
    "cp932": ("吾が家の猫は、いつも窓のそばで眠っている。カタカナも使う。", "SHIFT_JIS"),
    "euc_jp": ("吾が家の猫は、いつも窓のそばで眠っている。カタカナも使う。", "EUC-JP"),
    "cp949": ("우리 집 고양이는 늘 창가에서 잠을 잡니다. 오늘도 그렇습니다.", "CP949"),
    "gb18030": ("我们家的猫是一只很大的猫，它不在这里，也不在那里。", "GB18030"),
    "big5": ("我們家的貓是一隻很大的貓，牠不在這裡，也不在那裡。", "BIG5"),
    "cp1251": ("Наша кошка всегда спит у окна, и никто её не беспокоит.", "WINDOWS-1251"),
    "koi8-r": ("Наша кошка всегда спит у окна, и никто её не беспокоит.", "KOI8-R"),
    "cp866": ("Наша кошка всегда спит у окна, и никто её не беспокоит.", "IBM866"),
    "latin-1": ("Notre chat dort toujours près de la fenêtre, même l'été.", "WINDOWS-1252"),
    "cp1252": ("The cat’s “window” — as ever – is taken.", "WINDOWS-1252"),
}


@pytest.mark.parametrize("codec", ENCODINGS)
def test_the_likely_encoding_is_named(codec: str) -> None:
    text, name = ENCODINGS[codec]
    guess = guess_encoding(text.encode(codec))
    assert guess is not None and guess[1] == name


def test_a_language_whose_encoding_is_not_recognised_gets_no_wrong_name() -> None:
    assert guess_encoding("Η γάτα μας κοιμάται πάντα στο παράθυρο.".encode("iso8859-7")) is None


def test_all_bad_files_are_in_one_message_that_is_bounded(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number:02}.txt").write_bytes(b"\x89PNG\r\n" if number % 2 else b"")
    (tmp_path / "scan.pdf").touch()
    with pytest.raises(PrepareError) as refused:
        read(tmp_path)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"No text can be read in {tmp_path}."
    assert lines[1].strip() == "Left out: 50 files or folders"
    assert [line.strip() for line in lines[2:4]] == ["00.txt: empty", "01.txt: a PNG image"]
    assert lines[22].strip() == "and 30 more"
    assert lines[23].strip() == "Kinds of files that are not read: 1 .pdf"


def test_a_folder_of_other_kinds_names_them_with_their_numbers(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf", "c.docx", "enwik8", "d.tar.gz"):
        (tmp_path / name).touch()
    with pytest.raises(
        PrepareError, match=r"holds no \.jsonl .* file.*: 2 \.pdf, .*1 \.docx.*1 without a suffix"
    ) as it:
        make_files_corpus(tmp_path / "home", tmp_path)
    assert "read under any name when --files-folder names it" in str(it.value)
    assert folders_left(tmp_path / "home") == []


# ---------------------------------------------------------------- lines and rows


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": null}', "1 line with null under 'text' (line 2)"),
        ('{"text": 7}', "1 line with a number under 'text' (line 2)"),
        ('{"text": ["a", "b"]}', "1 line with a list under 'text' (line 2)"),
        ('{"text": {"en": "a"}}', "1 line with an object under 'text' (line 2)"),
        ("null", "1 line with null instead of an object (line 2)"),
        ("{broken", "1 line without JSON (line 2)"),
        (r'"\ud800"', "1 line with half of a surrogate pair (as \\ud800) (line 2)"),
        (r'{"text": "a\u0000b"}', "1 line with a NUL character (line 2)"),
        ('{"text": "caf\udce9"}', "1 line with bytes that are not UTF-8 (line 2)"),
        ('{"id": 1' + "0" * 5000 + ', "text": ""}', "1 line without JSON (line 2)"),
        ('{"body": "x"}\n{"body": "y"}', "2 lines without 'text' (the first is line 2); its keys are 'body': choose"),
    ],
)
def test_a_bad_line_is_left_out_and_the_others_are_read(tmp_path: Path, line: str, words: str) -> None:
    content = f'{{"text": "the first"}}\n{line}\n{{"text": "the last"}}\n'
    text, said = beside_stories(tmp_path / "mine", "rows.jsonl", os.fsencode(content))
    assert text == "the firstthe last"
    assert said.splitlines()[0] == "Left out in part: 1 file"
    assert said.splitlines()[1].startswith(f"  rows.jsonl: {words}")


def test_a_last_line_that_is_cut_off_is_named_so(tmp_path: Path) -> None:
    text, said = beside_stories(tmp_path / "mine", "rows.jsonl", b'\xef\xbb\xbf{"text": "whole"}\r\n{"text": "ha')
    assert text == "whole"
    assert "rows.jsonl: 1 line without JSON, where the file ends (line 2)" in said


def test_a_line_that_is_too_long_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoresearch_kernel.corpora.readers.LONGEST_LINE", 99)
    content = b'"short"\n"' + b"x" * 5_000_000 + b'"\n"short too"\n'
    text, said = beside_stories(tmp_path / "mine", "rows.jsonl", content)
    assert text == "shortshort too"
    assert "1 line longer than 99 characters (line 2)" in said


def test_the_key_of_the_text_is_an_option(tmp_path: Path) -> None:
    rows = [{"body": story(number), "text": 0} for number in range(60)]
    (tmp_path / "a.ndjson").write_text("\n".join(map(json.dumps, rows[:30])))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows[30:]), tmp_path / "b.parquet")
    documents, said = read(tmp_path, "body")
    assert (len(documents), said) == (60, "")
    with pytest.raises(PrepareError) as refused:
        read(tmp_path)
    assert "a.ndjson: no text in it: 30 lines with a number under 'text'" in str(refused.value)
    assert "b.parquet: int64 in column 'text', where text is needed; its columns of text are 'body'" in str(
        refused.value
    )
    corpora = [make_files_corpus(tmp_path / "home", tmp_path, text_key=key) for key in ("body",)]
    assert prepare.read_meta(corpora[0])["prepared_with"].startswith(
        f"--corpus files --files-folder {tmp_path} --text-key body --vocab-size"
    )


@pytest.mark.parametrize(
    ("column", "text", "words"),
    [
        (pyarrow.array([b"byte \xff", b"whole"]), "whole", "1 row with bytes that are not UTF-8 (row 1)"),
        (pyarrow.array(["a", None, "b", None]), "ab", "2 rows with null under 'text' (the first is row 2)"),
        (pyarrow.array(["a", "b", "a"]).dictionary_encode(), "ab", "copies of other documents or pieces: 1"),
        (pyarrow.array(["large"], pyarrow.large_string()), "large", ""),
        (pyarrow.array([1, 2]), "", "int64 in column 'text', where text is needed"),
        (pyarrow.array([["a", "b"], ["c"]]), "", "in column 'text', where text is needed"),
        (pyarrow.array([None, None]), "", "no text in it: 2 rows with null under 'text' (the first is row 1)"),
        (pyarrow.array([], pyarrow.string()), "", "no text in it"),
    ],
)
def test_columns_of_parquet(tmp_path: Path, column: pyarrow.Array, text: str, words: str) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "made")
    found, said = beside_stories(tmp_path / "mine", "rows.parquet", (tmp_path / "made").read_bytes())
    assert found == text and words in said and bool(said) == bool(words)


def test_a_string_column_with_wrong_bytes_loses_these_rows_alone(tmp_path: Path) -> None:
    wrong = pyarrow.Array.from_buffers(
        pyarrow.string(), 2, [None, pyarrow.py_buffer(np.array([0, 2, 4], np.int32)), pyarrow.py_buffer(b"\xff\xfeok")]
    )
    pyarrow.parquet.write_table(pyarrow.table({"text": wrong}), tmp_path / "made")
    text, said = beside_stories(tmp_path / "mine", "rows.parquet", (tmp_path / "made").read_bytes())
    assert text == "ok" and "1 row with bytes that are not UTF-8 (row 1)" in said


def test_parquet_of_a_download_without_text_is_one_clear_error(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(PrepareError, match=r"a.parquet: no column 'text', .* its columns of text are 'body'"):
        list(parquet_texts(tmp_path / "a.parquet"))


# ---------------------------------------------------------------- links, pipes, rights, time


def test_what_is_no_file_is_named_and_nothing_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_stories(tmp_path / "mine", 60)
    (folder / "sub").mkdir()
    (folder / "sub" / "inner.txt").write_text(story(100))
    (folder / "nowhere.txt").symlink_to("missing")
    (folder / "circle.txt").symlink_to("circle.txt")
    (folder / "up").symlink_to("..")
    (folder / "again").symlink_to("sub")
    (folder / "zero.txt").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.txt")
    (tmp_path / "elsewhere.txt").write_text(story(101))
    (folder / "link.txt").symlink_to(tmp_path / "elsewhere.txt")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(folder)  # the path of a socket is short
        server.bind("socket.txt")
        documents, said = read(folder)
    assert {"sub/inner.txt", "link.txt"} <= {document.name for document in documents}
    assert said.splitlines()[:8] == [
        "Left out: 7 files or folders",
        "  circle.txt: a link that leads in a circle",
        "  nowhere.txt: a link that leads nowhere",
        "  pipe.txt: a named pipe",
        "  socket.txt: a socket",
        "  zero.txt: a device",
        "  again: a link to a folder that is read already",
        "  up/mine: a link to a folder that is read already",
    ]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("typo", "There is no folder or file .*typo. Name one"),
        ("circle", "There is no folder or file .*circle"),
        ("pipe", "pipe is a named pipe"),
        ("rows.json", "rows.json is JSON, of which only JSON lines are read"),
        ("nul\0", "There is no folder or file .*nul"),
        ("x" * 300, "There is no folder or file x*"),
        ("", "needs a folder, or one file"),
    ],
)
def test_a_path_that_is_no_folder_and_no_file_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    Path("rows.json").write_text("[]")
    os.mkfifo("pipe")
    with pytest.raises(PrepareError, match=words):
        make_files_corpus(tmp_path / "home", path)  # type: ignore[arg-type]
    assert folders_left(tmp_path / "home") == []


def as_another_user(folder: Path) -> str:
    """What `read` says, or its error, as a user without rights of root."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.getuid() == 0:
                os.setuid(65_534)
            said = read(folder)[1]
        except PrepareError as error:
            said = str(error)
        except BaseException as error:
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


@pytest.mark.skipif(sys.platform == "darwin", reason="a forked process cannot use the system's libraries there")
def test_files_and_folders_without_rights_are_named() -> None:
    base = Path(tempfile.mkdtemp())  # where another user may look, as in tmp_path none may
    base.chmod(0o755)
    folder = write_stories(base / "mine", 60)
    try:
        (folder / "closed").mkdir()
        (folder / "closed" / "inner.txt").write_text("words")
        for closed in ("closed", "story3.txt"):
            (folder / closed).chmod(0)
        said = as_another_user(folder)
        assert said.splitlines()[0] == "Left out: 2 files or folders"
        assert "  closed/: it may not be read (permission denied): `chmod u+rx FOLDER`" in said
        assert "  story3.txt: it may not be read (permission denied): `chmod u+r FILE`" in said
        folder.chmod(0)
        assert "mine: it may not be read (permission denied)" in as_another_user(folder)
    finally:
        folder.chmod(0o700)
        (folder / "closed").chmod(0o700)
        shutil.rmtree(base)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is of Linux")
def test_a_file_whose_reading_fails_is_named(tmp_path: Path) -> None:
    folder = write_stories(tmp_path, 60)
    (folder / "memory.txt").symlink_to("/proc/self/mem")
    assert read(folder)[1] == "Left out: 1 file\n  memory.txt: it cannot be read (Input/output error)"


def test_a_file_that_vanishes_or_changes_during_the_build_is_named(tmp_path: Path) -> None:
    folder = write_stories(tmp_path, 60)
    source = own_files_source(folder, None, lambda line: None)
    (folder / "story0.txt").unlink()
    first = [document.text for document in source.documents()]
    assert len(first) == 59
    (folder / "story1.txt").unlink()
    (folder / "story2.txt").write_bytes(b"\xff\xff")
    assert len(list(source.documents())) == 57
    no_encoding = "not UTF-8 (byte 0xff at position 0), and its encoding is not recognised: save it as UTF-8 in the "
    no_encoding += "program that made it"
    assert source.left_out() == [
        "Left out: 3 files or folders",
        "  story0.txt: it vanished while the corpus was read",
        "  story1.txt: it vanished while the corpus was read (it could be read before)",
        f"  story2.txt: {no_encoding} (it could be read before)",
    ]


# ---------------------------------------------------------------- blanks and repeats


@pytest.mark.parametrize("character", [" ", "\t", "\u3000", "\n", "x", "\u200b", "=", "1"])
@pytest.mark.parametrize("name", ["run.txt", "run.jsonl"])
def test_a_million_times_one_character_is_shortened_and_said(tmp_path: Path, name: str, character: str) -> None:
    text = "before" + character * 1_000_000 + "after"
    content = text if name.endswith("txt") else json.dumps(text)
    read_text, said = beside_stories(tmp_path / "mine", name, content.encode())
    assert read_text.startswith("before" + character) and read_text.endswith(character + "after")
    assert len(read_text) <= LONGEST_RUN + len("beforeafter")
    removed = f"{1_000_000 - LONGEST_RUN:,} characters of runs of one character longer than {LONGEST_RUN:,}"
    assert said.startswith(f"Left out in part: 1 file\n  {name}: {removed}")


@pytest.mark.parametrize("blanks", [" \t", "\u3000\u2003", "\t\n "])
def test_a_million_mixed_blanks_are_tokenized(tmp_path: Path, blanks: str) -> None:
    folder = write_stories(tmp_path / "mine", 60)
    texts = [f"{number} before" + blanks * 400_000 + "after" for number in range(5)]
    (folder / "run.jsonl").write_text("\n".join(map(json.dumps, texts)))
    corpus = make_files_corpus(tmp_path / "home", folder)
    assert prepare.read_meta(corpus)["num_documents"] > 60


def test_long_runs_of_blanks_are_cut_and_nothing_is_lost() -> None:
    most = tokens.LONGEST_BLANKS
    for run in (most - 1, most, most + 1, 3 * most, 3 * most + 5):
        text = "a b" + " " * run + "c" + "\u3000" * run
        parts = tokens.between_blanks(text)
        assert "".join(parts) == text and "" not in parts
        assert max(len(run) for part in parts for run in re.findall(r"\s+", part)) <= most
        assert (len(parts) == 1) == (run <= most)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_text_on_which_the_tokenizer_panics_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    monkeypatch.setattr(tokens, "LONGEST_BLANKS", 10**9)
    texts = Document("train", story(1), "fine.txt"), Document(split, "a" + " \t" * 500_000 + "b", "blanks.txt")
    source = Source("files", lambda: iter(texts), {})
    with pytest.raises(PrepareError, match=r"The tokenizer cannot process blanks.txt: .*StackOverflow"):
        tokens.write_streams(source, tokens.tokenizer_of(source, 300), tmp_path, print)


def test_text_that_only_repeats_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "same.txt").write_text("x" * 1_000_000)
    with pytest.raises(PrepareError, match=r"Too little text in .* Add text that does not repeat itself"):
        read(tmp_path)


def test_blank_documents_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text("\n  \n")
    with pytest.raises(PrepareError, match=r"No text can be read in .*\n  Left out: blank documents or pieces: 1"):
        make_files_corpus(tmp_path / "home", tmp_path)


def test_parts_of_any_size_are_shortened_alike() -> None:
    text = "ab" + "=" * (3 * LONGEST_RUN) + "c" + " " * LONGEST_RUN + "d" + "x" * (LONGEST_RUN + 1)
    short = "ab" + "=" * LONGEST_RUN + "c" + " " * LONGEST_RUN + "d" + "x" * LONGEST_RUN
    for size in (997, LONGEST_RUN - 1, LONGEST_RUN, 5_000, 10**6):
        runs = ShortRuns()
        assert "".join(runs.of(text[at : at + size] for at in range(0, len(text), size))) == short
        assert runs.removed == len(text) - len(short)


# ---------------------------------------------------------------- corpora


def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    with open(tmp_path / "large.txt", "w") as file:
        for number in range(8_000):
            file.write(story(number, 160))
    size = (tmp_path / "large.txt").stat().st_size
    tracemalloc.start()
    found = sum(len(document.text) for document in own_files_source(tmp_path, None, print).documents())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == size > 15_000_000 and peak < size / 2


@pytest.mark.parametrize("start", ["ID3 tags are", "PAR1 of 2", "GGUF is", "MZ said", "BZh9 hall", "II* Kings", "%PD"])
def test_text_that_begins_as_a_format_does_is_text(tmp_path: Path, start: str) -> None:
    assert beside_stories(tmp_path / "mine", "notes.txt", f"{start} words.".encode()) == (f"{start} words.", "")


def test_two_folders_are_two_corpora_and_a_changed_one_is_pointed_out(tmp_path: Path) -> None:
    first, second = write_stories(tmp_path / "one"), write_stories(tmp_path / "two")
    corpus = make_files_corpus(tmp_path / "home", first)
    assert corpus != make_files_corpus(tmp_path / "home", second)
    content = prepare.read_meta(corpus)["content_sha256"]
    (first / "new.txt").write_text(story(999))
    lines: list[str] = []
    sizes = {"vocab_size": 300, "sequence_length": 32}
    build_corpus("files", files_folder=first, home=tmp_path / "home", log=lines.append, **sizes)  # type: ignore[arg-type]
    assert any("--rebuild" in line and "makes it again" in line for line in lines)
    assert prepare.read_meta(corpus)["content_sha256"] == content
    make_files_corpus(tmp_path / "home", first, rebuild=True)
    assert prepare.read_meta(corpus)["content_sha256"] != content
    assert len(folders_left(tmp_path / "home")) == 4


def test_the_same_documents_make_the_same_corpus(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine")
    metas = [prepare.read_meta(make_files_corpus(tmp_path / home, folder)) for home in ("a", "b")]
    for same in ("content_sha256", "tokenizer_sha256", "num_train_tokens", "num_val_bytes", "key"):
        assert metas[0][same] == metas[1][same]


def test_a_finished_corpus_still_says_what_it_lacks(tmp_path: Path) -> None:
    folder = write_stories(tmp_path / "mine")
    (folder / "bad.txt").write_bytes(b"GIF89a")
    said: list[list[str]] = [[], []]
    for lines in said:
        make_files_corpus(tmp_path / "home", folder, log=lines.append)
    for lines in said:
        assert next(line for line in lines if "bad.txt" in line).strip() == "bad.txt: a GIF image"


def test_too_little_text_for_a_row_of_each_split_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number}.txt").write_text(f"Note {number}.")
    (folder / "scan.txt").write_bytes(b"%PDF-1.4")
    with pytest.raises(
        PrepareError, match=r"(?s)mine for its four splits: train .* Each needs a row of 32.*scan.txt: a"
    ):
        make_files_corpus(tmp_path / "home", folder)
    assert folders_left(tmp_path / "home") == []


@pytest.mark.parametrize("options", [{"vocab_size": 100}, {"sequence_length": 0}])
def test_sizes_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(PrepareError, match="choose"):
        make_files_corpus(tmp_path / "home", write_stories(tmp_path / "mine"), **options)


def test_texts_that_each_training_may_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, mine = tmp_path / "imports" / "texts", tmp_path / "mine"
    for texts in (folder, mine):
        texts.mkdir(parents=True)
        (texts / "a.txt").write_text("one text")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "imports"))
    with pytest.raises(PrepareError, match=r"a.txt cannot be in a corpus, because each training may read .*imports,"):
        make_files_corpus(tmp_path / "home", folder)
    (mine / "link.txt").symlink_to(folder / "a.txt")
    with pytest.raises(PrepareError, match=r"link.txt cannot be in a corpus.*copy your texts to a folder"):
        look_at_files(mine, None, 32)
