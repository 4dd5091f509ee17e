"""The page about a translation run shows the right picture as the truth, however the dataset's columns are called."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gan_core.pages.pictures import read_images, to_data_url
from gan_core.pages.rows import Line
from gan_core.params import Params, TranslateParams
from gan_core.recipes.translate_page import _truth
from gan_core.runs.run import Run
from gan_core.storage.images import encode_png, image_value
from gan_core.storage.shards import IMAGE, ShardWriter

COLUMNS = {
    "source": {"image": 10, "source": 20, "aligned": 30, "output": 40},
    "out/align": {"image": 50},
    "out/translate": {"input": 60, "output": 70},
}


def flat(value: int) -> bytes:
    return encode_png(np.full((8, 8, 3), value, np.uint8))


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"align": True}, 50),
        ({"column": "image"}, 10),
        ({"column": "source"}, 20),
        ({"column": "labels", "made": False, "truth": "output"}, 40),
    ],
)
def test_the_truth_is_the_picture_that_was_aimed_at(tmp_path: Path, settings: dict[str, str], value: int) -> None:
    for place, columns in COLUMNS.items():
        fields = [pa.field(name, IMAGE) for name in columns]
        with ShardWriter(tmp_path / place / "shard-00000.parquet", fields) as writer:
            row = {"key": "a", "status": "ok", "reason": "", "stage": "source"}
            writer.write([row | {name: image_value(flat(shade), "") for name, shade in columns.items()}])
    stages = {"align": {}} if "align" in settings else {}
    shards = {"shard-00000.parquet": 1}
    run = Run(Params(), str(tmp_path / "source"), str(tmp_path / "out"), shards, stages | {"translate": {}})
    line = Line("shard-00000.parquet", 0, "a", "ok", "", "translate", {})
    (found,) = read_images(run, [line], ["source", *run.stages]).values()
    assert len(found) == 4 + 2 + len(stages)
    assert found[_truth(TranslateParams.model_validate(settings), [])] == to_data_url(flat(value), 10_000)
