"""``summary.json`` as it is read back: numbers, or nothing where somebody has written something else."""

import json
from pathlib import Path

import pytest

from gan_core.metrics.base import Summary
from gan_core.runs.summary import SUMMARY_FILE, find_summary, load_summary, summarise, write_summary
from gan_core.storage.receipts import Receipt, write_receipt
from gan_core.storage.shards import ShardWriter

GOOD = {"metrics": {"mse/tuned": 0.5}, "omitted": {"fid": "few rows"}, "rows": {"ok": 2}}
NOTHING = {"metrics": {}, "omitted": {}, "rows": {}}


def test_a_summary_comes_back(tmp_path: Path) -> None:
    write_summary(str(tmp_path), Summary({"mse/tuned": 0.5, "n": 1}), {"ok": 2}, {"far": 1})  # type: ignore[arg-type]
    found = load_summary(str(tmp_path))
    assert (
        found["metrics"] == {"mse/tuned": 0.5, "n": 1} and found["rows"] == {"ok": 2} and found["flags"] == {"far": 1}
    )


BAD = ["[]", "{}", "", "[" * 100_000, "null", "\\xff", json.dumps(GOOD | {"rows": {"ok": -1}})]
BAD += [json.dumps(GOOD | {"metrics": {"mse/tuned": value}}) for value in ("0.5", None, float("nan"), [1])]


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:40])
def test_what_is_no_summary_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / SUMMARY_FILE).write_text(text)
    with pytest.raises(ValueError):
        load_summary(str(tmp_path))
    assert find_summary(str(tmp_path)) == NOTHING


def test_a_folder_in_its_place_is_none(tmp_path: Path) -> None:
    (tmp_path / SUMMARY_FILE).mkdir()
    assert find_summary(str(tmp_path)) == NOTHING


def test_tables_that_lie_beside_the_shards_of_a_run_are_not_added_up(tmp_path: Path) -> None:
    shard = tmp_path / "measure/shard-00000.parquet"
    with ShardWriter(shard, ()) as writer:
        writer.write([{"key": "a", "status": "ok", "reason": "", "stage": "measure"}])
    about = {"stage": "measure", "key": "k", "input_keys": {}, "code_version": "1", "identity": {}, "seconds": 0.0}
    write_receipt(shard, Receipt(output_sha256=writer.sha256, rows={"ok": 1}, **about))  # type: ignore[arg-type]
    (tmp_path / "measure/notes.parquet").write_text("of somebody")
    summarise(str(tmp_path), "measure", ["shard-00000.parquet"])
    assert load_summary(str(tmp_path))["rows"] == {"ok": 1}
