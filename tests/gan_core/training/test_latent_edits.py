"""The classifier and the blocks learn what the scorers say, on a generator with random weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gan_core.checkpoints.files import Loaded
from gan_core.editing.latent_editor import load_editor, save_editor
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.judges.scorers import Scorers
from gan_core.loading import load_generator
from gan_core.training import fit
from gan_core.training.latent_edit_losses import PICTURES
from gan_core.training.latent_edit_scores import label_samples, score
from gan_core.training.latent_edits import train_editor
from gan_core.training.params import LatentEditsParams
from tests.reports import Reports

PARAMS = LatentEditsParams(
    samples=384,
    hidden=[32, 16],
    embedding=4,
    heads=2,
    blocks=["red"],
    batch_size=64,
    classifier_steps=250,
    block_steps=150,
    picture_steps=40,
)


@pytest.fixture(scope="module")
def loaded(tiny_models: dict[str, str]) -> Loaded[Generator]:
    return load_generator(tiny_models["generator"])


@pytest.fixture(scope="module")
def generator(loaded: Loaded[Generator]) -> Generator:
    return loaded.model


def colours(images: Tensor) -> Tensor:
    """How red and how green a picture is, spread over 0 to 1."""
    return (8 * images.mean((2, 3))[:, :2] + 0.5).sigmoid()


SCORERS = Scorers(("red", "green"), colours, lambda images: images.flatten(1)[:, :4])


def test_samples_are_labelled_and_half_are_mixed(generator: Generator) -> None:
    samples = label_samples(generator, SCORERS, 64, seed=0)
    shares = colours(generator.synthesis(samples.w_plus))
    torch.testing.assert_close(samples.shares, shares, rtol=1e-4, atol=1e-4)
    mixed = [not torch.equal(row, row[:1].expand_as(row)) for row in samples.w_plus]
    assert mixed == [False, True] * 32


@pytest.mark.slow
def test_classifier_and_block_learn(
    loaded: Loaded[Generator], generator: Generator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reports, folder = Reports(), tmp_path_factory.mktemp("training")
    editor, held_out = train_editor(PARAMS, generator, SCORERS, folder, reports)
    assert {name for _, metrics, _ in reports for name in metrics} == {"classifier", "red", "red-pictures"}
    scores = score(editor, generator, SCORERS, held_out)
    for name in ("red", "green"):
        assert scores[name]["agreement"] > 0.75, scores
        assert min(scores[name]["flips_on"], scores[name]["flips_off"]) > 0.8, scores
    assert scores["red"]["way"] > 0.2, scores
    assert scores["red"]["others_kept"] > 0.75, scores  # 0.72 without pictures
    assert "way" not in scores["green"]
    path = tmp_path_factory.mktemp("editor") / "editor.safetensors"
    save_editor(path, editor, loaded.sha256, {"held_out": scores})
    stored = load_editor(path, loaded)
    again = stored.model
    torch.testing.assert_close(again.logits(held_out.w_plus), editor.logits(held_out.w_plus), rtol=0.02, atol=0.02)
    assert stored.card.extra["held_out"] == scores


def test_a_killed_training_goes_on_to_the_same_weights(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {"classifier_steps": 4, "block_steps": 3, "picture_steps": 3}
    params = PARAMS.model_copy(update={"samples": 64, "batch_size": 8} | steps)

    def trained(name: str, reports: Reports) -> dict[str, Tensor]:
        (tmp_path / name).mkdir(exist_ok=True)
        return train_editor(params, generator, SCORERS, tmp_path / name, reports)[0].state_dict()

    whole = trained("whole", Reports())
    monkeypatch.setattr(fit, "SAVE_SECONDS", -1)
    with pytest.raises(KeyboardInterrupt):
        trained("killed", Reports(stop_at=3 * PICTURES))
    rest = Reports()
    resumed = trained("killed", rest)
    assert rest.steps == [3 * PICTURES]
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_block_for_an_unknown_attribute_is_refused(generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="unknown attribute 'blue'"):
        train_editor(PARAMS.model_copy(update={"blocks": ["blue"]}), generator, SCORERS, tmp_path, Reports())
