"""What every registered encoder must do; a new one needs a line in the table of ``test_contracts``."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.encoders.restyle import PAIR
from gan_core.generators.base import GENERATORS
from gan_core.loading import outline
from tests.gan_core.test_contracts import BATCH, SPACES, card_only, check_batch, check_rebuilt, each, inputs, small


class Blank:
    """A generator whose pictures say nothing of their latents."""

    size = 16

    def synthesis(self, latents: Tensor) -> Tensor:
        return torch.zeros(len(latents), 3, self.size, self.size)


def small_encoder(name: str) -> Encoder:
    """A small encoder beside a generator that takes its latents."""
    encoder: Encoder = small(ENCODERS, name)
    encoder.attach(small(GENERATORS, "stylegan2"))
    return encoder


@each(ENCODERS)
class TestEncoders:
    def test_forward(self, name: str) -> None:
        encoder = small_encoder(name)
        images = inputs(PAIR if encoder.draws else 3, encoder.input_size, encoder.input_size)
        assert encoder(images).shape == (BATCH, encoder.n_latent, encoder.w_dim)
        check_batch(encoder, images)

    @pytest.mark.parametrize("factor", [1, 2])
    def test_encode_takes_any_size(self, name: str, factor: int) -> None:
        encoder = small_encoder(name)
        images = inputs(3, factor * encoder.input_size, factor * encoder.input_size)
        assert encoder.encode(images).shape == (BATCH, encoder.n_latent, encoder.w_dim)
        check_batch(encoder.encode, images)

    def test_encode_starts_from_the_average(self, name: str) -> None:
        encoder = small_encoder(name)
        encoder.attach(Blank())  # type: ignore[arg-type]
        images, before = inputs(3, encoder.input_size, encoder.input_size), encoder.latent_avg.clone()
        plain = encoder.encode(images)
        encoder.latent_avg += 2.0
        shifted = encoder.encode(images)
        encoder.latent_avg.copy_(before)
        torch.testing.assert_close(shifted, plain + 2.0, rtol=1e-4, atol=1e-5)

    def test_names_and_arguments(self, name: str) -> None:
        encoder: Encoder = small(ENCODERS, name)
        assert encoder.name == name
        assert encoder.space in SPACES
        check_rebuilt(ENCODERS, name)

    def test_its_frame_is_known_without_its_weights(self, name: str, tmp_path: Path) -> None:
        encoder: Encoder = small(ENCODERS, name)
        known = outline(card_only(ENCODERS, "encoder", name, tmp_path), "encoder", ENCODERS)
        assert known is not None and (known.input_shape, known.framing) == (encoder.input_shape, encoder.framing)
        assert all(parameter.is_meta for parameter in known.parameters())
