from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from gan_core.checkpoints.files import file_sha256, load_checkpoint
from gan_core.encoders.base import Encoder
from gan_core.encoders.e4e import LatentDiscriminator
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.errors import ParamsError
from gan_core.inversion.features import load_features
from gan_core.inversion.hypernetwork import load_hypernetwork
from gan_core.loading import load_encoder, load_generator
from gan_core.params import ModelPaths, load_params
from gan_core.toy.params import TrainEncoderParams, TrainFeaturesParams, TrainHypernetworkParams, load_toy_params
from gan_core.toy.training.encoder import store_encoder, train_encoder
from gan_core.toy.training.encoder_losses import TERMS, Inverted, discriminator_loss, invert, latent_loss, weigh
from gan_core.toy.training.encoder_state import EncoderState
from gan_core.toy.training.features import CORNERS, Detailed, FeatureTask, homographies, perspectives
from gan_core.toy.training.hypernetwork import Refined
from gan_core.toy.training.over_encoder import store_over
from gan_core.toy.training.portraits import PortraitSet
from gan_core.toy.training.reconstruction import Batch, LossNetworks, draw_batch, evaluate, resample
from gan_core.training import fit
from gan_core.training.state import move_average
from tests.golden.fill import fill, fill_state, golden, relative_error
from tests.reports import Reports

ROOT = Path(__file__).parents[3]

NETWORK = {"units": [1, 1, 1, 1], "width": 8, "input_size": 64}
PARAMS = TrainEncoderParams(network=NETWORK, images=32, latent_images=0, batch_size=8, lr=3e-3, precision="exact")
PUBLISHED = {"l2": 1.0, "perceptual": 0.8, "identity": 0.1, "delta": 2e-4, "adversarial": 0.1}
VARIANTS: dict[str, dict[str, Any]] = {
    "psp": {},
    "psp-w": {"optimiser": "ranger"},
    "psp-w-plus": {"losses": {"l2": 1.0}},
    "e4e": {"losses": PUBLISHED, "progressive_start": 16, "progressive_every": 8, "latent_pool": 12},
    "style-transformer": {"network": NETWORK | {"heads": 2}, "optimiser": "ranger"},
    "restyle-psp": {"network": NETWORK | {"head_width": 8, "steps": 2}},
    "restyle-e4e": {
        "network": NETWORK | {"head_width": 8, "steps": 2, "backbone": "resnet"},
        "losses": PUBLISHED,
        "progressive_start": 16,
        "progressive_every": 8,
    },
    "idinvert": {"network": {"input_size": 64, "widths": [8, 8, 8, 8, 8]}},
    "alae": {"network": {"input_size": 64, "widths": [8, 8, 8, 8, 8]}},
}

SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def networks(models: ModelPaths) -> LossNetworks:
    return LossNetworks.load(models)


@pytest.fixture(scope="module")
def portraits(networks: LossNetworks) -> PortraitSet:
    """Faces of the random generator stand in for portraits, so that there is something to learn."""
    z = torch.randn(24, networks.generator.z_dim, generator=torch.Generator().manual_seed(5))
    images = networks.generator.synthesis(networks.generator.broadcast(networks.generator.mapping(z)))
    pixels = images.mul(127.5).add(128).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return PortraitSet(pixels, np.zeros((24, 64, 64), np.uint8), np.zeros((24, 3), np.float32))


def train(
    networks: LossNetworks,
    portraits: PortraitSet,
    state: Path,
    reports: Any = None,
    variant: str = "psp",
    **changes: Any,
) -> Encoder:
    params, reports = PARAMS.model_copy(update=changes), Reports() if reports is None else reports
    return train_encoder(variant, params, networks, portraits, portraits, state, reports, report_every=16)


@pytest.mark.slow
def test_it_learns(networks: LossNetworks, portraits: PortraitSet, tmp_path: Path) -> None:
    before = evaluate(EncoderState.create("psp", PARAMS, networks.generator).average, networks, portraits)
    reports = Reports()
    params = PARAMS.model_copy(update={"images": 160})
    trained = train_encoder("psp", params, networks, portraits, portraits, tmp_path / "s", reports, report_every=16)
    after = evaluate(trained, networks, portraits)
    assert after["mse"] < 0.8 * before["mse"]
    assert after["psnr"] > before["psnr"]
    assert [images for images, _, _ in reports] == list(range(16, 161, 16))
    assert reports.steps == list(range(8, 161, 8))
    scores = {"held_out/mse", "held_out/psnr", "held_out/lpips_toy", "held_out/identity_toy"}
    assert set(reports[0][1]) == {"l2", "perceptual", "identity", "w_norm", "latent"} | scores
    assert reports[0][2].shape == (32, 3, 64, 64)


@pytest.mark.parametrize("variant", [pytest.param(v, marks=() if v in ("psp", "e4e") else SLOW) for v in VARIANTS])
def test_a_killed_training_goes_on_to_the_same_weights(
    networks: LossNetworks, portraits: PortraitSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    monkeypatch.setattr(fit, "SAVE_SECONDS", -1)
    changes = VARIANTS[variant] | {"variant": variant, "images": 48, "latent_images": 16}
    whole = train(networks, portraits, tmp_path / "whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        train(networks, portraits, tmp_path / "killed", Reports(stop_at=32), **changes)
    rest = Reports()
    resumed = train(networks, portraits, tmp_path / "killed", rest, **changes)
    assert [seen for seen, _, _ in rest] == [32, 48]
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_work_for_other_parameters_is_not_taken_up(
    networks: LossNetworks, portraits: PortraitSet, tmp_path: Path
) -> None:
    train(networks, portraits, tmp_path / "s", images=16)
    same, other = Reports(), Reports()
    train(networks, portraits, tmp_path / "s", same, images=16)
    train(networks, portraits, tmp_path / "s", other, images=16, lr=1e-4)
    assert [seen for seen, _, _ in same] == []
    assert [seen for seen, _, _ in other] == [16]


def test_fast_precision_stays_close_to_exact(networks: LossNetworks, portraits: PortraitSet, tmp_path: Path) -> None:
    exact, fast = Reports(), Reports()
    train(networks, portraits, tmp_path / "a", exact, images=8)
    train(networks, portraits, tmp_path / "b", fast, images=8, precision="fast")
    for name in ("l2", "perceptual", "identity", "w_norm", "latent"):
        value = exact[0][1][name]
        assert fast[0][1][name] == pytest.approx(value, rel=0.05, abs=0.02), name


def test_perfect_codes_cost_only_their_norm(networks: LossNetworks) -> None:
    generator = networks.generator
    w = generator.mapping(torch.randn(4, generator.z_dim, generator=torch.Generator().manual_seed(1)))
    codes = generator.broadcast(w)
    encoder = EncoderState.create("psp", PARAMS, generator).average
    encoder.passes = lambda images: iter([codes])  # type: ignore[method-assign]
    (seen,) = invert(encoder, PARAMS, networks, Batch(generator.synthesis(codes), w), None)
    total, losses = weigh(seen, PARAMS.losses)
    norm = (codes - generator.latent_avg).flatten(1).norm(dim=1).mean().item()
    assert losses["w_norm"] == pytest.approx(norm, rel=1e-5)
    for name in ("l2", "perceptual", "identity", "latent"):
        assert losses[name] == pytest.approx(0, abs=1e-5), name
    assert total.item() == pytest.approx(PARAMS.losses["w_norm"] * norm, rel=1e-3)


def test_the_latent_error_is_in_variances(networks: LossNetworks) -> None:
    generator = networks.generator
    w = generator.mapping(torch.randn(96, generator.z_dim, generator=torch.Generator().manual_seed(1)))
    encoder = EncoderState.create("psp", PARAMS, generator).average
    mean = generator.broadcast(w.mean(0, keepdim=True)).expand(96, -1, -1)
    encoder.passes = lambda images: iter([mean[: len(images)]])  # type: ignore[method-assign]
    batch = Batch(torch.zeros(96, 3, 64, 64), w)
    _, losses = weigh(invert(encoder, PARAMS, networks, batch, None)[-1], {"latent": 1.0})
    assert latent_loss(encoder, PARAMS, networks, batch)[0].item() == pytest.approx(losses["latent"])
    assert losses["latent"] == pytest.approx(1, rel=0.2)


def test_a_batch_follows_from_its_stream(networks: LossNetworks, portraits: PortraitSet) -> None:
    first, again, other = (
        draw_batch(portraits, networks.generator, 8, 2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    assert first.images.shape == (8, 3, 64, 64) and first.w.shape == (2, networks.generator.w_dim)
    drawn = networks.generator.synthesis(networks.generator.broadcast(first.w)).clamp(-1, 1)
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


def test_the_w_norm_is_the_published_one(networks: LossNetworks) -> None:
    expected, _ = golden("w-norm")
    codes = torch.from_numpy(fill("input:latent", (2, 18, 512), rule="raw"))
    encoder = GradualStyleEncoder(18, 512, 32, (1, 1, 1, 1), 8, head_width=8)
    images = torch.zeros(2, 3, 32, 32)
    seen = Inverted(Batch(images, torch.zeros(0, 512)), codes, images, encoder, networks, 17)
    assert relative_error(TERMS["w_norm"](seen).detach(), expected["plain"]) < 1e-4
    encoder.latent_avg.copy_(0.5 * torch.from_numpy(fill("input:latent_avg", (18, 512), rule="raw")))
    assert relative_error(TERMS["w_norm"](seen).detach(), expected["from_average"]) < 1e-4


def test_the_game_on_latents_is_the_published_one(networks: LossNetworks) -> None:
    expected, _ = golden("e4e-latent-discriminator")
    discriminator = LatentDiscriminator()
    shapes = {key: list(value.shape) for key, value in discriminator.state_dict().items()}
    discriminator.load_state_dict({k: torch.from_numpy(x) for k, x in fill_state(shapes, rule="plain").items()})
    fake, real = (torch.from_numpy(fill(f"input:{name}", (4, 512), rule="raw")) for name in ("w", "w_real"))
    loss = discriminator_loss(discriminator, real, fake, 0.0)
    assert relative_error(loss.detach(), expected["d_loss"]) < 1e-4
    with_r1 = discriminator_loss(discriminator, real, fake, 80.0)
    assert relative_error((with_r1 - loss).detach(), 80.0 * expected["r1"]) < 1e-4
    encoder = EncoderState.create("psp", PARAMS, networks.generator).encoder
    images = torch.zeros(4, 3, 64, 64)
    seen = Inverted(Batch(images, fake), fake[:, None], images, encoder, networks, 0, discriminator)
    assert relative_error(TERMS["adversarial"](seen).detach(), expected["g_loss"]) < 1e-4


def test_stages_begin_one_after_the_other(networks: LossNetworks) -> None:
    params = PARAMS.model_copy(update=VARIANTS["e4e"])
    state = EncoderState.create("e4e", params, networks.generator)
    stages = []
    for state.seen in (0, 15, 16, 24, 1000):
        state.set_stage(params)
        stages.append((state.encoder.stage, state.average.stage))
    assert stages == [(0, 0), (0, 0), (1, 1), (2, 2), (9, 9)]
    state.encoder.stage = state.average.stage = 3  # type: ignore[assignment]
    assert state.best_average().stage == 9


def test_an_encoder_of_several_looks_learns_from_pictures_with_the_statistics_it_is_used_with(
    networks: LossNetworks, portraits: PortraitSet, tmp_path: Path
) -> None:
    seen = {}
    for variant in ("restyle-psp", "psp"):
        changes = VARIANTS[variant] | {"latent_images": 8}
        for images in (8, 16):
            trained = train(
                networks, portraits, tmp_path / f"{variant}-{images}", variant=variant, images=images, **changes
            )
            norms = [module for module in trained.modules() if isinstance(module, torch.nn.BatchNorm2d)]
            seen[variant, images] = torch.cat([module.get_buffer("num_batches_tracked")[None] for module in norms])
    assert (seen["restyle-psp", 16] == seen["restyle-psp", 8]).all() and (seen["psp", 16] > seen["psp", 8]).all()


def test_the_best_average_is_kept(networks: LossNetworks) -> None:
    state = EncoderState.create("psp", PARAMS, networks.generator)
    weight = state.average.get_parameter("latlayer1.weight")
    for score, value in ((3.0, 1.0), (1.0, 2.0), (2.0, 3.0)):
        weight.fill_(value)
        state.keep_best(score)
    assert state.best_average().get_parameter("latlayer1.weight").unique().tolist() == [2.0]


def test_an_average_of_few_stages_is_not_the_best_with_all(networks: LossNetworks) -> None:
    state = EncoderState.create("e4e", PARAMS.model_copy(update=VARIANTS["e4e"]), networks.generator)
    state.average.stage = 1  # type: ignore[assignment]
    state.keep_best(1.0)
    assert state.best == {}
    state.average.stage = 9  # type: ignore[assignment]
    state.keep_best(2.0)
    assert state.best_score == 2.0 and state.best


def test_style_transformer_starts_with_the_mapping_of_its_generator(networks: LossNetworks) -> None:
    params = PARAMS.model_copy(update=VARIANTS["style-transformer"])
    encoder = EncoderState.create("style-transformer", params, networks.generator).encoder
    own, given = encoder.get_submodule("style").state_dict(), networks.generator.get_submodule("style").state_dict()
    assert own.keys() == given.keys()
    assert all(torch.equal(own[key], given[key]) for key in own)
    torch.testing.assert_close(encoder.latent_avg, networks.generator.latent_avg.expand(10, -1))


def test_a_network_that_cannot_be_built_is_named(networks: LossNetworks) -> None:
    params = PARAMS.model_copy(update={"network": {"widht": 8}})
    with pytest.raises(ParamsError, match="encoder 'psp' has no 'widht'; did you mean 'width'"):
        EncoderState.create("psp", params, networks.generator)


def test_a_variants_stage_writes_where_it_is_looked_for() -> None:
    params = load_params(ROOT / "params.yaml")
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train-encoder"]
    written, _ = stage["do"]["outs"]
    for variant in stage["foreach"]:
        assert written.replace("${key}", variant) == params.encoder_path(variant)


def test_all_variants_have_the_same_budget() -> None:
    sections = load_toy_params(ROOT / "toy.yaml").train_encoder
    assert len({(s.images, s.batch_size, s.latent_images) for s in sections.values()}) == 1


def test_the_stored_encoder_belongs_to_its_generator(
    models: ModelPaths, networks: LossNetworks, tmp_path: Path
) -> None:
    encoder = EncoderState.create("psp", PARAMS, networks.generator).average
    path = tmp_path / "e.safetensors"
    store_encoder(encoder, path, models.generator, PARAMS, {"psnr": 20.0}, "train-encoder@psp")
    loaded = load_encoder(path, load_generator(models.generator), "psp").model
    images = torch.zeros(1, 3, 64, 64)
    torch.testing.assert_close(loaded.encode(images), encoder.encode(images), rtol=2e-2, atol=2e-2)
    card = load_checkpoint(path).card
    assert card.generator_sha256 == file_sha256(models.generator)
    assert card.extra["held_out"] == {"psnr": 20.0}


def test_a_hypernetwork_learns_by_the_same_loop(
    models: ModelPaths, networks: LossNetworks, portraits: PortraitSet, tmp_path: Path
) -> None:
    first = load_encoder(models.encoder, load_generator(models.generator)).model
    chosen = TrainHypernetworkParams(
        network={"units": [1, 1, 1, 1], "width": 8, "input_size": 64, "steps": 2, "resolution": 32},
        **{"images": 64, "batch_size": 8, "precision": "exact", "lr": 3e-3, "losses": {"l2": 1.0}},
    )
    torch.manual_seed(0)
    built = Refined(first, networks.generator, **chosen.network)
    before, reports = first.state_dict()["styles.0.linear.bias"].clone(), Reports()
    args = ("hyperstyle", chosen, networks, portraits, portraits, tmp_path / "s", reports)
    trained = train_encoder(*args, report_every=32, built=built)
    assert torch.equal(first.state_dict()["styles.0.linear.bias"], before)
    assert evaluate(trained, networks, portraits)["mse"] < 0.98 * evaluate(first, networks, portraits)["mse"]
    path, network = tmp_path / "h.safetensors", trained.get_submodule("hypernetwork")
    store_over("hypernetwork", network, path, models.generator, chosen, {"psnr": 20.0})
    assert load_hypernetwork(path, load_generator(models.generator)).card.extra["held_out"] == {"psnr": 20.0}


@pytest.mark.slow
def test_features_learn_by_the_same_loop(
    models: ModelPaths, networks: LossNetworks, portraits: PortraitSet, tmp_path: Path
) -> None:
    generator = load_generator(models.generator)
    first = load_encoder(models.encoder, generator).model
    network = {"layer": 6, "input_size": 64, "strides": [1, 1], "units": 2, "aligner": [8] * 4, "residue": [8] * 3}
    chosen = TrainFeaturesParams(
        network=network,
        **{"images": 64, "batch_size": 8, "precision": "exact", "lr": 3e-3, "losses": {"l2": 1.0, "alignment": 0.1}},
    )
    torch.manual_seed(0)
    built, reports = Detailed(first, networks.generator, **chosen.network), Reports()
    args = ("hfgi", chosen, networks, portraits, portraits, tmp_path / "s", reports)
    trained = train_encoder(*args, report_every=32, built=built, task=FeatureTask(chosen.perspective))
    assert evaluate(trained, networks, portraits)["mse"] < 0.98 * evaluate(first, networks, portraits)["mse"]
    assert reports[-1][1]["alignment"] < reports[0][1]["alignment"]
    path = tmp_path / "f.safetensors"
    store_over("features", trained.get_submodule("features"), path, models.generator, chosen, {"psnr": 20.0})
    assert load_features(path, generator).card.extra["held_out"] == {"psnr": 20.0}


def test_a_perspective_moves_corners_inwards_and_keeps_some_pictures() -> None:
    grids = perspectives(64, 16, 0.15, torch.Generator().manual_seed(0))
    whole = perspectives(1, 16, 0.0, torch.Generator().manual_seed(0))[0]
    axis = (torch.arange(16) * 2 + 1) / 16 - 1
    torch.testing.assert_close(whole, torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1))
    moved = (grids - whole).abs().amax((1, 2, 3))
    assert 0 < (moved < 1e-5).sum() < 16 and moved.max() < 0.4
    source = torch.tensor([[[-0.9, -1.0], [1.0, -0.95], [0.9, 1.0], [-1.0, 0.9]]])
    matrix = homographies(source, CORNERS[None])[0]
    mapped = torch.cat([source[0], torch.ones(4, 1)], 1) @ matrix.T
    torch.testing.assert_close(mapped[:, :2] / mapped[:, 2:], CORNERS, rtol=1e-4, atol=1e-4)
