"""The rows of a run that pass become files for other programs, which come back as they were."""

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.cli import main
from flows.exporting import FORMATS, export
from flows.exporting.pictures import choose_pictures
from gan_core.browse.marks import Mark, set_mark
from gan_core.errors import DataError
from gan_core.importers import import_dataset
from gan_core.params import check_params
from gan_core.runs.run import Run, load_run
from gan_core.storage.receipts import valid_receipt, write_receipt
from gan_core.storage.shards import BASE_NAMES, ShardWriter, list_shards, open_shard, read_rows
from gan_core.storage.urls import base_name
from tests.flows.conftest import cut_off_after


@pytest.fixture
def run(gated_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same in a folder of its own, the current one; a person has rejected 1 of the 4 rows that pass."""
    shutil.copytree(gated_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.exporting.folder.git_sha", lambda: "c0ffee")  # asking git takes most of the time
    set_mark("runs/a", ledger()[0], Mark(mark="rejected", note="blurred"))
    return load_run("runs/a")


def ledger() -> list[str]:
    """The keys of the rows that pass the gate, in order."""
    return [row["key"] for row in pq.read_table("runs/a/gates.parquet").to_pylist() if row["passed"]]


def rows_of(run: Run, stage: str) -> dict[str, Any]:
    """The rows of a stage by key."""
    return {row["key"]: row for url in run.stage_shards(stage) for rows in read_rows(url) for row in rows}


def passing() -> list[str]:
    """The keys of the three rows that pass, in order."""
    return ledger()[1:]


def pixels(picture: Any) -> bytes:
    """The pixels of a picture: of its file's bytes, or as HF gives it."""
    opened = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture
    return np.asarray(opened.convert("RGB")).tobytes()


def denied(_folder: Path) -> Iterator[Path]:
    raise PermissionError(errno.EACCES, "Permission denied")


def files(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def edits_of(run: Run) -> dict[str, bytes]:
    """The pixels of all exported edits by ``key/column``."""
    made = rows_of(run, "edit")
    columns = ("smile@-0.5", "smile@+1")
    return {f"{key}/{column}": pixels(made[key][column]["bytes"]) for key in passing() for column in columns}


def test_the_ledger_says_of_every_other_row_why_it_is_not_there(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["export", "runs/a", "out", "--format", "csv"])
    told = "3 of 8 rows: 3 fail a gate (mse <= q0.5: 3), 1 rejected by hand, 1 rejected before (not_an_image: 1)"
    assert end.value.code == 0 and capsys.readouterr().out == f"out: {told}\n"
    with open("out/left_out.csv") as file:
        ledger = list(csv.DictReader(file))
    measured = rows_of(run, "measure")
    assert {line["key"] for line in ledger} == measured.keys() - set(passing()) and len(ledger) == 5
    why = sorted(line["why"].partition(":")[0] for line in ledger if line["status"] == "ok")
    assert why == ["mse <= q0.5"] * 3 + ["rejected by hand"]
    (unreadable,) = [line for line in ledger if line["status"] != "ok"]
    assert unreadable["why"] == measured[unreadable["key"]]["reason"]
    lines = [line for path in sorted(Path("out").glob("shard-*.csv")) for line in csv.DictReader(path.open())]
    assert [line["key"] for line in lines] == passing()
    score = measured[lines[0]["key"]]["mse/encoded"]
    assert float(lines[0]["mse/encoded"]) == pytest.approx(score) and "mse <= q0.5" in Path("out/README.md").read_text()


@pytest.mark.parametrize("form", ["imagefolder", "webdataset"])
def test_pictures_load_with_hf_and_are_imported_with_their_keys(run: Run, form: str) -> None:
    datasets = pytest.importorskip("datasets")
    export("runs/a", "out", form)
    expected = edits_of(run)
    loaded = datasets.load_dataset("out", split="train", cache_dir="cache")
    if form == "imagefolder":
        found = {row["key"]: pixels(row["image"]) for row in loaded}
        assert set(loaded.column_names) == {"image", "key", "row", "picture", "attribute", "strength"}
        assert (
            sorted(zip(loaded["attribute"], loaded["strength"], strict=True))
            == [("smile", -0.5)] * 3 + [("smile", 1.0)] * 3
        )
    else:
        found = {row["json"]["key"]: pixels(row["png"]) for row in loaded}
    assert found == expected

    report = import_dataset("out", "back")
    back = [row for url in list_shards("back") for rows in read_rows(url) for row in rows]
    assert {row["key"]: pixels(row["image"]["bytes"]) for row in back} == expected and report.rows == {"ok": 6}
    said = json.loads(back[0]["json"])
    assert (said["row"], said["attribute"]) == (back[0]["key"].partition("/smile@")[0], "smile")


def test_one_picture_a_row_keeps_the_keys_of_the_rows(run: Run) -> None:
    for form in ("imagefolder", "webdataset"):
        export("runs/a", form, form, pictures=["smile@-0.5"])
        import_dataset(form, f"{form}-back")
        back = [row["key"] for url in list_shards(f"{form}-back") for rows in read_rows(url) for row in rows]
        assert sorted(back) == sorted(passing())
    aligned = rows_of(run, "align")
    export("runs/a", "faces", "imagefolder", "align")
    lines = [line for path in sorted(Path("faces").rglob("*.parquet")) for line in pq.read_table(path).to_pylist()]
    assert {(line["attribute"], line["strength"], line["picture"]) for line in lines} == {("", 0.0, "image")}
    stored = [path.read_bytes() for path in sorted(Path("faces").rglob("*.png"))]
    assert stored == [aligned[key]["image"]["bytes"] for key in passing()]


def test_rows_as_parquet_are_those_of_the_stage(run: Run) -> None:
    datasets = pytest.importorskip("datasets")
    export("runs/a", "out", "parquet")
    loaded, made = datasets.load_dataset("out", split="train", cache_dir="cache"), rows_of(run, "edit")
    assert loaded["key"] == passing()
    for row in loaded:
        assert pixels(row["smile@+1"]) == pixels(made[row["key"]]["smile@+1"]["bytes"])
    import_dataset("out", "back")
    back = [row for url in list_shards("back") for rows in read_rows(url) for row in rows]
    assert [row["key"] for row in back] == passing()
    assert [row["image"]["bytes"] for row in back] == [made[key]["smile@-0.5"]["bytes"] for key in passing()]


def test_pairs_hold_before_after_attribute_and_strength(run: Run) -> None:
    datasets = pytest.importorskip("datasets")
    export("runs/a", "out", "pairs")
    export("runs/a", "drawn", "pairs", pictures=["smile@+1"], before="encoded")
    loaded = datasets.load_dataset("out", split="train", cache_dir="cache")
    aligned, encoded = rows_of(run, "align"), rows_of(run, "encode")
    assert {row["key"]: pixels(row["after"]) for row in loaded} == edits_of(run)
    assert all(pixels(row["before"]) == pixels(aligned[row["row"]]["image"]["bytes"]) for row in loaded)
    assert {(row["picture"], row["attribute"], row["strength"]) for row in loaded} == {
        ("smile@-0.5", "smile", -0.5),
        ("smile@+1", "smile", 1.0),
    }
    drawn = [line for path in sorted(Path("drawn").glob("*.parquet")) for line in pq.read_table(path).to_pylist()]
    assert [line["row"] for line in drawn] == passing()
    assert [line["before"]["bytes"] for line in drawn] == [encoded[key]["reconstruction"]["bytes"] for key in passing()]


def test_strengths_of_paths_are_those_of_their_moves(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    edits = check_params({"edits": [{"kind": "path", "moves": {"smile": -1}, "scales": [1, 0.5]}]}).edits
    made = [("edit", "smile@path+1"), ("edit", "smile@path+0.5")]
    monkeypatch.setattr("flows.exporting.pictures.picture_columns", lambda run: made)
    found = choose_pictures(replace(run, params=run.params.model_copy(update={"edits": edits})), "edit")
    assert [(picture.attribute, picture.strength) for picture in found] == [("smile", -1.0), ("smile", -0.5)]


def test_a_run_without_gates_gives_all_ok_rows(run: Run) -> None:
    described = json.loads(Path("runs/a/run.json").read_text())
    described["params"]["gates"] = []
    Path("runs/a/run.json").write_text(json.dumps(described))
    Path("runs/a/marks.json").unlink()
    said: list[str] = []
    export("runs/a", "out", "imagefolder", pictures=["smile@+1"], tell=said.append)
    assert said == ["7 of 8 rows: 1 rejected before (not_an_image: 1)"] and len(list(Path("out").rglob("*.png"))) == 7


@pytest.mark.slow
@pytest.mark.parametrize("form", sorted(FORMATS))
def test_an_export_that_is_cut_off_anywhere_is_made_whole_by_the_next(
    run: Run, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export("runs/a", "out", form)
    whole = files("out")
    for step in range(5 + len(list(Path("out").glob("shard-*")))):
        shutil.rmtree("out")
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", cut_off_after(step))
            try:
                export("runs/a", "out", form)
            except KeyboardInterrupt:
                assert (
                    not Path("out/export.json").exists() or not json.loads(files("out")["out/export.json"])["finished"]
                )
        export("runs/a", "out", form)
        assert files("out") == whole


@pytest.mark.parametrize("form", ["imagefolder", "webdataset"])
def test_a_damaged_part_is_made_again_and_an_unfinished_export_is_not_imported(run: Run, form: str) -> None:
    export("runs/a", "out", form)
    before = files("out")
    damaged = next(Path("out").glob("shard-*/*.png" if form == "imagefolder" else "shard-*.tar"))
    damaged.write_bytes(b"")
    export("runs/a", "out", form)
    assert files("out") == before
    about = json.loads(Path("out/export.json").read_text())
    Path("out/export.json").write_text(json.dumps(about | {"finished": False}))
    for source in ("out", "."):
        with pytest.raises(DataError, match=r"out/export\.json says .* export has not finished: run the same export"):
            import_dataset(source, Path.cwd().parent / "back")
    del about["parts"]  # as older versions wrote it
    Path("out/export.json").write_text(json.dumps(about))
    export("runs/a", "out", form)
    assert files("out") == before and not Path("../back").exists()


def test_a_picture_that_a_row_lacks_is_in_the_ledger(run: Run) -> None:
    url = next(url for url in run.stage_shards("edit") if any(r["key"] == passing()[0] for r in next(read_rows(url))))
    with open_shard(url) as file:
        fields = [field for field in file.schema_arrow if field.name not in BASE_NAMES]
    rows, receipt = next(read_rows(url)), valid_receipt(url)[0]
    with ShardWriter(url, fields) as writer:
        writer.write([row | {"smile@-0.5": None} if row["key"] == passing()[0] else row for row in rows])
    assert receipt is not None
    write_receipt(url, receipt.model_copy(update={"output_sha256": writer.sha256}))
    measured = run.shard("measure", base_name(url))
    whole = valid_receipt(measured)[0]
    assert whole is not None
    write_receipt(measured, whole.model_copy(update={"input_keys": whole.input_keys | {"edit": writer.sha256}}))
    said: list[str] = []
    for form, folder in (("imagefolder", "out"), ("pairs", "pairs")):
        export("runs/a", folder, form, tell=said.append)
        with open(f"{folder}/left_out.csv") as file:
            lines = [line for line in csv.DictReader(file) if line["picture"]]
        assert [(line["key"], line["picture"]) for line in lines] == [(passing()[0], "smile@-0.5")]
    assert len(list(Path("out").rglob("*.png"))) == 5 and all(line.endswith("; missing: 1 picture") for line in said)


def test_finished_parts_are_not_written_again_and_other_rows_replace_them(run: Run) -> None:
    export("runs/a", "out", "imagefolder")
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("shard-*/*")}
    export("runs/a", "out", "imagefolder")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    lost = min(path for path in before if path.name == "metadata.parquet")
    lost.unlink()
    export("runs/a", "out", "imagefolder")
    assert {path for path in before if path.stat().st_mtime_ns != before[path]} == {*lost.parent.iterdir()}
    Path("out/README.md").write_text("my own words")
    set_mark("runs/a", passing()[0], Mark(mark="rejected"))
    export("runs/a", "out", "imagefolder")
    assert len(list(Path("out").rglob("*.png"))) == 4 and Path("out/README.md").read_text() == "my own words"
    export("runs/a", "out", "webdataset")
    assert not list(Path("out").rglob("*.png")) and len(list(Path("out").glob("*.tar"))) in (1, 2)


def test_a_folder_of_others_is_refused_and_stays_as_it_is(run: Run) -> None:
    Path("mine").mkdir()
    Path("mine/shard-00000.tar").write_text("mine")
    for name in (".run.lock", ".thesis.odt.4711-abc.tmp"):
        Path("mine", name).write_text("mine")
    before = files("mine")
    with pytest.raises(DataError, match="mine is not empty and holds no export"):
        export("runs/a", "mine", "webdataset")
    Path("saved").mkdir()
    Path("saved/.thesis.odt.4711-abc.tmp").write_text("mine")
    with pytest.raises(DataError, match="saved is not empty and holds no export"):
        export("runs/a", "saved", "webdataset")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataError, match="can't write mine: permission denied"):
        patch.setattr(Path, "iterdir", denied)
        export("runs/a", "mine", "webdataset")
    assert files("mine") == before and files("saved") == {"saved/.thesis.odt.4711-abc.tmp": b"mine"}
    Path("out").mkdir()
    Path("out/.export.json.4711-abc.tmp").write_text("half")
    export("runs/a", "out", "imagefolder")
    assert not Path("out/.export.json.4711-abc.tmp").exists()
    inner = next(Path("out").glob("shard-*"))
    for path in (Path("out/.export.json.4711-abc.tmp"), inner / ".metadata.parquet.4711-abc.tmp"):
        path.write_text("half")
    for name in ("letter.txt", "shard-00000/letter.png", "shard-00000/deep/000000-x.png", "shard-x.tar"):
        path = Path("out", name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("dear")
        before = files("out")
        with pytest.raises(DataError, match=r"which no export wrote"):
            export("runs/a", "out", "webdataset")
        assert files("out") == before
        path.unlink()
        if path.parent.name == "deep":
            path.parent.rmdir()
    Path("out/shard-00009").symlink_to(Path("mine").absolute())
    with pytest.raises(DataError, match="shard-00009, which no export wrote"):
        export("runs/a", "out", "webdataset")
    Path("out/shard-00009").unlink()
    for content in ("", "[", "3", "null", "{}"):
        Path("out/export.json").write_text(content)
        with pytest.raises(DataError, match=r"export\.json is damaged"):
            export("runs/a", "out", "webdataset")
    assert Path("mine/shard-00000.tar").read_text() == "mine"


def test_what_cannot_be_exported_is_said_in_one_line(run: Run) -> None:
    for arguments, told in (
        (("image-folder",), "no format 'image-folder'.*imagefolder"),
        (("imagefolder", "edits"), "no stage 'edits'; did you mean 'edit'"),
        (("imagefolder", "measure"), "measure of runs/a has no pictures"),
        (("imagefolder", "", ["smile@1"]), "no picture 'smile@1'; did you mean"),
        (("parquet", "", ["smile@+1"]), "parquet has no use for --picture"),
        (("csv", "align", [], "tuned"), "csv has no use for --stage, --before"),
        (("imagefolder", "", [], "tuned"), "imagefolder has no use for --before"),
        (("pairs", "align"), "has no edits"),
        (("pairs", "", [], "tuned"), "no picture 'tuned' before edit: it has aligned, encoded"),
    ):
        with pytest.raises(DataError, match=told):
            export("runs/a", "out", *arguments)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="runs/a/faces lies in the run runs/a: choose a folder outside"):
        export("runs/a", "runs/a/faces", "csv")
    with pytest.raises(DataError, match="no local folder"):
        export("runs/a", "memory://out", "csv")
    with pytest.raises(DataError, match="no run in runs/c"):
        export("runs/c", "out", "csv")
    assert not Path("out").exists()
