"""The option of the flow that puts edited faces back, with its own columns."""

from pathlib import Path

import numpy as np

from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.storage.images import decode_image
from gan_core.storage.shards import read_rows


def test_edited_faces_return_into_their_photographs(project: Path, tiny_dataset: str) -> None:
    overrides = {"paste.enabled": True, "tune.enabled": False, "run.workers": 1, "measure.metrics": ["mse"]}
    plan = plan_run(tiny_dataset, str(project / "run"), overrides=overrides)
    run = plan.run
    assert run.stages == ("align", "encode", "edit", "paste", "measure")
    run_plain(plan)
    for shard in run.shards:
        sources = [row for rows in read_rows(f"{tiny_dataset}/{shard}") for row in rows]
        pasted = [row for rows in read_rows(str(project / "run" / "paste" / shard)) for row in rows]
        assert [row["key"] for row in pasted] == [row["key"] for row in sources]
        for source, row in zip(sources, pasted, strict=True):
            if row["status"] != "ok":
                assert row["smile@+1/pasted"] is None
                continue
            before = np.asarray(decode_image(source["image"]["bytes"], 10**7))
            after = np.asarray(decode_image(row["smile@+1/pasted"]["bytes"], 10**7))
            changed = (before != after).any(axis=2)
            assert after.shape == before.shape and 0.02 < changed.mean() < 0.95
    assert (project / "run" / "report.html").is_file()
