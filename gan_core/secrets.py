"""Addresses as they may be shown and written down: without the passwords and tokens in them."""

import re
from urllib.parse import SplitResult, unquote, urlsplit

HIDDEN = "***"
WITHOUT_SECRETS = ("sqlite", "file")
"""Schemes of addresses that hold no secret: their queries are options."""
SHORTEST = 4
"""Letters of a secret that is looked for in texts: replacing shorter ones would spoil other words."""
IN_TEXT = re.compile(r"\b[a-zA-Z][\w+.-]*://[^\s'\"<>`]+")

_known: set[str] = set()


def hide(address: str) -> str:
    """Return an address with ``***`` for its password, its token and the values of its query.

    ``http://me:word@host`` gives ``http://***@host``; the address of a database keeps the user's name. Of one that
    can't be taken apart for certain nothing stays before its last ``@``.
    """
    scheme, separator, rest = address.partition("://") if "://" in address else ("", "", address)
    if scheme.partition("+")[0] in WITHOUT_SECRETS:
        return address
    parts = _take_apart(address)
    if parts is None:
        before, at, host = rest.rpartition("@")
        return scheme + separator + HIDDEN * bool(before) + at + host.partition("?")[0]
    return _hide_parts(parts).geturl() if parts.netloc else address


def hide_all(text: str) -> str:
    """Return a text, such as the message of an error, in which every address is written as ``hide`` does.

    What ``remember`` was told is replaced also where it stands alone.
    """
    text = IN_TEXT.sub(lambda match: hide(match[0]), text)
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def remember(address: str) -> None:
    """Have ``hide_all`` know the passwords and tokens of an address: clients put parts of it into their errors."""
    parts = _take_apart(address)
    if parts is None or parts.scheme.partition("+")[0] in WITHOUT_SECRETS:
        return
    login = parts.netloc.rpartition("@")[0]
    user, _, password = login.partition(":")
    values = re.split("[&;]", parts.query) if "=" in parts.query else [f"={parts.query}"]
    found = [password, parts.fragment, *(value.partition("=")[2] for value in values)]
    found += [user, login] if parts.scheme.startswith("http") else []
    _known.update(each for text in found for each in (text, unquote(text)) if len(each) >= SHORTEST)


def _take_apart(address: str) -> SplitResult | None:
    """Return the parts of an address; None where an unescaped ``/`` in a password would be taken for its path."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    sure = "@" not in parts.path or (bool(parts.netloc) and ":" not in parts.netloc)
    return parts if sure else None


def _hide_parts(parts: SplitResult) -> SplitResult:
    login, at, host = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = HIDDEN if parts.scheme.startswith("http") else user + colon + HIDDEN * bool(colon)
    query = re.sub(r"=[^&;]*", f"={HIDDEN}", parts.query) if "=" in parts.query else HIDDEN * bool(parts.query)
    return parts._replace(netloc=shown * bool(at) + at + host, query=query, fragment=HIDDEN * bool(parts.fragment))
