"""Reference edits: a row takes an attribute from another, chosen by its own key."""

import pytest
import torch

from gan_core.editing.latent_editor import LatentEditor, TransferBlock
from gan_core.edits.base import EditSetting
from gan_core.edits.reference import ReferenceEdit, ReferenceSpec
from gan_core.errors import ParamsError
from gan_core.loading import load_generator
from gan_core.params import ModelPaths, check_params

LATENTS = {key: torch.full((10, 16), value) for key, value in (("x", 1.0), ("y", -1.0))}


@pytest.fixture(scope="module")
def setting(tiny_models: dict[str, str]) -> EditSetting:
    models = ModelPaths(**tiny_models)
    return EditSetting(models, load_generator(models.generator), lambda keys: torch.stack([LATENTS[k] for k in keys]))


def trained(kind: ReferenceEdit) -> None:
    """Give the block of the small editor, which changes nothing yet, some effect."""
    block = kind.editor.blocks["smile"]
    assert isinstance(block, TransferBlock)
    torch.manual_seed(0)
    block.change.weight.normal_(0, 0.5)


def test_a_block_begins_with_no_change() -> None:
    editor = LatentEditor(["smile", "yaw"], ["yaw"], 4, 8, (8,), 4, heads=2).eval()
    w_plus = torch.randn(3, 4, 8)
    torch.testing.assert_close(editor.transfer(w_plus, torch.randn(3, 4, 8), "yaw"), w_plus)


def test_each_row_takes_from_one_of_the_references(setting: EditSetting) -> None:
    spec = ReferenceSpec(attribute="smile", reference=("x", "y"))
    kind = ReferenceEdit(spec, setting)
    trained(kind)
    w_plus = torch.randn(6, 10, 16, generator=torch.Generator().manual_seed(1))
    rows = [{"key": f"{i}.png"} for i in range(6)]
    edited = kind.edit(w_plus, rows, ReferenceEdit.plan(spec)[0])
    options = [kind.editor.transfer(w_plus, LATENTS[key].expand(6, -1, -1), "smile") for key in ("x", "y")]
    taken = [min((0, 1), key=lambda i: (edited[row] - options[i][row]).abs().max().item()) for row in range(6)]
    for row, option in enumerate(taken):
        torch.testing.assert_close(edited[row], options[option][row])
    assert set(taken) == {0, 1}
    torch.testing.assert_close(kind.edit(w_plus[4:5], rows[4:5], ReferenceEdit.plan(spec)[0])[0], edited[4])


def test_other_references_are_other_work(setting: EditSetting) -> None:
    specs = [ReferenceSpec(attribute="smile", reference=keys) for keys in (("x",), ("y",))]
    one, two = (ReferenceEdit(spec, setting).describe(ReferenceEdit.plan(spec)[0]) for spec in specs)
    assert one != two
    assert one["latents"] != two["latents"]


def test_one_key_needs_no_list() -> None:
    (edit,) = check_params({"edits": [{"kind": "reference", "attribute": "smile", "reference": "x"}]}).edits
    assert isinstance(edit, ReferenceSpec) and edit.reference == ("x",)
    assert ReferenceEdit.plan(edit)[0].column == "smile@reference"


def test_an_attribute_without_a_block_is_refused(setting: EditSetting) -> None:
    with pytest.raises(ParamsError, match=r"no block transfers 'age'.*; add it to train_latent_edits.blocks"):
        ReferenceEdit(ReferenceSpec(attribute="age", reference=("x",)), setting)
