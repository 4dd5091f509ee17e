"""The training loop of the generator: both phases, and what a kill leaves behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gan_core.generators.base import Generator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.judges.networks import PerceptualTrunk
from gan_core.judges.perceptual import PerceptualLoss
from gan_core.toy.gan_params import TrainGeneratorParams
from gan_core.toy.renderer import FACTORS
from gan_core.toy.training.gan import GanState, PairDistance, Pairs, factor_basis, paired_latents, train_generator
from gan_core.toy.training.portraits import PortraitSet, gaussian_from_factors
from gan_core.training import fit
from gan_core.training.losses import pyramid_loss
from tests.reports import Reports

THIN = {4: 16, 8: 16, 16: 8, 32: 8, 64: 4}
PARAMS = TrainGeneratorParams(
    style_dim=64,
    n_mlp=2,
    channels=THIN,
    discriminator_channels=THIN,
    batch_size=8,
    paired_images=64,
    paired_lr=0.01,
    adversarial_images=48,
    r1_every=2,
    path_length_every=3,
    precision="exact",
)


@pytest.fixture(scope="module")
def portraits(drawn: PortraitSet) -> PortraitSet:
    return PortraitSet(drawn.image[:8], drawn.segmentation[:8], drawn.factors[:8])


def train(portraits: PortraitSet, path: Path, reports: Any, **changes: Any) -> StyleGAN2:
    def score(_: Generator) -> dict[str, float]:
        return {"score": 1.0}

    torch.manual_seed(0)
    params = PARAMS.model_copy(update=changes)
    return train_generator(params, portraits, perceptual_loss(), path, reports, score, report_every=16)


def perceptual_loss() -> PerceptualLoss:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        trunk = PerceptualTrunk(channels=(8, 8))
    return PerceptualLoss("lpips_toy", trunk, [torch.full((8,), 0.5)] * 2, published_scaling=False)


def pair_loss(generator: Generator, portraits: PortraitSet) -> float:
    z = paired_latents(gaussian_from_factors(torch.from_numpy(portraits.factors)), 64, torch.Generator().manual_seed(9))
    real = torch.from_numpy(portraits.image).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        return pyramid_loss(generator(z), real).item()


def test_a_latent_carries_the_factors_of_its_portrait() -> None:
    gaussian = torch.randn(5, len(FACTORS), generator=torch.Generator().manual_seed(1)).clamp(-1.2, 1.2)
    z = paired_latents(gaussian, 128, torch.Generator().manual_seed(2))
    assert torch.allclose(z @ factor_basis(len(FACTORS), 128).T, gaussian, atol=1e-5)
    assert torch.allclose(z.square().sum(1), torch.full((5,), 128.0), rtol=1e-4)


@pytest.mark.slow
def test_the_warm_up_learns_the_pairs(portraits: PortraitSet, tmp_path: Path) -> None:
    start = pair_loss(GanState.create(PARAMS).generator, portraits)
    generator = train(portraits, tmp_path / "s.pt", Reports(), paired_images=480, adversarial_images=0)
    assert pair_loss(generator, portraits) < 0.6 * start


def test_pairs_are_compared_by_pixels_and_by_features(portraits: PortraitSet) -> None:
    real = portraits.images(np.arange(8))
    pairs = Pairs(torch.zeros(8, 64), real, torch.ones(8, 1, 64, 64))
    blurred = F.avg_pool2d(real, 3, stride=1, padding=1).requires_grad_()
    plain = PairDistance(perceptual_loss(), 0.0, "exact")(blurred, pairs)
    both = PairDistance(perceptual_loss(), 2.0, "exact")(blurred, pairs)
    assert plain.item() == pyramid_loss(blurred, real).item()
    torch.testing.assert_close(both - plain, 2 * perceptual_loss()(blurred, real).mean())
    (gradient,) = torch.autograd.grad(both - plain, blurred)
    assert gradient.abs().sum() > 0


def test_both_phases_are_reported(portraits: PortraitSet, tmp_path: Path) -> None:
    reports = Reports()
    generator = train(portraits, tmp_path / "s.pt", reports, mixing=0.5)
    assert [seen for seen, _, _ in reports] == [16, 32, 48, 64, 80, 96, 112]
    assert set(reports[0][1]) == {"pair", "score"}
    assert set(reports[-1][1]) == {
        *("pair", "score", "discriminator", "real_sign", "r1", "generator", "path_length"),
    }
    assert reports[0][2].shape == (32, 3, 64, 64)
    assert torch.equal(generator.latent_avg, generator.mean_latent(20_000))


def test_the_game_changes_both_players_and_their_average(portraits: PortraitSet, tmp_path: Path) -> None:
    path = tmp_path / "s.pt"
    train(portraits, path, Reports(), adversarial_images=0)
    before = torch.load(path, weights_only=True)
    train(portraits, path, Reports())
    after = torch.load(path, weights_only=True)
    for player, parameter in (("generator", "conv1.noise.weight"), ("discriminator", "convs.0.0.weight")):
        assert not torch.equal(before[player][parameter], after[player][parameter])
    assert not torch.equal(before["average"]["conv1.noise.weight"], after["average"]["conv1.noise.weight"])
    assert (before["seen"], after["seen"]) == (64, 112)


def test_a_game_that_never_mixes_keeps_the_pairs(portraits: PortraitSet, tmp_path: Path) -> None:
    reports = Reports()
    train(portraits, tmp_path / "s.pt", reports, paired_images=0, mixing=1.0)
    assert "pair" not in reports[-1][1]


def test_a_killed_training_goes_on_to_the_same_weights(
    portraits: PortraitSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(portraits, tmp_path / "whole.pt", Reports(), mixing=0.5)
    monkeypatch.setattr(fit, "SAVE_SECONDS", -1)
    path = tmp_path / "s.pt"
    with pytest.raises(KeyboardInterrupt):
        train(portraits, path, Reports(stop_at=96), mixing=0.5)
    assert torch.load(path, weights_only=True)["seen"] == 88
    reports = Reports()
    resumed = train(portraits, path, reports, mixing=0.5)
    assert [seen for seen, _, _ in reports] == [96, 112]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_batch_is_whole_groups_of_the_discriminator() -> None:
    for size in (1, 3, 4, 16):
        assert TrainGeneratorParams(batch_size=size).batch_size == size
    with pytest.raises(ValueError, match="6 is neither up to 4 nor a multiple of it"):
        TrainGeneratorParams(batch_size=6)
