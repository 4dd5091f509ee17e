"""The mode ``fast`` takes bfloat16 only from a CPU that has it."""

import pytest
import torch

from gan_core import precision
from gan_core.encoders.fast import prepare_fast
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.precision import autocast, compute_dtype, set_precision


@pytest.mark.parametrize(("there", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_fast_emulates_nothing(there: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: there)
    generator = StyleGAN2(8, 8, n_mlp=1, channels={4: 8, 8: 8})
    encoder = GradualStyleEncoder(4, 8, input_size=64, units=(1, 1, 1, 1), width=8)
    set_precision(generator, "fast")
    assert generator.compute_dtype == prepare_fast(encoder).input_dtype == compute_dtype("fast") == dtype
    assert encoder.get_parameter("latlayer1.weight").dtype == dtype
    with autocast(True):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    with autocast(False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_exact_is_float32_everywhere() -> None:
    assert compute_dtype("exact") == torch.float32
