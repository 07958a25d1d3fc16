"""Which server a study asks: the key and the address in the environment, and the secrets that no text may show."""

from __future__ import annotations

import logging
import os
import re
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

OPENAI_URL = "https://api.openai.com/v1"
NO_KEY = "none"  # the client insists on a key; servers without one ignore it
# What people write where a server asks for no key: no secrets, and words that occur in any text.
PLACEHOLDERS = {
    "none", "empty", "dummy", "ollama", "lm-studio", "not-needed", "no-key", "sk-no-key-required", "test", "token",
    "local", "fake", "placeholder", "api-key", "apikey", "secret", "vllm", "llama", "llamacpp", "default", "true",
    "false", "unused", "anything", "password", "sk-test", "changeme", "null",
}  # fmt: skip

_taken: str | None = None
_secrets: set[str] = set()


def read_key() -> str | None:
    """OPENAI_API_KEY in the environment, which stays as it is, or the key that `take_key` took out of it."""
    key = os.environ.get("OPENAI_API_KEY", "").strip() or _taken
    if key:
        keep_secret(key)
    return key


def take_key() -> str | None:
    """The key, taken out of the environment, so that no child of this process inherits it.

    Only a process of ours that runs a study does this, never a user's kernel.
    """
    global _taken
    _taken = read_key()
    os.environ.pop("OPENAI_API_KEY", None)
    return _taken


def knows_server() -> bool:
    """Whether a key or an address names a server to ask."""
    return bool(read_key() or base_url())


def base_url() -> str:
    """The address that the user set; "" for that of OpenAI."""
    return os.environ.get("OPENAI_BASE_URL", "").strip()


def redact(text: str) -> str:
    """`text` with the key, and what else a base URL hides, as "[key]". Placeholders such as "ollama" stay."""
    for secret in sorted(_secrets, key=len, reverse=True):
        if len(secret) >= 8:
            text = text.replace(secret, "[key]")
        else:  # so short that it may be part of a word
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])", "[key]", text)
    return text


def redacted(record: logging.LogRecord) -> bool:
    """A filter of a log that lets everything pass, without secrets."""
    record.msg, record.args = redact(record.getMessage()), ()
    return True


def keep_secret(secret: str) -> None:
    """Keep `secret` out of every text that `redact` sees."""
    if len(secret) >= 4 and secret.lower() not in PLACEHOLDERS:
        _secrets.update({secret, quote(secret, safe="")})


def address(base_url: str) -> tuple[str, dict[str, str], str]:
    """URL without its query, the query, and the host to show. What may be a secret among them is kept out of texts."""
    try:
        url = urlsplit(base_url)
        shown = f"{url.hostname}:{url.port}" if url.port else str(url.hostname)
    except ValueError:
        url, shown = urlsplit(""), ""  # the message of the exception would show the address
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("OPENAI_BASE_URL is no address of a server. Write it like http://localhost:11434/v1.")
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    secrets = [url.password or url.username or "", *(value for value in query.values() if len(value) >= 16)]
    for secret in secrets:
        keep_secret(secret)
    path = url.path.rstrip("/").removesuffix("/chat/completions")
    return urlunsplit((url.scheme, url.netloc, path, "", "")), query, shown


def is_local(url: str) -> bool:
    """Whether the server runs on this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def usable_key(key: str | None) -> str:
    """The key, to be kept out of every text. Raises ValueError when no header can carry it, without showing it."""
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("The key in OPENAI_API_KEY holds characters that no key has. Copy it again.")
    keep_secret(key)
    return key
