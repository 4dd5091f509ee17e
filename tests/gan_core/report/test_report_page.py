"""The report shows what a run holds, in one file, whatever the names of the rows are."""

import base64
import hashlib
import io
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_core.errors import DataError
from gan_core.pages.rows import SAMPLE_ROWS, WORST_ROWS
from gan_core.report import write_report
from gan_core.report.render import render
from gan_core.report.report import page_of
from gan_core.runs.run import Run
from gan_core.storage.shards import read_rows

PICTURES = ["source", "aligned", "encoded", "tuned", "smile@-1", "smile@+1", "yaw@+1"]


class Page(HTMLParser):
    """A parsed page: the names of its elements, their attributes, and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(Path(write_report(run.output)).read_text())


def captions(page: Page) -> list[str]:
    alts = [value for name, value in page.attributes if name == "alt"]
    return [alt.partition(" image of ")[0] for alt in alts]


def test_the_report_lies_in_the_run(run: Run) -> None:
    assert write_report(run.output) == f"{run.output}/report.html"


def test_the_same_run_gives_the_same_bytes(run: Run) -> None:
    first = Path(write_report(run.output)).read_bytes()
    assert Path(write_report(run.output)).read_bytes() == first


def test_the_page_is_the_same_however_many_shards_are_read_at_a_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    together = Path(write_report(run.output)).read_bytes()
    monkeypatch.setattr("gan_core.pages.rows.SHARDS_AT_ONCE", 1)
    assert Path(write_report(run.output)).read_bytes() == together


def test_nothing_outside_the_file_is_asked_for(page: Page) -> None:
    addresses = [value for name, value in page.attributes if name in ("src", "href", "srcset", "data", "poster")]
    assert len(addresses) > 50
    assert [a for a in addresses if not a.startswith(("#", "data:image/"))] == []
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert "@import" not in page.text
    assert "url(" not in page.text


def test_names_and_reasons_cannot_become_markup(page: Page) -> None:
    assert "b" not in page.tags
    assert page.text.count('<script>alert("k")</script>&\'"/\\u202eevil') == 2
    assert "\u202e" not in page.text
    assert "no face <b>at all</b> was found" in page.text


def test_every_finished_row_shows_all_its_pictures_in_order(page: Page) -> None:
    shown = [name for name in captions(page)]
    strips = 6 + 6  # six rows are fine: all are in the sample and among the worst
    assert shown[: strips * len(PICTURES)] == PICTURES * strips


def test_every_failed_row_is_there_with_status_stage_and_reason(page: Page) -> None:
    for expected in ("truncated", "no_face", "the image data ends early", "at align", "bad/truncated.png"):
        assert expected in page.text
    assert captions(page)[-2:] == ["source", "source"]  # the truncated ones have no thumbnail
    assert page.text.count("can't bedecoded") == 2


def test_counts_add_up(page: Page) -> None:
    tiles = re.sub(r"\s+", " ", page.text)
    for expected in ("Rows 10 ", "Finished 6 ", "Rejected 4 ", "4 of 10 rows were rejected"):
        assert expected in tiles


def test_scores_under_the_pictures_are_those_of_the_shards(run: Run, page: Page) -> None:
    row = next(read_rows(f"{run.output}/measure/shard-00000.parquet"))[0]
    text = re.sub(r"\s+", " ", page.text)
    assert f"MSE{row['mse/encoded']:.4f} PSNR{row['psnr/encoded']:.1f}" in text
    assert f"Smile{row['smile/smile@+1']:+.2f} Identity{row['identity/toy/smile@+1']:.3f}" in text


def test_pictures_are_those_of_the_shards(run: Run, page: Page) -> None:
    stored = {
        row["image"]["bytes"] for row in next(read_rows(f"{run.output}/align/shard-00000.parquet")) if row["image"]
    }
    expected = {np.asarray(Image.open(io.BytesIO(data))).tobytes() for data in stored}
    urls = [value for name, value in page.attributes if name == "src"]
    shown = {np.asarray(Image.open(io.BytesIO(base64.b64decode(u.partition(",")[2])))).tobytes() for u in urls}
    assert len(expected) == 3
    assert expected <= shown


def test_dataset_numbers_and_hashes_are_there(run: Run, page: Page) -> None:
    shard = Path(run.output, "edit/shard-00001.parquet")
    assert hashlib.sha256(shard.read_bytes()).hexdigest() in page.text
    text = re.sub(r"\s+", " ", page.text)
    assert "FID (toy-attr) after tuning 3.22 Fréchet" in text and "SWD after tuning 12.5 Sliced" in text
    assert "aligned imagesencodedtuned FID (toy-attr)" in text
    assert "features of two sets of images; 0 means equal. Lower is better. 20.10 3.22" in text
    assert "Left out (needs more than 64 rows): fid/toy-attr/yaw@+1, fid/toy-attr/yaw@-1." in text
    assert "mse/tuned" not in page.text


def test_edits_whose_order_counts_say_so(run_maker: Callable[..., Run], tmp_path: Path) -> None:
    run = run_maker(tmp_path, shards=1)
    first, second = run.identities["edit"]["plan"][:2]
    first |= {"in_order": True, "moves": [["yaw", 1.0], ["smile", 0.5]]}
    second |= {"in_order": True, "moves": [["yaw", 1.0]]}
    page = render(page_of(run))
    assert page.count("in this order") == 1
    assert f"{first['column']}<small>in this order: yaw, then smile</small>" in page


def test_of_many_rows_only_a_few_are_shown(run_maker: Callable[..., Run], tmp_path: Path) -> None:
    run = run_maker(tmp_path, shards=1, seeds_each=SAMPLE_ROWS + 4)
    page = Page(Path(write_report(run.output)).read_text())
    assert captions(page).count("tuned") == SAMPLE_ROWS + WORST_ROWS
    keys = [f"portraits/{seed}.png" for seed in range(SAMPLE_ROWS + 4)]
    expected = sorted(keys, key=lambda key: hashlib.sha256(key.encode()).hexdigest())[:SAMPLE_ROWS]
    sample, _, worst = page.text.partition("worst first")
    assert re.findall(r"portraits/\d+\.png", sample) == expected
    rows = [row for row in next(read_rows(f"{run.output}/measure/shard-00000.parquet")) if row["status"] == "ok"]
    ranked = [row["key"] for row in sorted(rows, key=lambda row: row["identity/toy/tuned"])][:WORST_ROWS]
    assert re.findall(r"portraits/\d+\.png", worst) == ranked


def test_a_run_without_tuning_ranks_by_the_encoded_picture(run_maker: Callable[..., Run], tmp_path: Path) -> None:
    run = run_maker(tmp_path, shards=1, seeds_each=2, tune={"enabled": False})
    page = Page(Path(write_report(run.output)).read_text())
    assert "tuned" not in captions(page)
    assert "lowest Identity (toy) of the encoded image" in page.text
    assert "PSNR after encoding" in page.text


def test_a_run_in_which_every_row_failed_has_a_report(run_maker: Callable[..., Run], tmp_path: Path) -> None:
    run = run_maker(tmp_path, shards=1, seeds_each=0)
    page = Page(Path(write_report(run.output)).read_text())
    assert "No row passed all stages" in page.text
    assert "PSNR" not in page.text and "LPIPS" not in page.text and ("id", "inversion") not in page.attributes
    assert "2 of 2 rows were rejected" in page.text


def test_a_source_that_was_moved_away_costs_only_its_pictures(run_maker: Callable[..., Run], tmp_path: Path) -> None:
    run = run_maker(tmp_path, shards=1, seeds_each=1)
    shutil.rmtree(run.source)
    page = Page(Path(write_report(run.output)).read_text())
    assert captions(page)[: len(PICTURES) - 1] == PICTURES[1:]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run in"):
        write_report(str(tmp_path))


def test_an_unfinished_run_is_refused_and_writes_nothing(run_maker: Callable[..., Run], tmp_path: Path) -> None:
    run = run_maker(tmp_path, shards=1, seeds_each=1)
    Path(run.output, "measure/shard-00000.parquet").unlink()
    with pytest.raises(DataError, match=r"can't use .*, its data is gone: `edit-dataset"):
        write_report(run.output)
    assert not Path(run.output, "report.html").exists()
