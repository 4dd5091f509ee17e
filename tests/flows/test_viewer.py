"""The page to look at rows: what it answers, and how it behaves in a real browser."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from fastapi.testclient import TestClient

from flows import viewer
from flows.servers import free_port
from flows.viewer import make_app
from gan_core.browse.marks import MARKS, PATIENCE_S, Mark, read_marks, set_mark
from gan_core.browse.table import Query, RowTable
from gan_core.errors import DataError
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.runs.run import load_run
from gan_core.storage.atomic import exclusive
from gan_core.storage.shards import list_shards
from gan_core.storage.urls import base_name

QUICK: dict[str, Any] = {"run": {"batch_size": 4}, "tune": {"enabled": False}, "measure": {"metrics": ["mse", "psnr"]}}
LOCAL = "http://127.0.0.1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, str], tiny_dataset: str) -> Path:
    """A folder with two runs over the same rows: the second has another edit."""
    folder = tmp_path_factory.mktemp("viewed")
    for name, edit in (
        ("first", {"direction": "smile", "strengths": [1]}),
        ("second", {"direction": "yaw", "strengths": [-1]}),
    ):
        params = folder / f"{name}.yaml"
        params.write_text(json.dumps(QUICK | {"models": tiny_models, "edits": [edit]}))
        run_plain(plan_run(tiny_dataset, str(folder / name), str(params)))
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """The folder of two runs to change."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


@pytest.fixture
def app_client(runs: Path) -> TestClient:
    return TestClient(make_app([load_run(str(runs / name)) for name in ("first", "second")]), base_url=LOCAL)


def test_rows_are_filtered_sorted_and_paged(app_client: TestClient) -> None:
    about = app_client.get("/api/about").json()
    assert (
        about["rows"] == 8
        and about["statuses"]["ok"] == 7
        and [run["name"] for run in about["runs"]] == ["first", "second"]
    )
    assert ["edit", "smile@+1"] in about["runs"][0]["pictures"] and ["edit", "yaw@-1"] in about["runs"][1]["pictures"]
    assert {"mse/encoded", "mse/encoded · second"} <= set(about["scores"])

    found = app_client.get(
        "/api/rows", params={"sort": "mse/encoded", "descending": True, "score": "mse/encoded"}
    ).json()
    values = [row["scores"].get("mse/encoded") for row in found["rows"]]
    assert found["found"] == 8 and values[:7] == sorted(values[:7], reverse=True) and values[7] is None
    assert sum(found["histogram"]["all"]) == sum(found["histogram"]["selected"]) == 7
    low = app_client.get("/api/rows", params={"limit": f"mse/encoded|{values[2]}|", "sort": "mse/encoded"}).json()
    assert low["found"] == 3 and low["rows"][0]["scores"]["mse/encoded"] == values[2]

    pages = [app_client.get("/api/rows", params={"page": page, "size": 3}).json() for page in range(3)]
    keys = [row["key"] for page in pages for row in page["rows"]]
    assert keys == sorted(keys) and len(keys) == 8
    failed = app_client.get("/api/rows", params={"status": "not_an_image"}).json()["rows"]
    assert len(failed) == 1 and failed[0]["reason"]
    assert app_client.get("/api/rows", params={"text": failed[0]["reason"][:12].upper()}).json()["found"] == 1


def test_pictures_and_the_whole_row_are_there_for_every_run(app_client: TestClient) -> None:
    row = app_client.get("/api/rows", params={"status": "ok", "size": 1}).json()["rows"][0]
    for run, (stage, column) in ((0, ("edit", "smile@+1")), (1, ("edit", "yaw@-1")), (0, ("source", "image"))):
        shard, position = row["places"][run]
        asked = {"run": run, "stage": stage, "column": column, "shard": shard, "position": position}
        picture = app_client.get("/picture", params=asked)
        assert picture.headers["content-type"] == "image/webp" and picture.content[8:12] == b"WEBP"
        for wrong in (
            {"column": "../secret"},
            {"shard": "../run.json"},
            {"stage": ".."},
            {"run": 7},
            {"position": 999},
        ):
            assert app_client.get("/picture", params=asked | wrong).status_code == 404
        assert app_client.get("/picture", params=asked | {"side": 0}).status_code == 422
    told = app_client.get("/api/row", params={"key": row["key"]}).json()
    assert [part["run"] for part in told] == ["first", "second"]
    assert [stage["stage"] for stage in told[0]["stages"]] == ["source", "align", "encode", "edit", "measure"]


def test_marks_are_kept_beside_the_run_and_can_be_asked_for(app_client: TestClient, runs: Path) -> None:
    key = app_client.get("/api/rows").json()["rows"][0]["key"]
    said = {"mark": "rejected", "note": "two ears"}
    assert app_client.put("/api/mark", params={"key": key}, json=said).json() == said
    assert json.loads((runs / "first" / MARKS).read_text()) == {key: said}
    rejected = app_client.get("/api/rows", params={"mark": "rejected"}).json()
    assert [(row["key"], row["note"]) for row in rejected["rows"]] == [(key, "two ears")]
    assert app_client.get("/api/rows", params={"mark": "unmarked"}).json()["found"] == 7
    app_client.put("/api/mark", params={"key": key}, json={})
    assert read_marks(str(runs / "first")) == {}
    (runs / "first" / MARKS).write_text("{")
    assert "holds no marks" in app_client.get("/api/rows").json()["detail"]


def test_odd_notes_are_told_and_marks_of_rows_that_are_gone_not_counted(app_client: TestClient, runs: Path) -> None:
    key = app_client.get("/api/rows").json()["rows"][0]["key"]
    asked = {"params": {"key": key}, "headers": {"Content-Type": "application/json"}}
    refused = app_client.put("/api/mark", content=json.dumps({"note": "x" * 2001}), **asked)
    assert refused.status_code == 422 and "at most 2000 characters" in str(refused.json())
    kept = app_client.put("/api/mark", content='{"note": "\\ud800 lone"}', **asked)
    assert kept.json()["note"] == "? lone" == read_marks(str(runs / "first"))[key].note
    gone = {f"gone/{i}": {"mark": "rejected", "note": ""} for i in range(9)}
    (runs / "first" / MARKS).write_text(json.dumps(gone | {key: {"mark": "rejected", "note": ""}}))
    assert app_client.get("/api/about").json()["marks"] == {"accepted": 0, "rejected": 1, "unmarked": 7}
    (runs / "first" / MARKS).unlink()
    (runs / "first" / MARKS).mkdir()
    assert "holds no marks" in app_client.get("/api/rows").json()["detail"]


def test_images_in_columns_of_other_types_are_pictures_too(
    tiny_models: dict[str, str], tiny_dataset: str, tmp_path: Path
) -> None:
    large, reports = pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())]), []
    params = tmp_path / "params.yaml"
    params.write_text(json.dumps(QUICK | {"models": tiny_models, "edits": []}))
    for shard in list_shards(tiny_dataset):
        table = pq.read_table(shard)
        image, place = table.schema.get_field_index("image"), tmp_path / "source" / base_name(shard)
        table = table.set_column(image, "image", table["image"].cast(large))
        place.parent.mkdir(exist_ok=True)
        pq.write_table(table.append_column("masks", pa.array([[{"mask": b"\xff\xfe"}]] * len(table))), place)
    for source, run in ((tiny_dataset, "usual"), (str(tmp_path / "source"), "large")):
        run_plain(plan_run(source, str(tmp_path / run), str(params)))
        reports.append((tmp_path / run / "report.html").read_text().count("data:image"))
    assert reports[0] == reports[1] > 0
    client = TestClient(make_app([load_run(str(tmp_path / "large"))]), base_url=LOCAL)
    row = client.get("/api/rows", params={"status": "ok", "size": 1}).json()["rows"][0]
    (told,) = client.get("/api/row", params={"key": row["key"]}).json()
    source = told["stages"][0]["columns"]
    assert "image" not in source and source["masks"] == [{"mask": "fffe"}]


def test_marks_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: set_mark(str(tmp_path), key, Mark(mark="rejected")), map(str, range(40))))
    assert len(read_marks(str(tmp_path))) == 40
    with exclusive(str(tmp_path / "marks.json")):  # as another process holds it
        later = ThreadPoolExecutor(1).submit(set_mark, str(tmp_path), "one more", Mark(mark="accepted"))
        time.sleep(0.1)
        assert not later.done()
    assert len(later.result()) == 41


def test_marks_that_cannot_be_written_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a folder should be")
    begin = time.monotonic()
    with pytest.raises(DataError, match="a file is where a folder should be"):
        set_mark(str(tmp_path / "run"), "a", Mark(mark="rejected"))
    assert time.monotonic() - begin < PATIENCE_S / 2


def test_a_histogram_of_scores_that_are_hardly_apart(runs: Path) -> None:
    table = RowTable([load_run(str(runs / "first"))])
    table.frame["close"] = [0.8, *[np.nextafter(0.8, 1)] * (len(table.frame) - 1)]
    table.scores.append("close")
    assert sum(table.histogram("close", np.arange(len(table.frame)))["all"]) == len(table.frame)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_found_in_either_form(runs: Path, form: Literal["NFC", "NFD"]) -> None:
    table = RowTable([load_run(str(runs / "first"))])
    table.frame.loc[1:2, "key"] = [normalize("NFC", "Zoë/Café.png"), normalize("NFD", "zoë/café.png")]
    table.frame.loc[3, "reason"] = normalize(form, "no CAFÉ")
    assert sorted(table.select(Query(text=normalize(form, "café")), {})) == [1, 2, 3]
    assert len(table.select(Query(text="zoe"), {})) == 0


def test_what_is_not_asked_from_this_machine_or_wrongly_is_refused(app_client: TestClient) -> None:
    assert app_client.get("/api/about", headers={"Host": "evil.example"}).status_code == 400
    key = app_client.get("/api/rows").json()["rows"][0]["key"]
    assert app_client.put("/api/mark", params={"key": key}, content="mark=rejected").status_code == 422
    assert app_client.put("/api/mark", params={"key": "none"}, json={}).status_code == 404
    assert (
        "no score 'mse/encode'; did you mean"
        in app_client.get("/api/rows", params={"sort": "mse/encode"}).json()["detail"]
    )
    assert app_client.get("/api/rows", params={"limit": "mse/encoded|a|b"}).status_code == 422
    with pytest.raises(DataError, match="no run in nowhere"):
        make_app([load_run("nowhere")])


@pytest.fixture
def served(app_client: TestClient) -> Iterator[str]:
    """The page's address while it is served."""
    port = free_port(8390)
    server = uvicorn.Server(uvicorn.Config(app_client.app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"{LOCAL}:{port}"
    server.should_exit = True
    thread.join(30)


@pytest.mark.slow
def test_a_person_filters_compares_and_marks_in_a_browser(served: str, runs: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(served)
        page.get_by_text("8 of 8 rows").wait_for()
        page.locator("#statuses input[value=ok]").check()
        page.get_by_text("7 of 8 rows").wait_for()
        first = page.locator("article").first
        assert first.locator(".picture").count() == 2
        first.get_by_role("button", name="Reject").click()
        first.get_by_role("button", name="Reject", pressed=True).wait_for()
        assert [mark.mark for mark in read_marks(str(runs / "first")).values()] == ["rejected"]
        assert page.locator("#marks span").all_text_contents() == ["0", "1", "7"]

        page.locator("#score").select_option("mse/encoded")
        page.wait_for_load_state("networkidle")
        page.locator("#histogram path").nth(1).wait_for(state="attached")
        box = page.locator("#histogram").bounding_box()
        page.mouse.move(box["x"] + 1, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40, steps=4)
        page.mouse.up()
        page.locator("#chips button").wait_for()
        assert int(page.locator("#found").text_content().split()[0]) < 7

        page.locator("article .key").first.click()
        page.locator("dialog table").first.wait_for()
        page.locator("#note").fill("look again")
        page.get_by_role("button", name="Close").click()
        page.locator("article p", has_text="look again").wait_for()
        assert "look again" in {mark.note for mark in read_marks(str(runs / "first")).values()} and problems == []
        browser.close()


SAY = """
const at = () => ({ querySelectorAll: () => [] });
async function ask(path) { if (path === "/api/about") throw new Error("gone"); return { mark: "accepted" }; }
%s
const row = { key: "a", mark: "unmarked" };
say(row, { mark: "accepted" }).then(() => console.log(row.mark));
"""


def test_a_mark_that_is_kept_is_shown_though_they_cannot_be_counted() -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("node is not installed")
    found = re.search(
        r"^async function say.*?^}", (Path(viewer.__file__).parent / "page.html").read_text(), re.M | re.S
    )
    assert found is not None
    done = subprocess.run([node, "-e", SAY % found[0]], capture_output=True, text=True)
    assert done.stdout == "accepted\n", done.stderr


def test_runs_over_other_rows_are_refused_and_rows_in_common_are_counted(
    made: Path, tmp_path: Path, tiny_models: dict[str, str], tiny_dataset: str
) -> None:
    first = load_run(str(made / "first"))
    assert RowTable([first, load_run(str(made / "second"))]).common == {"first": 8, "second": 8}
    params = tmp_path / "other.yaml"
    params.write_text(json.dumps(QUICK | {"models": tiny_models, "edits": [{"direction": "smile", "strengths": [1]}]}))
    (tmp_path / "renamed").mkdir()
    for shard in list_shards(tiny_dataset):
        table = pq.read_table(shard)
        keys = pa.array([f"other/{key}" for key in table["key"].to_pylist()])
        pq.write_table(table.set_column(0, "key", keys), tmp_path / "renamed" / base_name(shard))
    run_plain(plan_run(str(tmp_path / "renamed"), str(tmp_path / "other"), str(params)))
    with pytest.raises(DataError, match="other has no row of first: name runs over the same dataset"):
        RowTable([first, load_run(str(tmp_path / "other"))])
