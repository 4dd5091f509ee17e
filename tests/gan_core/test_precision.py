"""The mode ``fast`` takes bfloat16 only from a CPU that has it."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from gan_core import precision
from gan_core.encoders.fast import prepare_fast
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.generators import layers
from gan_core.generators.layers import UP_FORMS, blur_kernel
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.precision import autocast, compute_dtype, in_precision, set_precision, up_form


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


@pytest.fixture
def fresh() -> Iterator[None]:
    """Ask anew which form suits, now and afterwards."""
    up_form.cache_clear()
    yield
    up_form.cache_clear()


@pytest.mark.parametrize("amx", [True, False])
@pytest.mark.usefixtures("fresh")
def test_the_form_of_up_sampling_follows_what_the_processor_can(amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert up_form("cpu") == ("grouped" if amx else "depthwise")
    assert up_form("cuda") in UP_FORMS and up_form("mps") in UP_FORMS


@pytest.mark.parametrize("form", UP_FORMS)
@pytest.mark.parametrize("channels", [8, 32, 12])
def test_all_forms_of_up_sampling_are_one_function(form: str, channels: int) -> None:
    stream = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 6, 5, 7, generator=stream), torch.randn(channels, 6, 3, 3, generator=stream)

    def both(name: str) -> list[Tensor]:
        def total(weight: Tensor, x: Tensor) -> Tensor:
            return UP_FORMS[name](x[None], weight, blur_kernel(4.0)).square().sum()

        rows = weight.expand(2, *weight.shape)
        return [UP_FORMS[name](x, weight, blur_kernel(4.0)), vmap(grad(total))(rows, x)]

    for expected, found in zip(both("depthwise"), both(form), strict=True):
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("form", UP_FORMS)
def test_fast_is_within_its_tolerance_in_every_form(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "up_form", lambda kind: form)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    torch.manual_seed(0)
    generator = StyleGAN2(16, 16, n_mlp=1, channels={4: 32, 8: 32, 16: 16}).requires_grad_(False)
    codes = torch.randn(2, generator.n_latent, 16)
    exact = generator.synthesis(codes)
    with in_precision(generator, "fast"):
        fast = generator.synthesis(codes)
    assert torch.equal(generator.synthesis(codes), exact)
    assert 0 < float((fast - exact).norm() / exact.norm()) < 0.02
