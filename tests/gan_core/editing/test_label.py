"""Label edits: the published classifier and first-order step, and a second-order direction that goes downhill."""

from dataclasses import replace

import pytest
import torch

from gan_core.editing.label import first_order_direction, label_gradient, move_to_label, second_order_direction
from gan_core.editing.latent_editor import LatentClassifier, load_editor
from gan_core.edits.base import EditSetting
from gan_core.edits.label import LabelEdit, LabelSpec
from gan_core.errors import CheckpointError, ParamsError
from gan_core.loading import load_generator
from gan_core.params import ModelPaths, check_params
from tests.golden.fill import fill, fill_state, golden, keys, relative_error

CELEBA = [str(i) for i in range(40)]


def test_names_and_size_are_the_published_ones() -> None:
    with torch.device("meta"):
        classifier = LatentClassifier(CELEBA)
    listed = {key: list(value.shape) for key, value in classifier.state_dict().items()}
    assert listed == keys("style_transformer_lcnet40")
    assert sum(p.numel() for p in classifier.parameters()) == 20_583_464


@pytest.mark.slow
def test_classifier_and_first_order_edit_equal_the_published_ones() -> None:
    expected, _ = golden("lcnet40")
    with torch.device("meta"):
        classifier = LatentClassifier(CELEBA)
    state = fill_state(keys("style_transformer_lcnet40"), rule="he")
    classifier.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, assign=True)
    w_plus = torch.from_numpy(fill("input:w", (4, 18, 512), rule="raw"))
    assert relative_error(classifier(w_plus).detach(), expected["logits"]) < 1e-4
    assert relative_error(classifier.embeddings(w_plus).detach(), expected["embeddings"]) < 1e-4
    direction = first_order_direction(lambda w: classifier(w)[:, 20], w_plus, True)
    assert relative_error(direction[:, ::6], expected["direction"]) < 1e-4
    edited = move_to_label(lambda w: classifier(w)[:, 20], w_plus, True, 3.0, steps=1)
    assert relative_error(edited[:, ::6], expected["label_edit"]) < 1e-4


def bowl(w_plus: torch.Tensor) -> torch.Tensor:
    """A smooth logit that curves differently along each axis."""
    scales = torch.linspace(0.2, 2.0, w_plus[0].numel(), dtype=w_plus.dtype).reshape(w_plus.shape[1:])
    return (torch.tanh(w_plus * scales)).flatten(1).sum(1)


def test_the_second_order_direction_is_the_axis_of_most_curvature() -> None:
    w_plus = 0.3 * torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(w_plus.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = second_order_direction(bowl, w_plus, True, noise, rounds=200, offset=1e-4)
    for row in range(3):

        def loss(flat: torch.Tensor, row: int = row) -> torch.Tensor:
            return torch.nn.functional.softplus(-bowl(flat.reshape(1, 2, 4)))[0]

        hessian = torch.autograd.functional.hessian(loss, w_plus[row].flatten())
        values, vectors = torch.linalg.eigh(hessian)  # type: ignore[arg-type]
        axis = vectors[:, values.abs().argmax()].reshape(2, 4)
        axis = axis / axis.norm(dim=1, keepdim=True)
        torch.testing.assert_close(found[row].abs(), axis.abs(), rtol=1e-2, atol=1e-2)
    gradient = label_gradient(bowl, w_plus, True)
    assert ((found * gradient).flatten(1).sum(1) > 0).all()


def test_both_orders_agree_for_a_linear_classifier() -> None:
    weight = torch.randn(2, 4, dtype=torch.float64)
    w_plus, noise = torch.zeros(3, 2, 4, dtype=torch.float64), torch.randn(3, 2, 4, dtype=torch.float64)

    def logits(w: torch.Tensor) -> torch.Tensor:
        return (w * weight).flatten(1).sum(1)

    second = second_order_direction(logits, w_plus, True, noise, offset=1e-4)
    torch.testing.assert_close(second, first_order_direction(logits, w_plus, True), rtol=1e-2, atol=1e-3)


@pytest.fixture(scope="module")
def setting(tiny_models: dict[str, str]) -> EditSetting:
    models = ModelPaths(**tiny_models)
    return EditSetting(models, load_generator(models.generator))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("target", ["on", "off"])
def test_rows_on_the_other_side_move_and_the_rest_stay(setting: EditSetting, target: str, order: int) -> None:
    spec = LabelSpec(attribute="smile", target=target, strength=4.0, order=order)  # type: ignore[arg-type]
    kind = LabelEdit(spec, setting)
    w_plus = torch.randn(12, 10, 16, generator=torch.Generator().manual_seed(3))
    bias = kind.editor.classifier.output_fcs[kind.column].bias
    middle = kind.editor.logits(w_plus)[:, kind.column].sort().values[5:7]
    bias -= middle.mean()  # type: ignore[operator]  # half of the rows on each side, none on the edge
    before = kind.editor.logits(w_plus)[:, kind.column]
    rows = [{"key": f"{i}.png"} for i in range(12)]
    edited = kind.edit(w_plus, rows, LabelEdit.plan(spec)[0])
    after = kind.editor.logits(edited.double())[:, kind.column]
    there = (before > 0) == (target == "on")
    assert there.sum() == 6
    assert torch.equal(edited[there], w_plus[there])
    side = 1.0 if target == "on" else -1.0
    assert (side * (after - before)[~there] > 0).all()
    alone = kind.edit(w_plus[9:10], rows[9:10], LabelEdit.plan(spec)[0])
    torch.testing.assert_close(alone[0], edited[9])


def test_yaml_reads_on_as_true() -> None:
    (edit,) = check_params({"edits": [{"kind": "label", "attribute": "glasses", "target": True}]}).edits
    assert (LabelEdit.plan(edit)[0].column, LabelEdit.plan(edit)[0].target) == ("glasses@on", "glasses")


def test_mistakes_are_told_before_any_work(setting: EditSetting, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ParamsError, match="unknown attribute 'smil'; did you mean 'smile'"):
        LabelEdit(LabelSpec(attribute="smil"), setting)
    with pytest.raises(CheckpointError, match=r"holds a network 'identity', not a latent-editor"):
        load_editor(setting.models.identity, setting.generator)
    with pytest.raises(CheckpointError, match=r"was made for the generator .* train it again"):
        load_editor(setting.models.latent_edits, replace(setting.generator, sha256="0" * 64))
