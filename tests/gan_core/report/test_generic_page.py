"""What another package brings has a page: its recipe, its metric and its stage, in their own words."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan_core.meaning import Meaning
from gan_core.metrics.base import METRICS, RowMetric
from gan_core.pages.rows import explainer
from gan_core.params import EditSpec, Params
from gan_core.recipes.base import RECIPES, Recipe
from gan_core.report import write_report
from gan_core.rows import Row
from gan_core.runs.run import Run, begin_run
from gan_core.runs.stage import STAGES, Stage
from gan_core.storage.receipts import read_receipt, write_receipt
from gan_core.storage.urls import hash_file

SHARPNESS = Meaning("Sharpness", "px", "higher", 1, "How fine the lines are.")


class Sharpness(RowMetric):
    """A metric of another package."""

    name = "sharpness"
    meaning = SHARPNESS


class Sharpen(Stage):
    """A stage of another package, with a score of its own."""

    name = "sharpen"
    meanings = MappingProxyType({"halo": Meaning("Halo", better="lower", digits=1, sentence="Light around edges.")})

    def identity(self) -> Row:
        return {}

    def process(self, rows: list[Row]) -> list[Row]:
        return rows


class SharpenRecipe(Recipe):
    """A recipe of another package, without a page of its own."""

    name = "sharpened"

    def stages(self, params: Params) -> tuple[str, ...]:
        return ("sharpen",)


@pytest.fixture(autouse=True)
def foreign_recipe() -> Iterator[None]:
    RECIPES.register("sharpened")(SharpenRecipe)
    yield
    del RECIPES._items["sharpened"]


@pytest.fixture
def plug_in() -> Iterator[None]:
    METRICS.register("sharpness")(Sharpness)
    STAGES.register("sharpen")(Sharpen)
    yield
    del METRICS._items["sharpness"], STAGES._items["sharpen"]


@pytest.fixture
def measured(run_maker: Callable[..., Run], tmp_path: Path) -> Run:
    """A run with the column of a metric that is not part of this package."""
    run = run_maker(tmp_path, shards=1)
    shard = f"{run.output}/measure/shard-00000.parquet"
    table = pq.read_table(shard)
    values = pa.array([1.25 if status == "ok" else None for status in table["status"].to_pylist()], pa.float32())
    pq.write_table(table.append_column("sharpness/tuned", values), shard)
    receipt = read_receipt(shard)
    assert receipt is not None
    write_receipt(shard, receipt.model_copy(update={"output_sha256": hash_file(shard)}))
    return run


def text_of(run: Run) -> str:
    page = Path(write_report(run)).read_text().partition("</style>")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


@pytest.mark.usefixtures("plug_in")
@pytest.mark.parametrize("recipe", ["edit", "sharpened"])
def test_a_metric_of_another_package_is_shown_in_its_own_words(measured: Run, recipe: str) -> None:
    text = text_of(replace(measured, recipe=recipe))
    assert "Sharpness 1.2" in text and "How fine the lines are." in text
    assert text.count("Change of the edited attribute") == (0 if recipe == "edit" else 3)


@pytest.mark.usefixtures("plug_in")
def test_the_tile_of_such_a_metric_has_its_unit(measured: Run) -> None:
    assert "Sharpness after tuning 1.2 px How fine the lines are." in text_of(measured)


def test_a_column_whose_metric_is_not_installed_shows_its_name(measured: Run) -> None:
    text = text_of(measured)
    assert "sharpness 1.25" in text and "Sharpness" not in text


def test_a_run_of_a_recipe_without_a_page_has_a_whole_one(measured: Run) -> None:
    run = replace(measured, recipe="sharpened")
    begin_run(run)
    page = Path(write_report(run.output)).read_text()
    assert re.findall(r'<h2 id="([^"]+)"', page) == ["images", "rejected", "scores", "dataset", "stages"]
    text = text_of(run)
    assert "edit-dataset sharpened" in text and "Rows 5" in text
    assert "From portraits, through align → encode → tune → edit → measure." in text
    assert "Finished 3" in text and "Rejected 2" in text and "truncated at align" in text
    assert "FID (toy-attr), encoded 20.10" in text and "All parameters" in text
    names = re.findall(r'alt="(\S+) image of portraits/0.png"', page)
    assert names == ["source", "aligned", "encoded", "tuned", "smile@-1", "smile@+1", "yaw@+1"]


def test_edits_of_a_package_that_is_gone_do_not_stop_a_page(measured: Run) -> None:
    edits = [*measured.params.edits, EditSpec(kind="gone")]
    run = replace(measured, params=measured.params.model_copy(update={"edits": edits}))
    assert "Change of smile" in text_of(run) and "Finished 3" in text_of(replace(run, recipe="sharpened"))


def test_a_run_of_no_rows_and_no_summary_has_a_page(run_maker: Callable[..., Run], tmp_path: Path) -> None:
    run = replace(run_maker(tmp_path, shards=1, seeds_each=0), recipe="sharpened")
    Path(run.output, "summary.json").unlink()
    text = text_of(run)
    assert "No row passed all stages." in text and "2 of 2 rows were rejected" in text and "Whole dataset" not in text


@pytest.mark.usefixtures("plug_in")
def test_a_stage_explains_its_own_scores_and_totals_called_after_them() -> None:
    explain = explainer(Run(Params(), "", "", {}, {"sharpen": {}}))
    assert [explain(name).meaning.label for name in ("halo", "halo/x4", "mse/tuned")] == ["Halo", "Halo", "MSE"]
    assert explainer(Run(Params(), "", "", {}, {"align": {}}))("halo").meaning == Meaning("halo")
