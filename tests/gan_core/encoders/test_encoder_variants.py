"""What the variants have in common and where they differ, on small networks."""

from typing import Any

import pytest
import torch

from gan_core.encoders.alae import normalised
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.encoders.e4e import Encoder4Editing, LatentPool, stage_at
from gan_core.encoders.restyle import PAIR, ReStyle
from gan_core.encoders.transformer import DecoderLayer
from gan_core.errors import ParamsError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.geometry import framed_like

SMALL: dict[str, Any] = {"n_latent": 10, "style_dim": 16, "input_size": 64, "units": [1, 1, 1, 1], "width": 4}
VARIANTS = ("psp", "psp-w", "psp-w-plus", "e4e", "style-transformer", "restyle-psp", "restyle-e4e")


def small(name: str, **changes: Any) -> Encoder:
    torch.manual_seed(0)
    encoder: Encoder = ENCODERS.get(name)(**SMALL | changes)
    encoder.attach(StyleGAN2(64, 16, 2, channels={r: 8 for r in (4, 8, 16, 32, 64)}).requires_grad_(False))
    return encoder.eval().requires_grad_(False)


@pytest.mark.parametrize("name", VARIANTS)
def test_wide_images_give_codes_of_the_same_shape(name: str) -> None:
    encoder = small(name, input_size=[48, 64])
    assert encoder.input_shape == (48, 64)
    assert encoder.input_size == 64
    assert encoder.encode(torch.rand(2, 3, 96, 128)).shape == (2, 10, 16)
    assert ENCODERS.get(name)(**encoder.arguments).input_shape == (48, 64)


def test_alae_learns_from_maps_that_do_not_vary() -> None:
    maps = torch.ones(1, 2, 4, 4, requires_grad=True)
    _, statistics = normalised(maps)
    assert statistics.tolist() == [[1.0, 1.0, pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12)]]
    statistics.sum().backward()
    assert torch.equal(maps.grad, torch.full_like(maps, 1 / 16))


def test_the_frame_of_wide_images_is_the_middle() -> None:
    rows = torch.arange(64.0)[None, None, :, None].expand(1, 3, 64, 64)
    assert small("psp", input_size=[48, 64]).frame(rows)[0, 0, [0, -1], 0].tolist() == [8, 55]
    assert torch.equal(small("psp").frame(rows), rows)


@pytest.mark.parametrize("size", [[40, 64], [16, 64], [96, 96]])
def test_sizes_that_do_not_fit_are_refused(size: list[int]) -> None:
    with pytest.raises(ParamsError, match="input_size is "):
        small("psp", input_size=size)


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_reach_every_parameter(name: str) -> None:
    encoder = small(name).train().requires_grad_(True)
    (encoder(torch.randn(4, PAIR if encoder.draws else 3, 64, 64)) * torch.randn(4, 10, 16)).sum().backward()
    assert [key for key, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_attention_multiplies_a_whole_batch_at_once() -> None:
    layer = DecoderLayer(16, 24, heads=2).eval().requires_grad_(False).bfloat16()
    queries, memory = torch.randn(3, 5, 16).bfloat16(), torch.randn(3, 40, 24).bfloat16()
    with torch.inference_mode(), torch.profiler.profile() as profile:
        layer(queries, memory)
    assert "aten::bmm" not in {event.key for event in profile.key_averages()}


def test_pictures_of_bytes_are_refused() -> None:
    with pytest.raises(TypeError, match=r"images are torch\.uint8: encoders take floating-point values in \[-1, 1\]"):
        small("psp").encode(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_e4e_and_psp_share_names_but_not_meaning() -> None:
    psp, e4e = small("psp"), small("e4e")
    e4e.load_state_dict(psp.state_dict(), strict=True)
    image = torch.rand(1, 3, 64, 64)
    styles = psp(image)
    torch.testing.assert_close(e4e(image)[:, 1:], styles[:, 1:] + styles[:, :1])
    torch.testing.assert_close(e4e(image)[:, 0], styles[:, 0])


def test_e4e_adds_offsets_stage_by_stage() -> None:
    encoder = small("e4e")
    assert isinstance(encoder, Encoder4Editing)
    image, whole = torch.rand(1, 3, 64, 64), encoder(torch.zeros(1, 3, 64, 64))
    for stage in (0, 4):
        encoder.stage = stage
        codes = encoder(torch.zeros(1, 3, 64, 64))
        assert torch.equal(codes[:, stage + 1 :], codes[:, :1].expand(-1, 9 - stage, -1))
        torch.testing.assert_close(codes[:, : stage + 1], whole[:, : stage + 1])
    assert encoder(image).shape == (1, 10, 16)


def test_one_style_is_one_style() -> None:
    codes = small("psp-w")(torch.rand(2, 3, 64, 64))
    assert torch.equal(codes, codes[:, :1].expand(-1, 10, -1))
    assert not torch.equal(codes[0], codes[1])


def test_style_transformer_takes_the_first_of_more_queries() -> None:
    encoder = small("style-transformer", n_queries=18)
    assert encoder(torch.rand(1, 3, 64, 64)).shape == (1, 10, 16)
    assert encoder.queries().shape == (1, 18, 16)  # type: ignore[operator]


def test_a_pool_gives_back_older_latents_for_every_second_one() -> None:
    pool, stream = LatentPool(50, 2), torch.Generator().manual_seed(0)
    first = torch.arange(100.0).reshape(50, 2)
    assert torch.equal(pool.exchange(first, stream), first)
    newer = -1 - torch.arange(400.0).reshape(200, 2)
    given = pool.exchange(newer, stream)
    older = ~(given == newer).all(1)
    assert 70 < older.sum() < 130
    everything = {tuple(row) for row in torch.cat([first, newer]).tolist()}
    assert {tuple(row) for row in torch.cat([given, pool.kept]).tolist()} == everything


@pytest.mark.parametrize(
    ("step", "stage"), [(0, 0), (19_999, 0), (20_000, 1), (21_999, 1), (22_000, 2), (52_000, 17), (90_000, 17)]
)
def test_the_progressive_schedule(step: int, stage: int) -> None:
    assert stage_at(step, 18, 20_000, 2_000) == stage


@pytest.mark.parametrize(("name", "backbone"), [("restyle-psp", "ir-se"), ("restyle-e4e", "resnet")])
def test_restyle_adds_what_it_sees_in_picture_and_drawing(name: str, backbone: str) -> None:
    encoder = small(name, backbone=backbone, steps=3, input_size=[48, 64])
    assert isinstance(encoder, ReStyle) and encoder.synthesis is not None
    encoder.latent_avg.normal_()
    images = torch.rand(2, 3, 48, 64)
    latents = encoder.latent_avg.expand(2, -1, -1)
    for found in encoder.passes(images):
        drawn = framed_like(encoder.synthesis(latents), images)
        torch.testing.assert_close(drawn, encoder.synthesis(latents)[:, :, 8:56])
        latents = latents + encoder(torch.cat([images, drawn], 1))
        torch.testing.assert_close(found, latents)
    assert torch.equal(encoder.encode(images), found)


def test_restyle_needs_a_generator_to_look_at() -> None:
    encoder = ENCODERS.get("restyle-psp")(**SMALL)
    with pytest.raises(ParamsError, match="restyle-psp looks at what its generator draws: load it together with"):
        encoder.encode(torch.rand(1, 3, 64, 64))
    with pytest.raises(ParamsError, match="backbone 'vgg'"):
        small("restyle-psp", backbone="vgg")


def test_a_pass_of_restyle_learns_from_its_own_latents_only() -> None:
    encoder = small("restyle-psp", steps=2).requires_grad_(True)
    first, second = encoder.passes(torch.rand(2, 3, 64, 64))
    assert first.requires_grad and not torch.equal(first, second)
    assert torch.autograd.grad(second.sum(), first, allow_unused=True) == (None,)
