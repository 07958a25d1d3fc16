"""Why a command-line tool gave no reply: how tools say it, and what a user can do. `causes.py` has servers' words."""

from __future__ import annotations

import re

from ..core.format import duration
from .causes import ServerCause, cause_of
from .error_body import ErrorBody
from .tools import Tool

_LIMIT = (
    r"usage[ _]limit|(?:hit|reached|exceeded) (?:your|the) (?!context)[\w -]{0,30}(?:limit|quota)"
    r"|(?:hour|day|week|month|daily|weekly|monthly|hourly|session|messages?|requests?|rate|plan|opus|sonnet) limit"
    r"|limit (?:has been |was |is )?(?:reached|hit)|limit (?:will )?resets?|quota (?:will reset|exceeded|exhausted)"
    r"|exhausted your (?:\w+ )?(?:capacity|quota)|out of (?:\w+ )?usage|too many requests|resource_exhausted"
)
_SIGN_IN = (
    r"not (?:logged|signed) in|(?:logged|signed) out"
    r"|(?:please|must|need to|have to) (?:first )?(?:run )?"
    r"[`'\"]?(?:\S+ )?/?(?:log|sign)[ -]?in|/login\b"
    r"|(?:log|sign)[ -]?in (?:again|first|is )?required|authentication required"
    r"|(?:auth|session|credentials?|token) (?:has |have |is )?(?:expired|required|missing)|auth login"
    r"|(?:open|visit) .{0,40}(?:url|link|https?://).{0,200}"
    r"(?:\bsign[ -]?in\b|(?<!the )\blog[ -]?in\b(?! (?:your|the|a)\b)|authori[sz]e|authenticate|enter .{0,20}code)"
    r"|(?:specify|set) (?:the |an )?\w*(?:_API_KEY|_TOKEN)\b|invalid auth method|no authentication"
)
_PROMPT = r"\[y/n\]|\(y/n\)|\(yes/no\)|\[yes/no\]"  # which no model's prose ends with
_PERMISSION = (
    rf"{_PROMPT}|(?:allow|approve|permit) (?:this|the) \w+.{0, 40}\?"
    r"|do you want to (?:proceed|allow|run)"
    r"|(?:requires?|needs?|waiting for|asks? for) (?:your )?(?:approval|permission)|do you trust"
)
# Of accounts and keys, where a tool that names them ends well; `causes.py` has more, which may stand in prose as well.
_NO_CREDIT = r"credit balance (?:is )?too low|insufficient[_ ](?:quota|balance|credits?|funds)|payment required"
_NO_KEY = (
    r"\b401\b.{0,20}(?:unauthori[sz]ed|invalid)|(?:incorrect|invalid|revoked)[_ ](?:external[_ ])?api[_ -]?key"
    r"|api[_ -]?key (?:is )?(?:not valid|invalid|incorrect|has been revoked|has expired)|invalid bearer token"
    r"|^\W*unauthori[sz]ed\W*$"
)
# What a tool's own words have to be beside an exit status of 0.
_OWN = {
    ServerCause.RATE: (_LIMIT,),
    ServerCause.QUOTA: (_LIMIT, _NO_CREDIT),
    ServerCause.KEY: (_SIGN_IN, _NO_KEY),
    ServerCause.PERMISSION: (_PROMPT,),
}


def cause_of_tool(tool: Tool, words: str, status: int | None = None) -> ServerCause | None:
    """The cause that a tool's words name; None for words that are not known."""
    known = cause_of(ErrorBody(words, words, status), status)
    if known is ServerCause.CONTEXT:
        return known
    if status not in (401, 403) and _has(words, _LIMIT, *tool.limit_words):
        return (
            ServerCause.QUOTA if known is ServerCause.QUOTA and not _has(words, "reset", "again") else ServerCause.RATE
        )
    if known is ServerCause.OVERLOADED and not _has(words, *tool.sign_in_words):
        return known
    if _has(words, _SIGN_IN, *tool.sign_in_words):
        return ServerCause.KEY
    return ServerCause.PERMISSION if _has(words, _PERMISSION) else known


def cause_of_success(tool: Tool, words: str) -> ServerCause | None:
    """The cause that a tool names although its exit status is 0; None for what may as well be a model's prose.

    "I don't have access to your files" is what servers say of a permission and what models say of train.py.
    """
    cause = cause_of_tool(tool, words)
    own = {ServerCause.RATE: tool.limit_words, ServerCause.KEY: tool.sign_in_words}
    is_own = cause in _OWN and _has(words, *_OWN[cause], *own.get(cause, ()))
    return cause if is_own else None


def _has(words: str, *patterns: str) -> bool:
    return any(re.search(pattern, words, re.IGNORECASE | re.DOTALL) for pattern in patterns)


def advice(tool: Tool, cause: ServerCause, limit_seconds: float) -> str:
    """What a user can do about a cause."""
    name = tool.called
    own = {
        ServerCause.KEY: f"You are not signed in to {name}. {tool.sign_in or 'Start it in a terminal and sign in.'}",
        ServerCause.RATE: f"The usage limit of your account with {name} is reached.",
        ServerCause.QUOTA: f"Your account with {name} has no credit left: add some, or continue with another --with.",
        ServerCause.PERMISSION: f"{name} asks for a permission, and a proposal needs none. Add the flag that switches "
        "its tools off to its command line.",
        ServerCause.MODEL: f"{name} has no such model: choose another --model.",
        ServerCause.SLOW: f"{name} was ended after {duration(limit_seconds)}; limit_seconds of its preset allows more.",
        ServerCause.FILTER: f"The content filter of {name} stopped it: continue with another --model or --with.",
        ServerCause.DOWN: f"Look whether this machine reaches the server of {name}.",
        ServerCause.ADDRESS: f"Look whether this machine reaches the server of {name}.",
        ServerCause.OVERLOADED: f"The server of {name} has too much to do: wait, or continue with another --model.",
    }
    return own.get(cause, f"Start {name} in a terminal to see what is wrong.")
