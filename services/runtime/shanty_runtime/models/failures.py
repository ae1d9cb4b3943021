"""What went wrong in a call of Claude, as a `ModelError` that says whether to try again.

What the API says in words may quote the conversation, so only its status, type, code and request id are passed on,
and for a wrong request which of its fields is meant.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from typing import TYPE_CHECKING, Any

from shanty_runtime.errors import ModelError, ModelFailure

if TYPE_CHECKING:
    import anthropic

STATUSES: dict[int, ModelFailure] = {
    401: "configuration",
    402: "configuration",
    403: "configuration",
    404: "configuration",
    408: "transient",
    409: "transient",
    413: "too_large",
    529: "overloaded",
}
TYPES: dict[str, ModelFailure] = {
    "api_error": "transient",
    "authentication_error": "configuration",
    "billing_error": "configuration",
    "conflict_error": "transient",
    "not_found_error": "configuration",
    "overloaded_error": "overloaded",
    "permission_error": "configuration",
    "request_too_large": "too_large",
    "timeout_error": "transient",
}
SPEND_CODES = {
    "contract_spend_limit_reached",
    "enforced_spend_limit_reached",
    "linked_organization_spend_limit_reached",
}
TOO_LARGE = re.compile(r"prompt is too long|exceed\w* context limit", re.IGNORECASE)
SPENT = re.compile(r"credit balance|usage limits?|spend(ing)? limit", re.IGNORECASE)
ADVICE = {
    401: "check ANTHROPIC_API_KEY",
    402: "check the account's billing",
    403: "check what the key is allowed to do",
    404: "check the model's name and ANTHROPIC_BASE_URL",
}


def status_failure(model: str, error: anthropic.APIStatusError) -> ModelError:
    """The API said no: with a status of its own, or with an error event in a stream that began with status 200."""
    retry_after_s = wait_asked_for(error.response.headers)
    began = error.status_code == 200
    words = [*([] if began else [str(error.status_code)]), *_plain(error.type, error.error_code)]
    said = f"broke off its reply with {' '.join(words) or 'an error'}" if began else f"answered {' '.join(words)}"
    field = _field_at_fault(error)
    advice = ADVICE.get(error.status_code)
    return ModelError(
        f"{model} {said}{f' at {field}' if field else ''}{request_name(error.response.headers)}"
        + (f"; {advice}" if advice else ""),
        kind=_kind(error, retry_after_s),
        retry_after_s=retry_after_s,
    )


def _kind(error: anthropic.APIStatusError, retry_after_s: float | None) -> ModelFailure:
    kind, status = str(error.type), error.status_code
    if status == 429 or kind == "rate_limit_error":
        if error.error_code in SPEND_CODES or (retry_after_s is None and SPENT.search(error.api_message or "")):
            return "spend_limit"
        # A limit that does not say when it ends may never do so: it is tried again as often as a busy provider is,
        # and not for ever as one that names a time.
        return "overloaded" if retry_after_s is None else "rate_limited"
    if status in (200, 400) and kind in ("invalid_request_error", "None"):
        return _kind_of_bad_request(error)
    if kind == "overloaded_error":
        return "overloaded"
    if status in STATUSES:
        return STATUSES[status]
    return "transient" if status >= 500 else TYPES.get(kind, "invalid") if status == 200 else "invalid"


def _kind_of_bad_request(error: anthropic.APIStatusError) -> ModelFailure:
    message = error.api_message or ""
    if TOO_LARGE.search(message) or error.error_code == "request_body_too_large_after_decoding":
        return "too_large"
    if error.error_code in SPEND_CODES or SPENT.search(message):
        return "configuration"
    # An error event nobody can read is a stream that broke.
    return "transient" if error.status_code == 200 and error.type is None else "invalid"


def _field_at_fault(error: anthropic.APIStatusError) -> str:
    """`messages.3.content.0` from "messages.3.content.0: …"; empty where the API's words do not begin so."""
    found = re.match(r"[a-z_]+(\.[a-z_0-9]+)+(?=: )", error.api_message or "")
    return found[0] if found else ""


def _plain(*words: str | None) -> list[str]:
    return [word for word in words if word and re.fullmatch(r"[a-z_]{1,60}", word)]


def request_name(headers: Any) -> str:
    """` (request req_…)`: what the provider's support asks for; empty where there is none."""
    identity = headers.get("request-id") or ""
    return f" (request {identity})" if re.fullmatch(r"[\w-]{1,80}", identity) else ""


def wait_asked_for(headers: Any) -> float | None:
    """Seconds until the API wants to be asked again; None where it does not say."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            asked_s = float(text) * unit_s
        except ValueError:
            parsed = email.utils.parsedate_tz(text)
            if parsed is None:
                continue
            asked_s = email.utils.mktime_tz(parsed) - time.time()
        if math.isfinite(asked_s):
            return max(0.0, asked_s)
    return None
