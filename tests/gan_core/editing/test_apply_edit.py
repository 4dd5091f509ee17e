"""A direction is added to the latents of its layers and to nothing else."""

from dataclasses import replace

import pytest
import torch

from gan_core.editing.apply import apply_edit
from gan_core.editing.directions import Direction
from gan_core.errors import ParamsError

LATENTS = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
SMILE = Direction("smile", torch.tensor([1.0, 0.0, -2.0, 0.5]), "0" * 64)


def test_without_layers_every_latent_moves() -> None:
    assert torch.equal(apply_edit(LATENTS, SMILE, 2.0), LATENTS + 2 * SMILE.vector)


def test_only_the_layers_of_the_direction_move() -> None:
    before = LATENTS.clone()
    edited = apply_edit(LATENTS, replace(SMILE, layers=(1, 3)), -1.0)
    assert torch.equal(edited[:, 1:3], LATENTS[:, 1:3] - SMILE.vector)
    assert torch.equal(edited[:, [0, 3, 4, 5]], LATENTS[:, [0, 3, 4, 5]])
    assert torch.equal(before, LATENTS)


def test_the_layers_of_an_edit_come_first() -> None:
    edited = apply_edit(LATENTS, replace(SMILE, layers=(1, 3)), 1.0, layers=(5, 6))
    assert (edited != LATENTS).any(2).tolist() == [[False] * 5 + [True]] * 2


def test_a_direction_may_differ_from_layer_to_layer() -> None:
    vector = torch.arange(24.0).reshape(6, 4)
    edited = apply_edit(LATENTS, replace(SMILE, vector=vector, layers=(2, 4)), 1.0)
    assert torch.equal(edited[:, 2:4], LATENTS[:, 2:4] + vector[2:4])


def test_strength_zero_changes_nothing() -> None:
    assert torch.equal(apply_edit(LATENTS, SMILE, 0.0), LATENTS)


@pytest.mark.parametrize("layers", [(0, 7), (3, 3), (-1, 2), (4, 2)])
def test_layers_that_are_not_there_are_refused(layers: tuple[int, int]) -> None:
    with pytest.raises(ParamsError, match=r"layers \[.*\] of 'smile' are not among this generator's 6 latents"):
        apply_edit(LATENTS, SMILE, 1.0, layers)


def test_a_direction_of_another_width_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"'smile' is \[3\], latents are \[6, 4\]"):
        apply_edit(LATENTS, replace(SMILE, vector=torch.ones(3)), 1.0)
