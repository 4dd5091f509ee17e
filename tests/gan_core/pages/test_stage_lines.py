from collections import Counter
from typing import Any

import pytest

from gan_core.pages import stages
from gan_core.pages.stages import StageSummary, describe_stages


def test_each_stage_says_its_time_and_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Counter(ok=3, no_face=1)
    found = [StageSummary("align", rows, 1.5, 1, [], "{}"), StageSummary("edit", rows, 0.0, 1, [], "{}")]
    monkeypatch.setattr(stages, "summarise_stages", lambda _: found)
    run: Any = None
    assert list(describe_stages(run)) == [
        "align          1.5 s of work in 1 shard: 3 of 4 rows ok, 2.0 rows/s",
        "edit           0.0 s of work in 1 shard: 3 of 4 rows ok",
    ]
