from __future__ import annotations

from pathlib import Path

from autoresearch_kernel.record.curves import (
    CURVE_LIMIT_BYTES,
    LINE_LIMIT_BYTES,
    Tail,
    curve_points,
    read_curve,
    shorten_curve,
)


def test_a_tail_never_splits_a_character(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "log")
    assert tail.read() == ""
    data = "aé→😀z".encode()
    seen = ""
    for end in range(1, len(data) + 1):
        (tmp_path / "log").write_bytes(data[:end])
        seen += tail.read()
    assert seen == "aé→😀z"


def test_lines_arrive_whole_and_once(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "metrics.jsonl")
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"st')
    assert tail.read_lines() == [b'{"step": 1}']
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'ep": 2}\n')
    assert tail.read_lines() == [b'{"step": 2}']


def test_a_curve_leaves_out_what_is_no_point(tmp_path: Path) -> None:
    lines = [b'{"step": 1}', b"[1]", b"not json", b'{"step": "' + b"x" * LINE_LIMIT_BYTES + b'"}', b"", b'{"step": 2']
    assert curve_points(lines) == [{"step": 1}]
    assert read_curve(tmp_path / "none.jsonl") == []
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert read_curve(tmp_path / "metrics.jsonl") == [{"step": 1}]


def test_a_point_holds_sensible_numbers_only_and_brackets_without_end_are_no_point(tmp_path: Path) -> None:
    huge = (
        b'{"step": 1' + b"0" * 400 + b', "loss": NaN, "seconds": Infinity, "flag": true, "word": "x", "progress": 0.5}'
    )
    many = b"{" + b", ".join(b'"n%d": 1' % number for number in range(1000)) + b"}"
    lines = [b"[" * 19_000, b'{"a":' * 3_000, huge, many]
    progress, counted = curve_points(lines)
    assert progress == {"progress": 0.5} and len(counted) == 100
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert read_curve(tmp_path / "metrics.jsonl") == [progress, counted]


def test_a_curve_without_end_is_cut_to_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n')
    shorten_curve(path)
    assert path.read_bytes() == b'{"step": 1}\n'
    path.write_bytes(b'{"step": 1}\n' * 300_000)
    shorten_curve(path)
    assert CURVE_LIMIT_BYTES - 12 < path.stat().st_size <= CURVE_LIMIT_BYTES
    assert set(path.read_bytes().splitlines()) == {b'{"step": 1}'}
    path.write_bytes(b"[" * (CURVE_LIMIT_BYTES + 1))
    shorten_curve(path)
    assert path.read_bytes() == b""
