"""Every registered generator, encoder, network, extractor and metric, on the pretended device as on the CPU."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core.align.mtcnn import Cascade
from gan_core.device import place
from gan_core.edits.plan import plan_edits
from gan_core.encoders.base import ENCODERS
from gan_core.encoders.fast import prepare_fast
from gan_core.generators.base import GENERATORS
from gan_core.judges.extractors import EXTRACTORS
from gan_core.judges.networks import NETWORKS
from gan_core.loading import load_generator
from gan_core.metrics.base import METRICS, Setting
from gan_core.params import EditParams, MeasureParams, ModelPaths
from gan_core.precision import in_precision
from gan_core.registry import Registry
from tests.device.pretended.conftest import NEEDS_BFLOAT16, check_same, is_there, there
from tests.gan_core.test_contracts import gathered, inputs, small, small_judges  # noqa: F401  (a fixture)


def some(*shape: int) -> Tensor:
    """Inputs of two rows on the device: what a further row costs shows nothing."""
    return place(inputs(*shape)[:2])


def model(registry: Registry[Any], name: str) -> Any:
    return place(copy.deepcopy(small(registry, name)))


@pytest.mark.parametrize("name", GENERATORS.names())
def test_generators(name: str) -> None:
    def draw() -> list[Tensor]:
        generator = model(GENERATORS, name)
        w = generator.mapping(some(generator.z_dim))
        w_plus = generator.broadcast(generator.truncate(w, 0.7))
        noises: tuple[Any, ...] = ("const", "none") if generator.noise_sizes() else ("const",)
        drawn = [generator.synthesis(w_plus, noise) for noise in noises]
        return [w, generator.mean_latent(16), *drawn]

    check_same(draw)


@pytest.mark.parametrize("name", ENCODERS.names())
def test_encoders(name: str) -> None:
    def encode(fast: bool = False) -> Tensor:
        encoder = model(ENCODERS, name)
        encoder.attach(model(GENERATORS, "stylegan2"))
        encoder = prepare_fast(encoder) if fast else encoder
        return encoder.encode(some(3, 2 * encoder.input_size, 2 * encoder.input_size))

    check_same(encode)
    check_same(lambda: encode(fast=True), tolerance=0.02)


@pytest.mark.parametrize("name", NETWORKS.names())
def test_networks(name: str) -> None:
    check_same(lambda: model(NETWORKS, name)(some(3, 64, 64)))


@pytest.mark.parametrize("name", EXTRACTORS.names())
def test_extractors(name: str, tiny_models: dict[str, str]) -> None:
    with torch.no_grad():
        check_same(lambda: EXTRACTORS.get(name)(ModelPaths(**tiny_models)).features(some(3, 64, 64)))


@pytest.mark.parametrize("name", METRICS.names())
def test_metrics(name: str, tiny_models: dict[str, str]) -> None:
    edits = plan_edits([EditParams(direction="smile", strengths=[-1, 1])])
    setting = Setting(MeasureParams(swd_images=4), ModelPaths(**tiny_models), edits)
    rows = {"frechet": 40}.get(name, 4)  # more than features; FID, which has more of them, is left out

    def measure() -> dict[str, Any]:
        metric = METRICS.get(name)(setting)
        states = gathered(metric, setting, 0, rows)
        return {"states": states, "values": metric.compute(states).values}

    check_same(measure, 1e-3)


def test_the_cascade_that_finds_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_core.align.mtcnn.THRESHOLDS", (0.5, 0.3, 0.3))  # random networks score about a half
    torch.manual_seed(0)
    cascade = Cascade().eval().requires_grad_(False)
    images = torch.rand(2, 3, 60, 80, generator=torch.Generator().manual_seed(1)) * 255
    found = check_same(lambda: place(copy.deepcopy(cascade))(place(images)))
    assert any(len(faces.boxes) for faces in found)


def test_loaded_networks_are_on_the_device(tiny_models: dict[str, str]) -> None:
    assert is_there(there(lambda: load_generator(tiny_models["generator"]).model))


@NEEDS_BFLOAT16
def test_fast_is_bfloat16_there_too(tiny_models: dict[str, str]) -> None:
    def draw() -> Tensor:
        generator = load_generator(tiny_models["generator"]).model
        with in_precision(generator, "fast"):
            assert generator.compute_dtype == torch.bfloat16
            return generator.synthesis(generator.broadcast(generator.mapping(some(generator.z_dim))))

    check_same(draw, 0.02)
