"""What a new run removes of an earlier one: its own shards, and nothing that lies elsewhere or that no run wrote."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from gan_core.errors import DataError, ParamsError
from gan_core.params import Params
from gan_core.runs.clearing import withdraw
from gan_core.runs.run import Run, begin_run, check_changes, check_folder, load_run
from gan_core.storage.atomic import FOLDER_LOCK
from gan_core.storage.receipts import (
    Receipt,
    content_key,
    receipt_path,
    statistics_path,
    write_receipt,
    write_statistics,
)
from gan_core.storage.shards import ShardWriter

SHARDS = {"shard-00000.parquet": 1, "shard-00001.parquet": 1}
STAGES: dict[str, Any] = {"align": {}, "encode": {}}


def write_shard(url: str, stage: str) -> None:
    with ShardWriter(url, (pa.field("number", pa.int32()),)) as writer:
        writer.write([{"key": url, "status": "ok", "reason": "", "stage": stage}])
    write_receipt(
        url,
        Receipt(
            stage=stage,
            key=content_key(stage, "1", {}, {}),
            input_keys={},
            output_sha256=writer.sha256,
            rows={"ok": 1},
            seconds=0.0,
            statistics_sha256=write_statistics(url, {"a": [1.0]}),  # type: ignore[dict-item]
            code_version="1",
            identity={},
        ),
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of two stages and two shards, beside other things of its owner's."""
    run = Run(Params(), "source", str(tmp_path / "runs/r"), dict(SHARDS), dict(STAGES))
    begin_run(run)
    for stage in STAGES:
        for url in run.stage_shards(stage):
            write_shard(url, stage)
    for path in ("runs/thesis/a.txt", "runs/thesis/shard-00000.parquet", "notes.txt", "runs/r/thesis/b.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("years of work")
    return run


def others(run: Run) -> dict[str, bytes]:
    """All files but those that the run wrote."""
    root = Path(run.output).parents[1]
    files = {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {n: p.read_bytes() for n, p in files.items() if "thesis" in n or n == "notes.txt"}


def test_what_a_new_run_does_not_have_goes(run: Run) -> None:
    begin_run(replace(run, rows={"shard-00000.parquet": 1}, identities={"align": {}}))
    left = sorted(path.name for path in Path(run.output).rglob("*.parquet*"))
    shard = "shard-00000.parquet"
    assert left == [shard, f"{shard}.receipt.json", f"{shard}.stats.npz"] and not Path(run.path("encode")).exists()


PATHS = ("../thesis", "..", "/thesis", "align/../../thesis", ".hidden", "a\0b", "")


@pytest.mark.parametrize("name", PATHS, ids=ascii)
@pytest.mark.parametrize("kind", ["identities", "shards"])
def test_names_that_leave_the_run_are_refused_where_they_are_read(run: Run, kind: str, name: str) -> None:
    path, before = Path(run.path("run.json")), others(run)
    stored = json.loads(path.read_text())
    stored[kind] |= {f"{name}.parquet": 1} if kind == "shards" and name.endswith("thesis") else {name: {}}
    path.write_text(json.dumps(stored))
    for read in (lambda: load_run(run.output), lambda: begin_run(run), lambda: check_changes(run, update=True)):
        with pytest.raises(DataError, match=r"run\.json is damaged \(") as refused:
            read()
        assert len(str(refused.value)) < 600 and "\n" not in str(refused.value)
    assert others(run) == before


def test_a_shard_with_fewer_rows_than_before_is_told(run: Run) -> None:
    begin_run(run)
    (shard, rows), *_ = run.rows.items()
    check_changes(replace(run, rows={**run.rows, shard: rows + 1}))
    fewer = replace(run, rows={**run.rows, shard: rows - 1})
    with pytest.raises(ParamsError, match=rf"{shard} had {rows} rows?, and has {rows - 1}\): choose another output"):
        check_changes(fewer)
    check_changes(fewer, update=True)


def test_another_source_is_told_without_its_password(run: Run) -> None:
    begin_run(replace(run, source="memory://bob:hunter22@old/ds"))
    with pytest.raises(ParamsError, match=r"\(source: .*\*\*\*@old/ds → .*\*\*\*@new/ds\): choose") as refused:
        check_changes(replace(run, source="memory://eve:s3cret@new/ds"))
    assert not any(secret in str(refused.value) for secret in ("hunter22", "s3cret"))


@pytest.mark.parametrize(
    "text", ["[]", "{}", "", "nonsense", "[" * 100_000, '{"source": 1}', "\udcff", "null", "9" * 5000]
)
def test_what_is_no_run_is_told_in_a_line(run: Run, text: str) -> None:
    Path(run.path("run.json")).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"run\.json is damaged \(") as refused:
        load_run(run.output)
    assert len(str(refused.value)) < 500 and "\n" not in str(refused.value)


def test_a_folder_in_place_of_the_record_is_told(run: Run) -> None:
    Path(run.path("run.json")).unlink()
    Path(run.path("run.json")).mkdir()
    with pytest.raises(DataError, match="it is a folder"):
        load_run(run.output)


def _linked(run: Run) -> None:
    shutil.rmtree(run.path("encode"))
    Path(run.path("encode")).symlink_to(Path(run.output).parent / "thesis")


def _copied(run: Run) -> None:
    """The user's own copy of a stage, receipts included, in a folder that the record calls a stage."""
    shutil.copytree(run.path("align"), Path(run.output) / "thesis", dirs_exist_ok=True)
    _add_stage(run, "thesis")


def _unwritten(run: Run) -> None:
    _add_stage(run, "thesis")
    (Path(run.output) / "thesis/shard-00000.parquet").write_text("a table of mine")


def _add_stage(run: Run, name: str) -> None:
    path = Path(run.path("run.json"))
    stored = json.loads(path.read_text())
    stored["identities"][name] = {}
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize("disguise", [_linked, _copied, _unwritten])
def test_what_no_run_wrote_there_stays(run: Run, disguise: Callable[[Run], None]) -> None:
    disguise(run)
    before = others(run)
    begin_run(replace(run, identities={"align": {}}))
    assert others(run) == before and len(list(Path(run.path("align")).glob("*.parquet"))) == 2


def test_a_shard_with_a_star_in_its_name_takes_no_others_with_it(run: Run) -> None:
    star = replace(run, rows=SHARDS | {"*.parquet": 1})
    begin_run(star)
    write_shard(star.shard("align", "*.parquet"), "align")
    begin_run(run)
    assert sorted(path.name for path in Path(run.path("align")).glob("*.parquet")) == list(SHARDS)


def test_a_shard_whose_writer_was_killed_before_its_receipt_goes(run: Run) -> None:
    shard = Path(run.shard("encode", "shard-00000.parquet"))
    Path(receipt_path(shard)).unlink()
    shard.with_name(f".{shard.name}.lock").touch()
    begin_run(replace(run, identities={"align": {}}))
    assert not shard.parent.exists()


def test_only_receipts_that_runs_wrote_are_withdrawn(run: Run, tmp_path: Path) -> None:
    write_shard(str(tmp_path / "runs/thesis/shard-00001.parquet"), "align")
    _linked(run)
    before = others(run)
    for stage in ("align", "encode", "thesis"):
        for shard in SHARDS:
            withdraw(run.output, stage, shard)
    assert others(run) == before
    assert not list(Path(run.path("align")).glob("*.receipt.json"))
    assert len(list(Path(run.path("align")).glob("*.parquet"))) == 2


def test_in_a_bucket_too(run: Run) -> None:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    inside = replace(run, output="memory://clear/r")
    begin_run(inside)
    for stage in STAGES:
        for url in inside.stage_shards(stage):
            write_shard(url, stage)
    fs.pipe_file("/clear/r/encode/notes.txt", b"mine")
    begin_run(replace(inside, identities={"align": {}}))
    shards = inside.stage_shards("align")
    own = sorted([*shards, *map(receipt_path, shards), *map(statistics_path, shards)])
    left = ["/clear/r/encode/notes.txt", "/clear/r/run.json"]
    assert fs.find("/clear") == sorted(left + [url.removeprefix("memory:/") for url in own])


def test_a_folder_with_what_a_killed_run_left_is_empty(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in (FOLDER_LOCK, ".run.json.12-0123abcd.tmp", ".report.html.9-ffffffff.tmp"):
        (out / name).touch()
    check_folder(str(tmp_path / "source"), str(out))
    (out / ".profile").touch()
    with pytest.raises(DataError, match="is not empty and holds no run"):
        check_folder(str(tmp_path / "source"), str(out))


def test_a_folder_that_overlaps_the_source_by_a_link_is_refused(tmp_path: Path) -> None:
    source, out, link = tmp_path / "source", tmp_path / "out", tmp_path / "link"
    (out / "in").mkdir(parents=True)
    source.mkdir()
    overlapping = ((source, link / "out", source), (link / "in", out, out), (source, link, source))
    for source_at, output_at, target in overlapping:
        link.symlink_to(target)
        with pytest.raises(DataError, match="overlap"):
            check_folder(str(source_at), str(output_at))
        link.unlink()
    check_folder(str(source), str(tmp_path / "source-2"))
