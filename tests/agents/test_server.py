"""The key, the address of a server, and the secrets that no text shows."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback

import pytest

from autoresearch_kernel.agents.server import address as address_of
from autoresearch_kernel.agents.server import keep_secret, read_key, redact, usable_key

KEY = "sk-test-4f6d9a2b7c1e8d3f"


def test_reading_the_key_leaves_the_environment_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert read_key() == KEY and os.environ["OPENAI_API_KEY"] == f" {KEY}\n"
    monkeypatch.delenv("OPENAI_API_KEY")
    assert read_key() is None
    assert redact("nothing to hide") == "nothing to hide"


def test_a_key_that_is_taken_is_known_to_this_process_alone() -> None:
    code = (
        "import os, subprocess, sys; from autoresearch_kernel.agents.server import read_key, take_key; take_key(); "
        "child = [sys.executable, '-c', 'import os; print(os.environ.get(\"OPENAI_API_KEY\"))']; "
        "print(read_key(), os.environ.get('OPENAI_API_KEY'), subprocess.check_output(child, text=True).strip())"
    )
    env = os.environ | {"OPENAI_API_KEY": f" {KEY}\n"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [KEY, "None", "None"]


def test_secrets_are_redacted_and_placeholders_are_words() -> None:
    for key in (KEY, "qxjz", "ollama"):
        keep_secret(key)
    assert redact(f"Bearer {KEY}, {KEY}!") == "Bearer [key], [key]!"
    assert redact("a qxjz one is no qxjzhand for qxjz_1") == "a [key] one is no qxjzhand for [key]_1"
    assert redact("ollama run tiny") == "ollama run tiny"


def test_a_key_or_an_address_that_cannot_be_used_is_refused_unseen() -> None:
    for key in ("sk-ключ-4f6d9a2b7c1e", "sk-two\nlines-4f6d9a2b"):
        with pytest.raises(ValueError, match="Copy it again") as caught:
            usable_key(key)
        assert key not in str(caught.value)
    for url in ("localhost:11434/v1", "ftp://x/v1", "http://", "http://me:secret-word@host:port/v1"):
        with pytest.raises(ValueError, match="Write it like http://localhost:11434/v1") as caught:
            address_of(url)
        assert "secret-word" not in "".join(traceback.format_exception(caught.value))
