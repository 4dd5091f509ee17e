"""compose-dataset without its flow: plan, sources, shards with lineage, and mistakes told in a sentence."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from PIL import Image

from gan_core.checkpoints.files import Card, load_checkpoint, save_checkpoint
from gan_core.compose.base import OPERATIONS
from gan_core.errors import CheckpointError, DataError, ParamsError, UserError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.judges.extractors import EXTRACTORS
from gan_core.loading import model_tensors
from gan_core.metrics.frechet import frechet_distance, gather
from gan_core.params import MeasureParams, ModelPaths, check_params
from gan_core.recipes.base import plan_run
from gan_core.recipes.compose import summarise_compositions
from gan_core.recipes.compose_page import read_compositions
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage
from gan_core.stages.composition_distances import Distances
from gan_core.storage.images import to_tensor
from gan_core.storage.receipts import receipt_path
from gan_core.storage.shards import ShardWriter, latent_type, read_rows

PLAN: list[dict[str, Any]] = [
    {"operation": "panorama", "count": 2, "group": 4},
    {"operation": "interpolate", "sources": [["seed-3", "seed-1"]]},
    {"operation": "interpolate", "name": "side-by-side", "extended": True, "axis": "horizontal", "count": 1},
    {"operation": "extend", "count": 1, "mode": "reflect", "axis": "vertical"},
    {"operation": "translate", "alphas": [0.0, 0.5, 1.0], "count": 1},
    {"operation": "transfer", "boxes": [[0.2, 0.2, 0.4, 0.4]], "count": 1, "group": 2},
    {"operation": "swap", "into": [0, 0, 0.5, 0.5], "out_of": [0.5, 0, 0.5, 0.5], "count": 1},
]
SIZES = {
    "panorama": (256, 64),
    "interpolate": (64, 64),
    "side-by-side": (128, 64),
    "extend": (64, 128),
    "translate": (192, 64),
    "transfer": (64, 64),
    "swap": (64, 64),
}


@pytest.fixture
def plan(tiny_models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A parameter file with the plan above in the current folder; what it says."""
    monkeypatch.chdir(tmp_path)
    stored = load_checkpoint(tiny_models["generator"])
    tensors, card = stored.model, stored.card
    second = {name: t + 0.1 * torch.randn_like(t) if "conv.weight" in name else t for name, t in tensors.items()}
    save_checkpoint("second.safetensors", second, card)
    models = tiny_models | {"second_generator": "second.safetensors"}
    values = {"models": models, "compose": {"rows_per_shard": 5, "plan": PLAN}}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    return values


def run(source: str = "seeds:8", output: str = "out", **overrides: Any) -> dict[str, float]:
    run = plan_run(
        source, output, overrides={k.replace("__", "."): v for k, v in overrides.items()}, recipe="compose"
    ).begin()
    for shard in run.shards:
        run_stage(build_stage("compose", run.params, run.source), shard, run.output)
    return summarise_compositions(run)


def rows(output: str = "out") -> list[dict[str, Any]]:
    return [
        row for shard in sorted(Path(output, "compose").glob("*.parquet")) for part in read_rows(shard) for row in part
    ]


def opened(cell: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(cell["bytes"]))


def test_every_operation_is_tried_here() -> None:
    assert {entry["operation"] for entry in PLAN} == set(OPERATIONS.names())


def test_a_plan_becomes_shards_with_lineage(plan: dict[str, Any]) -> None:
    metrics = run()
    made = rows()
    assert [row["status"] for row in made] == ["ok"] * 8
    assert {row["name"]: opened(row["image"]).size for row in made} == SIZES
    assert made[2]["sources"] == ["seed-3", "seed-1"]
    assert all(len(set(row["sources"])) == len(row["sources"]) for row in made)
    assert opened(made[0]["inputs"]).size == (256, 64)
    assert set(metrics) == {"seam/panorama", "outside_change/transfer"}
    assert metrics["seam/panorama"] == pytest.approx(np.mean([row["seam"] for row in made[:2]]))
    assert json.loads(Path("out/summary.json").read_text())["rows"] == {"ok": 8}


def test_sets_are_held_against_their_sources(plan: dict[str, Any]) -> None:
    entries = [
        {"operation": "translate", "name": "moved", "alphas": [1.0], "count": 34},
        {"operation": "translate", "name": "sweep", "alphas": [0.0, 1.0], "count": 1},
    ]
    metrics = run(compose__plan=entries, compose__rows_per_shard=20, measure__metrics=["mse", "fid", "swd"])
    extractor = EXTRACTORS.get("toy-attr")(ModelPaths(**plan["models"]))
    assert extractor.dim < 34
    moved = [row for row in rows() if row["name"] == "moved"]
    made, sources = (
        gather(extractor.features(to_tensor([opened(row[c]) for row in moved])).detach().numpy())
        for c in ("image", "inputs")
    )
    assert metrics["fid/toy-attr/moved"] == pytest.approx(frechet_distance(sources, made), rel=1e-3)
    assert metrics["fid/toy-attr/moved"] > 0 and metrics["swd/mean/moved"] > 0
    assert not [name for name in metrics if "sweep" in name or "mse" in name]


@pytest.mark.parametrize(
    ("entry", "squares"),
    [
        ({"operation": "panorama", "group": 3, "count": 12}, 3),
        ({"operation": "panorama", "axis": "vertical", "group": 3, "count": 12}, 3),
        ({"operation": "extend", "count": 17}, 2),
    ],
)
def test_wide_pictures_are_held_against_their_sources_in_squares(
    plan: dict[str, Any], entry: dict[str, Any], squares: int
) -> None:
    metrics = run(compose__plan=[entry], compose__rows_per_shard=20, measure__metrics=["fid", "swd"])
    extractor, sets = EXTRACTORS.get("toy-attr")(ModelPaths(**plan["models"])), []
    for column in ("inputs", "image"):
        pictures = [np.asarray(opened(row[column])) for row in rows()]
        shape = (len(pictures), -1, 64, pictures[0].shape[1] // 64, 64, 3)
        parts = np.stack(pictures).reshape(shape).swapaxes(2, 3).reshape(-1, 64, 64, 3)
        sets.append(gather(extractor.features(to_tensor(list(parts))).detach().numpy()))
    assert sets[1]["n"] == squares * entry["count"]
    repeated = {name: value * (sets[1]["n"] / sets[0]["n"]) for name, value in sets[0].items()}
    found = metrics[f"fid/toy-attr/{entry['operation']}"]
    assert found == pytest.approx(frechet_distance(repeated, sets[1]), rel=1e-3)
    assert metrics[f"swd/mean/{entry['operation']}"] > 0


def test_too_few_for_a_distance_is_said(plan: dict[str, Any]) -> None:
    run(compose__plan=[{"operation": "swap", "into": [0, 0, 0.5, 0.5], "out_of": [0.5, 0, 0.5, 0.5], "count": 3}])
    omitted = json.loads(Path("out/summary.json").read_text())["omitted"]
    assert "there are 3" in omitted["fid/toy-attr/swap"] and "there are 3" in omitted["swd/mean/swap"]


def test_nothing_is_done_twice_and_the_same_plan_gives_the_same_bytes(plan: dict[str, Any]) -> None:
    run()
    receipts = {p: p.read_text() for p in sorted(Path("out").rglob("*.receipt.json"))}
    run()
    assert {p: p.read_text() for p in sorted(Path("out").rglob("*.receipt.json"))} == receipts
    run(output="again", compose__rows_per_shard=5)
    for shard in ("shard-00000.parquet", "shard-00001.parquet"):
        same = [
            json.loads(Path(receipt_path(f"{o}/compose/{shard}")).read_text())["output_sha256"]
            for o in ("out", "again")
        ]
        assert same[0] == same[1]


def test_another_plan_needs_update(plan: dict[str, Any]) -> None:
    run()
    with pytest.raises(ParamsError, match="holds another run"):
        run(compose__psi=0.5)


def encoded(folder: Path, n_latent: int = 10, w_dim: int = 16) -> str:
    with ShardWriter(folder / "shard-00000.parquet", [pa.field("latent", latent_type(n_latent, w_dim))]) as writer:
        for i in range(6):
            latent = np.random.default_rng(i).standard_normal((n_latent, w_dim)).astype(np.float32)
            ok = {"key": f"k{i}", "status": "ok", "reason": "", "stage": "encode", "latent": latent}
            bad = {"key": f"k{i}", "status": "no_face", "reason": "none seen", "stage": "align"}
            writer.write([bad if i == 2 else ok])
    return str(folder)


def test_rows_of_an_encoded_dataset_are_taken_and_failed_ones_said(plan: dict[str, Any], tmp_path: Path) -> None:
    source = encoded(tmp_path / "latents")
    entries = [{"operation": "interpolate", "sources": [["k0", "k1"], ["k0", "k2"]], "count": 3}]
    run(source, compose__plan=entries)
    first, broken, *drawn = rows()
    assert first["sources"] == ["k0", "k1"] and first["status"] == "ok"
    assert (broken["status"], broken["stage"], broken["reason"]) == ("bad_source", "plan", "k2 is no_face: none seen")
    assert all("k2" not in row["sources"] for row in drawn)
    found = read_compositions(plan_run(source, "out", overrides={"compose.plan": entries}, recipe="compose").run, 2)
    assert [row["key"] for row in found["interpolate"]] == ["interpolate/00000", "interpolate/00002"]


def test_boxes_come_from_a_column(plan: dict[str, Any], tmp_path: Path) -> None:
    fields = [pa.field("latent", latent_type(10, 16)), pa.field("part", pa.list_(pa.float64()))]
    with ShardWriter(tmp_path / "boxed/shard-00000.parquet", fields) as writer:
        for key, part in (
            ("a", [0.1, 0.1, 0.3, 0.3]),
            ("b", [0.5, 0.5, 0.4, 0.4]),
            ("c", None),
            ("d", [0.5, 0.5, 9, 1]),
        ):
            latent = np.random.default_rng(0).standard_normal((10, 16)).astype(np.float32)
            writer.write([{"key": key, "status": "ok", "reason": "", "stage": "x", "latent": latent, "part": part}])
    pairs = [["a", "b"], ["b", "a"], ["c", "a"], ["d", "a"]]
    run(str(tmp_path / "boxed"), compose__plan=[{"operation": "transfer", "column": "part", "sources": pairs}])
    made = rows()
    assert [row["status"] for row in made] == ["ok", "ok", "bad_source", "bad_composition"]
    assert made[0]["outside_change"] is not None
    assert made[2]["reason"] == "c has no boxes in the column part"
    assert "lies outside the image" in made[3]["reason"]
    with pytest.raises(ParamsError, match="seeds have no column 'part'"):
        run("seeds:4", "seeded", compose__plan=[{"operation": "transfer", "column": "part", "count": 1}])
    with pytest.raises(DataError, match="has no column prt"):
        run(str(tmp_path / "boxed"), "other", compose__plan=[{"operation": "transfer", "column": "prt", "count": 1}])
    assert not Path("other").exists() and not Path("seeded").exists()


BOX = [0.1, 0.1, 0.3, 0.3]


def test_a_malformed_box_is_its_own_rows_fault_and_another_type_of_column_that_of_all(
    plan: dict[str, Any], tmp_path: Path
) -> None:
    cells = {"a": [BOX], "b": [BOX, [0.5]], "c": [BOX, None], "d": [[None, 0.1, 0.3, 0.3]], "e": []}

    def boxed(name: str, kind: pa.DataType, cells: dict[str, Any]) -> str:
        fields = [pa.field("latent", latent_type(10, 16)), pa.field("part", kind)]
        with ShardWriter(tmp_path / name / "shard-00000.parquet", fields) as writer:
            for key, part in cells.items():
                latent = np.random.default_rng(0).standard_normal((10, 16)).astype(np.float32)
                writer.write([{"key": key, "status": "ok", "reason": "", "stage": "x", "latent": latent, "part": part}])
        return str(tmp_path / name)

    entry = {"operation": "transfer", "column": "part", "sources": [[key] for key in cells]}
    run(boxed("boxes", pa.list_(pa.list_(pa.float64())), cells), compose__plan=[entry])
    made = rows()
    assert [row["status"] for row in made] == ["ok"] + ["bad_composition"] * 4
    assert all("give left, top, width and height" in row["reason"] for row in made[1:])
    for name, kind, cell in (("texts", pa.list_(pa.string()), ["eyes"]), ("numbers", pa.float64(), 0.5)):
        with pytest.raises(DataError, match=r"the column 'part' of .* holds .*, not boxes"):
            run(boxed(name, kind, {"a": cell}), "other", compose__plan=[entry | {"sources": [["a"]]}])


def test_a_part_smaller_than_a_pixel_is_told(plan: dict[str, Any]) -> None:
    run(compose__plan=[{"operation": "transfer", "boxes": [[0.5, 0.5, 0.0001, 0.0001]], "count": 1, "group": 2}])
    (row,) = rows()
    assert row["status"] == "bad_composition" and "smaller than a pixel" in row["reason"]


def test_a_local_translation_takes_one_source_and_the_second_generator(plan: dict[str, Any]) -> None:
    entry = {"operation": "transfer", "boxes": [[0.2, 0.2, 0.4, 0.4]], "translated": True, "count": 1, "pose": "none"}
    run(compose__plan=[entry])
    (row,) = rows()
    assert len(row["sources"]) == 1
    assert row["outside_change"] < 1


def test_a_mask_says_where_the_second_source_shows(plan: dict[str, Any]) -> None:
    half = np.zeros((32, 32), np.uint8)
    Image.fromarray(half).save("black.png")
    half[:, :12] = 255
    Image.fromarray(half).save("left.png")
    entry = {"operation": "transfer", "mask": "left.png", "count": 1, "group": 2, "last_layer": 99}
    run(compose__plan=[entry])
    (row,) = rows()
    before, after = (np.asarray(opened(row[c]), np.int64)[:, :64] for c in ("inputs", "image"))
    change = np.abs(after - before).mean((0, 2))
    assert change[:16].mean() > 5 * change[48:].mean()
    Path("notes.png").write_text("no picture")
    for name, said in (("black.png", "mask is empty"), ("notes.png", "mask notes.png"), ("none.png", "no such file")):
        with pytest.raises(ParamsError, match=said):
            run(output="other", compose__plan=[entry | {"mask": name}])


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], "compose.plan is empty"),
        ([{"operation": "panorama", "count": 1, "group": 1}], "panorama takes 2 or more sources, not 1"),
        ([{"operation": "interpolate", "sources": [["seed-1"]]}], "interpolate takes 2 sources, not 1"),
        ([{"operation": "interpolate", "sources": [["seed-1", "seed-99"]]}], "no source 'seed-99'; did you mean"),
        ([{"operation": "panorama", "count": 1, "group": 20}], "needs 20 different sources, and there are 8"),
        ([{"operation": "extend"}], "extend has no sources"),
        ([{"operation": "extend", "count": 1}] * 2, "extend is planned more than once"),
        ([{"operation": "panorma", "count": 1}], "unknown operation 'panorma'; did you mean 'panorama'"),
        ([{"operation": "panorama", "grop": 3}], r"unknown key compose.plan.0.grop; did you mean 'group'"),
        ([{"operation": "transfer", "boxes": [[0.5, 0, 0.9, 1]], "count": 1}], "compose: transfer: box .* outside"),
        ([{"operation": "transfer", "name": "a", "boxes": ["eye"], "count": 1}], "a: unknown box.* mean 'eyes'"),
        ([{"operation": "panorama", "count": 1, "group": 3, "smoothing": 1e9}], "smoothing"),
        ([{"operation": "transfer", "count": 1}], "takes boxes, or a column"),
        ([{"operation": "translate", "alphas": [2.0], "count": 1}], "alphas"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    plan: dict[str, Any], entries: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        run(compose__plan=entries)
    assert not Path("out").exists()


def test_a_shorter_plan_leaves_no_shard_of_the_one_before(plan: dict[str, Any]) -> None:
    run(compose__plan=[{"operation": "extend", "count": 8}])
    assert len(list(Path("out/plan").glob("*.parquet"))) == 2
    Path("out/plan/mine.parquet").write_bytes(b"mine")
    shorter = {"compose.plan": [{"operation": "extend", "count": 2}]}
    plan_run("seeds:8", "out", overrides=shorter, recipe="compose", update=True).begin()
    assert {path.name for path in Path("out/plan").glob("*.parquet")} == {"shard-00000.parquet", "mine.parquet"}


def test_sources_that_cannot_be_used_are_told(plan: dict[str, Any], tiny_dataset: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="write seeds:NUMBER"):
        run("seeds:many")
    for many in ("seeds:99999999999", "seeds:1@" + 30 * "9", "seeds:" + 90 * "9", "seeds:0", "seeds:²"):
        with pytest.raises(ParamsError, match=r"write seeds:NUMBER .* with at most 1,000,000"):
            run(many)
    with pytest.raises(DataError, match="has no column latent"):
        run(tiny_dataset)
    with pytest.raises(DataError, match="no dataset at nowhere"):
        run("nowhere")


def test_a_second_generator_of_another_first_one_is_refused(plan: dict[str, Any], tiny_models: dict[str, str]) -> None:
    stored = load_checkpoint("second.safetensors")
    tensors, card = stored.model, stored.card
    save_checkpoint("second.safetensors", tensors, card.model_copy(update={"generator_sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match="was made for the generator 000000000000"):
        run()


def test_a_second_generator_of_another_layout_is_refused(plan: dict[str, Any]) -> None:
    other = StyleGAN2(16, style_dim=16, n_mlp=2, channels={4: 16, 8: 16, 16: 8})
    card = Card(kind="generator", name="stylegan2", arguments=other.arguments, made_by="t", licence="", source="")
    save_checkpoint("second.safetensors", model_tensors(other), card)
    with pytest.raises(CheckpointError, match="do not share a layout"):
        run()


def test_the_projects_plan_is_valid() -> None:
    root = Path(__file__).parents[3]
    plan = check_params(yaml.safe_load((root / "params.yaml").read_text())).compose.plan
    assert {spec.operation for spec in plan} == set(OPERATIONS.names())


def test_metrics_of_one_set_are_left_out_of_distances() -> None:
    params = MeasureParams(metrics=["mse", "swd", "identity-pairs"], swd_images=4)
    assert list(Distances(params, ModelPaths()).metrics) == ["swd"]
