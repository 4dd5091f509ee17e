"""Every registered stage, edit kind, composition, translation task and landmark source, as on the CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from gan_core.align.landmarks import LANDMARK_SOURCES
from gan_core.checkpoints.files import load_checkpoint, save_checkpoint
from gan_core.device import computing, fetch, on_host, place
from gan_core.edits.base import EDIT_KINDS
from gan_core.loading import load_generator
from gan_core.params import ModelPaths, TuneParams, check_params
from gan_core.recipes.base import RECIPES, plan_run, recipe_of
from gan_core.rows import Row
from gan_core.runs.run import Run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import STAGES
from gan_core.stages.edit import EditStage
from gan_core.stages.translate import TranslateStage
from gan_core.stages.tune import TuneStage
from gan_core.storage.receipts import Receipt, read_statistics
from gan_core.storage.shards import read_rows
from gan_core.translation.tasks import TASKS
from tests.device.fakegpu import NAME
from tests.device.pretended.conftest import NEEDS_BFLOAT16, check_same, compare, there
from tests.gan_core.inversion.test_hybrid import hybrid_stage
from tests.gan_core.stages.test_compose_stage import PLAN
from tests.gan_core.test_contracts import LANDMARK_NETWORKS, SMALL_EDITS, _checkpoint, rows_by_key
from tests.gan_core.translation.test_translate_stage import variants

TUNED = {
    "a-pivot-in-w": {"pivot": "w", "pivot_steps": 2},
    "a-pivot-in-w-plus": {"pivot": "w_plus", "pivot_steps": 1, "persist": "full"},
    "all-weights": {"min_resolution": 4},
    "fast": {"precision": "fast"},
    "locality": {"locality_weight": 0.1},
    "shared": {"shared": True},
}


def read(url: str) -> list[Row]:
    return [row for part in read_rows(url) for row in part]


@pytest.fixture
def world(
    tiny_models: dict[str, str], translators: ModelPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Parameters of runs that go through every stage, in the current folder."""
    monkeypatch.chdir(tmp_path)
    stored = load_checkpoint(tiny_models["generator"])
    second = {n: t + 0.1 * torch.randn_like(t) if "conv.weight" in n else t for n, t in stored.model.items()}
    save_checkpoint("second.safetensors", second, stored.card)
    edits = [{"direction": "smile", "strengths": [1]}]
    return {
        "run": {"batch_size": 2},
        "models": translators.model_dump() | {"second_generator": "second.safetensors"},
        "tune": {"steps": 1},
        "edits": edits,
        "compose": {"rows_per_shard": 3, "plan": [entry | {"count": 1} for entry in PLAN]},
        "translate": {"task": "super-resolution"},
        "paste": {"enabled": True},
        "measure": {"swd_images": 4},
    }


def shards(recipe: str, sample: str, dataset: str) -> str:
    return {"compose": "seeds:6", "translate": sample}.get(recipe, dataset)


def test_the_recipes_go_through_every_stage(world: dict[str, Any]) -> None:
    params = check_params(world)
    assert {name for _, recipe in RECIPES for name in recipe().stages(params)} == set(STAGES.names())


SLOW_RECIPES = {"photographs"}
"""Their pictures are large; their stages are those of other recipes, and the cascade has a test of its own."""


@pytest.mark.parametrize(
    "recipe", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW_RECIPES else []) for n in RECIPES.names()]
)
def test_runs_of_every_recipe(recipe: str, world: dict[str, Any], sample: str, tiny_dataset: str) -> None:
    def run() -> Any:
        device = computing().kind
        Path("params.yaml").write_text(yaml.safe_dump(world | {"run": world["run"] | {"device": device}}))
        made = plan_run(shards(recipe, sample, tiny_dataset), f"{recipe}-{device}", recipe=recipe).begin()
        return [found for name in made.stages for found in finish(made, name)]

    check_same(run, 1e-3)


def finish(run: Run, name: str) -> list[Any]:
    """Take the first shard through a stage; return what its receipt, rows and statistics say."""
    stage = recipe_of(run).build_stage(name, run.params, run.source)
    receipt, url = run_stage(stage, run.shards[0], run.output), run.shard(name, run.shards[0])
    assert receipt.device == run.params.run.device
    return [receipt.rows, receipt.flags, receipt.identity, read(url), read_statistics(url)]


@pytest.mark.parametrize(
    ("name", "tuned"),
    [
        *((name, False) for name in EDIT_KINDS.names()),
        *(pytest.param(n, True, marks=[pytest.mark.slow] if n != "direction" else []) for n in EDIT_KINDS.names()),
    ],
)
def test_edit_kinds(name: str, tuned: bool, models: ModelPaths) -> None:
    params = check_params({"edits": [SMALL_EDITS[name] | {"kind": name}]})

    def edit() -> Any:
        stage = EditStage(params.edits, models, tuned, latents_of=lambda keys: place(rows_by_key(keys, models)))
        with on_host():
            codes = rows_by_key(["a.png", "b.png"], models)
        rows = [{"key": key, "latent": code.numpy(), "delta": b""} for key, code in zip("ab", codes, strict=True)]
        return [stage.identity(), stage.process(rows)]

    check_same(edit)


SLOW_TASKS = {"super-resolution", "segmentation", "toonify"}
"""Tasks whose pictures go the way of those of another one."""


@pytest.mark.parametrize(
    "task", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW_TASKS else []) for n in TASKS.names()]
)
def test_translation_tasks(task: str, build: Callable[..., TranslateStage], rows: list[Row]) -> None:
    check_same(lambda: build(task, variants=variants()).process(rows[:4]), 1e-3)


@pytest.mark.parametrize(
    "changes",
    [pytest.param(changes, marks=[NEEDS_BFLOAT16] if name == "fast" else []) for name, changes in TUNED.items()],
    ids=TUNED,
)
def test_tuning(changes: dict[str, Any], models: ModelPaths, aligned_rows: list[Row]) -> None:
    params = TuneParams(**({"steps": 2} | changes))

    def tune() -> Any:
        generator = load_generator(models.generator).model
        latent = fetch(generator.broadcast(generator.latent_avg[None])[0])
        rows = [row | {"latent": latent} for row in aligned_rows[:2]]
        return TuneStage(params, models).process(rows)

    check_same(tune, 0.02 if params.precision == "fast" else 1e-4)


def test_hybrid_refinement(models: ModelPaths, aligned_rows: list[Row]) -> None:
    def refine() -> Any:
        generator = load_generator(models.generator).model
        latent = fetch(generator.broadcast(generator.latent_avg[None])[0])
        return hybrid_stage(models).process([row | {"latent": latent} for row in aligned_rows[:1]])

    check_same(refine)


@pytest.mark.parametrize("name", LANDMARK_SOURCES.names())
def test_landmark_sources(name: str, tmp_path: Path) -> None:
    if name.startswith("dlib"):
        pytest.skip("dlib computes on the CPU, without torch")
    if name in {"mtcnn", "facemesh"}:
        pytest.skip("the weights are in packages; test_the_cascade_that_finds_faces has the cascade with random ones")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    row = {"key": "a.png", "landmarks": np.array([[20, 30], [44, 30], [32, 40], [24, 50], [40, 50]], np.float32)}

    def find() -> Any:
        return LANDMARK_SOURCES.get(name)(_checkpoint(LANDMARK_NETWORKS[name], tmp_path)).landmarks(image, dict(row))

    compare(find(), there(find), 1e-4)


@pytest.mark.parametrize("first", ["cpu", pytest.param(NAME, marks=pytest.mark.slow)])
def test_a_run_goes_on_on_another_device(first: str, world: dict[str, Any], tiny_dataset: str) -> None:
    """The device is no part of the key: what is finished stays, and receipts say what made each shard."""
    (second,) = {"cpu", NAME} - {first}

    def advance(device: str, shards: int) -> list[Receipt]:
        Path("params.yaml").write_text(yaml.safe_dump(world | {"run": {"batch_size": 2, "device": device}}))
        run = plan_run(tiny_dataset, "run", overrides={"tune.enabled": False}).begin()
        stages = [recipe_of(run).build_stage(name, run.params, run.source) for name in run.stages]
        return [run_stage(stage, shard, run.output) for shard in run.shards[:shards] for stage in stages]

    begun = there(lambda: advance(first, 1))
    finished = there(lambda: advance(second, 2))
    assert [receipt.device for receipt in finished] == [first] * len(begun) + [second] * len(begun)
    assert [receipt.reused for receipt in finished] == [True] * len(begun) + [False] * len(begun)
    assert [receipt.output_sha256 for receipt in finished[: len(begun)]] == [r.output_sha256 for r in begun]
