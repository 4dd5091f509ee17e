"""The parts of a page: plots, counts, and images found in the right place."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_core.browse.pictures import read_history, read_picture
from gan_core.browse.table import picture_columns
from gan_core.edits.path import PathSpec
from gan_core.edits.plan import plan_edits
from gan_core.edits.reference import ReferenceSpec
from gan_core.meaning import Meaning
from gan_core.metrics.names import find_score
from gan_core.pages.numbers import effect_tiles, measure_effects
from gan_core.pages.pictures import LARGEST_SIDE, read_images, to_data_url
from gan_core.pages.plots import histogram, ticks
from gan_core.pages.rows import Line, Picked, Rows
from gan_core.pages.sections import outcome_tiles
from gan_core.params import EditParams, EditSpec, Params
from gan_core.runs.run import Run
from gan_core.storage.images import encode_png, image_value
from gan_core.storage.shards import IMAGE, ShardWriter

PLAIN = Meaning("plain", digits=2)


@settings(max_examples=50)
@given(st.floats(-1e4, 1e4), st.floats(1e-4, 1e4))
def test_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-6 * width <= tick <= low + width * 1.000001 for tick in found)


def test_bars_stand_where_the_values_are() -> None:
    svg = str(histogram({"a": np.zeros(30), "b": np.ones(10)}, PLAIN, "x"))
    bars = [
        (float(x), float(h))
        for x, h in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="[\d.]+" height="([\d.]+)"', svg)
    ]
    assert len(bars) == 2
    (left, tall), (right, low) = bars
    assert left < 40
    assert right > 270
    assert tall == pytest.approx(3 * low, rel=0.01)


def test_equal_values_make_a_plot_and_none_make_nothing() -> None:
    assert "<rect" in histogram({"a": np.full(5, 0.25)}, PLAIN, "x")
    assert histogram({"a": np.empty(0)}, PLAIN, "x") == ""


def test_a_label_cannot_become_markup() -> None:
    assert "<b>" not in histogram({"<b>": np.arange(5.0)}, PLAIN, "<b>")


def flat(value: int, side: int = 8) -> bytes:
    return encode_png(np.full((side, side, 3), value, np.uint8))


def test_pictures_come_from_their_own_rows_wherever_these_lie(tmp_path: Path) -> None:
    run = write_run(tmp_path, range(230))
    wanted = [229, 0, 100, 99, 7]
    images = read_images(run, lines_at(wanted), ["source"])
    assert images.pop(("shard-00000.parquet", 7)) == {}
    for i in set(wanted) - {7}:
        assert images["shard-00000.parquet", i] == {"source": to_data_url(flat(i), 10_000)}


def test_a_picture_of_the_source_takes_no_name_of_a_stages(tmp_path: Path) -> None:
    columns = {"source": ("image", "tuned", "source"), "out/align": ("image", "tuned"), "out/tune": ("image", "tuned")}
    for (place, names), value in zip(columns.items(), (200, 10, 90), strict=True):
        fields = [*(pa.field(name, IMAGE) for name in names), pa.field("about", pa.struct([("place", pa.string())]))]
        with ShardWriter(tmp_path / place / "shard-00000.parquet", fields) as writer:
            row = {"key": "a", "status": "ok", "reason": "", "stage": "source", "about": {"place": "here"}}
            whole = row | {name: image_value(flat(value + i), "") for i, name in enumerate(names)}
            writer.write([whole, whole | {"tuned": whole["tuned"] if place == "source" else None}])
    run = Run(Params(), str(tmp_path / "source"), str(tmp_path / "out"), {"shard-00000.parquet": 2}, {"align": {}})
    whole, lacking = read_images(run, lines_at([0, 1]), ["source", "align", "tune"]).values()
    shown = {"source": 200, "tuned (source)": 201, "source (source)": 202, "aligned": 10, "tuned": 11, "tune": 90}
    assert whole == {name: to_data_url(flat(value), 10_000) for name, value in {**shown, "tuned (tune)": 91}.items()}
    assert lacking == {name: url for name, url in whole.items() if name not in ("tuned", "tuned (tune)")}
    assert picture_columns(run) == [
        *(("source", name) for name in columns["source"]),
        ("align", "image"),
        ("align", "tuned"),
    ]


def test_some_rows_of_every_status_are_shown() -> None:
    picked, frame = Picked(), pd.DataFrame({"status": [f"status-{i % 9}" for i in range(180)]})
    for part in (frame[:90], frame[90:], pd.DataFrame({"status": ["seldom"]})):
        picked.add(frame[:0].assign(hash=""), part, None)
    assert set(picked.examples["status"]) == {*frame["status"], "seldom"} and len(picked.examples) <= 48


@pytest.mark.parametrize(
    ("spec", "change", "shown"),
    [
        (EditParams(direction="smile", strengths=[1.0]), -0.5, "-0.50"),
        (EditParams(direction="smile", strengths=[-1.0]), -0.5, "0.50"),
        (PathSpec(moves={"yaw": -0.5}), -0.2, "0.20"),
        (PathSpec(moves={"yaw": -0.5}), 0.2, "-0.20"),
        (PathSpec(moves={"yaw": -0.5}, scales=(-1.0,)), -0.2, "-0.20"),
        (ReferenceSpec(attribute="smile", reference=("a.png",)), -0.3, "0.30"),
    ],
)
def test_only_an_edit_that_does_the_opposite_goes_the_other_way(spec: EditSpec, change: float, shown: str) -> None:
    plan = plan_edits([spec])
    score = find_score(f"{plan[0].target}/{plan[0].column}", plan)
    rows = Rows(scores={score.name: score}, values={score.name: np.full(4, change, np.float32)})
    (tile,) = effect_tiles(measure_effects(rows, plan, {}, {}))
    assert tile.value == shown and ("the other way" in tile.sentence) == shown.startswith("-")


def write_run(folder: Path, keys: Iterable[int]) -> Run:
    """A run over ``keys``, row 7 without a picture, whose source has them too."""
    for place in ("source", "out/align"):
        with ShardWriter(folder / place / "shard-00000.parquet", [pa.field("image", IMAGE)]) as writer:
            for i in keys:
                row = {"key": str(i), "status": "ok", "reason": "", "stage": "source"}
                writer.write([row | {"image": image_value(flat(i), "") if i != 7 else None}])
    return Run(Params(), str(folder / "source"), str(folder / "out"), {"shard-00000.parquet": 230}, {"align": {}})


def lines_at(positions: Iterable[int]) -> list[Line]:
    return [Line("shard-00000.parquet", i, str(i), "ok", "", "source", {}) for i in positions]


def test_a_source_that_was_made_anew_shows_no_pictures_of_other_rows(tmp_path: Path) -> None:
    run = write_run(tmp_path, [0, 1, 2, 3])
    write_run(tmp_path / "other", [3, 1, 0])
    source = tmp_path / "source/shard-00000.parquet"
    source.write_bytes((tmp_path / "other/source/shard-00000.parquet").read_bytes())
    images = read_images(run, lines_at(range(4)), ["source", "align"])
    shown = [list(images["shard-00000.parquet", i]) for i in range(4)]
    assert shown == [["aligned"], ["source", "aligned"], ["aligned"], ["aligned"]]
    assert read_picture(run, "source", "image", source.name, 0, 8) is None
    assert read_picture(run, "source", "image", source.name, 1, 8)
    assert [told["stage"] for told in read_history(run, source.name, 0)] == ["align"]
    source.write_bytes(source.read_bytes()[:300])
    assert list(read_images(run, lines_at([1]), ["source", "align"])["shard-00000.parquet", 1]) == ["aligned"]
    assert picture_columns(run) == [("align", "image")]
    source.unlink()
    assert picture_columns(run) == [("align", "image")]


def test_large_pictures_are_shrunk_and_bombs_left_out() -> None:
    large = to_data_url(flat(90, 1000), 10**7)
    assert large is not None
    assert large.startswith("data:image/jpeg;base64,")
    assert len(large) < 8 * LARGEST_SIDE**2 / 20
    assert to_data_url(flat(90, 1000), 10_000) is None
    assert to_data_url(b"<svg onload='x'>", 10_000) is None
    assert to_data_url(None, 10_000) is None


def test_flags_are_counted_under_the_rows_that_went_through() -> None:
    rows = Rows(counts=Counter({("ok", "measure"): 3}), flags=Counter({"diverged": 2}))
    (tile,) = (tile for tile in outcome_tiles(rows) if tile.label == "Finished")
    assert (tile.value, tile.sentence) == ("3", "Rows that passed all stages. Diverged: 2.")
