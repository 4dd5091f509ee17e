"""Directions from a generator's own weights: their sign is not that of the CPU, and there are only so many."""

import pytest
import torch

from gan_core.editing import factorised
from gan_core.editing.factorised import METHODS, factorise
from gan_core.errors import ParamsError
from gan_core.loading import load_generator


@pytest.mark.parametrize("method", METHODS)
def test_the_sign_is_not_that_of_the_decomposition(
    method: str, tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, find = load_generator(tiny_models["generator"]), METHODS[method]
    plain = factorise(generator, method, 3)
    signs = torch.tensor([[-1.0], [1.0], [-1.0]])
    monkeypatch.setitem(factorised.METHODS, method, lambda *given: signs * find(*given))
    turned = factorise(generator, method, 3)
    assert [direction.name for direction in turned] == [f"{method}-{i}" for i in range(3)]
    for one, other in zip(plain, turned, strict=True):
        assert torch.equal(one.vector, other.vector) and one.vector.pow(3).sum() > 0


@pytest.mark.parametrize("method", METHODS)
def test_more_directions_than_there_are_is_an_error(method: str, tiny_models: dict[str, str]) -> None:
    with pytest.raises(ParamsError, match=f"directions by {method}, not 9999: ask for fewer"):
        factorise(load_generator(tiny_models["generator"]), method, 9999)
