"""The plan names every picture once."""

import pytest

from gan_core.edits.direction import edit_column
from gan_core.edits.plan import plan_edits
from gan_core.errors import ParamsError
from gan_core.params import EditParams, check_params


@pytest.mark.parametrize(
    ("strength", "column"), [(1, "smile@+1"), (-0.5, "smile@-0.5"), (0, "smile@+0"), (1.25, "smile@+1.25")]
)
def test_columns_carry_a_signed_strength(strength: float, column: str) -> None:
    assert edit_column("smile", strength) == column


def test_each_strength_becomes_one_edit_in_order() -> None:
    edits = [
        EditParams(direction="smile", strengths=[-1, 1]),
        EditParams(direction="yaw", strengths=[2], layers=(0, 3)),
    ]
    planned = plan_edits(edits)
    assert [e.column for e in planned] == ["smile@-1", "smile@+1", "yaw@+2"]
    assert [(e.target, e.strength) for e in planned] == [("smile", -1), ("smile", 1), ("yaw", 2)]
    assert planned[2].spec is edits[1]


@pytest.mark.parametrize("name", ["image", "aligned", "encoded", "tuned", "reconstruction", "status", "loss"])
def test_a_column_that_a_run_has_anyway_is_refused(name: str) -> None:
    apply = {"operation": "transfer", "name": name, "boxes": ["eyes"]}
    (edit,) = check_params({"edits": [{"kind": "compose", "apply": apply, "references": ["a"]}]}).edits
    with pytest.raises(ParamsError, match=rf"edits: {name} is a column that every run has; give the edit another name"):
        plan_edits([edit])


def test_the_same_edit_twice_is_refused() -> None:
    edits = [EditParams(direction="smile", strengths=[1]), EditParams(direction="smile", strengths=[1.0, 2])]
    with pytest.raises(ParamsError, match=r"edits: smile@\+1 is planned more than once"):
        plan_edits(edits)
