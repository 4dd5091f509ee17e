"""The edit stage renders the edits of a plan: right columns, right pictures, own generator for each tuned row."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from gan_core.checkpoints.files import Card, file_sha256, save_checkpoint
from gan_core.editing.directions import Direction, load_directions, save_directions
from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import EDIT_KINDS, EditSetting, ImageEdit
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.delta import pack_delta
from gan_core.loading import load_generator, model_tensors
from gan_core.params import EditParams, EditSpec, ModelPaths, check_params
from gan_core.rows import Rejected, Row
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import Stage
from gan_core.stages.edit import EditStage
from gan_core.storage.images import to_uint8
from gan_core.storage.receipts import content_key
from gan_core.storage.shards import ShardWriter, latent_type, read_rows

PLAN = [EditParams(direction="smile", strengths=[-1, 1.5]), EditParams(direction="yaw", strengths=[1], layers=(0, 2))]
COLUMNS = ["smile@-1", "smile@+1.5", "yaw@+1"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelPaths:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    generator = StyleGAN2(16, style_dim=8, n_mlp=1, channels={4: 8, 8: 8, 16: 8})
    card = Card(
        kind="generator", name="stylegan2", arguments=generator.arguments, made_by="test", licence="none", source="test"
    )
    path = folder / "generator.safetensors"
    save_checkpoint(path, model_tensors(generator), card)
    found = [
        Direction("smile", torch.randn(8), file_sha256(path), layers=(2, 6)),
        Direction("yaw", torch.randn(8), file_sha256(path)),
    ]
    save_directions(folder / "directions.safetensors", found, "test")
    return ModelPaths(generator=str(path), directions=str(folder / "directions.safetensors"))


def latents(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 6, 8)).astype(np.float32)


def rows_of(w_plus: np.ndarray, deltas: Sequence[bytes] | None = None) -> list[Row]:
    rows: list[Row] = [{"key": f"k{i}", "latent": latent} for i, latent in enumerate(w_plus)]
    return [row | {"delta": delta} for row, delta in zip(rows, deltas, strict=True)] if deltas else rows


def vector(models: ModelPaths, name: str) -> torch.Tensor:
    return load_directions(models.directions).model[name].vector


def in_layers(vector: torch.Tensor, first: int, last: int) -> torch.Tensor:
    return vector * ((torch.arange(6) >= first) & (torch.arange(6) < last))[:, None]


def pixels(cell: Row) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cell["bytes"])))


def rendered(models: ModelPaths, w_plus: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return to_uint8(load_generator(models.generator).model.synthesis(w_plus))


def test_each_column_is_its_edit_rendered(models: ModelPaths) -> None:
    stage = EditStage(PLAN, models, tuned=False)
    w_plus = latents(3)
    result = stage.process(rows_of(w_plus))
    assert [list(row) for row in result] == [COLUMNS] * 3
    expected = torch.from_numpy(w_plus)
    expected[:, 2:6] += 1.5 * vector(models, "smile")
    for row, picture in zip(result, rendered(models, expected), strict=True):
        assert np.abs(pixels(row["smile@+1.5"]).astype(int) - picture).max() <= 1


def test_layers_of_the_plan_reach_the_pictures(models: ModelPaths) -> None:
    stage = EditStage(PLAN, models, tuned=False)
    expected = torch.from_numpy(latents(1))
    expected[:, :2] += vector(models, "yaw")
    picture = pixels(stage.process(rows_of(latents(1)))[0]["yaw@+1"])
    assert np.abs(picture.astype(int) - rendered(models, expected)[0]).max() <= 1


def test_a_tuned_row_is_rendered_by_its_own_generator_and_the_next_is_not(models: ModelPaths) -> None:
    delta = pack_delta({"to_rgbs.1.bias": torch.full((1, 3, 1, 1), 0.4)})
    w_plus = np.repeat(latents(1), 3, axis=0)
    first, tuned, last = EditStage(PLAN, models, tuned=True).process(rows_of(w_plus, [b"", delta, b""]))
    assert first["smile@-1"]["bytes"] == last["smile@-1"]["bytes"]
    plain = rendered(models, torch.from_numpy(latents(1)) - in_layers(vector(models, "smile"), 2, 6))[0]
    brighter = np.minimum(plain + 0.4 * 127.5, 255)
    assert np.abs(pixels(first["smile@-1"]).astype(int) - plain).max() <= 1
    assert np.abs(pixels(tuned["smile@-1"]) - brighter)[plain > 0].max() <= 2


def test_pictures_do_not_depend_on_the_batch(models: ModelPaths) -> None:
    stage, w_plus = EditStage(PLAN, models, tuned=False), latents(4)
    alone = [stage.process(rows_of(w_plus[i : i + 1]))[0] for i in range(4)]
    for one, row in zip(alone, stage.process(rows_of(w_plus)), strict=True):
        for column in COLUMNS:
            assert np.abs(pixels(one[column]).astype(int) - pixels(row[column])).max() <= 1


def test_a_latent_that_is_not_finite_is_rejected_alone(models: ModelPaths) -> None:
    w_plus = latents(3)
    w_plus[1, 0, 0] = np.nan
    good, bad, other = EditStage(PLAN, models, tuned=False).process(rows_of(w_plus))
    assert isinstance(bad, Rejected)
    assert bad.status == "bad_latent"
    assert list(good) == list(other) == COLUMNS


def test_an_edit_that_overflows_is_rejected_by_name(models: ModelPaths) -> None:
    plan = [EditParams(direction="smile", strengths=[1e39])]
    (row,) = EditStage(plan, models, tuned=False).process(rows_of(latents(1)))
    assert isinstance(row, Rejected)
    assert (row.status, row.reason) == ("bad_edit", "smile@+1e+39 gives an image with NaN or infinity")


def test_an_empty_plan_makes_no_columns(models: ModelPaths) -> None:
    stage = EditStage([], models, tuned=False)
    assert stage.fields == []
    assert stage.process(rows_of(latents(2))) == [{}, {}]


@pytest.mark.parametrize(
    "plan",
    [
        [EditParams(direction="smile", strengths=[-1, 2]), PLAN[1]],
        [PLAN[0].model_copy(update={"layers": (1, 6)}), PLAN[1]],
        PLAN[:1],
    ],
)
def test_another_plan_is_other_work(models: ModelPaths, plan: list[EditParams]) -> None:
    keys = {content_key("edit", "1", EditStage(p, models, tuned=False).identity(), {}) for p in (PLAN, plan)}
    assert len(keys) == 2


def test_the_identity_names_the_files_that_it_read(models: ModelPaths) -> None:
    identity = EditStage(PLAN, models, tuned=True).identity()
    assert identity["generator"] == file_sha256(models.generator)
    assert identity["directions"] == file_sha256(models.directions)
    assert identity["tuned"] is True


def test_an_unknown_direction_is_refused_before_any_work(models: ModelPaths) -> None:
    with pytest.raises(ParamsError, match="unknown direction 'smil'; did you mean 'smile'"):
        EditStage([EditParams(direction="smil", strengths=[1])], models, tuned=False)


def test_layers_beyond_the_generator_are_refused_before_any_work(models: ModelPaths) -> None:
    with pytest.raises(ParamsError, match=r"layers \[2, 9\] of 'smile'"):
        EditStage([PLAN[0].model_copy(update={"layers": (2, 9)})], models, tuned=False)


@pytest.fixture
def negative() -> Iterator[None]:
    """A kind of edit from elsewhere, that draws in its own way."""

    class NegativeSpec(EditSpec):
        kind: Literal["negative"] = "negative"
        share: float = 1.0

    class Negative(ImageEdit):
        spec = NegativeSpec

        def __init__(self, spec: NegativeSpec, setting: EditSetting) -> None:
            self.share = spec.share

        @classmethod
        def plan(cls, spec: NegativeSpec) -> list[PlannedEdit]:
            return [PlannedEdit(spec, f"negative@{spec.share:g}")]

        def describe(self, picture: PlannedEdit) -> dict[str, Any]:
            return {"share": self.share}

        def draw(
            self, generator: Generator, w_plus: torch.Tensor, rows: Sequence[Row], picture: PlannedEdit
        ) -> torch.Tensor:
            return -self.share * generator.synthesis(w_plus)

    EDIT_KINDS.register("negative")(Negative)
    yield
    del EDIT_KINDS._items["negative"]


@pytest.mark.usefixtures("negative")
@pytest.mark.parametrize("tuned", [False, True])
def test_another_kind_stands_in_the_same_plan(models: ModelPaths, tuned: bool) -> None:
    params = check_params({"edits": [{"kind": "negative", "share": 0.5}, PLAN[0].model_dump()]})
    assert [edit["kind"] for edit in params.model_dump()["edits"]] == ["negative", "direction"]
    assert check_params(params.model_dump()) == params
    stage = EditStage(params.edits, models, tuned)
    assert [entry["column"] for entry in stage.identity()["plan"]] == ["negative@0.5", "smile@-1", "smile@+1.5"]
    delta = pack_delta({"to_rgbs.1.bias": torch.full((1, 3, 1, 1), 0.4)})
    plain, bright = stage.process(rows_of(np.repeat(latents(1), 2, axis=0), [b"", delta]))
    drawn = load_generator(models.generator).model.synthesis(torch.from_numpy(latents(1)))
    assert np.abs(pixels(plain["negative@0.5"]).astype(int) - to_uint8(-0.5 * drawn)[0]).max() <= 1
    assert np.abs(pixels(bright["negative@0.5"]).astype(int) - to_uint8(-0.5 * (drawn + 0.4 * tuned))[0]).max() <= 1
    alone = EditStage(PLAN[:1], models, tuned).process(rows_of(np.repeat(latents(1), 2, axis=0), [b"", delta]))[1]
    assert bright["smile@-1"]["bytes"] == alone["smile@-1"]["bytes"]


@pytest.mark.usefixtures("negative")
def test_mistakes_in_another_kind_are_named(models: ModelPaths) -> None:
    with pytest.raises(ParamsError, match=r"unknown key edits.1.shar; did you mean 'share'"):
        check_params({"edits": [{"direction": "smile", "strengths": [1]}, {"kind": "negative", "shar": 1}]})
    with pytest.raises(ParamsError, match=r"edits.0.share: .*valid number.*\(got 'all'\)"):
        check_params({"edits": [{"kind": "negative", "share": "all"}]})
    with pytest.raises(ParamsError, match="unknown edit kind 'negativ'; did you mean 'negative'"):
        check_params({"edits": [{"kind": "negativ"}]})


@pytest.mark.usefixtures("negative")
@pytest.mark.parametrize("tuned", [False, True])
def test_an_edit_that_gives_another_shape_is_named(
    models: ModelPaths, tuned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = check_params({"edits": [{"kind": "negative", "share": 0.5}]}).edits
    drawing, moving = EditStage(spec, models, tuned), EditStage(PLAN[:1], models, tuned)
    monkeypatch.setattr(type(drawing.kinds[0]), "draw", lambda *given: torch.zeros(3, 16, 16))
    monkeypatch.setattr(type(moving.kinds[0]), "edit", lambda _, w_plus, *given: w_plus[:, :2])
    with pytest.raises(
        ParamsError, match=r"edits: negative@0.5 \(.*Negative\) gives \[3, 16, 16\], and \[1, 3, H, W\]"
    ):
        drawing.process(rows_of(latents(1), [b""]))
    with pytest.raises(ParamsError, match=r"edits: smile@-1 \(.*\) gives \[2, 2, 8\], and \[2, 6, 8\] is needed"):
        moving.process(rows_of(latents(2), [b"", b""]))


class FakeEncode(Stage):
    """Gives every row the same latent."""

    name: ClassVar[str] = "encode"
    inputs: tuple[str, ...] = ("source",)
    fields: Sequence[pa.Field] = (pa.field("latent", latent_type(6, 8)),)
    batch_size = 2

    def __init__(self, source: str) -> None:
        self.source = source

    def identity(self) -> dict[str, Any]:
        return {}

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        return [{"latent": latents(1)[0]} for _ in rows]


def test_a_shard_goes_through_with_its_rejected_rows(models: ModelPaths, tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "source/shard-00000.parquet", []) as writer:
        statuses = enumerate(["ok", "no_face", "ok"])
        writer.write([{"key": f"k{i}", "status": s, "reason": "", "stage": "import"} for i, s in statuses])
    run_stage(FakeEncode(str(tmp_path / "source")), "shard-00000.parquet", tmp_path / "out")
    receipt = run_stage(EditStage(PLAN, models, tuned=False), "shard-00000.parquet", tmp_path / "out")
    rows = [row for rows in read_rows(tmp_path / "out/edit/shard-00000.parquet") for row in rows]
    assert receipt.rows == {"no_face": 1, "ok": 2}
    assert [(row["status"], row["stage"]) for row in rows] == [("ok", "edit"), ("no_face", "import"), ("ok", "edit")]
    assert rows[1]["smile@-1"] is None
    assert pixels(rows[2]["yaw@+1"]).shape == (16, 16, 3)
