"""Refinement as a chain: a hypernetwork, tuning, or tuning from where the hypernetwork ends."""

from typing import Any

import numpy as np
import pytest
import torch

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.errors import ParamsError
from gan_core.geometry import Frame
from gan_core.inversion.delta import apply_delta, changed
from gan_core.inversion.hypernetwork import HyperStyle
from gan_core.inversion.pti import Tuned, tune_pivots
from gan_core.loading import load_generator, model_tensors
from gan_core.params import ModelPaths, TuneParams
from gan_core.rows import Row
from gan_core.stages.tune import TuneStage
from gan_core.storage.images import to_uint8
from tests.gan_core.inversion.conftest import pooled_difference, toy
from tests.gan_core.stages.test_tune_stage import pixels

PARAMS = TuneParams(steps=2, lr=1e-3, min_resolution=32)
NETWORK: dict[str, Any] = {"input_size": 64, "units": [1, 1, 1, 1], "width": 4, "steps": 2, "resolution": 16}


@pytest.fixture(scope="module")
def refined(models: ModelPaths, tmp_path_factory: pytest.TempPathFactory) -> ModelPaths:
    """The small models with a hypernetwork whose offsets are small, so that they make nothing much worse."""
    generator = load_generator(models.generator)
    torch.manual_seed(3)
    network = HyperStyle.for_generator(generator.model, **NETWORK).requires_grad_(False)
    for block in network.refinement_blocks.values():
        block.get_parameter("output.1.weight").mul_(0.01)
        block.get_parameter("output.1.bias").mul_(0.01)
    path = tmp_path_factory.mktemp("hyper") / "h.safetensors"
    card = Card(
        kind="hypernetwork",
        name="hyperstyle",
        arguments=network.arguments,
        generator_sha256=generator.sha256,
        made_by="tests",
        licence="none",
        source="random",
    )
    save_checkpoint(path, model_tensors(network), card)
    return models.model_copy(update={"hypernetwork": str(path)})


def chain(models: ModelPaths, *names: str, **changes: Any) -> TuneStage:
    return TuneStage(PARAMS.model_copy(update={"refine": list(names)} | changes), models)


@pytest.mark.parametrize("names", [("hypernetwork",), ("hypernetwork", "pti")])
def test_what_a_chain_keeps_draws_its_picture(refined: ModelPaths, rows: list[Row], names: tuple[str, ...]) -> None:
    stage = chain(refined, *names)
    for row, result in zip(rows, stage.process(rows), strict=True):
        assert result["steps"] == 2 * len(names)
        with torch.no_grad(), apply_delta(stage.generator, result["delta"]) as generator:
            drawn = to_uint8(generator.synthesis(torch.from_numpy(row["latent"])[None]))[0]
        assert np.abs(drawn - pixels(result["tuned"])).max() <= 1
        assert (result["delta"] == b"") == (result["stop_reason"] == "diverged" and len(names) == 1)


def test_company_changes_no_row_of_a_hypernetwork(refined: ModelPaths, rows: list[Row]) -> None:
    stage = chain(refined, "hypernetwork", persist="full")
    together, alone = stage.process(rows), [stage.process([row])[0] for row in rows]
    assert together == alone


def test_the_default_is_what_it_was(models: ModelPaths, refined: ModelPaths) -> None:
    plain, other = TuneStage(PARAMS, models).identity(), chain(refined, "hypernetwork", "pti").identity()
    assert "refine" not in plain["params"] and "hypernetwork_sha256" not in plain
    assert other["params"]["refine"] == ["hypernetwork", "pti"] and len(other["hypernetwork_sha256"]) == 64


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["ptti"], {}, "unknown refinement 'ptti'; did you mean 'pti'"),
        (["pti", "hypernetwork"], {}, "the hypernetwork after another: it begins with the generator itself"),
        (["hypernetwork", "pti"], {"shared": True}, "tune.shared gives all rows one generator"),
    ],
)
def test_chains_that_make_no_sense_are_refused(
    refined: ModelPaths, rows: list[Row], names: list[str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        chain(refined, *names, **changes).process(rows)


@pytest.mark.parametrize("name", ["features", "hybrid"])
def test_what_refines_squares_alone_is_refused_for_another_frame_before_its_networks_are_read(
    models: ModelPaths, name: str
) -> None:
    without = models.model_copy(update={"features": "none"})
    with pytest.raises(ParamsError, match=rf"{name} needs square pictures, .* 4 wide and 3 high: choose another tune"):
        TuneStage(PARAMS.model_copy(update={"refine": [name]}), without, frame=Frame(3, 4))


@pytest.mark.parametrize("resolution", [4, 16])
def test_tuning_goes_on_from_the_weights_that_it_is_given(resolution: int) -> None:
    generator, codes = toy(), torch.randn(2, 6, 8)
    targets = torch.randn(2, 3, 16, 16).clamp(-1, 1)
    names = ("convs.0.conv.weight", "convs.3.conv.weight")  # of 8 px, below a resolution of 16, and of 16 px
    torch.manual_seed(7)
    starts = [{n: 0.3 * torch.randn_like(generator.get_parameter(n)) for n in names} for _ in range(2)]
    params = TuneParams(steps=1, lr=1e-4, min_resolution=resolution, l2_weight=1.0, perceptual_weight=0.0)
    found = tune_pivots(generator, codes, targets, pooled_difference, params, [0, 1], starts=starts)
    for row, tuned in enumerate(found):
        with changed(generator, starts[row]):
            begun = generator.synthesis(codes[row : row + 1])
        expected = (begun - targets[row]).square().mean().item()
        assert tuned.losses[0].l2 == pytest.approx(expected, rel=1e-4)
        with changed(generator, tuned.delta):
            torch.testing.assert_close(generator.synthesis(codes[row : row + 1]), tuned.image, rtol=1e-3, atol=1e-3)
        assert (tuned.delta["convs.3.conv.weight"] - starts[row]["convs.3.conv.weight"]).abs().max() < 1e-3


def test_a_row_that_diverges_keeps_what_it_began_with() -> None:
    generator, codes, targets = toy(), torch.randn(1, 6, 8), torch.zeros(1, 3, 16, 16)
    start = {"convs.3.conv.weight": torch.full_like(generator.get_parameter("convs.3.conv.weight"), 0.1)}
    params = TuneParams(steps=3, lr=1e4, min_resolution=4, l2_weight=1.0, perceptual_weight=0.0)
    (tuned,) = tune_pivots(generator, codes, targets, pooled_difference, params, [0], starts=[start])
    assert isinstance(tuned, Tuned) and tuned.stop_reason == "diverged"
    assert tuned.delta == start
    with changed(generator, start):
        torch.testing.assert_close(tuned.image, generator.synthesis(codes))
