"""Expand the entries of ``edits`` in ``params.yaml`` to the edit plan of a run, with one column per image."""

from collections import Counter
from collections.abc import Collection, Sequence

from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import EDIT_KINDS
from gan_core.errors import ParamsError
from gan_core.params import EditSpec
from gan_core.storage.shards import BASE_NAMES

TAKEN = frozenset(
    {
        *BASE_NAMES,
        *("source", "image", "inputs", "aligned", "landmarks", "quad"),
        *("encoded", "latent", "reconstruction"),
        *("tuned", "delta", "steps", "loss", "loss_l2", "loss_perceptual", "stop_reason"),
    }
)
"""Columns of the stages around the edits, and the names of pictures in scores: no edit may have one of them."""


def known_edits(edits: Sequence[EditSpec]) -> list[PlannedEdit]:
    """Do as ``plan_edits``, without the entries whose kind comes from a package that isn't installed any more."""
    kinds = EDIT_KINDS.names()
    return plan_edits([spec for spec in edits if spec.kind in kinds])


def plan_edits(edits: Sequence[EditSpec], taken: Collection[str] = TAKEN, section: str = "edits") -> list[PlannedEdit]:
    """Return the images of all entries, in order.

    Raises ``ParamsError``, which names the ``section`` of ``params.yaml``, if two images have the same column, or one
    has a column that is ``taken`` by the run itself.
    """
    planned = [picture for spec in edits for picture in EDIT_KINDS.get(spec.kind).plan(spec)]
    columns = [edit.column for edit in planned]
    twice = sorted(column for column, count in Counter(columns).items() if count > 1)
    if twice:
        raise ParamsError(
            f"{section}: {', '.join(twice)} is planned more than once; give each strength of a direction once"
        )
    if clashes := [column for column in columns if column in taken]:
        raise ParamsError(f"{section}: {', '.join(clashes)} is a column that every run has; give the edit another name")
    return planned
