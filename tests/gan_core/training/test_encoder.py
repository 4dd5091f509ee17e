from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.checkpoints.store import file_sha256, load_checkpoint, load_encoder
from gan_core.encoders.base import Encoder
from gan_core.params import ModelPaths, TrainEncoderParams
from gan_core.training import encoder as training
from gan_core.training.encoder import EncoderState, move_average, store_encoder, train_encoder
from gan_core.training.portraits import PortraitSet
from gan_core.training.reconstruction import Batch, Judges, draw_batch, evaluate, inversion_loss, resample

PARAMS = TrainEncoderParams(units=(1, 1, 1, 1), width=4, images=32, batch_size=8, lr=3e-3, precision="exact")


@pytest.fixture(scope="module")
def judges(models: ModelPaths) -> Judges:
    return Judges.load(models)


@pytest.fixture(scope="module")
def portraits(judges: Judges) -> PortraitSet:
    """Faces of the random generator stand in for portraits, so that there is something to learn."""
    z = torch.randn(24, judges.generator.z_dim, generator=torch.Generator().manual_seed(5))
    images = judges.generator.synthesis(judges.generator.broadcast(judges.generator.mapping(z)))
    pixels = images.mul(127.5).add(128).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return PortraitSet(pixels, np.zeros((24, 64, 64), np.uint8), np.zeros((24, 3), np.float32))


class Reports(list[tuple[int, dict[str, float], Tensor]]):
    def __init__(self, stop_at: int = 10**9) -> None:
        self.stop_at = stop_at

    def __call__(self, seen: int, losses: dict[str, float], pictures: Tensor) -> None:
        if seen >= self.stop_at:
            raise KeyboardInterrupt
        self.append((seen, losses, pictures))


def train(judges: Judges, portraits: PortraitSet, state: Path, reports: Any = None, **changes: Any) -> Encoder:
    params = PARAMS.model_copy(update=changes)
    return train_encoder(params, judges, portraits, state, Reports() if reports is None else reports, report_every=16)


def test_it_learns(judges: Judges, portraits: PortraitSet, tmp_path: Path) -> None:
    before = evaluate(EncoderState.create(PARAMS, judges.generator).average, judges, portraits)
    reports = Reports()
    after = evaluate(train(judges, portraits, tmp_path / "s", reports, images=160), judges, portraits)
    assert after["mse"] < 0.8 * before["mse"]
    assert after["psnr"] > before["psnr"]
    assert [seen for seen, _, _ in reports] == list(range(16, 161, 16))
    assert set(reports[0][1]) == {"l2", "perceptual", "identity", "w_norm", "latent"}
    assert reports[0][2].shape == (32, 3, 64, 64)


def test_a_killed_training_goes_on_to_the_same_weights(
    judges: Judges, portraits: PortraitSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_SECONDS", 0)
    whole = train(judges, portraits, tmp_path / "whole", images=48)
    with pytest.raises(KeyboardInterrupt):
        train(judges, portraits, tmp_path / "killed", Reports(stop_at=32), images=48)
    rest = Reports()
    resumed = train(judges, portraits, tmp_path / "killed", rest, images=48)
    assert [seen for seen, _, _ in rest] == [32, 48]
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_work_for_other_parameters_is_not_taken_up(judges: Judges, portraits: PortraitSet, tmp_path: Path) -> None:
    train(judges, portraits, tmp_path / "s", images=16)
    same, other = Reports(), Reports()
    train(judges, portraits, tmp_path / "s", same, images=16)
    train(judges, portraits, tmp_path / "s", other, images=16, lr=1e-4)
    assert [seen for seen, _, _ in same] == []
    assert [seen for seen, _, _ in other] == [16]


def test_fast_precision_stays_close_to_exact(judges: Judges, portraits: PortraitSet, tmp_path: Path) -> None:
    exact, fast = Reports(), Reports()
    train(judges, portraits, tmp_path / "a", exact, images=8)
    train(judges, portraits, tmp_path / "b", fast, images=8, precision="fast")
    for name, value in exact[0][1].items():
        assert fast[0][1][name] == pytest.approx(value, rel=0.05, abs=0.02), name


def test_perfect_codes_cost_only_their_norm(judges: Judges) -> None:
    generator = judges.generator
    w = generator.mapping(torch.randn(4, generator.z_dim, generator=torch.Generator().manual_seed(1)))
    codes = generator.broadcast(w)
    encoder = EncoderState.create(PARAMS, generator).average
    encoder.encode = lambda images: codes  # type: ignore[method-assign]
    total, losses = inversion_loss(encoder, PARAMS, judges, Batch(generator.synthesis(codes), w))
    norm = (codes - generator.latent_avg).flatten(1).norm(dim=1).mean().item()
    assert losses["w_norm"] == pytest.approx(norm, rel=1e-5)
    for name in ("l2", "perceptual", "identity", "latent"):
        assert losses[name] == pytest.approx(0, abs=1e-5), name
    assert total.item() == pytest.approx(PARAMS.w_norm_weight * norm, rel=1e-3)


def test_the_latent_error_is_in_variances(judges: Judges) -> None:
    generator = judges.generator
    w = generator.mapping(torch.randn(96, generator.z_dim, generator=torch.Generator().manual_seed(1)))
    encoder = EncoderState.create(PARAMS, generator).average
    mean = generator.broadcast(w.mean(0, keepdim=True)).expand(96, -1, -1)
    encoder.encode = lambda images: mean[: len(images)]  # type: ignore[method-assign]
    _, losses = inversion_loss(encoder, PARAMS, judges, Batch(torch.zeros(96, 3, 64, 64), w))
    assert losses["latent"] == pytest.approx(1, rel=0.2)


def test_a_batch_follows_from_its_stream(judges: Judges, portraits: PortraitSet) -> None:
    first, again, other = (
        draw_batch(portraits, judges.generator, 8, 2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    assert first.images.shape == (8, 3, 64, 64) and first.w.shape == (2, judges.generator.w_dim)
    drawn = judges.generator.synthesis(judges.generator.broadcast(first.w)).clamp(-1, 1)
    torch.testing.assert_close(first.images[:2], drawn)


def test_resampling_mirrors_half_and_moves_little() -> None:
    ramp = torch.linspace(-1, 1, 64).expand(200, 3, 64, 64)
    moved = resample(ramp, torch.Generator().manual_seed(0))
    mirrored = moved[:, 0, 32, 50] < moved[:, 0, 32, 14]
    assert 70 < mirrored.sum() < 130
    inner = slice(8, 56)
    assert (moved[~mirrored] - ramp[~mirrored])[:, :, inner, inner].abs().max() < 0.12
    assert (moved[~mirrored] - ramp[~mirrored]).abs().max() > 0.01


def test_the_average_follows_statistics_and_counters() -> None:
    slow, fast = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    fast(torch.randn(5, 2) + 3)
    move_average(slow, fast, 0.75)
    torch.testing.assert_close(slow.running_mean, 0.25 * fast.running_mean)
    assert slow.num_batches_tracked == 1


def test_the_stored_encoder_belongs_to_its_generator(models: ModelPaths, judges: Judges, tmp_path: Path) -> None:
    encoder = EncoderState.create(PARAMS, judges.generator).average
    paths = models.model_copy(update={"encoder": str(tmp_path / "e.safetensors")})
    store_encoder(encoder, paths, PARAMS, {"psnr": 20.0})
    loaded = load_encoder(paths.encoder, "psp", models.generator)
    images = torch.zeros(1, 3, 64, 64)
    torch.testing.assert_close(loaded.encode(images), encoder.encode(images), rtol=2e-2, atol=2e-2)
    _, card = load_checkpoint(paths.encoder)
    assert card.generator_sha256 == file_sha256(models.generator)
    assert card.extra["held_out"] == {"psnr": 20.0}
