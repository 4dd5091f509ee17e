"""Refining removes from a direction what changes other things, and keeps to its layers."""

from dataclasses import replace

import pytest
import torch

from gan_core.editing.calibrate import Faces, Scorers, render_and_score, score
from gan_core.editing.directions import Direction
from gan_core.editing.refine import refine
from gan_core.generators.base import Generator


@pytest.fixture(scope="module")
def faces(world: Generator, scorers: Scorers) -> Faces:
    z = torch.randn(100, 12, generator=torch.Generator().manual_seed(3))
    return render_and_score(world, world.broadcast(world.mapping(z)), scorers)


@pytest.fixture(scope="module")
def tainted(world: Generator) -> Direction:
    vector = 12.5 * world.axes[1] + 4 * world.axes[2] + 4 * world.axes[4]
    return Direction("colour", vector, "0" * 64, layers=(2, 6), method="dual")


@pytest.fixture(scope="module")
def refined(world: Generator, scorers: Scorers, tainted: Direction) -> Direction:
    return refine(world, tainted, scorers, 0.5, steps=120)


def test_identity_and_other_attributes_are_left_alone(
    world: Generator, scorers: Scorers, faces: Faces, tainted: Direction, refined: Direction
) -> None:
    before, after = score(world, faces, tainted, scorers), score(world, faces, refined, scorers)
    assert after["side_effect"] < 0.5 * before["side_effect"]
    assert 1 - after["identity_kept"] < 0.5 * (1 - before["identity_kept"])
    assert after["move"] == pytest.approx(0.5, abs=0.05)


def test_latents_outside_of_the_layers_stay_zero(refined: Direction) -> None:
    assert refined.vector.shape == (6, 12)
    assert refined.vector[:2].abs().max() == 0
    assert refined.vector[2:].abs().min(1).values.max() > 0


def test_the_direction_says_how_it_was_made(refined: Direction) -> None:
    assert (refined.method, refined.space, refined.layers) == ("dual, refined", "w_plus", (2, 6))


def test_the_same_seed_gives_the_same_vector(world: Generator, scorers: Scorers, tainted: Direction) -> None:
    once, again, other = (refine(world, tainted, scorers, 0.5, 4, seed).vector for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_a_part_of_a_longer_vector_starts_from_its_own_layers(
    world: Generator, scorers: Scorers, tainted: Direction
) -> None:
    rows = torch.zeros(6, 12)
    rows[2:] = tainted.vector
    by_layer = refine(world, replace(tainted, vector=rows), scorers, 0.5, 1)
    assert torch.allclose(by_layer.vector[2:], tainted.vector, atol=0.2)
