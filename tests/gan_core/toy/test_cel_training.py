"""The second style: it is learnt, mapping and modulation stay, and a kill changes nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_core.checkpoints.files import read_card
from gan_core.generators.base import Generator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_generator
from gan_core.params import ModelPaths, Params
from gan_core.toy.gan_params import TrainCelParams
from gan_core.toy.training import cel as training
from gan_core.toy.training.cel import FROZEN, CelState, ensure_cel, first_layers, load_cel, train_cel
from gan_core.toy.training.portraits import PortraitSet, ensure_portraits
from gan_core.training import fit
from tests.reports import Reports

PARAMS = TrainCelParams(
    images=160,
    portraits=8,
    discriminator_channels={4: 8, 8: 8, 16: 8, 32: 8, 64: 4},
    batch_size=8,
    lr=0.02,
    adversarial_weight=0.1,
    ema_images=10,
    precision="exact",
)


@pytest.fixture(scope="module")
def base() -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(64, 64, 2, channels={4: 16, 8: 16, 16: 8, 32: 8, 64: 4}).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def portraits(drawn: PortraitSet, tmp_path_factory: pytest.TempPathFactory) -> PortraitSet:
    plain = PortraitSet(drawn.image[:8], drawn.segmentation[:8], drawn.factors[:8])
    return ensure_cel(tmp_path_factory.mktemp("cel"), plain)


def run(base: Generator, portraits: PortraitSet, state: Path, reports: Any, **changes: Any) -> StyleGAN2:
    params = PARAMS.model_copy(update=changes)
    return train_cel(params, base, portraits, state, reports, lambda g: {"score": 1.0}, report_every=16)


def test_the_style_is_learnt_and_the_latent_space_stays(
    base: StyleGAN2, portraits: PortraitSet, tmp_path: Path
) -> None:
    reports = Reports()
    tuned = run(base, portraits, tmp_path / "s", reports)
    assert {"discriminator", "generator"} < set(reports[-1][1])
    assert reports[-1][1]["pair"] < 0.7 * reports[0][1]["pair"]
    assert reports[-1][1]["score"] == 1.0
    changed = {name for name, value in tuned.named_parameters() if not torch.equal(value, base.get_parameter(name))}
    assert changed
    assert not [name for name in changed if any(part in name for part in FROZEN)]
    z = torch.randn(2, 64)
    assert torch.equal(tuned.mapping(z), base.mapping(z))


@pytest.mark.parametrize(("kept", "changed"), [(0, True), (4, False)])
def test_the_first_layers_stay_where_asked(
    base: StyleGAN2, portraits: PortraitSet, tmp_path: Path, kept: int, changed: bool
) -> None:
    tuned = run(base, portraits, tmp_path / "s", Reports(), images=16, kept_layers=kept)
    held = first_layers(base, 4)
    moved = {
        name: not torch.equal(value, tuned.get_parameter(name))
        for name, value in base.named_parameters()
        if id(value) in held and not any(part in name for part in FROZEN)
    }
    assert "input.input" in moved and "convs.1.conv.weight" in moved
    assert any(moved.values()) == changed
    assert not torch.equal(base.to_rgbs[0].conv.weight, tuned.to_rgbs[0].conv.weight)


def test_a_killed_training_goes_on_to_the_same_weights(
    base: StyleGAN2, portraits: PortraitSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(base, portraits, tmp_path / "whole", Reports(), images=48)
    monkeypatch.setattr(fit, "SAVE_SECONDS", -1)
    with pytest.raises(KeyboardInterrupt):
        run(base, portraits, tmp_path / "s", Reports(stop_at=32), images=48)
    seen = Reports()
    resumed = run(base, portraits, tmp_path / "s", seen, images=48)
    assert [at for at, _, _ in seen] == [32, 48]
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_state_of_another_generator_is_not_taken_up(
    base: StyleGAN2, portraits: PortraitSet, tmp_path: Path
) -> None:
    run(base, portraits, tmp_path / "s", Reports(), images=16)
    other = CelState.create(
        PARAMS.model_copy(update={"images": 16}), StyleGAN2(64, 64, 2, channels={4: 8, 8: 8, 16: 8, 32: 8, 64: 4})
    )
    other.load(tmp_path / "s")
    assert other.seen == 0


@pytest.mark.slow
def test_the_stage_renders_trains_and_stores(
    tiny_models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for split, seed in (("train", 0), ("held_out", 50)):
        ensure_portraits(tmp_path / "data/portraits" / split, 24, seed)
    wide = {"generator": _wide_generator(tmp_path), "second_generator": str(tmp_path / "cel.safetensors")}
    models = ModelPaths(**(tiny_models | wide))
    monkeypatch.setattr(training, "held_out_distance", lambda *_, **__: lambda generator: {"fid/toy-attr": 1.0})
    scores = training.make_cel(PARAMS.model_copy(update={"images": 16}), Params(models=models), tmp_path, Reports())
    assert scores == {"fid/toy-attr": 1.0}
    assert isinstance(load_generator(models.second_generator).model, StyleGAN2)
    assert read_card(models.second_generator).extra == {"fid/toy-attr": 1.0}
    assert read_card(models.second_generator).generator_sha256
    before = (tmp_path / "data/portraits/cel_train/image.npy").stat().st_mtime_ns
    assert len(load_cel("train", 8)) == 8
    assert (tmp_path / "data/portraits/cel_train/image.npy").stat().st_mtime_ns == before
    assert len(np.load(tmp_path / "data/portraits/cel_held_out/image.npy")) == 24


def _wide_generator(folder: Path) -> str:
    from gan_core.checkpoints.files import Card, save_checkpoint
    from gan_core.loading import model_tensors

    generator = StyleGAN2(64, 64, 2, channels={4: 8, 8: 8, 16: 8, 32: 8, 64: 4})
    card = Card(kind="generator", name="stylegan2", arguments=generator.arguments, made_by="t", licence="", source="")
    save_checkpoint(folder / "wide.safetensors", model_tensors(generator), card)
    return str(folder / "wide.safetensors")
