"""Codes of a space, and the frame that paths run in."""

import pytest
import torch

from gan_core.errors import ParamsError
from gan_core.generators.sngan import SNGAN
from gan_core.paths.space import Frame, check_space, code_width, codes_to_w_plus, sample_codes
from tests.gan_core.editing.conftest import LinearWorld


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_principal_frame_whitens_and_leaves_the_rest_alone() -> None:
    mixing = torch.randn(10, 10, generator=stream(1))
    codes = torch.randn(500, 10, generator=stream()) @ mixing + 3
    frame = Frame.principal(codes, 4)
    u = frame.coordinates(codes)
    torch.testing.assert_close(torch.cov(u.t()), torch.eye(4), atol=1e-3, rtol=0)
    moved = frame.moved(codes, u, u + 1)
    torch.testing.assert_close(frame.coordinates(moved), u + 1, atol=1e-4, rtol=1e-4)
    rest = torch.eye(10) - frame.axes.t() @ frame.axes
    torch.testing.assert_close(moved @ rest, codes @ rest, atol=1e-4, rtol=1e-4)


def test_codes_that_spread_in_too_few_directions_are_refused() -> None:
    flat = torch.randn(50, 3, generator=stream()) @ torch.randn(3, 10, generator=stream(1))
    with pytest.raises(ParamsError, match=r"rank 5 is too much: these codes spread in 3"):
        Frame.principal(flat, 5)


@pytest.mark.parametrize(("space", "width"), [("z", 12), ("w", 12), ("w_plus", 72)])
def test_codes_of_every_space_are_drawn(world: LinearWorld, space: str, width: int) -> None:
    codes = sample_codes(world, space, 7, stream())
    assert codes.shape == (7, width) == (7, code_width(world, space))
    assert torch.equal(codes, sample_codes(world, space, 7, stream()))
    assert codes_to_w_plus(world, space, codes).shape == (7, 6, 12)


def test_w_plus_codes_mix_two_styles_at_one_layer(world: LinearWorld) -> None:
    rows = codes_to_w_plus(world, "w_plus", sample_codes(world, "w_plus", 40, stream()))
    different = [len(row.unique(dim=0)) for row in rows]
    assert set(different) == {1, 2}
    assert all((row[:-1] != row[1:]).any(1).sum() <= 1 for row in rows)


def test_a_space_that_the_generator_lacks_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"sngan has no space 'w' for paths"):
        check_space(SNGAN((8, 8), 1, 4), "w")
