"""What the pictures of a network show where that isn't faces: noted in its card at import."""

from gan_core.checkpoints.files import read_card
from gan_core.errors import CheckpointError

SUBJECT = "subject"
"""Its name in the card's ``extra``."""


def subject_of(*paths: str) -> str | None:
    """Return the subject in the first of these checkpoints' cards that has one; None if none has, as for faces."""
    for path in paths:
        try:
            found = read_card(path).extra.get(SUBJECT)
        except CheckpointError:
            continue  # the stage that loads it says what is wrong
        if isinstance(found, str) and found:
            return found
    return None
