"""The chain without a scheduler."""

import json
from pathlib import Path

import pytest
import yaml

from gan_core.plain import by_picture, main
from gan_core.storage.shards import list_shards, read_rows

EDITS = ("smile@-1", "smile@+1", "yaw@+1")


def test_the_whole_chain_in_one_command(project: Path, tiny_dataset: str) -> None:
    main([tiny_dataset, "run", "--metrics", "numbers/all.json", "--plot", "numbers/pictures.json"])
    metrics = json.loads(Path("numbers/all.json").read_text())
    assert metrics == json.loads(Path("run/summary.json").read_text())["metrics"]
    pictures = {row["picture"]: row["identity/toy"] for row in json.loads(Path("numbers/pictures.json").read_text())}
    assert pictures == {name: metrics[f"identity/toy/{name}"] for name in ("encoded", "tuned", *EDITS)}
    assert Path("run/report.html").exists()
    for stage in ("align", "encode", "tune", "edit", "measure"):
        rows = [row for shard in list_shards(f"run/{stage}") for part in read_rows(shard, batch_size=8) for row in part]
        assert len(rows) == 8
        assert [row["status"] for row in rows].count("ok") == 7


def test_a_mistake_is_one_line(project: Path, tiny_dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["models"]["directions"] = "gone.safetensors"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit) as ended:
        main([tiny_dataset, "run"])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith("error: no checkpoint at gone") and told.count("\n") == 1


def test_records_of_pictures_have_the_same_fields() -> None:
    metrics = {"mse/tuned": 0.1, "fid/toy-attr/tuned": 2.0, "fid/toy-attr/smile@+1": 3.0}
    assert by_picture(metrics) == [
        {"picture": "tuned", "fid/toy-attr": 2.0},
        {"picture": "smile@+1", "fid/toy-attr": 3.0},
    ]
    assert by_picture({}) == [], "where no row was measured"
