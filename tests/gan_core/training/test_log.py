"""What a training writes down of itself while it goes on."""

import json
from pathlib import Path

import pytest
import torch

from gan_core.training import log
from gan_core.training.log import TrainingLog


def test_speed_is_that_since_the_start_also_of_a_resumed_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([10.0, 20.0, 40.0])
    monkeypatch.setattr(log.time, "monotonic", lambda: next(now))
    report, pictures = TrainingLog("resumed", tmp_path), torch.zeros(1, 3, 4, 4)
    for seen in (1_000, 1_100, 1_200):
        report.progress(seen, 2_000)
    report(1_200, {"loss": 0.5}, pictures)
    report(1_400, {"loss": 0.25}, pictures)
    lines = [json.loads(line) for line in (tmp_path / "resumed.jsonl").read_text().splitlines()]
    assert [(line["images"], line["images_per_s"]) for line in lines] == [(1_200, 20.0), (1_400, 10.0)]
