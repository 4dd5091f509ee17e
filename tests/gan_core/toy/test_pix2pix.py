"""pSp's rival: the published layout, the published losses, and a training that can be stopped and go on."""

from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from gan_core.loading import load_encoder, load_generator
from gan_core.params import ModelPaths
from gan_core.toy.params import TrainPix2PixParams
from gan_core.toy.training import pix2pix
from gan_core.toy.training.pix2pix import Pix2PixState, feature_distance, least_squares, train_pix2pix
from gan_core.toy.training.portraits import PortraitSet
from gan_core.toy.training.reconstruction import LossNetworks
from gan_core.toy.training.translation import TranslationTraining
from gan_core.translation.inputs import INPUTS
from gan_core.translation.pix2pix import GlobalGenerator, MultiscaleDiscriminator
from gan_core.translation.tasks import TASKS
from tests.reports import Reports

SMALL = TrainPix2PixParams(
    network={"width": 8, "downs": 2, "blocks": 1},
    discriminator={"width": 8, "layers": 1, "scales": 2},
    images=8,
    batch_size=4,
    precision="exact",
)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.slow
def test_the_networks_are_as_large_as_the_published_ones() -> None:
    """For label maps of 35 classes and the borders of instances, beside which the discriminator sees an image."""
    with torch.device("meta"):
        assert count(GlobalGenerator(36)) == 182_546_755
        assert count(MultiscaleDiscriminator(39)) == 5_603_202


def test_shapes_and_ranges() -> None:
    torch.manual_seed(0)
    network, discriminator = GlobalGenerator(2, 4, 2, 1), MultiscaleDiscriminator(5, 4, 2, 2)
    made = network(torch.randn(2, 2, 16, 16))
    assert made.shape == (2, 3, 16, 16) and made.abs().max() <= 1
    large, small = discriminator(torch.randn(2, 5, 16, 16))
    assert [len(large), len(small)] == [4, 4] and [large[-1].shape[1], small[-1].shape[1]] == [1, 1]
    assert large[0].shape[2] > small[0].shape[2]


def test_losses_are_the_published_ones() -> None:
    def maps(*values: float) -> list[torch.Tensor]:
        return [torch.full((1, 1, 2, 2), value) for value in values]

    real, made = [maps(1.0, 2.0, 0.5), maps(0.0, 0.0, 3.0)], [maps(1.5, 2.0, 0.0), maps(1.0, 1.0, 3.0)]
    assert least_squares(real, 1.0).item() == pytest.approx(0.25 + 4.0)
    # two layers of features: 4 / 2 each, halved for two scales; the scores themselves don't count
    assert feature_distance(made, real).item() == pytest.approx((0.5 * 2 + 0.0 + 1.0 * 2 + 1.0 * 2) / 2)


def first_weights(state: Pix2PixState) -> list[torch.Tensor]:
    return [next(network.parameters()) for network in (state.network, state.discriminator)]


@pytest.fixture(scope="module")
def networks(tiny_models: dict[str, str]) -> LossNetworks:
    return LossNetworks.load(cast(ModelPaths, ModelPaths(**tiny_models)))


@pytest.fixture(scope="module")
def task(tiny_models: dict[str, str]) -> TranslationTraining:
    inversion = load_encoder(tiny_models["encoder"], load_generator(tiny_models["generator"]), "psp").model
    return TranslationTraining(TASKS.get("sketch"), INPUTS.get("sketch")(), inversion)


def test_a_training_that_is_stopped_goes_on_to_the_same_weights(
    networks: LossNetworks,
    task: TranslationTraining,
    drawn: PortraitSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pix2pix, "VALIDATED", 2)
    monkeypatch.setattr(pix2pix, "picture_grid", lambda draw, portraits, task: torch.zeros(1, 3, 4, 4))

    def train(name: str, images: int) -> Pix2PixState:
        params = SMALL.model_copy(update={"images": images})
        return train_pix2pix(task, params, networks, drawn, drawn, tmp_path / name, reports)

    reports = Reports()
    whole = train("whole.pt", 8)
    train("parts.pt", 4)
    parts = train("parts.pt", 8)
    assert reports.steps == [4, 8, 4, 8] and parts.seconds > 0
    for one, other in ((whole.average, parts.average), (whole.discriminator, parts.discriminator)):
        assert all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))
    assert set(reports[0][1]) == {
        *("adversarial", "features", "perceptual", "discriminator"),
        *("held_out/mse", "held_out/psnr", "held_out/lpips_toy", "held_out/identity_toy"),
    }


def test_neither_player_moves_in_the_turn_of_the_other(
    networks: LossNetworks, task: TranslationTraining, drawn: PortraitSet
) -> None:
    batch = task.draw(drawn, networks.generator, 2, 0, torch.Generator().manual_seed(0))
    for rates, moved in (((1.0, 0.0), (True, False)), ((0.0, 1.0), (False, True))):
        state = Pix2PixState.create(task, SMALL)
        before = [each.clone() for each in first_weights(state)]
        for optimiser, rate in zip((state.optimiser, state.discriminator_optimiser), rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate
        pix2pix.train_step(state, SMALL, networks, batch)
        pairs = zip(before, first_weights(state), strict=True)
        assert tuple(not torch.equal(*pair) for pair in pairs) == moved


def test_both_rivals_learn_from_the_same_pairs(
    networks: LossNetworks, task: TranslationTraining, drawn: PortraitSet
) -> None:
    ours, theirs = (
        task.draw(drawn, networks.generator, 4, sampled, torch.Generator().manual_seed(0)) for sampled in (4, 0)
    )
    assert torch.equal(ours.images, theirs.images) and torch.equal(ours.seen, theirs.seen)
    assert len(ours.w) == 4 and len(theirs.w) == 0
