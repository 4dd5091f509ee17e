"""Toy portraits: determinism, independent rows, ground truth that fits the image, consistent alignment."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gan_core.toy.renderer import (
    ATTRIBUTES,
    FACTOR_NAMES,
    FACTORS,
    IDENTITY_FACTORS,
    SEGMENTATION_LABELS,
    Portraits,
    factors_from_gaussian,
    render,
    render_wild,
    sample_factors,
)
from gan_core.toy.renderer.render import crop_frame

LOW = torch.tensor([factor.low for factor in FACTORS])
HIGH = torch.tensor([factor.high for factor in FACTORS])


@pytest.fixture(scope="module")
def factors() -> torch.Tensor:
    return sample_factors(range(48))


@pytest.fixture(scope="module")
def portraits(factors: torch.Tensor) -> Portraits:
    return render(factors)


def middle(**values: float) -> torch.Tensor:
    row = ((LOW + HIGH) / 2)[None].clone()
    for name, value in ({"bangs": 0.3, "glasses": 0.3} | values).items():
        row[0, FACTOR_NAMES.index(name)] = value
    return row


def test_names_are_unique_and_attributes_are_factors() -> None:
    assert len(set(FACTOR_NAMES)) == len(FACTORS) == 40
    assert set(ATTRIBUTES) <= set(FACTOR_NAMES)
    assert {"skin_tone", "eye_colour"} <= set(IDENTITY_FACTORS)
    assert not set(IDENTITY_FACTORS) & {"yaw", "smile", "age", "glasses", "hair_length"}


def test_each_seed_has_its_own_stream() -> None:
    assert torch.equal(sample_factors([7, 3, 9])[1], sample_factors([3])[0])
    assert not torch.equal(sample_factors([3]), sample_factors([4]))
    assert sample_factors([]).shape == (0, len(FACTORS))


def test_gaussian_map_is_uniform_and_monotone() -> None:
    z = torch.linspace(-3, 3, 9)[:, None].expand(9, len(FACTORS))
    values = factors_from_gaussian(z)
    assert (values.diff(dim=0) > 0).all()
    assert ((values >= LOW) & (values <= HIGH)).all()
    assert torch.allclose(values[4], (LOW + HIGH) / 2, atol=1e-5)
    drawn = (sample_factors(range(2000)) - LOW) / (HIGH - LOW)
    assert (drawn.mean(0) - 0.5).abs().max() < 0.03


def test_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        render(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="expected"):
        factors_from_gaussian(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="one seed per row"):
        render_wild(sample_factors([1, 2]), [1])


def test_shapes_and_ranges(portraits: Portraits) -> None:
    assert portraits.image.shape == (48, 3, 64, 64) and portraits.image.dtype == torch.float32
    assert portraits.segmentation.shape == (48, 64, 64) and portraits.segmentation.dtype == torch.uint8
    assert portraits.sketch.shape == (48, 1, 64, 64) and portraits.landmarks.shape == (48, 5, 2)
    assert torch.isfinite(portraits.image).all()
    assert portraits.image.min() >= -1 and portraits.image.max() <= 1
    assert portraits.image.std() > 0.35
    assert portraits.sketch.min() == 0 and portraits.sketch.max() == 1
    assert 0.5 < portraits.sketch.mean() < 0.95
    assert render(middle(), size=32).image.shape == (1, 3, 32, 32)


def test_rows_do_not_depend_on_their_neighbours(factors: torch.Tensor, portraits: Portraits) -> None:
    for row in (0, 5, 47):
        alone = render(factors[row : row + 1])
        assert (alone.image[0] - portraits.image[row]).abs().max() < 1e-6
        assert (alone.landmarks[0] - portraits.landmarks[row]).abs().max() < 1e-6
    assert torch.equal(render(factors[:8]).image, render(factors[:8]).image)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_attribute_moves_the_image(name: str) -> None:
    factor = FACTORS[FACTOR_NAMES.index(name)]
    low, high = (render(middle(**{name: value})).image for value in (factor.low, factor.high))
    assert (high - low).abs().mean() > 0.005, name


def test_every_factor_has_an_effect_and_no_jump() -> None:
    for factor in FACTORS:
        other = {"glasses": 1.0} if factor.name == "glasses_shape" else {}
        steps = torch.linspace(factor.low, factor.high, 17).tolist()
        frames = render(torch.cat([middle(**other, **{factor.name: v}) for v in steps]), size=32).image
        assert (frames[-1] - frames[0]).abs().mean() > 3e-4, factor.name
        assert frames.diff(dim=0).abs().mean(dim=(1, 2, 3)).max() < 0.06, factor.name


def test_landmarks_lie_on_the_features(factors: torch.Tensor, portraits: Portraits) -> None:
    points = portraits.landmarks
    assert points.min() > 4 and points.max() < 60
    names = [("left_eye",), ("right_eye",), ("nose",)]
    rows = torch.arange(len(factors))
    for k, wanted in enumerate(names):
        x, y = points[:, k].long().unbind(-1)
        found = portraits.segmentation[rows, y, x]
        allowed = torch.tensor([SEGMENTATION_LABELS.index(n) for n in (*wanted, "glasses", "hair")], dtype=torch.uint8)
        assert torch.isin(found, allowed).all(), wanted
        assert (found == allowed[0]).float().mean() > 0.9, wanted


def test_eyes_are_level_and_as_far_apart_as_ffhq(portraits: Portraits) -> None:
    eyes = portraits.landmarks[:, 1] - portraits.landmarks[:, 0]
    assert (eyes[:, 0] > 12).all() and (eyes[:, 0] < 17).all()
    assert eyes[:, 1].abs().max() < 2


def test_segmentation_covers_all_labels(portraits: Portraits) -> None:
    counts = torch.bincount(portraits.segmentation.flatten().long(), minlength=len(SEGMENTATION_LABELS))
    assert (counts > 40).all(), dict(zip(SEGMENTATION_LABELS, counts.tolist(), strict=True))
    with_glasses = (portraits.segmentation == SEGMENTATION_LABELS.index("glasses")).flatten(1).sum(1) > 20
    assert 0.15 < with_glasses.float().mean() < 0.55


def test_background_is_a_smooth_colour_at_the_top_corners(portraits: Portraits) -> None:
    corners = portraits.segmentation[:, 0, [0, -1]]
    assert (corners == 0).float().mean() > 0.8


def test_aligning_a_wild_frame_gives_the_portrait(factors: torch.Tensor, portraits: Portraits) -> None:
    wild = render_wild(factors[:8], range(8))
    for row, item in enumerate(wild):
        height, width, _ = item.image.shape
        assert item.image.dtype.name == "uint8" and item.landmarks.dtype.name == "float32"
        assert 120 <= height <= 220 and 120 <= width <= 221 and height != width
        centre, axis = crop_frame(torch.from_numpy(item.landmarks)[None])
        step = (torch.arange(64) + 0.5) / 32 - 1
        v, u = torch.meshgrid(step, step, indexing="ij")
        (a, b), (cx, cy) = axis[0].tolist(), centre[0].tolist()
        grid = torch.stack([(cx + a * u - b * v) * 2 / width - 1, (cy + b * u + a * v) * 2 / height - 1], dim=-1)
        frame = torch.from_numpy(item.image).permute(2, 0, 1)[None].float() / 255
        aligned = F.grid_sample(frame, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
        error = (aligned[0] - (portraits.image[row] + 1) / 2).square().mean()
        assert -10 * error.log10() > 22, row


def test_wild_frames_are_deterministic_and_tilted(factors: torch.Tensor) -> None:
    first, again = (render_wild(factors[:3], [5, 6, 7]) for _ in range(2))
    assert all((a.image == b.image).all() for a, b in zip(first, again, strict=True))
    tilts = [item.landmarks[1, 1] - item.landmarks[0, 1] for item in first]
    assert max(abs(tilt) for tilt in tilts) > 1
