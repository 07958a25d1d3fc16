"""The one table of why a model's server gives no reply: how servers say it, what to do, and the sentence for users.

The words decide, then the HTTP status: a gateway may answer 400 or 500 for whatever went wrong behind it. Pure.
A reply that came and holds no answer, as one that calls a tool, is refused in `llm.py`.

Known wordings: OpenAI, Azure, Anthropic, OpenRouter, LiteLLM, Ollama, llama.cpp, vLLM, LM Studio, TGI, SGLang, Groq,
Together, DeepSeek, Mistral, Gemini, xAI, Cloudflare, nginx, Moonshot, DashScope, MiniMax, SiliconFlow, Cohere.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from .error_body import ErrorBody


class ServerCause(StrEnum):
    """Why there is no reply."""

    KEY = "key"
    QUOTA = "quota"
    PERMISSION = "permission"
    RATE = "rate limit"
    MODEL = "model name"
    CONTEXT = "context"
    REPLY_LIMIT = "reply limit"
    FILTER = "content filter"
    NOT_CHAT = "not a chat server"
    MEMORY = "memory"
    LOADING = "loading"
    OVERLOADED = "overloaded"
    SLOW = "no answer in time"
    DOWN = "down"
    ADDRESS = "address"
    CERTIFICATE = "certificate"
    SERVER = "server error"
    REQUEST = "request"


class ServerAction(StrEnum):
    """What the program does about it."""

    RETRY = "ask again after a wait"
    PAUSE = "pause until a user changes something"
    SHORTER = "ask for a shorter reply, then send a smaller prompt"


class Advice(NamedTuple):
    """What is done, and what the user can do."""

    action: ServerAction
    step: str


ADVICE = {
    ServerCause.KEY: Advice(
        ServerAction.PAUSE, "The server does not accept the key: set OPENAI_API_KEY to a valid key of this server."
    ),
    ServerCause.QUOTA: Advice(
        ServerAction.PAUSE, "The account there has no credit or quota left: add some, or choose another --model."
    ),
    ServerCause.PERMISSION: Advice(
        ServerAction.PAUSE, "The key may not use this model: choose another --model or another key."
    ),
    ServerCause.RATE: Advice(
        ServerAction.RETRY, "The limit of this account is reached: wait, raise it there, or choose another --model."
    ),
    ServerCause.MODEL: Advice(
        ServerAction.PAUSE, "The server has no such model to chat with: choose a --model that its /models lists."
    ),
    ServerCause.CONTEXT: Advice(
        ServerAction.SHORTER, "Prompt and reply do not fit the context: give the server a longer one, or use a smaller "
        "--prompt-tokens or --reply-tokens."
    ),
    ServerCause.REPLY_LIMIT: Advice(
        ServerAction.SHORTER, "The server makes no reply that long: use a smaller --reply-tokens."
    ),
    ServerCause.FILTER: Advice(
        ServerAction.PAUSE, "The content filter of the server stopped it: relax the filter there, or choose another "
        "--model."
    ),
    ServerCause.NOT_CHAT: Advice(
        ServerAction.PAUSE, "This is no address of a chat-completions server, or its path is wrong: correct "
        "OPENAI_BASE_URL; most end in /v1."
    ),
    ServerCause.MEMORY: Advice(
        ServerAction.PAUSE, "The server has not enough memory for the model: free some there, shorten its context, or "
        "choose a smaller --model."
    ),
    ServerCause.LOADING: Advice(ServerAction.RETRY, "The server still loads the model: wait until it has."),
    ServerCause.OVERLOADED: Advice(
        ServerAction.RETRY, "The server has too much to do: wait, or choose another --model or server."
    ),
    ServerCause.SLOW: Advice(
        ServerAction.RETRY, "The server takes too long: look whether it still loads the model, or reads long prompts "
        "slowly."
    ),
    ServerCause.DOWN: Advice(ServerAction.RETRY, "Look whether the server is up and OPENAI_BASE_URL is right."),
    ServerCause.ADDRESS: Advice(ServerAction.RETRY, "Look whether OPENAI_BASE_URL is right: scheme, host and port."),
    ServerCause.CERTIFICATE: Advice(
        ServerAction.PAUSE, "The certificate of the server is not trusted here: set SSL_CERT_FILE to the authority's "
        "file, or correct OPENAI_BASE_URL."
    ),
    ServerCause.SERVER: Advice(ServerAction.RETRY, "The error is the server's: look at its log, or wait."),
    ServerCause.REQUEST: Advice(
        ServerAction.PAUSE, "The server refuses the request: choose another --model or server."
    ),
}  # fmt: skip

_BY_STATUS = {
    400: ServerCause.REQUEST, 401: ServerCause.KEY, 402: ServerCause.QUOTA, 403: ServerCause.PERMISSION,
    404: ServerCause.NOT_CHAT, 405: ServerCause.NOT_CHAT, 407: ServerCause.PERMISSION, 408: ServerCause.SERVER,
    409: ServerCause.SERVER, 410: ServerCause.MODEL, 413: ServerCause.CONTEXT, 422: ServerCause.REQUEST,
    425: ServerCause.SERVER, 429: ServerCause.RATE, 498: ServerCause.OVERLOADED, 502: ServerCause.DOWN,
    503: ServerCause.OVERLOADED, 521: ServerCause.DOWN, 522: ServerCause.DOWN, 523: ServerCause.DOWN,
    525: ServerCause.CERTIFICATE, 526: ServerCause.CERTIFICATE, 529: ServerCause.OVERLOADED, 530: ServerCause.DOWN,
}  # fmt: skip

# The first that is found decides; what is more special comes first.
_WORDINGS: tuple[tuple[ServerCause, str], ...] = (
    (ServerCause.CONTEXT, r"request (?:body )?too large|tokens_limit_reached"),
    (
        ServerCause.REPLY_LIMIT,
        r"max_(?:completion_)?tokens`?'? (?:must be less than or equal to|value, the valid range)",
    ),
    (
        ServerCause.QUOTA,
        r"insufficient[_ -]?(?:user[_ ]?)?(?:quota|balance|credits?|funds)|(?:requires?|need) more credits"
        r"|exceeded your (?:current|monthly) quota|plan and billing|billing[_ ](?:hard[_ ])?(?:limit|not[_ ]active)"
        r"|(?:out of|no|not enough|run out of|have any) (?:\w+ )?credits?\b|credit balance|payment required"
        r"|arrearage|in arrears"
        r"|spending limit|budget (?:has been |was )?exceeded|budget[_ ]?exceeded|exceeded ?budget|key limit exceeded"
        r"|quota (?:has been |is |was )?(?:exhausted|used up)|account .{0,40}(?:suspended|overdue|deactivated)"
        r"|monthly (?:included )?(?:credits|usage|limit)|余额不足|欠费",
    ),
    (
        ServerCause.KEY,
        r"(?:invalid|incorrect|wrong|expired|revoked|missing|bad|unknown|malformed|illegal|no|without|valid|your)"
        r" (?:an? |the |proxy |server |provided )?(?:api|auth\w*|access|bearer|subscription|virtual)[ _-]?"
        r"(?:api[ _-]?)?(?:keys?|tokens?|credentials?|header)\b(?! (?:limit|quota|does not have access))"
        r"|(?:invalid|incorrect|expired|revoked|missing|bad) (?:token|key|credentials?|authentication)\b"
        r"|api[ _-]?key (?:is |was |format is )?(?:not |in)?(?:valid|found|provided|set|expired|required"
        r"|missing|incorrect"
        r"|leaked)|api key not|(?:invalid|expired|missing)[_ ]?api[_ ]?key|api[_ ]key[_ ](?:invalid|expired)"
        r"|did(?:n't| not) provide an api key|must provide .{0,20}api key|key you provided"
        r"|unauthori[sz]ed|unauthenticated|not authenticated|authentication[_ ]?(?:error|fail|required|token)"
        r"|no auth credentials|no cookie auth|auth(?:entication|orization)? (?:failed|required|header)|user not found"
        r"|login fail|authorizationerror|鉴权失败|无效的令牌",
    ),
    (
        ServerCause.MEMORY,
        r"more system memory|out of (?:\w+ )?memory|outofmemory|not enough (?:\w+ )*(?:memory|vram)"
        r"|insufficient (?:\w+ )?(?:memory|vram|system resources)|(?:failed|unable) to allocate|cudamalloc"
        r"|\boom\b|memory guardrail|exceeds? (?:the )?available (?:\w+ )?(?:memory|vram)|cublas_status_alloc",
    ),
    (
        ServerCause.CONTEXT,
        r"context_length_exceeded|exceed_context_size|context[ _-]?(?:length|size|window|limit|overflow)"
        r"|max_?(?:imum)? ?model ?_?len(?:gth)?|max_seq_len|maximum (?:prompt|input|sequence) length|max_prompt_tokens"
        r"|prompt (?:is|was|contains|length|too|has).{0,60}(?:too (?:long|large|big)|greater|exceed)"
        r"|prompt[ _]too[ _]long|input[ _](?:token count|is too long|length|too long|tokens? exceed)"
        r"|inputs?`? tokens|number of tokens.{0,40}initial prompt|keep the first \d+ tokens|tokens? to keep"
        r"|reduce the length|exceeded model token limit|too many (?:input |prompt )?tokens|string_above_max_length"
        r"|requested tokens? .{0,40}exceed|token count .{0,60}exceed|range of input length|exceeds? .{0,30}token limit"
        r"|max_(?:completion_|new_)?tokens.{0,12}must be at least 1, got -|size limit exceeded by \d+ tokens"
        r"|longer than .{0,40}(?:context|model)|kv cache (?:is )?(?:full|too small)|maximum number of tokens",
    ),
    (
        ServerCause.REPLY_LIMIT,
        r"max_?(?:completion_|new_|output_)?_?tokens.{0,80}(?:too (?:large|high|big)|at most|less than|<=|valid range"
        r"|should be (?:in|<|between|less)|exceed|maximum|greater than|larger than|cannot be)"
        r"|(?:maximum|max) (?:allowed )?(?:number of )?(?:output|completion|new) tokens|range of max_tokens"
        r"|max_tokens or model output limit|model output limit",
    ),
    (
        ServerCause.LOADING,
        r"loading (?:the )?model|model.{0,40}(?:is |still )(?:currently |being )?load(?:ing|ed)\b(?! with)"
        r"|currently loading"
        r"|warming up|cold start|is starting|still starting|not (?:yet )?ready",
    ),
    (
        ServerCause.RATE,
        r"rate[ _-]?limit|ratelimit|too[ _]many[ _](?:concurrent )?requests|(?:requests|tokens) per (?:min|day"
        r"|second|hour)"
        r"|\b[TR]P[MD]\b|throttl|resource[_ ]?(?:has been )?exhausted|quota[_ ]?exceeded|exceeded .{0,40}quota"
        r"|max(?:imum)? (?:\w+ )?concurrency|concurrency limit|slow down|too quickly|usage limit"
        r"|try again in \d|retry in \d",
    ),
    (
        ServerCause.FILTER,
        r"content[ _-]?(?:filter|management|policy|moderation)|responsible ?ai|moderation|flagged|inspection"
        r"|inappropriate|prohibited[ _]content|safety (?:system|filter|setting|policy|reason)|blocked (?:by|due to|for)"
        r"|violat\w+ .{0,60}polic|sensitive (?:content|word)|usage polic|content exists risk|risk control",
    ),
    (
        ServerCause.OVERLOADED,
        r"overload|capacity|(?:server|system|engine|model|service)s?'? (?:is |are )?(?:\w+ )?(?:too )?busy"
        r"|high (?:demand|load)"
        r"|temporarily (?:unavailable|not available|out)|try again later|service[ _]unavailable|no available (?:\w+ )?"
        r"(?:server|worker|instance|backend|channel|replica)|no (?:healthy|live) upstream|no deployments? available"
        r"|queue (?:is )?full|maximum pending requests|no slots? available|slot.{0,10}unavailable"
        r"|currently unavailable",
    ),
    (
        ServerCause.MODEL,
        r"\bmodels?\b.{0,160}?(?:(?:do(?:es)?|did) not exist|not exist\b|(?:not|n't) (?:be )?found|no longer|unknown"
        r"|is not (?:a )?(?:valid|supported|available|loaded|served|deployed|allowed|recogni[sz]ed|permitted)"
        r"|not (?:support(?:ed)?|available|deployed|a chat)|deprecated|decommissioned|retired|shut down|is invalid"
        r"|was removed|do not have access)"
        r"|(?:not found|invalid|unknown|no such|unable to access|unsupported|unrecognized|no)(?: the)? models?\b"
        r"(?! (?:output|provider))|model[_ ]?not[_ ]?(?:found|exist|open|available)|not a valid model|no such model"
        r"|does not support (?:chat|generate)|not a chat model|deploymentnotfound|deployment .{0,40}does not exist"
        r"|no endpoints found|no allowed providers|try pulling it|no models? (?:is |are )?(?:currently )?loaded"
        r"|chat[ _]template|not_found_error \| model|model: \S+ *$|failed to load model|unsupported model",
    ),
    (
        ServerCause.NOT_CHAT,
        r"method not allowed|unexpected endpoint|invalid url|404 page not found|file not found|resource not found"
        r"|no (?:such )?route|unknown (?:endpoint|path|route|url)|cannot (?:post|get) /"
        r"|unrecognized request url|not[ _]found"
        r"|no handler|endpoint .{0,40}not (?:found|exist|supported)|only supports? completions",
    ),
    (
        ServerCause.PERMISSION,
        r"permission|\bforbidden|(?:do|does|did)(?: not|n't) have access|not (?:allowed|authori[sz]ed|entitled)"
        r"|access (?:was |is )?denied|country|region|territory|location is not|must be verified"
        r"|unsupported_country|whitelist|allowlist",
    ),
    (
        ServerCause.DOWN,
        r"bad gateway|web server is down|connection (?:refused|reset|error|timed out)|connect(?:ion)? ?error"
        r"|econnrefused"
        r"|upstream (?:connect|prematurely|sent|request)|could not connect|failed to connect|cannot connect"
        r"|host unreachable"
        r"|(?:runner|llama runner|server) process (?:has )?(?:terminated|no longer running)|engine (?:core|loop"
        r"|is) .{0,30}"
        r"(?:dead|died|stopped)|enginedeaderror|model (?:has )?crashed",
    ),
)  # fmt: skip
_TABLE = tuple((cause, re.compile(pattern, re.IGNORECASE | re.DOTALL)) for cause, pattern in _WORDINGS)
_WAIT_IN_TEXT = re.compile(r"(?:retry|try again|wait|available) (?:in|after|for) (?:about )?[\d.]", re.IGNORECASE)


def cause_of(body: ErrorBody, status: int | None = None) -> ServerCause | None:
    """Why there is no reply; None for words that are not in the table, under no status that says more."""
    said = status if body.status is None else body.status
    if body.is_page:
        by_status = _BY_STATUS.get(
            status or 200, ServerCause.SERVER if (status or 200) >= 500 else ServerCause.NOT_CHAT
        )
        return ServerCause.NOT_CHAT if by_status in (ServerCause.REQUEST, ServerCause.PERMISSION) else by_status
    for cause, pattern in _TABLE:
        if pattern.search(body.words) and not _is_contradicted(cause, said, body.words):
            return ServerCause.RATE if cause is ServerCause.QUOTA and _WAIT_IN_TEXT.search(body.words) else cause
    if said is None:
        return None
    return _BY_STATUS.get(said, ServerCause.SERVER if said >= 500 else ServerCause.REQUEST)


def _is_contradicted(cause: ServerCause, status: int | None, words: str) -> bool:
    """Whether a status says something else than words that are found in many messages."""
    if cause is ServerCause.MODEL and status != 404 and re.search(r"region|country|territory", words, re.IGNORECASE):
        return True  # it is there, and not for everyone
    if status in (401, 403):
        return cause in (
            ServerCause.CONTEXT,
            ServerCause.REPLY_LIMIT,
            ServerCause.RATE,
            ServerCause.OVERLOADED,
            ServerCause.NOT_CHAT,
        )
    if status == 429:  # "Rate limit reached for model ...": only a request that never passes is too long
        is_too_large = re.search(r"too large", words, re.IGNORECASE) is not None
        is_context = cause in (ServerCause.CONTEXT, ServerCause.REPLY_LIMIT)
        return (is_context and not is_too_large) or cause in (
            ServerCause.MODEL,
            ServerCause.NOT_CHAT,
            ServerCause.KEY,
            ServerCause.PERMISSION,
        )
    return False
