"""Words of messages that depend on numbers and values."""

import json

LONGEST_VALUE = 40
"""Letters of a value in a message; of a longer one a part is shown."""
BEFORE_DIFFERENCE = 10
"""Letters that are shown before the place where two long values begin to differ."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, ``noun`` being the singular of a regular one: "1 shard", "4 shards"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def changed(before: object, after: object) -> str:
    """Return "before → after" of two JSON values; long ones are cut around the place where they begin to differ."""
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in (before, after)]
    if max(map(len, texts)) <= LONGEST_VALUE:
        return " → ".join(texts)
    shorter = min(map(len, texts))
    differs = next((place for place in range(shorter) if texts[0][place] != texts[1][place]), shorter)
    start = max(differs - BEFORE_DIFFERENCE, 0)
    return " → ".join(_cut(text, start) for text in texts)


def _cut(text: str, start: int) -> str:
    """Return ``LONGEST_VALUE`` letters of a text from ``start`` on, with "…" for what is left out."""
    end = start + LONGEST_VALUE
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
