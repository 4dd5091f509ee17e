"""The edit plan of a run: what the entries of ``edits`` in ``params.yaml`` come to, one image column a picture."""

from collections.abc import Sequence

from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import EDIT_KINDS
from gan_core.errors import ParamsError
from gan_core.params import EditSpec


def plan_edits(edits: Sequence[EditSpec]) -> list[PlannedEdit]:
    """Expand the ``edits`` of ``params.yaml``, in order; raises ``ParamsError`` for two that share a column."""
    planned = [picture for spec in edits for picture in EDIT_KINDS.get(spec.kind).plan(spec)]
    columns = [edit.column for edit in planned]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise ParamsError(
            f"edits: {', '.join(twice)} is planned more than once; give each strength of a direction once"
        )
    return planned
