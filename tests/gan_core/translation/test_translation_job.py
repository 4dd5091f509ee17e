import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gan_core.errors import DataError, ParamsError, UserError
from gan_core.loading import load_encoder, load_generator
from gan_core.params import ModelPaths, Params, check_params
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_params
from gan_core.report import write_report
from gan_core.rows import Rejected, Row
from gan_core.stages.translate import TranslateStage
from gan_core.translation.inputs import picture_cell

REFERENCE = "portraits/7500003.png"


def setting(models: ModelPaths, **translate: Any) -> Params:
    variant = {"kind": "mix", "latent_mask": [7, 8, 9], "references": [REFERENCE]}
    values = {"task": "segmentation", "made": False, "column": "labels", "variants": [variant]} | translate
    return check_params({"translate": values}).model_copy(update={"models": models})


@pytest.mark.parametrize("known", [{"truth": "image"}, {"made": True, "column": "image"}])
def test_styles_of_other_rows_are_those_of_their_pictures(
    known: dict[str, Any], translators: ModelPaths, sample: str, rows: list[Row]
) -> None:
    stage = TranslateStage.build(setting(translators, **known), sample)
    reference = next(row for row in rows if row["key"] == REFERENCE)
    inversion = load_encoder(translators.encoder, load_generator(translators.generator), "psp").model
    with torch.no_grad():
        style = inversion.encode(picture_cell(reference, "image", 64)[None])
        own = torch.zeros(1, stage.encoder.n_latent, stage.encoder.w_dim)
        mixed = stage.kinds[0].edit(own, rows[:1], stage.plan[0])
    torch.testing.assert_close(mixed[:, 7:], style[:, 7:], rtol=1e-4, atol=1e-5)
    assert not mixed[:, :7].any()
    first = stage.process([reference])[0]
    assert not isinstance(first, Rejected) and first["mix@1"] != first["output"]


def test_without_pictures_a_style_is_the_tasks_own(translators: ModelPaths, sample: str, rows: list[Row]) -> None:
    stage = TranslateStage.build(setting(translators), sample)
    reference = next(row for row in rows if row["key"] == REFERENCE)
    (made,) = stage.process([reference])
    assert not isinstance(made, Rejected)
    own = torch.zeros(1, stage.encoder.n_latent, stage.encoder.w_dim)
    mixed = stage.kinds[0].edit(own, [reference], stage.plan[0])
    np.testing.assert_allclose(mixed[0, 7:].numpy(), made["latent"][7:], rtol=1e-4, atol=1e-5)


def test_what_needs_a_truth_that_is_not_given_is_not_promised(
    translators: ModelPaths, sample: str, tmp_path: Path
) -> None:
    params = setting(translators, variants=[])
    judged = params.model_copy(update={"gates": check_params({"gates": ["lpips <= 0.5"]}).gates})
    with pytest.raises(ParamsError, match=r"gates\.0: no score 'lpips'"):
        plan_params(judged, sample, str(tmp_path / "out"), recipe="translate")
    plan = plan_params(params, sample, str(tmp_path / "out"), recipe="translate")
    assert plan.scores == ("mean_iou",)
    run_plain(plan)
    told = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert told["omitted"] == {"lpips": "the true pictures are not known: translate.truth names their column"}
    assert "translate.truth names their column" in Path(write_report(plan.run)).read_text()


def test_a_row_that_is_not_there_cannot_be_referred_to(translators: ModelPaths, sample: str) -> None:
    variants = [{"kind": "mix", "latent_mask": [9], "references": ["portraits/7500002.pn"]}]
    with pytest.raises(ParamsError, match=r"no row 'portraits/7500002.pn' in .*; did you mean"):
        TranslateStage.build(setting(translators, variants=variants), sample)


@pytest.mark.parametrize(
    ("translate", "said"),
    [
        ({"column": "lables"}, r"translate\.column: .* has no column 'lables'; did you mean 'labels'"),
        ({"column": "key"}, r"translate\.column: the column 'key' of .* holds string, not pictures"),
        ({"truth": "imagee"}, r"translate\.truth: .* has no column 'imagee'; did you mean 'image'"),
        ({"made": True, "column": "image", "labels": "label"}, r"translate\.labels: .* has no column 'label'; did you"),
        ({"align": True, "column": "photo"}, r"translate\.align: only pictures can be aligned"),
        ({"align": True, "made": True, "task": "frontalisation", "column": "x"}, r"\.column: with translate\.align"),
        ({"task": "sketchs"}, r"unknown translation task 'sketchs'; did you mean 'sketch'"),
    ],
)
def test_what_concerns_every_row_is_refused_before_any(
    translate: dict[str, Any], said: str, translators: ModelPaths, sample: str, tmp_path: Path
) -> None:
    params = setting(translators, variants=[], **translate)
    with pytest.raises(UserError, match=said):
        plan_params(params, sample, str(tmp_path / "out"), recipe="translate")


@pytest.mark.parametrize(
    ("translate", "asking", "column"),
    [({}, "translate.column", "labels"), ({"task": "inpainting", "column": "image"}, "translate.made", "mask")],
)
def test_a_column_that_a_later_shard_does_not_have_is_refused_before_any_row(
    translate: dict[str, Any], asking: str, column: str, translators: ModelPaths, sample: str, tmp_path: Path
) -> None:
    first, second = sorted(Path(sample).glob("*.parquet"))
    (tmp_path / "data").mkdir()
    shutil.copy(first, tmp_path / "data")
    pq.write_table(pq.read_table(second).drop_columns([column]), tmp_path / "data" / second.name)
    params = setting(translators, variants=[], **translate)
    with pytest.raises(DataError, match=f"{asking}: .*{second.name} has no column '{column}'"):
        plan_params(params, str(tmp_path / "data"), str(tmp_path / "out"), recipe="translate")
