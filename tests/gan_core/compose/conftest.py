"""What the tests of compositions share: the published network filled from its keys, and two codes."""

import pytest
import torch
from torch import Tensor

from gan_core.generators.stylegan2 import StyleGAN2
from tests.golden.fill import fill, fill_state


def filled(size: int = 64, salt: str = "public") -> StyleGAN2:
    """Return the published network of ``size`` pixels with the weights of the golden numbers."""
    generator = StyleGAN2(size)
    shapes = {key: list(value.shape) for key, value in generator.state_dict().items()}
    state = fill_state(shapes, salt, "soat")
    generator.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=False)
    return generator.eval().requires_grad_(False)


def raw(name: str, *shape: int) -> Tensor:
    """Return the golden numbers' own noise ``name``."""
    return torch.from_numpy(fill(f"input:{name}", shape, rule="raw"))


@pytest.fixture(scope="session")
def published() -> StyleGAN2:
    return filled()


@pytest.fixture
def small() -> StyleGAN2:
    """A small generator with noise, random weights."""
    torch.manual_seed(0)
    generator = StyleGAN2(32, style_dim=16, n_mlp=2, channels={4: 16, 8: 16, 16: 8, 32: 8})
    for name, parameter in generator.named_parameters():
        if name.endswith("noise.weight"):
            parameter.data.fill_(0.3)
    return generator.eval().requires_grad_(False)
