"""The parts of HTTP that a resumable download depends on, as pure functions on headers."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

from fluidaudio_cli.errors import DownloadError


def redirect_target(url: str, location: str) -> str:
    """Where a redirect leads.

    Raises ``DownloadError`` for nowhere, out of HTTP, or from https to plain http.
    """
    target = urljoin(url, location)
    scheme = urlsplit(target).scheme
    if not location or scheme not in ("http", "https"):
        raise DownloadError(f"{url}: redirects to {location or 'nowhere'}", "report the URL")
    if scheme == "http" and urlsplit(url).scheme == "https":
        raise DownloadError(
            f"{url}: redirects to unencrypted {target}", "this is refused; report the URL"
        )
    return target


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """Seconds a ``Retry-After`` header asks for (RFC 9110 section 10.2.3); None if unreadable."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    with suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    return None


def validator_of(headers: Mapping[str, str]) -> str | None:
    """What identifies the bytes of a response: its strong ETag, else its Last-Modified."""
    etag = headers.get("ETag")
    # A weak ETag promises the same meaning, not the same bytes.
    if etag and not etag.startswith("W/"):
        return etag
    return headers.get("Last-Modified")


def content_range(header: str) -> tuple[int | None, int | None]:
    """(first byte, total) of ``bytes FIRST-LAST/TOTAL``; None where absent."""
    unit, _, rest = header.partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes":
        return None, None
    return (int(first) if first.isdigit() else None), (int(total) if total.isdigit() else None)


def innermost_reason(error: Exception) -> str:
    """The innermost cause in words; the libraries wrap it several times."""
    cause: object = error
    while isinstance(cause, Exception) and cause.args:
        deeper = [arg for arg in cause.args if isinstance(arg, Exception)]
        reason = getattr(cause, "reason", None)
        if isinstance(reason, Exception):
            cause = reason
        elif deeper:
            cause = deeper[-1]
        else:
            break
    return str(cause) or type(cause).__name__
