"""What is read off an answer's headers and an address."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from urllib.parse import urlsplit


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return for how long a server wants to be left alone: in seconds, or until a date by its own clock."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    until, now = _date(text), server_time(headers)
    return None if until is None or now is None else max(0.0, until - now)


def server_time(headers: Mapping[str, str]) -> float | None:
    """Return what the server's clock showed when it answered, in seconds since the epoch."""
    return _date(headers.get("Date", ""))


def _date(text: str) -> float | None:
    parts = email.utils.parsedate_tz(text)
    try:
        return None if parts is None else float(email.utils.mktime_tz(parts))
    except (ValueError, OverflowError):
        return None


def origin(url: str) -> tuple[str, str, int]:
    """Return which server an address is on: scheme, host and port."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, parts.hostname or "", port or (443 if parts.scheme == "https" else 80)
