import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from gan_core.errors import DataError, ParamsError
from gan_core.rows import Rejected, Row
from gan_core.runs.run_stage import run_stage, stage_shard
from gan_core.runs.stage import Stage
from gan_core.storage.images import ImageError
from gan_core.storage.receipts import read_statistics, receipt_path, statistics_path
from gan_core.storage.shards import ShardWriter, latent_type, read_rows
from gan_core.storage.urls import exists, join_url

SHARD = "shard-00000.parquet"
SOURCE_FIELDS = (pa.field("value", pa.float32()),)


class Doubling(Stage):
    name = "align"
    inputs = ("source",)

    def __init__(self, source: str = "", batch_size: int = 4, **identity: Any) -> None:
        self.source = source
        self.batch_size = batch_size
        self.fields = (pa.field("double", pa.float32()), pa.field("pair", latent_type(1, 2)))
        self._identity = identity
        self._sum = 0.0
        self.batches: list[int] = []

    def identity(self) -> dict[str, Any]:
        return self._identity

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        self.batches.append(len(rows))
        results = [self.one(row) for row in rows]
        self._sum += sum(row["value"] for row in rows)
        return results

    def one(self, row: Row) -> Row | Rejected:
        double = 2 * row["value"]
        return {"double": double, "pair": np.full((1, 2), double)}

    def statistics(self) -> dict[str, np.ndarray]:
        total, self._sum = self._sum, 0.0
        return {"sum": np.array(total)}


class Adding(Stage):
    name = "encode"
    inputs = ("source", "align")
    fields = (pa.field("sum", pa.float32()),)
    batch_size = 3

    def __init__(self, source: str) -> None:
        self.source = source

    def identity(self) -> dict[str, Any]:
        return {}

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        return [{"sum": row["value"] + row["double"]} for row in rows]


def make_source(folder: str | Path, values: Sequence[float], failed: frozenset[int] = frozenset()) -> str:
    with ShardWriter(join_url(folder, SHARD), SOURCE_FIELDS) as writer:
        for i, value in enumerate(values):
            status = ("unreadable", "why") if i in failed else ("ok", "")
            writer.write(
                [
                    dict(zip(("key", "status", "reason", "stage"), (f"k{i}", *status, "import"), strict=True))
                    | {"value": value}
                ]
            )
    return str(folder)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return make_source(tmp_path / "src", range(10), frozenset({3}))


def rows_of(output: str | Path, stage: str = "align") -> list[Row]:
    return [row for batch in read_rows(join_url(output, stage, SHARD)) for row in batch]


def test_rows_in_are_rows_out_with_their_status(source: str, tmp_path: Path) -> None:
    seen: list[int] = []
    receipt = run_stage(Doubling(source), SHARD, tmp_path / "out", seen.append)
    rows = rows_of(tmp_path / "out")
    assert receipt.rows == {"ok": 9, "unreadable": 1} and not receipt.reused and sum(seen) == 10
    assert [row["key"] for row in rows] == [f"k{i}" for i in range(10)]
    assert rows[3] == {
        "key": "k3",
        "status": "unreadable",
        "reason": "why",
        "stage": "import",
        "double": None,
        "pair": None,
    }
    assert rows[4]["double"] == 8 and rows[4]["stage"] == "align" and rows[4]["pair"].tolist() == [[8, 8]]
    assert read_statistics(stage_shard(Doubling(source), SHARD, tmp_path / "out"))["sum"] == 42


def test_stages_chain_and_earlier_faults_stay(source: str, tmp_path: Path) -> None:
    class Choosy(Doubling):
        def one(self, row: Row) -> Row | Rejected:
            return Rejected("odd", "not for me") if row["value"] == 5 else super().one(row)

    run_stage(Choosy(source), SHARD, tmp_path / "out")
    receipt = run_stage(Adding(source), SHARD, tmp_path / "out")
    rows = rows_of(tmp_path / "out", "encode")
    assert [row["sum"] for row in rows] == [0, 3, 6, None, 12, None, 18, 21, 24, 27]
    assert (rows[3]["status"], rows[3]["stage"]) == ("unreadable", "import")
    assert (rows[5]["status"], rows[5]["reason"], rows[5]["stage"]) == ("odd", "not for me", "align")
    assert receipt.input_keys.keys() == {"source", "align"} and receipt.statistics_sha256 is None


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_output_does_not_depend_on_the_batch_size(source: str, tmp_path: Path, batch_size: int) -> None:
    expected = run_stage(Doubling(source), SHARD, tmp_path / "a")
    receipt = run_stage(Doubling(source, batch_size), SHARD, tmp_path / "b")
    assert receipt.output_sha256 == expected.output_sha256 and receipt.key == expected.key
    assert receipt.statistics_sha256 == expected.statistics_sha256


def test_a_second_run_does_nothing(source: str, tmp_path: Path) -> None:
    first = run_stage(Doubling(source), SHARD, tmp_path / "out")
    again = Doubling(source)
    seen: list[int] = []
    receipt = run_stage(again, SHARD, tmp_path / "out", seen.append)
    assert receipt.reused and receipt.model_copy(update={"reused": False}) == first
    assert again.batches == [] and seen == [10]


class Newer(Doubling):
    version = 2


@pytest.mark.parametrize(
    ("remake", "why"),
    [
        (lambda source: Doubling(source, size=2), "identity.size: null → 2"),
        (lambda source: Newer(source), "code: "),
        (lambda source: Doubling(make_source(source, range(1, 11))), "its input source has changed"),
    ],
)
def test_stale_work_is_redone_and_the_reason_said(
    source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, remake: Any, why: str
) -> None:
    first = run_stage(Doubling(source), SHARD, tmp_path / "out")
    with caplog.at_level(logging.INFO, "gan_core.runs.run_stage"):
        receipt = run_stage(remake(source), SHARD, tmp_path / "out")
    assert not receipt.reused and receipt.key != first.key
    assert why in receipt.why and why in caplog.text


def test_a_change_upstream_redoes_what_is_downstream(source: str, tmp_path: Path) -> None:
    run_stage(Doubling(source), SHARD, tmp_path / "out")
    run_stage(Adding(source), SHARD, tmp_path / "out")
    make_source(source, range(20, 30))
    run_stage(Doubling(source), SHARD, tmp_path / "out")
    assert not run_stage(Adding(source), SHARD, tmp_path / "out").reused
    assert rows_of(tmp_path / "out", "encode")[0]["sum"] == 60


def test_an_exception_of_the_stage_passes_and_writes_nothing(source: str, tmp_path: Path) -> None:
    class Broken(Doubling):
        def one(self, row: Row) -> Row | Rejected:
            if row["value"] == 8:
                raise ConnectionError("the store is away")
            return super().one(row)

    stage = Broken(source)
    with pytest.raises(ConnectionError):
        run_stage(stage, SHARD, tmp_path / "out")
    assert list((tmp_path / "out" / "align").iterdir()) == []
    healthy = Doubling(source)
    healthy._sum = 1000.0  # what a failed attempt may leave behind
    run_stage(healthy, SHARD, tmp_path / "out")
    assert read_statistics(stage_shard(healthy, SHARD, tmp_path / "out"))["sum"] == 42


def test_an_image_error_rejects_its_row_only(source: str, tmp_path: Path) -> None:
    class Decoding(Doubling):
        def one(self, row: Row) -> Row | Rejected:
            if row["value"] == 6:
                raise ImageError("truncated", "cut")
            return super().one(row)

    receipt = run_stage(Decoding(source), SHARD, tmp_path / "out")
    assert receipt.rows == {"ok": 8, "truncated": 1, "unreadable": 1}
    assert rows_of(tmp_path / "out")[6]["reason"] == "cut"


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("column", ["double", "pair"])
def test_numbers_that_are_not_finite_never_go_on(source: str, tmp_path: Path, poison: float, column: str) -> None:
    class Poisoned(Doubling):
        def one(self, row: Row) -> Row | Rejected:
            good = super().one(row)
            assert isinstance(good, dict)
            bad = poison if column == "double" else np.array([[1.0, poison]])
            return good | {column: bad} if row["value"] == 2 else good

    receipt = run_stage(Poisoned(source), SHARD, tmp_path / "out")
    row = rows_of(tmp_path / "out")[2]
    assert receipt.rows["not_finite"] == 1 and row["status"] == "not_finite" and column in row["reason"]
    assert row["double"] is None and row["pair"] is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_halves_the_batch_and_stays_there(source: str, tmp_path: Path, error: Exception) -> None:
    class Hungry(Doubling):
        def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
            if len(rows) > 2:
                self.batches.append(-len(rows))
                raise error
            return super().process(rows)

    stage = Hungry(source, batch_size=10)
    receipt = run_stage(stage, SHARD, tmp_path / "out")
    assert receipt.rows == {"ok": 9, "unreadable": 1}
    assert receipt.output_sha256 == run_stage(Doubling(source), SHARD, tmp_path / "plain").output_sha256
    assert stage.batches[:2] == [-9, -4] and stage.batch_size == 2
    assert read_statistics(stage_shard(stage, SHARD, tmp_path / "out"))["sum"] == 42


def test_a_row_too_big_alone_is_recorded(source: str, tmp_path: Path) -> None:
    class Greedy(Doubling):
        def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
            if any(row["value"] == 7 for row in rows):
                raise RuntimeError("CUDA out of memory")
            return super().process(rows)

    assert run_stage(Greedy(source), SHARD, tmp_path / "out").rows == {"ok": 8, "oom": 1, "unreadable": 1}
    assert rows_of(tmp_path / "out")[7]["status"] == "oom"


def test_other_runtime_errors_are_not_taken_for_memory(source: str, tmp_path: Path) -> None:
    class Wrong(Doubling):
        def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        run_stage(Wrong(source), SHARD, tmp_path / "out")


@pytest.mark.parametrize(
    ("drop", "message"),
    [(True, "2 results for 3 rows: give one"), (False, r"columns that .* not declare: \['surprise'\]; add them")],
)
def test_a_stage_that_breaks_its_contract_is_stopped(source: str, tmp_path: Path, drop: bool, message: str) -> None:
    class Careless(Doubling):
        def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
            results = super().process(rows)
            return results[1:] if drop else [{"surprise": 1} for _ in results]

    with pytest.raises(ParamsError, match=rf"^stage 'align' \(.*Careless\): it gave {message}"):
        run_stage(Careless(source, 4), SHARD, tmp_path / "out")
    assert not exists(stage_shard(Careless(source), SHARD, tmp_path / "out"))


def test_inputs_without_a_valid_receipt_are_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it is not there: run the align stage again"):
        run_stage(Adding(source), SHARD, tmp_path / "out")
    run_stage(Doubling(source), SHARD, tmp_path / "out")
    Path(receipt_path(tmp_path / "out" / "align" / SHARD)).unlink()
    with pytest.raises(DataError, match="it has no receipt: run the align stage again"):
        run_stage(Adding(source), SHARD, tmp_path / "out")


def test_bad_sources_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no shard at"):
        run_stage(Doubling(str(tmp_path / "absent")), SHARD, tmp_path / "out")
    with pytest.raises(DataError, match="has no rows"):
        run_stage(Doubling(make_source(tmp_path / "empty", [])), SHARD, tmp_path / "out")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / SHARD).write_bytes(b"not parquet")
    with pytest.raises(DataError, match="not a whole Parquet file"):
        run_stage(Doubling(str(tmp_path / "junk")), SHARD, tmp_path / "out")
    pa.parquet.write_table(pa.table({"image": [b"x"]}), tmp_path / "junk" / SHARD)
    with pytest.raises(DataError, match="has no column key, reason, stage, status: make a dataset with"):
        run_stage(Doubling(str(tmp_path / "junk")), SHARD, tmp_path / "out")
    with pytest.raises(ValueError, match="`source` is not set"):
        run_stage(Doubling(), SHARD, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.*"))


def test_inputs_of_other_rows_are_refused(source: str, tmp_path: Path) -> None:
    run_stage(Doubling(source), SHARD, tmp_path / "out")
    with pytest.raises(DataError, match="different numbers of rows"):
        run_stage(Adding(make_source(tmp_path / "longer", range(11))), SHARD, tmp_path / "out")
    with ShardWriter(tmp_path / "renamed" / SHARD, SOURCE_FIELDS) as writer:
        writer.write([{"key": f"x{i}", "status": "ok", "value": 1.0} for i in range(10)])
    with pytest.raises(DataError, match="different keys"):
        run_stage(Adding(str(tmp_path / "renamed")), SHARD, tmp_path / "out")


def test_a_bucket_works_like_a_folder(tmp_path: Path) -> None:
    fsspec.filesystem("memory").store.clear()
    local = run_stage(Doubling(make_source(tmp_path / "src", range(9))), SHARD, tmp_path / "out")
    far = make_source("memory://bucket/src", range(9))
    receipt = run_stage(Doubling(far), SHARD, "memory://bucket/out")
    assert receipt.output_sha256 == local.output_sha256 and receipt.key == local.key
    assert run_stage(Doubling(far), SHARD, "memory://bucket/out").reused
    names = {join_url("/bucket/out/align", n) for n in (SHARD, receipt_path(SHARD), statistics_path(SHARD))}
    assert set(fsspec.filesystem("memory").find("/bucket/out")) == names


def test_a_flag_stays_with_its_row_and_is_counted(source: str, tmp_path: Path) -> None:
    class Flagging(Doubling):
        def one(self, row: Row) -> Row | Rejected:
            good = super().one(row)
            assert isinstance(good, dict)
            return good | {"reason": "odd: it is"} if row["value"] % 2 else good

    first = run_stage(Flagging(source), SHARD, tmp_path / "out")
    second = run_stage(Adding(source), SHARD, tmp_path / "out")
    assert first.flags == second.flags == {"odd": 4} and first.rows == second.rows
    rows = [row for part in read_rows(stage_shard(Adding(source), SHARD, tmp_path / "out")) for row in part]
    assert [row["reason"] for row in rows if row["status"] == "ok"][:3] == ["", "odd: it is", ""]


def test_rows_that_a_stage_tells_of_are_counted_once(source: str, tmp_path: Path) -> None:
    class Telling(Doubling):
        def one(self, row: Row) -> Row | Rejected:
            if row["value"] < 5:
                self.finished(1)
            return super().one(row)

    calls: list[int] = []
    run_stage(Telling(source), SHARD, tmp_path / "out", calls.append)
    assert calls == [1, 1, 1, 1, 1, 3, 2]
