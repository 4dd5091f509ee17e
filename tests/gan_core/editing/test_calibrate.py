"""One unit of a calibrated direction moves its attribute by what was asked, no matter how long the vector came in."""

from dataclasses import replace

import pytest
import torch

from gan_core.editing.calibrate import calibrate, score, with_reached_unit
from gan_core.editing.directions import Direction
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.judges.moves import direction_with_room
from gan_core.judges.scorers import Scored, Scorers, render_and_score


@pytest.fixture(scope="module")
def faces(world: Generator, scorers: Scorers) -> Scored:
    z = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    return render_and_score(world, world.broadcast(world.mapping(z)), scorers)


@pytest.fixture
def colour(world: Generator) -> Direction:
    return Direction("colour", world.axes[1] * 7, "0" * 64, layers=(3, 6))


def test_looking_in_batches_sees_what_one_look_sees(world: Generator, scorers: Scorers, faces: Scored) -> None:
    torch.testing.assert_close(faces.attributes, scorers.attributes(world.synthesis(faces.w_plus)))


def test_faces_are_moved_to_the_side_with_room(faces: Scored) -> None:
    signs = direction_with_room(faces, 1)
    ends = faces.attributes[:, 1] + 0.5 * signs
    assert ((ends >= 0) & (ends <= 1)).all()
    assert set(signs.tolist()) == {1.0, -1.0}


@pytest.mark.parametrize("move", [0.2, 0.5])
def test_one_unit_moves_the_attribute_as_asked(
    world: Generator, scorers: Scorers, faces: Scored, colour: Direction, move: float
) -> None:
    found = calibrate(world, faces, colour, scorers, move, longest=20.0)
    assert score(world, faces, found, scorers) == pytest.approx(found.scores)
    assert found.scores["move"] == pytest.approx(move, rel=0.03)
    assert found.vector.norm().item() == pytest.approx(move / 0.2, rel=0.05)


def test_the_other_attributes_that_change_are_side_effects(world: Generator, scorers: Scorers, faces: Scored) -> None:
    both = Direction("colour", world.axes[1] * 12.5 + world.axes[2] * 12.5, "0" * 64)
    scores = score(world, faces, both, scorers)
    # age moves as much as colour, pose not at all: half of it is the mean of the two; some ages are at their end
    assert 0.15 < scores["side_effect"] <= 0.25
    alone = score(world, faces, replace(both, vector=world.axes[1] * 12.5), scorers)
    assert alone["side_effect"] == pytest.approx(0, abs=1e-6)


def test_identity_is_kept_where_nothing_but_the_attribute_moves(
    world: Generator, scorers: Scorers, faces: Scored, colour: Direction
) -> None:
    found = calibrate(world, faces, colour, scorers, 0.5, longest=20.0)
    assert found.scores["identity_kept"] == pytest.approx(1, abs=1e-5)
    other = replace(found, vector=found.vector + 12.5 * world.axes[4])
    assert score(world, faces, other, scorers)["identity_kept"] < 0.95


def test_a_direction_without_effect_says_so(
    world: Generator, scorers: Scorers, faces: Scored, colour: Direction
) -> None:
    found = calibrate(world, faces, replace(colour, layers=(0, 3)), scorers, 0.5, longest=20.0)
    assert found.scores["move"] == pytest.approx(0, abs=1e-6)


def test_a_move_that_only_a_middle_length_reaches_is_found(world: Generator, scorers: Scorers, faces: Scored) -> None:
    class Overshooting(type(world)):  # type: ignore[misc]
        """Reads the colour back to front beyond a point, as pictures far from the mean do."""

        def synthesis(self, w_plus: torch.Tensor, noise: str = "const") -> torch.Tensor:
            image = super().synthesis(w_plus, noise)
            colour = w_plus[:, 3:6].mean(1) @ self.axes[1]
            image[:, 0, 0, 1] = 0.5 + colour - 6 * colour.sign() * (colour.abs() - 0.6).clamp(0)
            return image

    direction = Direction("colour", world.axes[1], "0" * 64, layers=(3, 6))
    found = calibrate(Overshooting(), faces, direction, scorers, 0.5, longest=8.8)
    assert found.scores["move"] == pytest.approx(0.5, rel=0.05)


def test_the_unit_says_what_was_reached() -> None:
    made = Direction("colour", torch.ones(12), "0" * 64)
    units = [with_reached_unit(replace(made, scores={"move": move}), 0.5).unit for move in (0.495, 0.31, 0.8)]
    assert units == [
        "0.5 of the attribute's range",
        "0.31 of the attribute's range (0.5 is too far)",
        "0.8 of the attribute's range (0.5 can't be hit: the attribute jumps)",
    ]
    for nothing in (-0.01, 0.0, float("nan")):
        with pytest.raises(ParamsError, match="no direction that was found changes colour: draw more"):
            with_reached_unit(replace(made, scores={"move": nothing}), 0.5)
