"""What the operations do beyond the published numbers: limits, several boxes, named oddities, bad input."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core.compose.masks import box_mask, check_mask, ramp
from gan_core.compose.operations import (
    POSE_ALL,
    POSE_PUBLISHED,
    extend,
    interpolate,
    join,
    swap_patches,
    transfer,
    translate,
)
from gan_core.compose.panorama import joins_of, panorama, panorama_strips, seam_score, smooth
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.base import Noise
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import Branch, Rule, fit_noise, walk

LEFT, RIGHT = (0.0, 0.25, 0.3, 0.5), (0.7, 0.25, 0.3, 0.5)


def codes(generator: StyleGAN2, n: int) -> Tensor:
    z = torch.randn(n, generator.z_dim, generator=torch.Generator().manual_seed(1))
    return generator.broadcast(generator.mapping(z))


@pytest.fixture
def branches(small: StyleGAN2) -> tuple[Branch, Branch]:
    first, second = codes(small, 2).split(1)
    return small.branch(small.styles(first)), small.branch(small.styles(second))


def plain(branch: Branch) -> Tensor:
    image = walk(branch).image
    assert image is not None
    return image.clamp(-1, 1)


def test_a_share_of_0_or_1_is_one_branch_to_the_bit(branches: tuple[Branch, Branch]) -> None:
    first, second = branches
    for share, expected in ((0.0, first), (1.0, second)):
        mixed = walk(first, second, Rule(lambda layer, h, w, share=share: share)).image
        assert torch.equal(mixed, walk(expected).image)


def test_a_walk_goes_on_where_it_stopped(branches: tuple[Branch, Branch]) -> None:
    first, _ = branches
    halfway = walk(first, until=4)
    assert halfway.done == 4
    assert torch.equal(walk(first, at=halfway).image, walk(first).image)


def test_interpolation_ends_in_its_two_pictures(branches: tuple[Branch, Branch]) -> None:
    image, (top, bottom) = interpolate(*branches), map(plain, branches)
    for edge, near, far in ((image[..., :2, :], top[..., :2, :], bottom[..., :2, :]),):
        assert (edge - near).abs().mean() < (edge - far).abs().mean()
    assert ramp(8).tolist() == pytest.approx([0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1])


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_pictures_grow_along_their_axis(branches: tuple[Branch, Branch], axis: str) -> None:
    shape = (1, 3, 32, 64) if axis == "horizontal" else (1, 3, 64, 32)
    assert join(*branches, axis).shape == shape
    for mode in ("stretch", "reflect", "replicate", "circular"):
        assert extend(branches[0], mode, axis).shape == shape
    assert torch.equal(extend(branches[0], "reflect", axis), extend(branches[0], "reflect", axis))


def test_translation_by_no_share_is_the_source_and_grows_with_alpha(branches: tuple[Branch, Branch]) -> None:
    source = plain(branches[0])
    moves = [(translate(*branches, alpha=alpha) - source).abs().mean() for alpha in (0.0, 0.4, 0.8)]
    assert moves[0] == 0 < moves[1] < moves[2]
    assert torch.equal(translate(*branches, alpha=1.0, kept_layers=11), source)


def test_translation_takes_a_batch_of_references(small: StyleGAN2) -> None:
    w = codes(small, 3)
    source = small.branch(small.styles(w[:1].expand(2, -1, -1)))
    images = translate(source, small.branch(small.styles(w[1:])))
    assert images.shape == (2, 3, 32, 32)
    alone = translate(small.branch(small.styles(w[:1])), small.branch(small.styles(w[2:])))
    torch.testing.assert_close(images[1:], alone, rtol=1e-4, atol=1e-5)


def test_each_of_several_boxes_changes_its_own_place(branches: tuple[Branch, Branch]) -> None:
    def change(*boxes: tuple[float, ...]) -> Tensor:
        late = transfer(*branches, box_mask(boxes), 99, pose_layers=range(7))
        return (late - plain(branches[0])).abs().mean((0, 1))

    left, right = (slice(8, 24), slice(0, 7)), (slice(8, 24), slice(25, 32))
    both, alone = change(LEFT, RIGHT), change(LEFT)
    torch.testing.assert_close(both[left], alone[left], rtol=1e-3, atol=1e-3)
    assert alone[right].mean() < 0.1 * both[right].mean()


def test_alignment_in_all_pose_layers_leaves_out_the_first_convolution_too(branches: tuple[Branch, Branch]) -> None:
    everywhere = torch.ones(32, 32)
    aligned = transfer(*branches, everywhere, pose_layers=POSE_ALL, last_layer=3)
    assert torch.equal(aligned, plain(branches[0]))
    assert not torch.equal(transfer(*branches, everywhere, pose_layers=POSE_PUBLISHED, last_layer=3), aligned)


def test_patches_are_swapped_back_in_three_ways(branches: tuple[Branch, Branch]) -> None:
    boxes = [(0, 0, 0.25, 0.25), (0.5, 0.5, 0.25, 0.25)]
    images = {back: swap_patches(*branches, *boxes, back=back) for back in ("reference", "source", "nothing")}
    assert len({image.sum().item() for image in images.values()}) == 3
    for image in images.values():
        assert not torch.equal(image, plain(branches[0]))


@pytest.mark.parametrize(("n", "wrap"), [(2, False), (2, True), (5, False), (3, True)])
@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_a_panorama_of_n_is_n_pictures_long(small: StyleGAN2, n: int, wrap: bool, axis: str) -> None:
    image = panorama(small, codes(small, n), axis, wrap)
    assert image.shape == ((1, 3, 32, 32 * n) if axis == "horizontal" else (1, 3, 32 * n, 32))
    joins = joins_of(n, 32, wrap)
    assert len(joins) == (n if wrap else n - 1)
    assert all(0 < j < 32 * n for j in joins)


@pytest.mark.parametrize(("axis", "dimension"), [("horizontal", 3), ("vertical", 2)])
def test_a_wrapped_panorama_begins_anywhere(small: StyleGAN2, axis: str, dimension: int) -> None:
    w_plus = codes(small, 3)
    turned = panorama(small, w_plus.roll(-1, 0), axis, wrap=True)
    once = panorama(small, w_plus, axis, wrap=True).roll(-32, dimension)
    torch.testing.assert_close(turned, once, rtol=1e-4, atol=1e-5)


def test_a_circular_extension_repeats_itself(small: StyleGAN2) -> None:
    branch = small.branch(small.styles(codes(small, 1)), noise="none")

    def repeats(mode: str) -> float:
        image = extend(branch, mode)
        here, there = image[..., 12:20], image[..., 44:52]
        return float((here - there).abs().max() / image.abs().max())

    assert repeats("circular") < 1e-5
    assert min(repeats(mode) for mode in ("stretch", "reflect", "replicate")) > 1e-2


def test_a_panorama_of_64_holds_two_pair_images_at_a_time(small: StyleGAN2, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def watched(*arguments: Any) -> Tensor:
        image = join(*arguments)
        drawn.append(weakref.ref(image))
        alive.append(sum(reference() is not None for reference in drawn))
        return image

    monkeypatch.setattr("gan_core.compose.panorama.join", watched)
    assert panorama(small, codes(small, 64)).shape == (1, 3, 32, 64 * 32)
    assert len(drawn) == 63 and max(alive) == 2


def test_a_panorama_is_made_pair_by_pair(small: StyleGAN2, monkeypatch: pytest.MonkeyPatch) -> None:
    styled = []
    original = StyleGAN2.styles
    monkeypatch.setattr(StyleGAN2, "styles", lambda self, w: styled.append(len(w)) or original(self, w))
    strips = panorama_strips(small, codes(small, 64))
    next(strips), next(strips)
    assert styled == [1, 1, 1]


def test_a_seam_is_a_larger_step_where_neighbours_meet(small: StyleGAN2) -> None:
    rising = torch.linspace(0, 1, 96).expand(1, 3, 4, 96).clone()
    assert seam_score(rising, joins_of(3, 32)) == pytest.approx(1, abs=1e-3)
    rising[..., 32:] += 4 / 95
    assert seam_score(rising, joins_of(3, 32)) == pytest.approx(3, abs=1e-3)
    assert seam_score(torch.zeros(1, 3, 8, 16), [8]) == 0
    assert seam_score(rising.transpose(2, 3), [32], "vertical") == pytest.approx(5, abs=1e-3)
    apart = torch.cat(list(small.synthesis(codes(small, 3)).split(1)), 3)
    assert seam_score(panorama(small, codes(small, 3)), joins_of(3, 32)) < 0.8 * seam_score(apart, joins_of(3, 32))


def test_new_noise_is_drawn_for_the_whole_width(small: StyleGAN2) -> None:
    styles = small.styles(codes(small, 1))
    plain = extend(small.branch(styles, "none"))

    def alike(noise: Noise) -> Tensor:
        change = extend(small.branch(styles, noise)) - plain
        return torch.corrcoef(torch.stack([change[..., at : at + 24].flatten() for at in (4, 36)]))[0, 1]

    assert abs(alike("random")) < 0.2 < alike("const"), "the stored noise is laid twice side by side"


def test_the_ends_of_a_wrapped_panorama_lie_between_joins(small: StyleGAN2) -> None:
    w_plus = codes(small, 3)
    wrapped, open_ended = panorama(small, w_plus, wrap=True), panorama(small, w_plus)
    (first, *_), (meeting, *_) = joins_of(3, 32, wrap=True), joins_of(3, 32)
    torch.testing.assert_close(wrapped[..., :first], open_ended[..., meeting - first : meeting], rtol=1e-4, atol=1e-5)


def test_smoothing_draws_neighbours_together_and_keeps_the_spread() -> None:
    z = torch.randn(9, 64, generator=torch.Generator().manual_seed(0))
    soft = smooth(z)
    assert soft.square().mean() == pytest.approx(float(z.square().mean()), rel=1e-5)
    assert (soft[1:] - soft[:-1]).norm() < 0.8 * (z[1:] - z[:-1]).norm()
    centred = smooth(z + 5, centre=5.0)
    assert (centred - 5).square().mean() == pytest.approx(float(z.square().mean()), rel=1e-4)
    torch.testing.assert_close(smooth(z.roll(2, 0)), smooth(z).roll(2, 0))


def test_noise_is_widened_with_the_stored_map_at_both_ends() -> None:
    stored = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert fit_noise(stored, 4, 4) is stored
    torch.testing.assert_close(fit_noise(stored, 4, 8), torch.cat([stored, stored], 3))
    wide = fit_noise(stored, 8, 12)
    assert wide.shape == (1, 1, 8, 12)
    assert torch.equal(wide[..., :4, :4], stored) and torch.equal(wide[..., 4:, 8:], stored)
    assert torch.equal(wide, fit_noise(stored, 8, 12))


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((0.5, 0, 0.6, 1), "outside the image"),
        ((-0.1, 0, 0.5, 1), "outside the image"),
        ((0, 0, 0, 1), "is empty"),
        ((0, 0, 1), "left, top, width and height"),
        ((0, 0, float("nan"), 1), "left, top, width and height"),
    ],
)
def test_a_bad_box_is_told_in_a_sentence(box: tuple[float, ...], said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        box_mask([box])


def test_a_whole_side_does_not_wrap_to_nothing() -> None:
    assert box_mask([(0, 0, 1, 1)]).min() == pytest.approx(1)


def test_bad_masks_and_shares_are_told(branches: tuple[Branch, Branch]) -> None:
    with pytest.raises(ParamsError, match="no box"):
        box_mask([])
    with pytest.raises(ParamsError, match="mask is empty"):
        transfer(*branches, torch.zeros(32, 32))
    with pytest.raises(ParamsError, match="from 0 to 1"):
        check_mask(torch.full((4, 4), 2.0))
    with pytest.raises(ParamsError, match=r"alpha is 1\.5: give a number from 0 to 1"):
        translate(*branches, alpha=1.5)
    with pytest.raises(ParamsError, match="outside the image at their common size"):
        swap_patches(*branches, (0, 0, 0.5, 0.5), (0.75, 0.75, 0.25, 0.25))


def test_generators_without_a_common_layout_are_told(small: StyleGAN2, branches: tuple[Branch, Branch]) -> None:
    other = StyleGAN2(16, style_dim=16, n_mlp=1, channels={4: 16, 8: 16, 16: 8})
    stranger = other.branch(other.styles(other.broadcast(torch.zeros(1, 16))))
    with pytest.raises(CheckpointError, match="do not share a layout"):
        translate(branches[0], stranger)
    with pytest.raises(ParamsError, match="panorama of 1"):
        panorama(small, codes(small, 1))
