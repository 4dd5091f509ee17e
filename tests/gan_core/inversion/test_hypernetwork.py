"""Hypernetworks on small networks: what they change, and that nothing else does."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gan_core.checkpoints.files import Card, Loaded, save_checkpoint
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.sngan import SNGAN
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.geometry import framed_like
from gan_core.inversion.delta import changed
from gan_core.inversion.hypernetwork import HyperStyle, convolutions, load_hypernetwork, weight_names
from gan_core.loading import load_generator, model_tensors

NETWORK: dict[str, Any] = {"input_size": 32, "units": [1, 1, 1, 1], "width": 4, "steps": 2}
ABOUT: dict[str, Any] = {"made_by": "tests", "licence": "none", "source": "random"}


def toy(width: int = 8, size: int = 16) -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(size, 8, 2, channels={4: width, 8: width, 16: 4, 32: 4}).eval().requires_grad_(False)


def hyper(generator: Generator, **changes: Any) -> HyperStyle:
    torch.manual_seed(1)
    network = HyperStyle.for_generator(generator, **NETWORK | changes)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(("changes", "layers"), [({}, [0, 2, 3, 5, 6]), ({"resolution": 16}, [5, 6])])
def test_all_filters_from_a_resolution_on_change(changes: dict[str, Any], layers: list[int]) -> None:
    generator = toy()
    network = hyper(generator, shared=8, **changes)
    assert network.layers == layers
    offsets = network(torch.randn(3, 6, 32, 32))
    for i, offset in offsets.items():
        assert offset.shape == (3, *network.filters[i], network.filters[i][2])
    apart = [i for i in layers if network.filters[i] != [8, 8, 3]]
    assert all(torch.equal(offsets[i], offsets[i][..., :1, :1].expand_as(offsets[i])) for i in apart)
    assert any("shared" in key for key in network.state_dict()) == ("resolution" not in changes)


def test_separable_offsets_differ_within_a_filter() -> None:
    generator = toy()
    offset = hyper(generator, separable=True)(torch.randn(2, 6, 32, 32))[5]
    assert offset.shape == (2, 4, 8, 3, 3) and not torch.equal(offset[..., 0, 0], offset[..., 1, 1])


def test_filters_to_rgb_can_change_too() -> None:
    generator = toy()
    filters = hyper(generator).filters
    network = HyperStyle(filters, [1, 5], shared=0, **NETWORK).eval()
    assert network(torch.randn(1, 6, 32, 32))[1].shape == (1, 3, 8, 1, 1)


def test_pictures_that_the_blocks_cannot_halve_to_one_pixel_are_refused() -> None:
    with pytest.raises(ParamsError, match="input_size is 512: a hypernetwork takes pictures up to 256 px"):
        HyperStyle([[8, 8, 3]], [0], **NETWORK | {"input_size": 512})


def test_each_step_adds_to_the_offsets_and_draws_with_them() -> None:
    generator, images = toy(), torch.rand(2, 3, 32, 32) * 2 - 1
    network, codes = hyper(generator, shared=8), torch.randn(2, 6, 8)
    summed, drawn = dict.fromkeys(network.layers, torch.tensor(0.0)), generator.synthesis(codes)
    for changes, pictures in network.passes(generator, images, codes):
        offsets = network(torch.cat([images, framed_like(drawn, images)], 1))
        summed = {i: summed[i] + offset for i, offset in offsets.items()}
        rows = []
        for row in range(2):
            delta = {name: changes[name][row] for name in changes}
            for i, name in zip(network.layers, network.changed_names(generator), strict=True):
                torch.testing.assert_close(delta[name], generator.get_parameter(name) * summed[i][row])
            with changed(generator, delta):
                rows.append(generator.synthesis(codes[row : row + 1]))
        drawn = torch.cat(rows)
        torch.testing.assert_close(pictures, drawn, rtol=1e-4, atol=1e-4)


def test_a_step_learns_from_its_own_offsets_only() -> None:
    generator = toy()
    network = hyper(generator).requires_grad_(True)
    (_, first), (_, second) = network.passes(generator, torch.rand(1, 3, 32, 32), torch.randn(1, 6, 8))
    assert torch.autograd.grad(second.sum(), first, allow_unused=True) == (None,)
    first.sum().backward()
    assert network.conv1.weight.grad is not None and network.conv1.weight.grad.any()


def write(path: Path, network: torch.nn.Module, kind: str, name: str, **more: Any) -> str:
    card = Card(kind=kind, name=name, arguments=network.arguments, **ABOUT | more)  # type: ignore[arg-type]
    return save_checkpoint(path, model_tensors(network), card, half=False)


def test_a_hypernetwork_of_another_generator_is_refused(tmp_path: Path) -> None:
    generators: list[Loaded[Generator]] = []
    for name, generator in {"own": toy(), "wide": toy(16), "large": toy(size=32), "retrained": toy()}.items():
        generator.input.input += len(generators)
        write(tmp_path / name, generator, "generator", "stylegan2")
        generators.append(load_generator(tmp_path / name))
    own, wide, large, retrained = generators
    write(tmp_path / "h", hyper(own.model), "hypernetwork", "hyperstyle", generator_sha256=own.sha256)
    assert load_hypernetwork(tmp_path / "h", own).model.arguments == hyper(own.model).arguments
    with pytest.raises(
        CheckpointError, match=r"changes 8 layers, the first of \[8, 8, 3\], .*the first of \[16, 16, 3"
    ):
        load_hypernetwork(tmp_path / "h", wide)
    with pytest.raises(CheckpointError, match=r"changes 8 layers.*this generator has 11"):
        load_hypernetwork(tmp_path / "h", large)
    with pytest.raises(CheckpointError, match=r"h was made for the generator .*: train it again"):
        load_hypernetwork(tmp_path / "h", retrained)
    with pytest.raises(CheckpointError, match="'sngan' has no such"):
        weight_names(SNGAN([16, 16, 8], 1, 12))


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_in_bfloat16_are_those_of_float32_at_one_pixel(stride: int) -> None:
    torch.manual_seed(0)
    layers, x = convolutions([32, 48], [stride]), torch.randn(12, 32, 1, 1)
    plain = F.leaky_relu(F.conv2d(x, layers[0].weight, layers[0].bias, stride, 1))
    torch.testing.assert_close(layers(x), plain)
    (expected,) = torch.autograd.grad(plain.square().mean(), layers[0].weight)
    for _ in range(20):
        torch.full((1_000_000,), 1e30)  # what an unset gradient finds in memory
        with torch.autocast("cpu", torch.bfloat16):
            drawn = layers(x)
        (found,) = torch.autograd.grad(drawn.float().square().mean(), layers[0].weight)
        torch.testing.assert_close(found, expected, rtol=0.1, atol=1e-3)
