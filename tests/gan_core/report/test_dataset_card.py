"""Folders of shards are datasets for Hugging Face's ``datasets`` and for people: a card says how to read them."""

from pathlib import Path

import pytest
from PIL.Image import Image

from gan_core.importers import import_dataset
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.storage.readme import OURS, README

QUICK = {"tune.enabled": False, "measure.metrics": ["mse"]}


def test_the_folders_of_a_run_load_as_datasets(project: Path, tiny_dataset: str) -> None:
    datasets = pytest.importorskip("datasets")
    run_plain(plan_run(tiny_dataset, "out", overrides=QUICK))
    edited = datasets.load_dataset("out/edit", split="train", cache_dir=str(project / "cache"))
    assert len(edited) == 8 and edited.features["smile@+1"] == datasets.Image()
    streamed = list(datasets.load_dataset("out/edit", split="train", streaming=True, cache_dir=str(project / "cache")))
    assert [row["key"] for row in streamed] == edited["key"] and isinstance(streamed[0]["smile@+1"], Image)
    text = (project / "out/edit" / README).read_text()
    assert "align → encode → edit" in text and "7 ok" in text and "licence Apache-2.0" in text


def test_folders_of_one_name_are_different_datasets_in_one_cache(tmp_path: Path, pngs: list[bytes]) -> None:
    datasets = pytest.importorskip("datasets")
    for name in ("one", "two"):
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / "in" / f"{name}.png").write_bytes(pngs[0])
        import_dataset(tmp_path / name / "in", tmp_path / name / "rows")
    cache = str(tmp_path / "cache")
    loaded = [datasets.load_dataset(str(tmp_path / n / "rows"), split="train", cache_dir=cache) for n in ("one", "two")]
    assert [rows["key"][0] for rows in loaded] == ["one.png", "two.png"]
    (tmp_path / "one/in/more.png").write_bytes(pngs[0])
    import_dataset(tmp_path / "one/in", tmp_path / "one/rows")
    again = datasets.load_dataset(str(tmp_path / "one/rows"), split="train", cache_dir=cache)
    assert list(again["key"]) == ["more.png", "one.png"]


def test_an_imported_folder_has_a_card_and_a_card_of_yours_stays(tmp_path: Path, tiny_dataset: str) -> None:
    out = tmp_path / "out"
    import_dataset(tiny_dataset, out)
    text = (out / README).read_text()
    assert OURS in text and "config_name: default" in text and "| `image` | image |" in text
    (out / README).write_text("my own words")
    import_dataset(tiny_dataset, out)
    assert (out / README).read_text() == "my own words"
