"""Words of messages that depend on numbers."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, ``noun`` being the singular of a regular one: "1 shard", "4 shards"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
