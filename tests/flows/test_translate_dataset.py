"""translate-dataset on a real server: the ledger, receipts, scores, the page, MLflow, and a run that goes on."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from flows.translate_dataset import translate_dataset
from gan_core.errors import ParamsError
from gan_core.storage.receipts import Receipt
from gan_core.toy.params import SampleParams
from gan_core.toy.translation_sample import SPOILED, write_translation_sample
from tests.gan_core.translation.conftest import write_translators

MIX = {"kind": "mix", "latent_mask": [7, 8, 9], "pictures": 2}
SETTINGS = {"task": "segmentation", "column": "labels", "made": False, "truth": "image", "variants": [MIX]}


@pytest.fixture
def params(project: Path) -> Path:
    """The project's parameters, with small encoders for the tasks."""
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["models"] |= write_translators(project / "models")
    values |= {"translate": SETTINGS}
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    write_translation_sample(project / "in", SampleParams(rows=8, shards=2))
    return project


def test_a_dataset_is_translated_and_nothing_vanishes(params: Path, on_server: str) -> None:
    metrics = translate_dataset("in", "out")
    table = pq.read_table(params / "out/translate/shard-00000.parquet").to_pylist()
    table += pq.read_table(params / "out/translate/shard-00001.parquet").to_pylist()
    failed = {row["key"]: row["status"] for row in table if row["status"] != "ok"}
    assert failed == {key: status for key, (column, status) in SPOILED.items() if column == "labels"}
    assert len(table) == 8
    summary = json.loads((params / "out/summary.json").read_text())
    assert summary["metrics"] == metrics and set(metrics) == {"mean_iou", "lpips", "diversity"}
    assert summary["rows"] == {"bad_labels": 2, "ok": 6}
    page = (params / "out/report.html").read_text()
    assert page.count('alt="output image of') == 6 and page.count('alt="truth image of') == 6 and "bad_labels" in page
    assert (params / "out/tracking.json").is_file()

    before = [Receipt.model_validate_json(p.read_text()) for p in sorted((params / "out").glob("*/*.receipt.json"))]
    assert translate_dataset("in", "out") == metrics
    after = [Receipt.model_validate_json(p.read_text()) for p in sorted((params / "out").glob("*/*.receipt.json"))]
    assert after == before, "finished shards are skipped"
    with pytest.raises(ParamsError, match="out holds another run"):
        translate_dataset("in", "out", overrides={"translate.variants": []})
