"""In-domain inversion gives the published implementation's numbers with the same weights, and its files are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.editing.factorised import METHODS
from gan_core.encoders.base import ENCODERS
from gan_core.encoders.idinvert import InDomainEncoder
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.stylegan1 import StyleGAN1
from gan_core.inversion.in_domain import InDomain, InDomainOptimisation, optimise_in_domain
from gan_core.inversion.locality import Locality
from gan_core.inversion.projector import latent_statistics
from gan_core.judges.scorers import Scorers
from gan_core.loading import load_encoder, load_generator
from gan_core.paths.space import check_space, sample_codes
from gan_core.published.idinvert import build_encoder, build_generator
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint
from gan_core.training.directions import sample_faces
from tests.golden.fill import fill, golden, keys, relative_error, relative_error_of

VGG = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512)
PLACES, POOLED = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21), (5, 10, 17)
"""Numbers of the convolutions of VGG-16 up to conv4_3, and those before which maps are halved."""
LOSSES, IMAGE = 4e-3, 1e-1
"""Adam's first steps multiply rounding: within 1e-7 at the first, the third was seen 2.5e-3 and .05 off."""
MEAN = (103.939, 116.779, 123.68)


def published(shapes: dict[str, list[int]], prefix: str) -> dict[str, Tensor]:
    """Fill a bare state dict as the golden numbers say."""
    return {key: torch.from_numpy(np.asarray(one(key, shape, prefix))) for key, shape in shapes.items()}


def one(key: str, shape: list[int], prefix: str) -> np.ndarray:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith(("lod", "blur.kernel", "truncation.truncation")):
        return np.zeros(shape, np.float32)
    raw = fill(prefix + key, shape, rule="raw")
    if prefix == "encoder.":
        return raw if key.endswith("fc.weight") else fill(prefix + key, shape)
    if key.startswith("mapping."):
        return (raw if key.endswith("weight") else np.float32(0.1) * raw) / np.float32(0.01)
    return fill(prefix + key, shape, rule="stylegan2")


def larger(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """The names of 256 px from those of 64: two more levels, whose up-sampling is fused with a convolution."""
    found = {k: [14 * 512, *v[1:]] if k.startswith("mapping.dense7") else v for k, v in shapes.items()}
    found["truncation.truncation"] = [1, 14, 1]
    for level, width in ((5, 128), (6, 64)):
        side = 4 << level
        for i in (2 * level, 2 * level + 1):
            inputs = width * (2 if i == 2 * level else 1)
            name, shape = (
                ("weight", [3, 3, inputs, width]) if i == 2 * level else ("conv.weight", [width, inputs, 3, 3])
            )
            found |= {f"synthesis.layer{i}.{name}": shape, f"synthesis.layer{i}.epilogue.bias": [width]}
            found |= {f"synthesis.layer{i}.epilogue.apply_noise.weight": [width]}
            found |= {f"synthesis.layer{i}.epilogue.apply_noise.noise": [1, 1, side, side]}
            found |= {f"synthesis.layer{i}.epilogue.style_mod.dense.fc.weight": [2 * width, 512]}
            found |= {f"synthesis.layer{i}.epilogue.style_mod.dense.wscale.bias": [2 * width]}
        found |= {f"synthesis.output{level}.bias": [3], f"synthesis.output{level}.conv.weight": [3, width, 1, 1]}
    return found


def larger_encoder(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """The names of 256 px from those of 64: two more blocks of 1024 channels."""
    found = {key: value for key, value in shapes.items() if not key.startswith("block5")}
    own = {
        key: [1024, 1024, *value[2:]] if len(value) == 4 else [1024] for key, value in shapes.items() if "block4" in key
    }
    for block in (5, 6):
        for key, value in own.items():
            if not key.startswith(("block4.conv.", "block4.bn.")):
                found[key.replace("block4", f"block{block}")] = [] if key.endswith("tracked") else value
    for key, value in shapes.items():
        if key.startswith("block5"):
            found[key.replace("block5", "block7")] = [14 * 512, *value[1:]] if value else []
    return found


def picture(name: str, side: int) -> Tensor:
    small = torch.from_numpy(fill(f"input:{name}", (1, 3, 16, 16), rule="raw"))
    return F.interpolate(small, (side, side), mode="bilinear", align_corners=False).clamp(-1, 1)


def features(images: Tensor) -> Tensor:
    """The published perceptual features: VGG-16 with the preprocessing of Caffe, up to conv4_3."""
    x, before = ((images + 1) * 127.5)[:, [2, 1, 0]] - torch.tensor(MEAN)[:, None, None], 3
    for place, width in zip(PLACES, VGG, strict=True):
        x = F.max_pool2d(x, 2) if place in POOLED else x
        weight = fill(f"vgg.layer{place}.weight", (width, before, 3, 3), rule="he")
        bias = fill(f"vgg.layer{place}.bias", (width,), rule="he")
        x, before = F.conv2d(x, torch.from_numpy(weight), torch.from_numpy(bias), padding=1).relu(), width
    return x


def feature_distance(images: Tensor, targets: Tensor) -> Tensor:
    return (features(images) - features(targets)).square().flatten(1).mean(1)


@pytest.mark.slow
@pytest.mark.parametrize("side", [64, 256])
def test_codes_and_pictures(side: int) -> None:
    shapes = [keys("idinvert_generator_64"), keys("idinvert_encoder_64")]
    if side == 256:
        shapes = [larger(shapes[0]), larger_encoder(shapes[1])]
    generator = build_generator(published(shapes[0], "generator."))
    encoder = build_encoder(published(shapes[1], "encoder."))
    expected = golden("idinvert-64" if side == 64 else "idinvert-256-forward")
    code = encoder.encode(picture("x", side))
    assert relative_error(code, expected[0]["code"]) < 1e-4
    assert relative_error_of(generator.synthesis(code), "image_init", expected) < 1e-4
    if side == 64:
        w = generator.mapping(torch.from_numpy(fill("input:z", (1, 512), rule="raw")))
        assert relative_error(generator.truncated(w), expected[0]["wp"]) < 1e-4
        assert relative_error_of(features(picture("x", side)), "feat", expected) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "diffuse_"])
def test_steps_of_the_optimisation(prefix: str) -> None:
    generator = build_generator(published(keys("idinvert_generator_64"), "generator."))
    encoder = build_encoder(published(keys("idinvert_encoder_64"), "encoder."))
    target, mask, recipe = picture("x", 64), None, InDomain()
    if prefix:
        mask, recipe = torch.zeros(1, 1, 64, 64), InDomain(domain_weight=0.0)
        mask[..., 16:48, 16:48] = 1
        target = target * mask + picture("context", 64) * (1 - mask)
    run = InDomainOptimisation(
        generator, encoder.encode, target, encoder.encode(target), feature_distance, recipe, mask
    )
    (arrays, meta), losses = golden("idinvert-64"), []
    for step in range(3):
        losses.append(run.step())
        if not step and not prefix:
            assert relative_error(run.latents.grad, arrays["grad_step1"]) < 5e-3  # .0027 without vector instructions
    for name, values in (("loss", "total"), ("loss_pix", "pixels"), ("loss_feat", "features"), ("loss_reg", "domain")):
        if prefix + name in arrays:
            found = [getattr(loss, values).item() for loss in losses]
            assert found == pytest.approx(arrays[prefix + name].tolist(), rel=LOSSES), name
    assert relative_error(run.latents.detach(), arrays[f"{prefix}z_step3"]) < 3e-2
    assert np.abs(run.latents.detach().numpy() - arrays[f"{prefix}z_step3"]).mean() < 1e-3
    image = generator.synthesis(run.latents).detach()
    assert relative_error_of(image, f"{prefix}image_after", (arrays, meta)) < IMAGE


def small_files(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Write both files with few channels, under the published names."""
    narrow: dict[str, Any] = {}
    for name in ("generator", "encoder"):
        shapes = {k: [max(n // 64, 1) if n > 4 else n for n in v] for k, v in keys(f"idinvert_{name}_64").items()}
        for key in shapes:
            if "noise.noise" in key or "truncation.truncation" in key:
                shapes[key] = keys(f"idinvert_{name}_64")[key]
            if key == "block5.fc.weight":
                shapes[key] = [80, 16 * 16]
        narrow[name] = published(shapes, f"{name}.")
        torch.save(narrow[name], folder / f"{name}.pth")
    return narrow


def test_both_files_are_imported(tmp_path: Path) -> None:
    small_files(tmp_path)
    for name in ("generator", "encoder"):
        about = inspect_checkpoint(tmp_path / f"{name}.pth")
        assert (about["layout"], about["import"]) == (f"idinvert-{name}", "yes")
        import_checkpoint(tmp_path / f"{name}.pth", tmp_path / f"{name}.safetensors")
    generator = load_generator(tmp_path / "generator.safetensors")
    encoder = load_encoder(tmp_path / "encoder.safetensors", generator).model
    assert isinstance(generator.model, StyleGAN1) and generator.model.per_layer and generator.model.tanh
    assert isinstance(encoder, InDomainEncoder) and not encoder.latent_avg.any()
    code = encoder.encode(torch.rand(2, 3, 64, 64))
    assert generator.model.synthesis(code).shape == (2, 3, 64, 64)
    w = generator.model.mapping(torch.randn(2, 8))
    assert generator.model.truncated(w).shape == generator.model.broadcast(w).shape == (2, 10, 8)


def test_a_latent_for_each_layer_is_used_wherever_latents_are_drawn(tmp_path: Path) -> None:
    generator, stream = build_generator(small_files(tmp_path)["generator"]), torch.Generator().manual_seed(0)
    assert sample_codes(generator, "w_plus", 3, stream).shape == (3, 80)
    with pytest.raises(ParamsError, match="stylegan1 has no space 'w' for paths"):
        check_space(generator, "w")
    mean, deviation = latent_statistics(generator, 50)
    assert mean.shape == (10, 8) and deviation > 0
    near = Locality(generator, torch.zeros(2, 10, 8), lambda one, other: one.mean((1, 2, 3)), 1.0, [0, 1])
    assert near.codes(torch.randn(2, 8)).shape == (2, 10, 8)
    with pytest.raises(ParamsError, match="stylegan1 has a latent for each layer"):
        sample_faces(generator, 4, 0, Scorers(("a",), lambda images: images, lambda images: images))
    with pytest.raises(ParamsError, match="stylegan1 has a latent for each layer"):
        METHODS["pca"](generator, 3, None)
    with pytest.raises(ParamsError, match="gives a latent for each layer"):
        ENCODERS.get("style-transformer").for_generator(generator)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("generator", {"synthesis.lod": torch.tensor(1.5)}, r"not been trained to its last level \(lod 1.5\)"),
        ("generator", {"mapping.dense0.fc.weight": None}, "is not a whole StyleGAN1"),
        ("generator", {"synthesis.layer3.conv.weight": None}, r"1 missing \(convs.2.weight\)"),
        ("encoder", {"block5.fc.weight": None}, "is not a whole encoder of in-domain inversion"),
        ("encoder", {"block5.fc.weight": torch.zeros(80, 9)}, "has 9 numbers before its last layer, 256 are expected"),
        ("encoder", {"block2.bn1.bn.bias": None}, r"1 missing \(blocks.1.bn1.bias\)"),
    ],
)
def test_damaged_files_are_refused(name: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    state = {k: v for k, v in (small_files(tmp_path)[name] | changes).items() if v is not None}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(tmp_path / "x.pth", tmp_path / "y.safetensors")


def test_the_optimisation_goes_down_and_rows_are_their_own(tmp_path: Path) -> None:
    parts = small_files(tmp_path)
    generator, encoder = build_generator(parts["generator"]), build_encoder(parts["encoder"])
    targets = generator.synthesis(torch.randn(2, 10, 8)).detach()

    def distance(images: Tensor, others: Tensor) -> Tensor:
        return F.avg_pool2d(images - others, 8).abs().mean((1, 2, 3))

    start, recipe = encoder.encode(targets), InDomain(steps=12, lr=0.05, feature_weight=0.1, domain_weight=0.01)
    run = InDomainOptimisation(generator, encoder.encode, targets, start, distance, recipe)
    totals = [run.step().total for _ in range(12)]
    assert (totals[-1] < totals[0]).all()
    found = optimise_in_domain(generator, encoder.encode, targets, start, distance, recipe)
    torch.testing.assert_close(found, run.latents.detach())
    alone = optimise_in_domain(generator, encoder.encode, targets[1:], start[1:], distance, recipe)
    torch.testing.assert_close(alone, found[1:], rtol=1e-2, atol=1e-2)
