"""What must not be written or shown: credentials, by shape and from the environment, and paths of this machine.

Everything that writes events, manifests or cards, or prints an error, passes its text through here. Rows of data do
not: docs/run-folder.md says which files hold them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

__all__ = ["HIDDEN", "holds_secret", "published", "redact", "redacted"]

HIDDEN = "[hidden]"
_SHORTEST = 8  # characters; a shorter value stands in ordinary text by chance

_PARAMETERS = (
    r"token|access_token|refresh_token|id_token|auth|api[_-]?key|apikey|key|secret|client_secret|password|passwd|pwd"
    r"|sig|signature|x-amz-signature|x-amz-credential|x-amz-security-token|awsaccesskeyid|x-goog-signature"
    r"|x-goog-credential|googleaccessid|key-pair-id|policy"
)
_SHAPES = tuple(
    re.compile(pattern)
    for pattern in (
        # the user's part of a URL: with a password, or long enough to be a token (ssh://git@host stays)
        r"(?<=://)(?P<secret>[^\s/?#:'\"<>]*:[^\s/?#'\"<>]+|[^\s/?#:'\"<>]{8,})(?=@)",
        # values in a URL's query or fragment, and of pre-signed S3, Google, Azure and CloudFront addresses
        rf"(?i:[?&#;](?:{_PARAMETERS})=)(?P<secret>[^\s&#;'\"<>]+)",
        # a connection string's
        r"(?i:\b(?:password|passwd|pwd|api[_-]?key|client_secret|access_token)=['\"]?)"
        r"(?P<secret>(?!None|null|true|false|\[hidden)[^\s&#;,'\"<>]{6,})",
        # Hugging Face, GitHub, GitLab, OpenAI and Anthropic, Slack, AWS, Google, Stripe, npm, PyPI
        r"(?<![A-Za-z0-9])(?P<secret>(?:hf_|api_org_)[A-Za-z0-9]{24,})",
        r"(?<![A-Za-z0-9])(?P<secret>gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
        r"(?<![A-Za-z0-9])(?P<secret>glpat-[A-Za-z0-9_-]{20,})",
        r"(?<![A-Za-z0-9_-])(?P<secret>sk-(?=[A-Za-z0-9_-]*\d)[A-Za-z0-9_-]{20,})",
        r"(?<![A-Za-z0-9])(?P<secret>xox[abeoprs]-[A-Za-z0-9-]{10,})",
        r"(?<![A-Za-z0-9])(?P<secret>(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16})(?![A-Za-z0-9])",
        r"(?<![A-Za-z0-9])(?P<secret>AIza[A-Za-z0-9_-]{35})|(?P<access>ya29\.[A-Za-z0-9_-]{20,})",
        r"(?<![A-Za-z0-9])(?P<secret>[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{40,})",
        # a header's value (RFC 6750, RFC 7617), a JSON web token (RFC 7519), a private key (RFC 7468)
        r"(?i:\bbearer\s+)(?P<secret>(?=\S*\d)[A-Za-z0-9._~+/-]{16,}=*)",
        r"(?i:\bauthorization['\"]?\s*[:=]\s*['\"]?(?:basic|token|digest)\s+)(?P<secret>[A-Za-z0-9._~+/-]{8,}=*)",
        r"(?<![A-Za-z0-9_-])(?P<secret>eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)",
        r"(?s)(?P<secret>-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))",
    )
)

_NAMED = frozenset(
    {"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "APIKEY", "PAT"}
)
_KEYS = frozenset({"KEY", "KEYS"})
_WORD = re.compile(r"[a-z]{1,12}|[A-Z]{1,12}")
_WORDS = re.compile(r"[A-Za-z]{1,12}(?:[-_. ][A-Za-z]{1,12})*")
_LOGIN = re.compile(r"://[^\s/@:]*:(?P<password>[^\s/@]+)@")


def redact(text: str) -> str:
    """The text without credentials: those with a known shape, and the values of variables that are named as secret."""
    if len(text) < _SHORTEST:
        return text
    for value in _from_environment(text):
        text = text.replace(value, HIDDEN)
    for shape in _SHAPES:
        text = shape.sub(_hide, text)
    return text


def redacted(value: Any) -> Any:
    """Plain values (mappings, lists, texts), each text in them redacted, keys too; anything else as it is."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redacted(key): redacted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item) for item in value]
    return value


def holds_secret(text: str) -> bool:
    """Whether a text surely holds a credential: by its shape, or a long, mixed value of a variable named as secret.

    Narrower than `redact`: here a mistake stops a run, there it hides a word.
    """
    if any(shape.search(text.replace(HIDDEN, "")) for shape in _SHAPES):
        return True
    return any(
        len(value) >= 16 and re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
        for value in _from_environment(text)
    )


def _hide(match: re.Match[str]) -> str:
    """What was matched, with the group that is the secret replaced."""
    name = next(name for name, found in match.groupdict().items() if found is not None)
    start, end = (at - match.start() for at in match.span(name))
    return match.group()[:start] + HIDDEN + match.group()[end:]


# ---- the environment -------------------------------------------------------------------------------------------------


def _from_environment(text: str) -> list[str]:
    """Secret values of the environment that stand in the text, as they are or quoted for a URL; the longest first."""
    found = {
        form
        for name, value in os.environ.items()
        for secret in _secrets_of(name, value)
        for form in (secret, quote(secret, safe=""))
        if form in text and not _is_path(secret)
    }
    return sorted(found, key=len, reverse=True)


def _secrets_of(name: str, value: str) -> Iterator[str]:
    """What of a variable is secret: its value, where the name says so, and the password of an address."""
    login = _LOGIN.search(value)
    if login and len(login["password"]) >= _SHORTEST:
        yield login["password"]
    if len(value) < _SHORTEST:
        return
    words = name.upper().split("_")
    if not _NAMED.isdisjoint(words) or words[-1].endswith(("PASSWORD", "TOKEN", "SECRET", "APIKEY")):
        # A word such as `disabled` is a setting, and hiding it would blank out ordinary text.
        if not _WORD.fullmatch(value):
            yield value
    elif not _KEYS.isdisjoint(words) and not _WORDS.fullmatch(value):
        yield value


def _is_path(value: str) -> bool:
    """Whether a value names a place in the file system: SSH_KEY=~/.ssh/id_ed25519 is no secret itself."""
    if value.startswith(("~", "./", "../")) or os.path.exists(value):
        return True
    first, _, rest = value.lstrip("/").partition("/")
    return value.startswith("/") and bool(rest) and os.path.isdir(f"/{first}")


# ---- what leaves the machine -----------------------------------------------------------------------------------------

_ABSOLUTE = re.compile(
    r"(?<![\w:/.~\\-])(?:file://)?(?:~[\w.-]*(?:/[\w.@+~=,-]+)+|(?:/[\w.@+~=,-]+){2,})/?"
    r"|(?<![\w\\])[A-Za-z]:[\\/][^\s'\"`,;:*?<>|]+"
    r"|(?<![\w\\])\\\\[\w.-]+\\[^\s'\"`,;:*?<>|]+"
)
_PLACE = re.compile(r"(?:/[^/\n:]+/|~[\w.-]*/|[A-Za-z]:[\\/]|\\\\)[^\n:]*")
"""A text that is one absolute path, perhaps with spaces."""


def published(value: Any) -> Any:
    """Plain values for a document that leaves this machine: redacted, and of an absolute path only its last part.

    A text that is such a path as a whole may hold spaces. Two keys that become equal are numbered.
    """
    if isinstance(value, str):
        return _without_places(redact(value))
    if isinstance(value, Mapping):
        result: dict[Any, Any] = {}
        for key, item in value.items():
            shown = first = published(key)
            number = 1
            while shown in result:
                number += 1
                shown = f"{first} ({number})"
            result[shown] = published(item)
        return result
    if isinstance(value, (list, tuple)):
        return [published(item) for item in value]
    return value


def _without_places(text: str) -> str:
    if _PLACE.fullmatch(text):
        return _last_part(text)
    home = os.path.expanduser("~")
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home)}(?=[/\\])", "~", text)
    return _ABSOLUTE.sub(lambda match: _last_part(match.group()), text)


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
