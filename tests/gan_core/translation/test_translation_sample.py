from pathlib import Path

import pytest

from gan_core.errors import ParamsError
from gan_core.storage.shards import read_rows
from gan_core.toy.params import SampleParams
from gan_core.toy.translation_sample import FIELDS, SPOILED, write_translation_sample
from gan_core.translation.inputs import label_cell, picture_cell


def test_the_same_parameters_give_the_same_bytes(tmp_path: Path) -> None:
    params = SampleParams(rows=5, shards=2)
    one, other = (write_translation_sample(tmp_path / name, params) for name in ("a", "b"))
    assert [Path(url).read_bytes() for url in one] == [Path(url).read_bytes() for url in other]
    rows = [row for url in one for part in read_rows(url) for row in part]
    assert len(rows) == 5
    assert set(SPOILED) < {row["key"] for row in rows}
    (good,) = [row for row in rows if row["key"] not in SPOILED]
    assert set(good) == {"key", "status", "reason", "stage", *(field.name for field in FIELDS)}
    assert label_cell(good, "labels", 64, 13).unique().numel() > 4
    assert {name: picture_cell(good, name, 64).shape for name in ("image", "sketch", "mask")} == dict.fromkeys(
        ("image", "sketch", "mask"), (3, 64, 64)
    )


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="at least 4 are needed"):
        write_translation_sample(tmp_path, SampleParams(rows=3, shards=1))
