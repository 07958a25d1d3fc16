from __future__ import annotations

from pathlib import Path

from autoresearch_kernel.record.curves import LINE_LIMIT_BYTES, Tail, curve_points, read_curve


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
