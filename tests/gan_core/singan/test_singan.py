"""SinGAN's pyramid, networks and samples, as published."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gan_core.errors import ParamsError
from gan_core.singan.collage import collage, pasted_share
from gan_core.singan.model import SinGAN
from gan_core.singan.networks import ScaleDiscriminator, ScaleGenerator
from gan_core.singan.penalty import slope_penalty
from gan_core.singan.scales import Scales, plan_scales, resize

SMALL = Scales(0.8, [(12, 12), (15, 16), (18, 20)])


@pytest.fixture
def model() -> SinGAN:
    torch.manual_seed(0)
    model = SinGAN(SMALL, [4, 4, 6], pictures=2).eval().requires_grad_(False)
    model.amplitudes += torch.tensor([[1.0, 1.0], [0.5, 0.2], [0.1, 0.3]])
    model.noise.normal_()
    return model


def test_the_pyramid_of_a_portrait_and_of_a_photograph() -> None:
    small = plan_scales((64, 64))
    assert [side for side, _ in small.sizes] == [25, 31, 37, 44, 54, 64]
    assert small.factor == pytest.approx((25 / 64) ** (1 / 5))
    large = plan_scales((300, 400))
    assert (len(large.sizes), large.sizes[0], large.sizes[-1]) == (9, (25, 34), (188, 250))
    assert large.factor == pytest.approx((25 / 188) ** (1 / 8))


@pytest.mark.parametrize(
    ("size", "smallest", "said"),
    [
        ((64, 25), 25, r"a picture of 25x64 with min_size 25 and max_size 250 has no pyramid: its shorter side must"),
        ((4000, 300), 25, r"a picture of 300x4000 .* has no pyramid"),
        ((64, 64), 10, r"min_size 10 is less than the receptive field of 11 px: set it to 11"),
    ],
)
def test_pictures_without_a_pyramid_are_refused(size: tuple[int, int], smallest: int, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        plan_scales(size, min_size=smallest)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_resizing_is_cubic_and_mirrored_at_the_border(factor: float) -> None:
    images = torch.rand(2, 3, 24, 20)
    size = (round(24 * factor), round(20 * factor))
    found = resize(images, factor, size)
    wanted = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
    inside = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(found[inside], wanted[inside], rtol=0, atol=1e-5)
    torch.testing.assert_close(resize(torch.ones(1, 5, 7), 0.83, (5, 6)), torch.ones(1, 5, 6))
    torch.testing.assert_close(resize(images, 1.0, (24, 20)), images)
    torch.testing.assert_close(resize(images, 1.0, (24, 22))[..., 20:], images[..., [19, 18]])
    mirrored = torch.cat([images.flip(3), images, images.flip(3)], 3)
    pad = round(20 * factor)
    torch.testing.assert_close(resize(mirrored, factor, (size[0], 3 * size[1]))[..., pad : 2 * pad], found)


def test_networks_have_the_published_layout() -> None:
    maker, judge = ScaleGenerator(32), ScaleDiscriminator(32)
    convolutions = [module for module in judge.modules() if isinstance(module, nn.Conv2d)]
    shapes = [(c.in_channels, c.out_channels, c.kernel_size, c.padding) for c in convolutions]
    assert shapes == [(a, b, (3, 3), (0, 0)) for a, b in ((3, 32), (32, 32), (32, 32), (32, 32), (32, 1))]
    names = {f"{part}.{name}" for part in ("conv", "norm") for name in ("weight", "bias")}
    blocks = {f"{block}.{name}" for block in ("head", *(f"body.block{i}" for i in (1, 2, 3))) for name in names}
    assert {name for name, _ in judge.named_parameters()} == blocks | {"tail.weight", "tail.bias"}
    assert {name for name, _ in maker.named_parameters()} == blocks | {"tail.0.weight", "tail.0.bias"}
    weights = torch.cat([c.weight.flatten() for c in convolutions])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02) and abs(weights.mean()) < 1e-3


def test_a_patch_is_11_pixels_wide_and_only_the_outside_is_padded() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 25, 25, requires_grad=True)
    values = ScaleDiscriminator(4).eval()(image)
    (seen,) = torch.autograd.grad(values[0, 0, 7, 7], image)
    assert values.shape == (1, 1, 15, 15)
    assert seen[0].abs().sum(0).nonzero().aminmax(dim=0)[0].tolist() == [7, 7]
    assert seen[0].abs().sum(0).nonzero().aminmax(dim=0)[1].tolist() == [17, 17]
    maker, flat = ScaleGenerator(4).double().eval(), torch.full((1, 3, 25, 25), 0.5, dtype=torch.float64)
    made = maker(torch.zeros_like(flat), flat).detach()
    assert made.shape == flat.shape
    torch.testing.assert_close(made[..., 5:-5, 5:-5], made[..., 5:6, 5:6].expand(-1, -1, 15, 15))
    assert (made[..., 4, 5:-5] - made[..., 5, 5:-5]).abs().min() > 1e-12, "zeros around it are seen from 5 pixels on"


@pytest.mark.parametrize("pictures", [1, 2])
def test_the_gradient_of_the_penalty_is_that_of_differentiating_twice(pictures: int) -> None:
    torch.manual_seed(0)
    network = ScaleDiscriminator(4, pictures).double()
    images = torch.randn(1, 3 * pictures, 13, 15, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(network(images).sum(), images, create_graph=True)
    wanted = (slope.unflatten(1, (pictures, 3)).norm(dim=2) - 1).square().mean()
    wanted.backward()
    penalty, found = slope_penalty(network, images.detach(), torch.float64)
    torch.testing.assert_close(penalty.double(), wanted.detach(), rtol=1e-6, atol=0)
    for name, parameter in network.named_parameters():
        if name in found:
            torch.testing.assert_close(found[name].double(), parameter.grad, rtol=1e-5, atol=1e-9, msg=name)
        else:  # nothing depends on them: biases before a normalisation, or of the last layer
            assert parameter.grad is None or parameter.grad.abs().max() < 1e-12, name


def test_pictures_side_by_side_know_nothing_of_each_other(model: SinGAN) -> None:
    both = model.generators[0]
    alone = ScaleGenerator(4).eval()
    alone.load_state_dict({k: v[len(v) // 2 :] if v.ndim else v for k, v in both.state_dict().items()})
    noise, former = torch.randn(2, 3, 6, 12, 12)
    torch.testing.assert_close(both(noise, former)[:, 3:], alone(noise[:, 3:], former[:, 3:]))


def test_samples_of_any_size_and_from_any_scale(model: SinGAN) -> None:
    stream = torch.Generator().manual_seed(1)
    assert model.sample(stream, 3).shape == (3, 2, 3, 18, 20)
    wide = model.sample(stream, 2, (18, 41))
    assert wide.shape == (2, 2, 3, 18, 41) and not torch.equal(wide[0], wide[1]) and wide.abs().max() <= 1
    (grey, coloured) = model.draw_noises(stream, SMALL.sizes[:2])
    assert torch.equal(grey[:, :, 0], grey[:, :, 2]) and not torch.equal(coloured[:, :, 0], coloured[:, :, 2])
    model.amplitudes[2] = 0
    rebuilt = model.reconstruct().clamp(-1, 1)
    torch.testing.assert_close(model.sample(stream, 1, start=2), rebuilt)
    assert not torch.allclose(model.sample(stream, 1, start=1), rebuilt)
    assert model.sample(stream, 2, (36, 20), start=2).shape == (2, 2, 3, 36, 20)
    image = torch.rand(2, 2, 3, 18, 20)
    assert torch.equal(model.put_in(image, 2, stream), model.put_in(image, 2, stream)), "its noise has no strength"
    assert model.put_in(image, 1, stream).shape == image.shape


def test_sizes_and_scales_that_are_none_are_refused(model: SinGAN) -> None:
    stream = torch.Generator()
    with pytest.raises(
        ParamsError,
        match=r"12x18 is too small: its coarsest scale would be 7x12, less than the receptive field of 11 px",
    ):
        model.sample(stream, size=(18, 12))
    for start in (-1, 3):
        with pytest.raises(ParamsError, match=f"start {start}: the scales that have one before them are 1 to 2"):
            model.sample(stream, start=start)
    with pytest.raises(ParamsError, match="start 0"):
        model.put_in(torch.zeros(1, 2, 3, 18, 20), 0, stream)


def test_a_collage_is_made_anew_from_a_little_before_its_middle() -> None:
    first, second = torch.zeros(2, 3, 50, 50), torch.ones(2, 3, 50, 50)
    assert collage(first, second, "vertical")[..., 24:26, 0].tolist()[0][0] == [0, 1]
    assert torch.equal(collage(first, second, "horizontal"), collage(first, second, "vertical").transpose(2, 3))
    share = pasted_share(250, "horizontal")
    assert share.shape == (1, 250) and (share.diff() >= 0).all()
    assert (share > 0.5).flatten().nonzero()[0].item() == 125 - 7
    assert share[0, 118 - 15] < 0.01 and share[0, 118 + 15] > 0.99
    assert torch.equal(pasted_share(250, "vertical").T, share)
