"""What a receiver's answer says: how long to wait, and what of its words the ledger may hold."""

import email.utils
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from fhir_server.core import resource_json
from fhir_server.errors import MalformedResource

_CODE = re.compile(r"[a-z][a-z\-]{0,40}\Z")
_EXPRESSION = re.compile(r"[A-Z][A-Za-z]*(?:\.[A-Za-z]+(?:\[\d+\])?){0,12}\Z")
_MOST = 5


def told_outcome(body: bytes) -> Mapping[str, Any] | None:
    """The OperationOutcome that `body` is, if it is one."""
    try:
        resource = resource_json.parse_resource(body)
    except MalformedResource:
        return None
    return resource if resource["resourceType"] == "OperationOutcome" else None


def codes_and_paths(outcome: Mapping[str, Any] | None) -> Iterator[str]:
    """Of its first issues no more than these: their texts may quote names and birth dates."""
    issues = (outcome or {}).get("issue")
    for issue in issues[:_MOST] if isinstance(issues, list) else ():
        if not isinstance(issue, dict):
            continue
        code, paths = issue.get("code"), issue.get("expression")
        if isinstance(code, str) and _CODE.match(code):
            path = paths[0] if isinstance(paths, list) and paths else None
            is_path = isinstance(path, str) and _EXPRESSION.match(path)
            yield f"{code} at {path}" if is_path else code


def parse_retry_after(value: str, date: str | None) -> float | None:
    """Seconds of a `Retry-After`; its date form is counted from the receiver's own `Date`."""
    if value.strip().isascii() and value.strip().isdigit():
        return float(value.strip()[:10])
    until, since = _http_date(value), _http_date(date or "")
    if until is None or since is None:
        return None
    return max(0.0, (until - since).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        parsed = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else None
