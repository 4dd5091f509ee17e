"""Rows that the generator can't draw: told in summary and report, flagged or rejected as the parameters say."""

import io
import json
import re
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from flows import cli
from flows.inspection import describe
from gan_core.errors import ParamsError
from gan_core.judges.domain import FLAG, write_domains
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.recipes.outliers import fit_domain
from gan_core.report import write_report
from gan_core.runs.run import Run, load_run
from gan_core.runs.summary import describe_outliers
from gan_core.storage.images import image_value, to_uint8
from gan_core.storage.shards import IMAGE, ShardWriter, shard_name
from gan_core.toy.renderer import render, sample_factors
from tests.conftest import write_dataset

ROOT = Path(__file__).parents[3]
QUICK: dict[str, Any] = {"tune.enabled": False, "edits": [], "measure.metrics": ["lpips", "mse"]}


def measured(source: str, output: str, **overrides: Any) -> Run:
    """Run a dataset without tuning and edits."""
    plan = plan_run(source, output, overrides=QUICK | overrides, update=True)
    run_plain(plan)
    return plan.run


def rows_of(run: Run, stage: str) -> list[dict[str, Any]]:
    """Key, status and reason of all rows after a stage."""
    tables = [pq.read_table(path, columns=["key", "status", "reason"]) for path in run.stage_shards(stage)]
    return [row for table in tables for row in table.to_pylist()]


def summary(run: Run) -> dict[str, Any]:
    """What ``summary.json`` has of a run."""
    told: dict[str, Any] = json.loads(Path(run.path("summary.json")).read_text())
    return told


@pytest.fixture(scope="module")
def portraits(tiny_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset ``ds`` of 8 portraits and a finished run ``before`` of it. Copy it."""
    folder = tmp_path_factory.mktemp("portraits")
    with chdir(folder):
        Path("params.yaml").write_text(yaml.safe_dump({"models": tiny_models, "measure": {"swd_images": 4}}))
        measured(write_dataset(Path("ds"), (5, 3)), "before")
    return folder


@pytest.fixture
def judged(project: Path, portraits: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, list[str]]:
    """A run of portraits whose encoder has a limit that three of them are beyond, farthest first."""
    monkeypatch.setattr("gan_core.judges.domain.FEWEST", 5)
    shutil.copytree(portraits, project, ignore=shutil.ignore_patterns("params.yaml"), dirs_exist_ok=True)
    run = load_run("before")
    domain = fit_domain(run)
    assert [limit.score for limit in domain.limits] == ["lpips/toy", "mse"]
    frames = [pq.read_table(path, columns=["key", "lpips/toy/encoded"]) for path in run.stage_shards("measure")]
    values = {r["key"]: v for f in frames for r in f.to_pylist() if (v := r["lpips/toy/encoded"]) is not None}
    order = sorted(values, key=lambda key: -values[key])
    assert domain.limits[0].limit == pytest.approx(values[order[0]])
    lower = domain.limits[0].model_copy(update={"limit": (values[order[2]] + values[order[3]]) / 2})
    write_domains("data/models/domain.json", [domain.model_copy(update={"limits": (lower, domain.limits[1])})])
    return run, order[:3]


def test_summary_report_and_inspection_tell_of_the_rows_and_no_shard_changes(judged: tuple[Run, list[str]]) -> None:
    before, beyond = judged
    assert summary(before)[FLAG] == {"why": "data/models/domain.json knows nothing of this encoder"}
    run = measured(before.source, "before")
    assert [run.require_receipt("measure", s).reused for s in run.shards] == [False, False]
    told = summary(run)[FLAG]
    assert ([row["key"] for row in told["farthest"]], told["rows"]) == (beyond, 3)
    assert summary(run)["flags"] == {FLAG: 3}
    assert {row["reason"] for row in rows_of(run, "measure") if row["status"] == "ok"} == {""}
    page = Path(write_report(run)).read_text()
    assert "Out of domain" in page and "Out of domain: 3." in page and "do not trust their edits" in page
    assert f"lpips/toy {told['farthest'][0]['value']:.3g}" in page
    limit = f"lpips/toy above {told['limit']:.3g}"
    drawn = "what the generator (random weights) can draw"
    (line,) = (line for line in describe("before") if FLAG in line)
    ok = summary(run)["rows"]["ok"]
    assert line == f"  {FLAG}: 3 of {ok} finished rows are probably not {drawn}, {limit}: {', '.join(beyond)}"


def test_a_run_of_other_pictures_says_what_to_do() -> None:
    told = {
        "rows": 3,
        "score": "lpips/toy",
        "limit": 0.1366,
        "generator": "trained on x",
        "farthest": [{"key": "a.png"}],
    }
    line, advice = describe_outliers({"rows": {"ok": 5}, FLAG: told})
    assert line == (
        "out_of_domain: 3 of 5 finished rows are probably not what the generator (trained on x) can draw, "
        "lpips/toy above 0.137: a.png"
    )
    assert "models.generator and models.encoder" in advice
    assert len(list(describe_outliers({"rows": {"ok": 6}, FLAG: told}))) == 1
    assert list(describe_outliers({"rows": {"ok": 6}, FLAG: {"why": "it has no limit"}})) == [
        "out_of_domain: no row was judged: it has no limit"
    ]
    assert list(describe_outliers({"rows": {}, "metrics": {}})) == []


@pytest.mark.parametrize("choice", ["flag", "reject"])
def test_rows_are_flagged_or_rejected_where_the_parameters_say_so(judged: tuple[Run, list[str]], choice: str) -> None:
    before, beyond = judged
    run = measured(before.source, "after", **{"encode.out_of_domain": choice})
    assert run.identities["encode"] != before.identities["encode"]
    for stage in ("encode", "measure"):
        found = [row for row in rows_of(run, stage) if FLAG in (row["status"], row["reason"].partition(":")[0])]
        assert {row["key"] for row in found} == set(beyond)
        assert {row["status"] for row in found} == ({FLAG} if choice == "reject" else {"ok"})
    assert "of its reconstruction is" in found[0]["reason"]
    assert summary(run).get("flags", {}) == ({} if choice == "reject" else {FLAG: 3})


def test_without_a_limit_nothing_can_be_rejected(project: Path) -> None:
    dataset = write_dataset(project / "ds", (2,))
    with pytest.raises(ParamsError, match="has no limit of lpips/toy for this encoder: `edit-dataset calibrate RUN`"):
        plan_run(dataset, "out", overrides={"encode.out_of_domain": "reject"})


def test_without_the_score_nothing_is_judged(judged: tuple[Run, list[str]]) -> None:
    run = measured(judged[0].source, "psnr", **{"measure.metrics": ["psnr"]})
    assert summary(run)[FLAG] == {"why": "none of lpips/toy, mse was measured"}
    run = measured(judged[0].source, "mse", **{"measure.metrics": ["mse"]})
    assert summary(run)[FLAG]["score"] == "mse"


def draw(kind: str) -> Image.Image:
    """Pictures that are no faces: a rocket before the sky, the back of an eye, text, noise, a plain area."""
    image = Image.new("RGB", (128, 128), {"rocket": "#7799cc", "retina": "black", "text": "white"}.get(kind, "grey"))
    pen = ImageDraw.Draw(image)
    if kind == "rocket":
        pen.polygon([(64, 8), (52, 36), (52, 100), (76, 100), (76, 36)], "white")
        pen.polygon([(52, 100), (76, 100), (64, 126)], "orange")
    elif kind == "retina":
        pen.ellipse((6, 6, 122, 122), "#b04818")
        pen.ellipse((30, 50, 48, 70), "#f0c060")
        for x in range(50, 120, 12):
            pen.line((40, 60, x, 128 - x), "#601008", 2)
    elif kind == "text":
        for y in range(4, 128, 10):
            pen.text((4, y), "the quick brown fox jumps", "black")
    elif kind == "noise":
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))
    return image


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG."""
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def test_a_rocket_and_a_retina_are_out_of_the_domain_and_portraits_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    others = {name: draw(name) for name in ("rocket", "retina", "text", "noise", "plain")}
    pixels = to_uint8(render(sample_factors(range(40_000_000, 40_000_004))).image)
    faces = {f"face-{i}": Image.fromarray(face) for i, face in enumerate(pixels)}
    base = {"status": "ok", "reason": "", "stage": "source"}
    with ShardWriter(f"{tmp_path}/ds/{shard_name(0)}", [pa.field("image", IMAGE)]) as writer:
        for key, image in (others | faces).items():
            writer.write([base | {"key": key, "image": image_value(png(image), key)}])
    run = measured(
        f"{tmp_path}/ds", f"{tmp_path}/out", **{"align.landmarks": "centre", "encode.out_of_domain": "reject"}
    )
    assert {row["key"] for row in rows_of(run, "encode") if row["status"] == FLAG} == set(others)
    assert {row["key"] for row in rows_of(run, "measure") if row["status"] == "ok"} == set(faces)


def test_a_new_limit_is_told_with_the_one_that_it_replaces(judged: tuple[Run, list[str]]) -> None:
    run, _ = judged
    old = json.loads(Path("data/models/domain.json").read_text())[0]["limits"][0]["limit"]
    said = CliRunner().invoke(cli.app, ["calibrate", run.output]).output
    assert re.search(rf"lpips/toy above [\d.e-]+ is out of domain \(7 rows, was {old:.3g}\)", said)
