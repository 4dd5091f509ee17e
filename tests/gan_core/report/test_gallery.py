"""The page of compositions: a section for each entry, pictures wider than tall, nothing from outside."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gan_core.recipes.base import plan_run
from gan_core.recipes.compose import summarise_compositions
from gan_core.report import write_report
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage
from gan_core.storage.shards import ShardWriter, latent_type

PLAN: list[dict[str, Any]] = [
    {"operation": "panorama", "count": 6, "group": 4},
    {"operation": "interpolate", "name": "top-down", "sources": [["seed-3", "seed-1"]]},
]


@pytest.fixture
def page(tiny_models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({"models": tiny_models, "compose": {"plan": PLAN}}))
    return compose("seeds:8")


def compose(source: str, output: str = "out", **overrides: Any) -> str:
    run = plan_run(source, output, overrides=overrides, recipe="compose").begin()
    for shard in run.shards:
        run_stage(build_stage("compose", run.params, run.source), shard, run.output)
    summarise_compositions(run)
    return Path(write_report(output)).read_text()


def test_each_entry_has_its_strip(page: str) -> None:
    assert re.findall(r'<h2 id="([^"]+)"', page) == ["panorama", "top-down", "stages"]
    assert page.count('<article class="row composition">') == 4 + 1
    assert "Joins all sources in one scene, pair by pair" in page
    assert "smoothing: 0.7" in page.replace("&#34;", '"')
    assert "seed-3, seed-1" in page
    assert re.search(r"Seam \d\.\d\d", page)
    assert "Left out: fid/toy-attr needs more than" in page and "there are 1; swd/mean needs" in page


def test_pictures_keep_their_shape_and_nothing_is_loaded(page: str) -> None:
    assert 'width="512"' in page and 'width="128"' in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_a_strange_key_and_failed_rows_are_shown_safely(page: str, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    import numpy as np
    import pyarrow as pa

    with ShardWriter(tmp_path / "latents/shard-00000.parquet", [pa.field("latent", latent_type(10, 16))]) as writer:
        base = {"status": "ok", "reason": "", "stage": "encode", "latent": np.zeros((10, 16), np.float32)}
        writer.write([base | {"key": hostile}, base | {"key": "b"}, {**base, "key": "c", "status": "no_face"}])
    plan = [{"operation": "interpolate", "sources": [[hostile, "b"], ["b", "c"]]}]
    shown = compose(str(tmp_path / "latents"), "other", **{"compose.plan": plan})
    assert hostile not in shown and "&lt;script&gt;" in shown
    assert "bad_source" in shown and "c is no_face" in shown
