"""What was damaged after it was made is found, told and made again; nothing else is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gan_core.errors import DataError, UserError
from gan_core.storage.receipts import receipt_path, statistics_path, valid_receipt
from gan_core.storage.shards import read_rows


def _flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _edit_receipt(shard: Path) -> None:
    receipt = Path(receipt_path(shard))
    receipt.write_text(receipt.read_text().replace('"ok": 7', '"ok": "seven"'))


def _borrow_receipt(shard: Path) -> None:
    other = shard.with_name("shard-00001.parquet")
    Path(receipt_path(shard)).write_bytes(Path(receipt_path(other)).read_bytes())


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "bit flipped in the data": (_flip_bit, "data has changed"),
    "data cut": (_cut, "data has changed"),
    "data emptied": (lambda shard: shard.write_bytes(b""), "data has changed"),
    "data gone": (lambda shard: shard.unlink(), "data is gone"),
    "receipt gone": (lambda shard: Path(receipt_path(shard)).unlink(), "no receipt"),
    "receipt cut": (lambda shard: _cut_receipt(shard), "receipt is damaged"),
    "receipt edited": (_edit_receipt, "receipt is damaged"),
    "receipt of another shard": (_borrow_receipt, "its input"),
    "statistics gone": (lambda shard: Path(statistics_path(shard)).unlink(), "statistics are gone"),
    "statistics damaged": (lambda shard: _flip_bit(Path(statistics_path(shard))), "statistics have changed"),
}


def _cut_receipt(shard: Path) -> None:
    receipt = Path(receipt_path(shard))
    receipt.write_text(receipt.read_text()[:-30])


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_only_that_shard_made_again(
    workplace: Any, undisturbed: dict[str, bytes], name: str
) -> None:
    damage, why = DAMAGES[name]
    workplace.run()
    damage(workplace.output / "align" / "shard-00000.parquet")
    receipts = workplace.run()
    assert [receipt.reused for receipt in receipts] == [False, True, True]
    assert why in receipts[0].why
    assert workplace.files() == undisturbed


def test_a_file_in_the_place_of_a_stages_folder_is_told_in_one_line(workplace: Any) -> None:
    workplace.output.mkdir()
    (workplace.output / "align").write_text("mine")
    with pytest.raises(UserError, match=r"can't write .*align.*: a file is where a folder should be: choose another"):
        workplace.run()
    assert (workplace.output / "align").read_text() == "mine"


def test_stale_temporary_files_and_locks_are_in_nobodys_way(workplace: Any, undisturbed: dict[str, bytes]) -> None:
    folder = workplace.output / "align"
    folder.mkdir(parents=True)
    (folder / ".shard-00000.parquet.123-deadbeef.tmp").write_bytes(b"PAR1 half")
    (folder / ".shard-00000.parquet.receipt.json.123-deadbeef.tmp").write_bytes(b"{")
    (folder / ".shard-00000.parquet.lock").write_text("process 123 on another machine, long ago")
    workplace.run()
    assert workplace.files() == undisturbed
    assert not list(folder.glob(".*"))


def test_a_damaged_input_stops_the_next_stage(workplace: Any) -> None:
    workplace.run()
    _flip_bit(workplace.output / "align" / "shard-00001.parquet")
    stage = workplace.stage()
    type(stage).inputs, inputs = ("align",), type(stage).inputs
    try:
        stage.name = "encode"
        with pytest.raises(DataError, match=r"shard-00001\.parquet, its data has changed.*: run the align stage again"):
            workplace.run_with(stage)
    finally:
        type(stage).inputs = inputs
    assert sorted(p.name for p in (workplace.output / "encode").glob("*.parquet")) == ["shard-00000.parquet"]


def test_a_source_changed_in_place_makes_its_shard_anew(workplace: Any) -> None:
    before = workplace.run()
    source = workplace.source / "shard-00002.parquet"
    source.write_bytes((workplace.source / "shard-00001.parquet").read_bytes())
    after = workplace.run()
    assert [receipt.reused for receipt in after] == [True, True, False]
    assert after[2].why == "its input source has changed"
    assert after[2].output_sha256 == before[1].output_sha256 != before[2].output_sha256


def test_a_page_damaged_in_the_source_is_told_in_one_line(workplace: Any) -> None:
    source = workplace.source / "shard-00000.parquet"
    data = bytearray(source.read_bytes())
    data[4:400] = bytes(396)
    source.write_bytes(data)
    with pytest.raises(DataError, match=r"shard-00000\.parquet is not a whole Parquet file") as caught:
        workplace.run()
    assert "\n" not in str(caught.value)
    assert workplace.files() == {} and valid_receipt(source)[0] is None
    with pytest.raises(DataError):
        list(read_rows(source))
