"""What a run was made by, as the command line and the report say it."""

from pathlib import Path

import pytest

from gan_core.checkpoints.files import Card
from gan_core.recipes.base import plan_run
from gan_core.report import about, write_report
from gan_core.report.about import describe_origin, describe_settings, sentences, used_networks
from gan_core.runs.run import Run


def test_the_networks_that_a_run_used_say_what_they_were_trained_on(project: Path, tiny_dataset: str) -> None:
    run = plan_run(tiny_dataset, "out").run
    found = used_networks(run)
    assert {"generator", "encoder"} <= found.keys() and "inception" not in found
    assert describe_origin(run) == [f"{', '.join(name for name in found if name in about.DRAWING)}: random weights"]


def test_a_report_says_that_networks_know_toy_portraits_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "toy people" not in Path(write_report(run)).read_text()
    card = Card(kind="encoder", name="psp", made_by="tests", licence="none", source="trained on toy portraits")
    monkeypatch.setattr(about, "used_networks", lambda _: {"encoder": (card, "ab"), "identity": (card, "cd")})
    said = describe_origin(run)
    assert said == ["encoder: trained on toy portraits", "they make toy people of photographs, whatever the scores say"]
    page = Path(write_report(run)).read_text()
    assert f"<p>{sentences(said)}" in page and describe_settings(run) in page
    assert f"landmarks: {run.params.align.landmarks}" in describe_settings(run)
