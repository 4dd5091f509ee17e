"""Shapes on a torus: the renderer and its measures, the generator taught by it, and the network that reads it."""

import math
from pathlib import Path

import pytest
import torch

from gan_core.judges.moves import direction_with_room, score_move
from gan_core.judges.scorers import Scored, render_and_score, wrapped
from gan_core.loading import load_generator
from gan_core.params import Params
from gan_core.toy.params import TrainMeasureParams, TrainShapesParams
from gan_core.toy.shape_judges import from_reading, kind_vector, measured, read, to_reading
from gan_core.toy.shapes import (
    FACTORS,
    NAMES,
    PERIODIC,
    Z_DIM,
    factor_errors,
    factors_of,
    measure_shapes,
    render_shapes,
    rotation,
)
from gan_core.toy.training import shape_reader, shapes
from tests.reports import Reports

X = FACTORS.index("x")


def some_factors(count: int = 64) -> torch.Tensor:
    return torch.rand(count, len(FACTORS), generator=torch.Generator().manual_seed(3))


def away(found: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Largest differences by name."""
    return dict(zip(FACTORS, factor_errors(found, truth).amax(0).tolist(), strict=True))


def test_what_was_drawn_is_measured_wherever_it_lies() -> None:
    factors = some_factors()
    factors[:8, :2] = torch.tensor([0.0, 0.999]).expand(8, 2)  # across both edges
    found = away(measure_shapes(render_shapes(factors)), factors)
    assert max(found[name] for name in ("x", "y", "turn", "hue")) < 0.005
    assert found["size"] < 0.03 and found["kind"] < 0.05


def test_a_ground_that_is_not_quite_black_changes_little() -> None:
    factors = some_factors()
    noise = 0.05 * torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1)).abs()
    found = away(measure_shapes(render_shapes(factors) + noise), factors)
    assert max(found[name] for name in PERIODIC) < 0.03


def test_position_rotation_and_hue_wrap_around() -> None:
    factors = some_factors(8)
    images = render_shapes(factors)
    for column in range(len(PERIODIC)):
        once_round = factors.clone()
        once_round[:, column] += 1
        torch.testing.assert_close(render_shapes(once_round), images, atol=1e-3, rtol=0)
    moved = factors.clone()
    moved[:, X] += 8 / 32
    torch.testing.assert_close(render_shapes(moved), images.roll(8, 3), atol=1e-3, rtol=0)


def test_a_circle_of_latents_moves_one_attribute_equally_and_no_straight_line_does() -> None:
    z = torch.randn(512, Z_DIM, generator=torch.Generator().manual_seed(0))
    factors, plane = factors_of(z), rotation()[:, 2 * X : 2 * X + 2]
    assert factors.amin() >= 0 and factors.amax() <= 1 and (factors.mean(0) - 0.5).abs().max() < 0.06
    angle = torch.tensor(2 * math.pi / 4)
    turn = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
    around = z + (z @ plane) @ (turn - torch.eye(2)) @ plane.t()
    change = wrapped(factors_of(around) - factors)
    torch.testing.assert_close(change[:, X], torch.full((512,), 0.25), atol=1e-4, rtol=0)
    assert change[:, [i for i in range(len(FACTORS)) if i != X]].abs().max() < 1e-4
    straight = wrapped(factors_of(z + 3 * plane[:, 0]) - factors)[:, X]
    assert straight.abs().mean() > 0.2 > 5 * straight.mean().abs(), "far, but as often one way as the other"


def test_changes_of_what_wraps_around_go_the_shorter_way() -> None:
    scorers = measured()
    assert scorers.names == NAMES and scorers.periodic == PERIODIC
    before, after = some_factors(6), some_factors(6)
    before[:, X], after[:, X], after[:, NAMES.index("size")] = 0.95, 0.05, 0.2

    class Drawing:
        def synthesis(self, factors: torch.Tensor) -> torch.Tensor:
            return render_shapes(factors)

    start, end = (render_and_score(Drawing(), each, scorers) for each in (before, after))  # type: ignore[arg-type]
    assert start.wraps == (0, 1, 2, 3) == start.part(slice(2)).wraps
    torch.testing.assert_close(end.change(start)[:, X], torch.full((6,), 0.1), atol=0.01, rtol=0)
    assert direction_with_room(start, X).tolist() == [1.0] * 6
    assert score_move(start, end, X, torch.ones(6))["move"] == pytest.approx(0.1, abs=0.01)
    straight = Scored(start.w_plus, start.attributes, start.identity)
    assert straight.change(end)[:, X].mean() == pytest.approx(0.9, abs=0.01)
    assert torch.equal(direction_with_room(straight, X), torch.full((6,), -1.0))


def test_readings_stand_for_attributes() -> None:
    factors = some_factors()
    values = to_reading(factors)
    assert values.shape == (64, Z_DIM) and values.abs().max() <= 1 + 1e-5
    assert max(away(from_reading(values), factors).values()) < 1e-5
    kinds = kind_vector(torch.tensor([0.0, 1.0, 0.5, -3.0]))
    torch.testing.assert_close(kinds @ kinds[0], torch.tensor([1.0, 0.0, 0.5**0.5, 1.0]), atol=1e-6, rtol=1e-6)


def test_the_generator_learns_what_its_latents_look_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shapes, "SCORED", 64)
    params = TrainShapesParams(channels=[8, 8, 8], steps=30, batch_size=8, ema_steps=2, precision="exact")
    before = shapes.score_shapes(shapes.PupilState(params).average)
    scores = shapes.make_shapes(params, Params(), tmp_path, Reports())
    assert scores["pixel_error"] < 0.5 * before["pixel_error"]
    assert set(scores) == {"pixel_error", *(f"{n}_error" for n in FACTORS), *(f"{n}_cover" for n in PERIODIC)}
    stored = load_generator(shapes.TARGET).model
    assert (stored.size, stored.z_dim) == (16, Z_DIM)


def test_the_reader_learns_and_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shape_reader, "HELD_OUT", 16)
    params = TrainMeasureParams(images=96, batch_size=8, lr=3e-3, width=8, precision="exact")
    reports = Reports()
    scores = shape_reader.make_shape_reader(params, Params(), tmp_path, reports)
    assert set(scores) == {f"{name}_error" for name in FACTORS}
    judge, images = read(), render_shapes(some_factors(4))
    assert judge.attributes(images).shape == (4, len(NAMES)) and judge.attributes_sha256
    torch.testing.assert_close(judge.identity(images).norm(dim=1), torch.ones(4))
    away_from_circle = shape_reader.ShapeLearner(params).draw(torch.Generator().manual_seed(0))["target"][:, :2]
    torch.testing.assert_close(away_from_circle.norm(dim=1), torch.ones(8))
