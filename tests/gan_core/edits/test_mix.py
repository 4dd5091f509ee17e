"""Style mixing is the published one, and a row's style follows from its key."""

from typing import Any

import pytest
import torch

from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import EditSetting
from gan_core.edits.mix import MixEdit, MixSpec, mix_latents
from gan_core.errors import ParamsError
from gan_core.loading import load_generator
from gan_core.params import ModelPaths
from tests.golden.fill import golden, relative_error

ROWS: list[dict[str, Any]] = [{"key": key} for key in ("a.png", "b.png", "c.png")]
MASK = [6, 7, 8, 9]


@pytest.mark.parametrize(("case", "alpha"), [("replace", 1.0), ("alpha0.5", 0.5), ("alpha0.3", 0.3), ("zero", 1.0)])
def test_mixing_equals_the_published_one(case: str, alpha: float) -> None:
    expected, meta = golden("psp-mixing")
    codes, injected = torch.from_numpy(expected["codes"]), torch.from_numpy(expected["inject_latent"])
    mixed = mix_latents(codes, torch.zeros_like(codes) if case == "zero" else injected, meta["latent_mask"], alpha)
    assert relative_error(mixed, expected[f"mix_codes_{case}"]) < 1e-6


@pytest.fixture(scope="module")
def setting(tiny_models: dict[str, str]) -> EditSetting:
    models = ModelPaths(**tiny_models)
    latents = {key: torch.full((10, 16), value) for key, value in (("x", 1.0), ("y", 2.0))}
    return EditSetting(models, load_generator(models.generator), lambda keys: torch.stack([latents[k] for k in keys]))


def mixed(setting: EditSetting, number: int = 0, rows: list[dict[str, Any]] = ROWS, **changes: Any) -> torch.Tensor:
    spec = MixSpec(latent_mask=MASK, **changes)
    picture: PlannedEdit = MixEdit.plan(spec)[number]
    return MixEdit(spec, setting).edit(torch.zeros(len(rows), 10, 16), rows, picture)


def test_each_row_and_picture_has_a_style_of_its_own(setting: EditSetting) -> None:
    first, second = mixed(setting, 0, pictures=2), mixed(setting, 1, pictures=2)
    assert not first[:, :6].any()
    assert torch.equal(first[:, 6], first[:, 9])
    styles = torch.cat([first[:, 6], second[:, 6]])
    assert torch.cdist(styles, styles).fill_diagonal_(1).min() > 1e-3
    alone = mixed(setting, 1, ROWS[1:2], pictures=2)
    torch.testing.assert_close(alone[0], second[1])
    assert not torch.equal(mixed(setting, seed=1), first)


def test_styles_of_references_are_taken_in_turn(setting: EditSetting) -> None:
    one, two = (mixed(setting, i, pictures=2, references=("x", "y"), alpha=0.5)[:, 7, 0] for i in (0, 1))
    assert torch.equal(one + two, torch.full((3,), 1.5))
    assert set(one.tolist()) <= {0.5, 1.0}


def test_columns_and_what_decides_them(setting: EditSetting) -> None:
    spec = MixSpec(latent_mask=[3, 5], pictures=2, name="look", references=("y",))
    plan, kind = MixEdit.plan(spec), MixEdit(spec, setting)
    assert [picture.column for picture in plan] == ["look@1", "look@2"]
    assert kind.describe(plan[0]) != kind.describe(plan[1])
    assert kind.describe(plan[0])["layers"] == [3, 6]
    other = MixEdit(spec.model_copy(update={"references": ("x",)}), setting)
    assert other.describe(plan[0]) != kind.describe(plan[0])


def test_latents_that_are_not_there_are_refused(setting: EditSetting) -> None:
    with pytest.raises(ParamsError, match=r"latent_mask \[10\] of 'mix' is not within \[0, 10\): give"):
        MixEdit(MixSpec(latent_mask=[2, 10]), setting)
