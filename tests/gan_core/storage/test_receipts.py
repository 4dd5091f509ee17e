import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_core.errors import DataError
from gan_core.storage.atomic import write_bytes
from gan_core.storage.receipts import (
    Receipt,
    canonical_json,
    code_version,
    content_key,
    explain_change,
    read_statistics,
    receipt_path,
    require_receipt,
    statistics_path,
    valid_receipt,
    write_receipt,
    write_statistics,
)
from gan_core.storage.shards import ShardWriter

IDENTITY = {"size": 64, "models": {"generator": "g"}}
INPUTS = {"source": "s"}
KEY = content_key("align", code_version(1), IDENTITY, INPUTS)
STATISTICS = {"fid/n": np.array(3), "fid/sum": np.arange(4.0), "swd": np.ones((2, 3), np.float32)}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "shard-00000.parquet"
    with ShardWriter(path, ()) as writer:
        for key, status, reason in (("a", "ok", ""), ("b", "no_face", "none"), ("c", "ok", "diverged: too far")):
            writer.write([{"key": key, "status": status, "reason": reason, "stage": "align"}])
    receipt = Receipt(
        stage="align",
        key=KEY,
        input_keys=INPUTS,
        output_sha256=writer.sha256,
        rows={"ok": 2, "no_face": 1},
        flags={"diverged": 1},
        seconds=0.5,
        statistics_sha256=write_statistics(path, STATISTICS),
        code_version=code_version(1),
        identity=IDENTITY,
        reused=True,
    )
    write_receipt(path, receipt)
    return path


def test_a_receipt_comes_back_and_does_not_store_reused(shard: Path) -> None:
    receipt, why = valid_receipt(shard, KEY)
    assert why == "" and receipt is not None
    assert receipt.rows == {"ok": 2, "no_face": 1} and receipt.identity["size"] == 64 and not receipt.reused
    assert "reused" not in json.loads(Path(receipt_path(shard)).read_text())


def _damage(shard: Path) -> None:
    Path(receipt_path(shard)).write_text(Path(receipt_path(shard)).read_text()[:-20])


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _alter(shard: Path, **fields: Any) -> None:
    path = Path(receipt_path(shard))
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_data_that_is_no_shard_is_not_believed(shard: Path) -> None:
    _alter(shard, output_sha256=write_bytes(shard, b"data"))
    assert valid_receipt(shard) == (None, "its data is not a shard")


@pytest.mark.parametrize(
    "fields",
    [
        {"stage": "encode"},
        {"identity": {}},
        {"input_keys": {}},
        {"code_version": "9/9"},
        {"identity": {"a": float("nan")}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_receipt_whose_key_is_of_other_work_is_not_believed(shard: Path, fields: dict[str, Any]) -> None:
    _alter(shard, **fields)
    assert valid_receipt(shard, KEY) == (None, "its receipt was altered")


def test_receipts_without_flags_are_still_read(shard: Path) -> None:
    path = Path(receipt_path(shard))
    path.write_text(json.dumps({name: v for name, v in json.loads(path.read_text()).items() if name != "flags"}))
    receipt, why = valid_receipt(shard, KEY)
    assert receipt is not None and receipt.flags == {} and why == ""


DAMAGES = {
    "receipt cut": (_damage, "receipt is damaged"),
    "receipt not text": (lambda s: Path(receipt_path(s)).write_bytes(b"\xff\xfe\x00"), "receipt is damaged"),
    "receipt of another kind": (lambda s: Path(receipt_path(s)).write_text("[]"), "receipt is damaged"),
    "receipt empty": (lambda s: Path(receipt_path(s)).write_text(""), "receipt is damaged"),
    "no receipt": (lambda s: Path(receipt_path(s)).unlink(), "has no receipt"),
    "no data": (lambda s: s.unlink(), "data is gone"),
    "nothing": (lambda s: [p.unlink() for p in s.parent.iterdir()], "is not there"),
    "data edited": (lambda s: s.write_bytes(s.read_bytes().replace(b"too far", b"too_far")), "data has changed"),
    "data grown": (lambda s: s.write_bytes(s.read_bytes() + b" "), "data has changed"),
    "receipt a folder": (lambda s: _make_folder(Path(receipt_path(s))), "receipt is damaged"),
    "data a folder": (lambda s: _make_folder(s), "a folder is where its data should be"),
    "statistics a folder": (lambda s: _make_folder(Path(statistics_path(s))), "statistics are gone"),
    "rows invented": (lambda s: _alter(s, rows={"ok": 3, "no_face": 1}), "row counts"),
    "rows of another status": (lambda s: _alter(s, rows={"ok": 3}), "row counts"),
    "rows gone": (lambda s: _alter(s, rows={}), "row counts"),
    "rows below zero": (lambda s: _alter(s, rows={"ok": 4, "no_face": -1}), "receipt is damaged"),
    "flags invented": (lambda s: _alter(s, flags={"diverged": 2}), "row counts"),
    "seconds that are none": (lambda s: _alter(s, seconds=float("nan")), "receipt is damaged"),
    "no statistics": (lambda s: Path(statistics_path(s)).unlink(), "statistics are gone"),
    "statistics edited": (lambda s: Path(statistics_path(s)).write_bytes(b""), "statistics have changed"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_receipt_that_does_not_match_is_refused_with_the_reason(shard: Path, name: str) -> None:
    assert valid_receipt(shard, KEY)[0] is not None
    damage, expected = DAMAGES[name]
    damage(shard)
    receipt, why = valid_receipt(shard, KEY)
    assert receipt is None and expected in why
    with pytest.raises(DataError, match=f"{expected}.*: run the align stage again"):
        require_receipt(shard, "run the align stage again")


def test_another_key_is_refused(shard: Path) -> None:
    assert valid_receipt(shard, "other") == (None, "its inputs or params have changed")
    assert require_receipt(shard, "").key == KEY


def test_a_change_is_told_down_to_the_key(shard: Path) -> None:
    identity = {"size": 128, "models": {"generator": "h" * 100}}
    said = explain_change(shard, identity, {"source": "s"}, code_version(2))
    assert "identity.size: 64 → 128" in said and "identity.models.generator: " in said and "code: " in said
    assert "input" not in said and "hhh…" in said
    assert explain_change(shard, IDENTITY, {"source": "t"}, code_version(1)) == "its input source has changed"
    assert explain_change(shard.with_name("absent"), {}, {}, "") == ""


def test_the_content_key_depends_on_each_part_and_not_on_order() -> None:
    key = content_key("align", "1", {"a": 1, "b": [2.0]}, {"source": "s"})
    assert key == content_key("align", "1", {"b": [2.0], "a": 1}, {"source": "s"}) and len(key) == 64
    others = [
        content_key("encode", "1", {"a": 1, "b": [2.0]}, {"source": "s"}),
        content_key("align", "2", {"a": 1, "b": [2.0]}, {"source": "s"}),
        content_key("align", "1", {"a": 1, "b": [3.0]}, {"source": "s"}),
        content_key("align", "1", {"a": 1, "b": [2.0]}, {"source": "t"}),
    ]
    assert len({key, *others}) == 5


def test_canonical_json_refuses_what_has_no_one_text() -> None:
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})
    with pytest.raises(TypeError):
        canonical_json({"a": {1, 2}})


def test_statistics_have_the_same_bytes_for_the_same_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_statistics(tmp_path / "a", STATISTICS)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 0, 0, 0, 0, 0, 0))
    assert write_statistics(tmp_path / "b", dict(reversed(STATISTICS.items()))) == first
    back = read_statistics(tmp_path / "b")
    assert back.keys() == STATISTICS.keys()
    assert all(
        np.array_equal(back[n], a) and back[n].dtype == a.dtype and back[n].shape == a.shape
        for n, a in STATISTICS.items()
    )


def test_no_statistics_means_no_file(tmp_path: Path) -> None:
    write_statistics(tmp_path / "a", STATISTICS)
    assert write_statistics(tmp_path / "a", {}) is None
    assert list(tmp_path.iterdir()) == [] and read_statistics(tmp_path / "a") == {}


def test_statistics_can_be_added_to(tmp_path: Path) -> None:
    write_statistics(tmp_path / "a", STATISTICS)
    read_statistics(tmp_path / "a")["swd"][:] += 1
    assert np.array_equal(read_statistics(tmp_path / "a")["swd"], STATISTICS["swd"])


def test_statistics_are_never_unpickled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pickle"):
        write_statistics(tmp_path / "a", {"x": np.array([object()])})
    np.savez(statistics_path(tmp_path / "b"), x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="is damaged"):
        read_statistics(tmp_path / "b")
    Path(statistics_path(tmp_path / "c")).write_bytes(b"PK\x03\x04 no")
    with pytest.raises(DataError, match="is damaged"):
        read_statistics(tmp_path / "c")


def test_the_receipt_of_another_shard_is_refused(shard: Path) -> None:
    receipt, _ = valid_receipt(shard)
    assert receipt is not None and receipt.shard == ""
    write_receipt(shard, receipt.model_copy(update={"shard": shard.name}))
    assert valid_receipt(shard, KEY)[0] is not None
    for name in (shard.name, f"{shard.name}.receipt.json", f"{shard.name}.stats.npz"):
        shutil.copy(shard.with_name(name), shard.with_name(name.replace("00000", "00001")))
    assert valid_receipt(shard.with_name("shard-00001.parquet")) == (None, f"its receipt is that of {shard.name}")
