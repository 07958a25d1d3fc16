"""The estimate of tokens, and the table of prices."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from autoresearch_kernel.agents.prices import Prices, count_tokens, read_prices

PROJECT = Path(__file__).parents[2]


def test_tokens_are_counted_by_hand() -> None:
    assert count_tokens("") == 0
    assert count_tokens("abc") == 1 and count_tokens("abcd") == 2
    assert count_tokens("0.125") == 5  # a vocabulary may have one token for each digit
    assert count_tokens("±±±") == 2  # 6 bytes
    assert count_tokens("\ud800") == 1


def test_tokens_of_a_long_text_are_counted_fast() -> None:
    text = "MATRIX_LR 0.0213 -> 0.0251 val_bpb 1.8123 ± 0.0012\n" * 20_000  # a megabyte
    began = time.perf_counter()
    assert count_tokens(text) > len(text) / 3
    assert time.perf_counter() - began < 0.5


def test_the_longest_entry_that_fits_is_the_price() -> None:
    prices = Prices({"*": (9.0, 9.0), "local/*": (0.0, 0.0), "gpt-5": (1.25, 10.0), "gpt-5*": (7.0, 7.0)})
    assert prices.cost("gpt-5", 1_000_000, 100_000) == pytest.approx(1.25 + 1.0)
    assert prices.cost("GPT-5-2025-08-07", 1_000_000, 0) == pytest.approx(1.25)
    assert prices.cost("gpt-5-mini", 1_000_000, 0) == pytest.approx(7.0)
    assert prices.cost("local/qwen", 10**9, 10**9) == 0.0
    assert prices.cost("other", 0, 1_000_000) == pytest.approx(9.0)
    assert Prices({"gpt-5": (1.0, 1.0)}).cost("gpt-5-mini", 1, 1) is None
    assert Prices().cost("gpt-5", 1, 1) is None


def test_the_table_of_the_project_is_read() -> None:
    prices = read_prices(PROJECT / "presets" / "prices.yaml")
    assert prices.cost("gpt-5-mini", 1_000_000, 1_000_000) == pytest.approx(2.25)
    assert prices.cost("gpt-5-mini-2025-08-07", 1_000_000, 0) == pytest.approx(0.25)
    assert prices.cost("local/qwen3", 1, 1) is None  # only when the person takes the # away
    assert all(0 < price_in < price_out for price_in, price_out in prices.table.values())


def test_a_table_that_is_wrong_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    assert read_prices(path) == Prices()
    path.write_text("# nothing\n")
    assert read_prices(path) == Prices()
    path.write_text('"local/*": {in: 0, out: 0}\n7: {in: 1, out: 2}\n')
    assert read_prices(path).table == {"local/*": (0.0, 0.0), "7": (1.0, 2.0)}
    for line in ("x: 3", "x: {in: 1}", "x: {in: -1, out: 1}", "x: {in: .nan, out: 1}", "x: {in: 1, out: 2, per: 3}"):
        path.write_text(line)
        with pytest.raises(ValueError, match=r"the price of x is .* Write `x: "):
            read_prices(path)
    for text in ("- a\n", "x: {", "\x00"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"prices\.yaml"):
            read_prices(path)
