"""Our names in the form that MLflow takes, and back: no two of them become one.

MLflow takes letters, digits, ``_ . - : /`` and the space in names of metrics, parameters and tags, no more than 250 of
them, and nothing that is another path when it is read as one. Every other character is written ``:x<its number>:``.
"""

import hashlib
import re
from collections.abc import Mapping

LONGEST_NAME = 250
LONGEST_VALUE = 6000
"""Of a parameter; MLflow cuts what is longer."""
LONGEST_TAG = 8000
LONGEST_RUN_NAME = 250
MARK = 16
"""Hexadecimal digits of the sha256 that stands for what is left out: 64 bits."""

ESCAPED = re.compile(
    r"(?P<plus>@\+(?=\d))|(?P<minus>@(?=-\d))"  # the strength of an edit
    r"|(?P<other>[^\w.\- /]|(?<![^/])\.{1,2}(?![^/])|^\.(?=\.)|/(?=/|\Z)|^/)"  # and what is another path
)
WRITTEN = re.compile(r"(?P<escape>:x(?P<code>[0-9a-f]+):)|(?P<plus>:(?=\d))|(?P<minus>:(?=-\d))")
MODEL_ESCAPED = re.compile(r"[/:\"\\\x00-\x1f]|%(?=[0-9A-F]{2})|^\.(?=\.|\Z)|^\s+\Z")
MODEL_WRITTEN = re.compile(r"(?:%[0-9A-F]{2})+")


def tracked_name(name: str) -> str:
    """Write a name as MLflow takes it: ``smile@+1`` as ``smile:1``, ``old (1)`` as ``old :x28:1:x29:``.

    A name that is too long then ends in ``:h<digits>:``, which tells it from others, and can't be read back.
    """
    written = ESCAPED.sub(_escape, name) or ":x:"
    if len(written) <= LONGEST_NAME:
        return written
    mark = f":h{_digest(name)}:"
    return written[: LONGEST_NAME - len(mark)].rstrip("/.") + mark


def own_name(written: str) -> str:
    """Return the name that ``tracked_name`` has written so."""
    return WRITTEN.sub(_unescape, "" if written == ":x:" else written)


def cut_names(names: Mapping[str, object]) -> dict[str, str]:
    """Return the names that are too long for MLflow, by what is written for them."""
    return {written: name for name in names if own_name(written := tracked_name(name)) != name}


def model_name(name: str) -> str:
    """Write a name as MLflow's registry and its filters take it: what it refuses as ``%2F``."""
    return MODEL_ESCAPED.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), name)


def own_model_name(written: str) -> str:
    """Return the name that ``model_name`` has written so."""
    return MODEL_WRITTEN.sub(lambda match: bytes.fromhex(match[0].replace("%", "")).decode(errors="replace"), written)


def shorten(text: str, most: int, whole: str = "") -> str:
    """Return a text of at most ``most`` letters; one that is cut says so, with its sha256 and where the whole is."""
    if len(text) <= most:
        return text
    said = f"… ({len(text):,} letters, sha256 {_digest(text)}"
    said += f"; whole in {whole})" if whole else ")"
    return text[: most - len(said)] + said


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:MARK]


def _escape(match: re.Match[str]) -> str:
    if match["other"] is None:
        return ":"
    return "".join(f":x{ord(letter):x}:" for letter in match["other"])


def _unescape(match: re.Match[str]) -> str:
    if match["escape"]:
        return chr(int(match["code"], 16))
    return "@+" if match["plus"] else "@"
