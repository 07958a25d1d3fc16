"""Any bytes in files of any names give a corpus or a PrepareError, and the same folder gives the same corpus again."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import prepare
from autoresearch_kernel.core.sanitize import shown
from autoresearch_kernel.corpora.kinds import guess_encoding, what_is, wrong_bytes
from autoresearch_kernel.corpora.own_files import cut_in_pieces, own_files_source
from autoresearch_kernel.corpora.readers import READERS, ShortRuns
from autoresearch_kernel.corpora.tokens import between_blanks
from autoresearch_kernel.source.encoding import UNICODE_MARKS
from prepare import PrepareError
from tests.fuzzing import EXAMPLES
from tests.stories import folders_left, make_files_corpus, story

SLOW = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "body", "x"]), inner),
    max_leaves=5,
)
objects = st.dictionaries(st.sampled_from(["text", "body"]), values, min_size=1)
json_lines = st.lists(st.one_of(objects, values).map(json.dumps) | words, max_size=6).map("\n".join)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp932", "gb18030"])
texts = st.one_of(
    words,
    json_lines,
    st.integers(0, 2**16).map(story),
    st.tuples(st.sampled_from("a \n\0\u3000"), st.integers(1, 9_000)).map(lambda pair: pair[0] * pair[1]),
)
contents = st.one_of(
    st.binary(max_size=300),
    st.tuples(texts, encodings).map(lambda pair: pair[0].encode(pair[1], "replace")),
    st.tuples(st.sampled_from([mark for mark, _ in UNICODE_MARKS] + [b"PAR1", b"\x89PNG\r\n", b"MZ"]), st.binary()).map(
        b"".join
    ),
)
suffixes = st.sampled_from([suffix.encode() for suffix in READERS] + [b"", b".TXT", b".pdf", b".json"])
stems = st.binary(min_size=1, max_size=20).filter(lambda name: not {0, ord("/")} & set(name))
files = st.dictionaries(st.tuples(stems, suffixes).map(b"".join), contents, max_size=6)


def write(folder: Path, files: dict[bytes, bytes], stories: int) -> None:
    for name, content in files.items():
        if name not in (b".", b".."):
            Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(content)
    for number in range(stories):
        (folder / f"story{number}.txt").write_text(story(number))


@SLOW
@given(files, st.sampled_from([0, 50]), st.sampled_from([None, "body"]))
@example({b"\xff\n.txt": b"\xff\xfe\0", b"..": b""}, 0, None)
@example({b"a.txt": b"words " * 9_000}, 0, None)
def test_any_folder_gives_documents_or_the_stated_error(
    files: dict[bytes, bytes], stories: int, key: str | None
) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write(folder, files, stories)
        found, said = [], []
        for _ in range(2):
            lines: list[str] = []
            try:
                found.append(list(own_files_source(folder, key, lines.append).documents()))
            except PrepareError as error:
                assert stories == 0
                found.append([])
                lines.append(str(error))
            said.append("\n".join(lines))
        assert found[0] == found[1] and said[0] == said[1]
        assert "".join(said).encode() is not None
        assert len({document.text for document in found[0]}) == len(found[0])
        names = {document.name for document in found[0]}
        for name in set(files) - {b".", b".."}:  # what gives no text is never passed over in silence
            assert shown(Path(os.fsdecode(name))) in names or said[0], name


@settings(SLOW, max_examples=max(1, EXAMPLES // 10))
@given(files)
def test_any_folder_gives_the_same_corpus_twice(files: dict[bytes, bytes]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "mine"
        folder.mkdir()
        write(folder, files, 50)
        metas = []
        for home in ("a", "b"):
            try:
                metas.append(prepare.read_meta(make_files_corpus(Path(made) / home, folder)))
            except PrepareError:
                metas.append({})
                assert folders_left(Path(made) / home) == []
        for fact in ("content_sha256", "tokenizer_sha256", "heldout_sha256", "left_out"):
            assert metas[0].get(fact) == metas[1].get(fact)


@SLOW
@given(st.text("ab \n", max_size=400), st.integers(1, 50), st.integers(1, 50))
@example("aaaaaaa aaaaaaaaaa", 9, 1)  # a word that ends before the middle of two pieces
def test_pieces_are_the_document_whatever_its_parts(text: str, longest: int, size: int) -> None:
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    pieces = list(cut_in_pieces(parts, longest))
    assert "".join(pieces) == text and "" not in pieces
    assert pieces == list(cut_in_pieces([text], longest))
    assert all(len(piece) <= longest for piece in pieces)


@SLOW
@given(st.lists(st.tuples(st.sampled_from("a =\n"), st.integers(1, 9_000)), max_size=5), st.integers(300, 9_000))
def test_runs_are_shortened_alike_whatever_the_parts(runs: list[tuple[str, int]], size: int) -> None:
    text = "".join(character * count for character, count in runs)
    whole, parts = ShortRuns(), ShortRuns()
    short = "".join(whole.of([text]))
    assert short == "".join(parts.of(text[at : at + size] for at in range(0, len(text), size)))
    assert whole.removed == parts.removed == len(text) - len(short)


@SLOW
@given(contents)
def test_any_bytes_are_called_something(data: bytes) -> None:
    assert what_is(data) != ""
    assert guess_encoding(data) is None or all(guess_encoding(data) or ())
    if data:
        assert "position 7" in wrong_bytes(data, len(data) - 1, 7, "utf-8")
    assert "".join(between_blanks(data.decode("latin-1") * 300)) == data.decode("latin-1") * 300
