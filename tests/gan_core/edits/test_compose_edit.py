"""Compositions as edits: the row and its references, wide pictures through edit and measure, mistakes told."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.compose.base import branch
from gan_core.compose.masks import box_mask
from gan_core.compose.operations import POSE_ALL, transfer
from gan_core.errors import ParamsError, UserError
from gan_core.loading import load_generator
from gan_core.params import MeasureParams, ModelPaths, check_params
from gan_core.rows import Row
from gan_core.runs.overlap import Overlap
from gan_core.runs.steps import Batch, Steps
from gan_core.stages.edit import EditStage
from gan_core.stages.measure import MeasureStage
from gan_core.storage.images import encode_png, image_value, to_uint8

BOX = [0.2, 0.2, 0.4, 0.4]
TRANSFER = {"kind": "compose", "apply": {"operation": "transfer", "boxes": [BOX]}, "references": ["other"]}
EXTEND = {"kind": "compose", "apply": {"operation": "extend", "name": "wide"}}


def latent(seed: int) -> torch.Tensor:
    return torch.randn(10, 16, generator=torch.Generator().manual_seed(seed))


def stage(models: ModelPaths, *edits: dict[str, Any], tuned: bool = False) -> EditStage:
    plan = check_params({"edits": list(edits)}).edits
    return EditStage(plan, models, tuned, latents_of=lambda keys: torch.stack([latent(9) for _ in keys]))


def rows(n: int) -> list[Row]:
    return [{"key": f"k{i}", "latent": latent(i).numpy(), "delta": b""} for i in range(n)]


def pixels(cell: Row) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cell["bytes"])))


def test_a_part_of_the_reference_is_put_into_every_row(models: ModelPaths) -> None:
    made = stage(models, TRANSFER).process(rows(3))
    generator = load_generator(models.generator).model
    with torch.no_grad():
        expected = transfer(
            branch(generator, latent(1)), branch(generator, latent(9)), box_mask([BOX]), pose_layers=POSE_ALL
        )
    assert np.abs(pixels(made[1]["transfer"]).astype(int) - to_uint8(expected)[0]).max() <= 1
    alone = stage(models, TRANSFER).process(rows(3)[1:2])[0]
    assert alone["transfer"]["bytes"] == made[1]["transfer"]["bytes"]
    tuned = stage(models, TRANSFER, tuned=True).process(rows(2)[1:])[0]
    assert tuned["transfer"]["bytes"] == made[1]["transfer"]["bytes"]


def test_wide_pictures_are_edited_and_measured(models: ModelPaths) -> None:
    edits = [EXTEND, {"direction": "smile", "strengths": [1]}]
    made = stage(models, *edits).process(rows(2))
    assert [pixels(row["wide"]).shape for row in made] == [(64, 128, 3)] * 2
    assert [pixels(row["smile@+1"]).shape for row in made] == [(64, 64, 3)] * 2
    square = image_value(encode_png(pixels(made[0]["smile@+1"])), "")
    measured = [row | {"key": f"k{i}", "image": square, "reconstruction": square} for i, row in enumerate(made)]
    names = MeasureParams().metrics
    params = check_params({"edits": edits, "measure": {"metrics": names, "swd_images": 2}})
    scores = MeasureStage(params.measure, params.edits, models, tuned=False).process(measured)
    assert all(np.isfinite(value) for row in scores for value in row.values())
    assert {name for name in scores[0] if name.endswith("/wide")}


def test_what_decides_the_picture_is_in_its_identity(models: ModelPaths) -> None:
    identities = [
        stage(models, TRANSFER | {"apply": TRANSFER["apply"] | changed}).identity()
        for changed in ({}, {"alpha": 0.5}, {"boxes": ["eyes"]})
    ]
    assert len({str(identity) for identity in identities}) == 3
    assert "landmarks" in identities[2] and "landmarks" not in identities[0]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (TRANSFER | {"references": ["a", "b"]}, "transfer takes 1 to 2 sources, not 3"),
        ({"kind": "compose", "apply": {"operation": "interpolate"}}, "interpolate takes 2 sources, not 1"),
        (TRANSFER | {"apply": TRANSFER["apply"] | {"count": 3}}, "count of transfer belong to compose.plan"),
        (TRANSFER | {"apply": {"operation": "transfr"}}, "unknown operation 'transfr'; did you mean 'transfer'"),
        (TRANSFER | {"apply": {"operation": "transfer", "boxes": [[0, 0, 2, 1]]}}, "lies outside the image"),
    ],
)
def test_mistakes_are_told_before_any_row(models: ModelPaths, edit: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        stage(models, edit)


def test_an_operation_may_not_be_given_twice_under_one_name() -> None:
    with pytest.raises(ParamsError, match="wide is planned more than once"):
        from gan_core.edits.plan import plan_edits

        plan_edits(check_params({"edits": [EXTEND, EXTEND]}).edits)


@pytest.mark.parametrize("tuned", [False, True])
def test_a_row_that_a_composition_is_impossible_for_is_rejected_alone(
    tuned: bool, models: ModelPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(models, TRANSFER, tuned=tuned)
    (kind,) = made.kinds
    draw = kind.operation.draw  # type: ignore[attr-defined]

    def fails_for_one(generator: Any, w_plus: torch.Tensor) -> Any:
        if torch.equal(w_plus[0], latent(1)):
            raise ParamsError("the landmark network finds no face")
        return draw(generator, w_plus)

    monkeypatch.setattr(kind.operation, "draw", fails_for_one)  # type: ignore[attr-defined]
    base = {"status": "ok", "reason": "", "stage": "encode"}
    with Overlap[Batch](1, 3) as beside:
        steps = Steps(made, beside)
        found = [
            done.result() for batch in steps.load([[row | base for row in rows(3)]]) for done in steps.advance(batch)
        ]
    assert [row["status"] for row in found] == ["ok", "bad_composition", "ok"]
    assert found[1]["reason"] == "the landmark network finds no face"
