"""Nights for real: nothing is done twice, a worse encoder is found and said everywhere, and MLflow may be down."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.logging import disable_run_logger
from typer.testing import CliRunner

from flows import cli, reevaluate
from flows.reevaluate import conclude, encoders_of, log_nights, place_of, reevaluate_nightly, today
from gan_core.checkpoints.files import load_checkpoint, save_checkpoint
from gan_core.errors import DataError, ParamsError
from gan_core.nightly.evidence import Evidence
from gan_core.nightly.history import Entry, Finding, Measured, read_history
from gan_core.params import load_params
from gan_core.recipes.base import plan_run
from gan_core.storage.holding import hold_folder
from tasks.tracking.client import TrackingError
from tasks.tracking.registry import Registered, register_checkpoint
from tests.conftest import write_dataset

pytestmark = pytest.mark.usefixtures("on_server")
FID = "fid/toy-attr/encoded"


def entry(day: str = "2026-11-20", **more: object) -> Entry:
    """A night of one encoder."""
    measured = {FID: Measured(value=9.0, noise=0.3)}
    return Entry(date=day, encoder="psp", dataset="ds", path="psp:models/e.safetensors", sha256="aa", measured=measured)


def spoil(path: str, into: Path) -> str:
    """Write the encoder at ``path`` with a third of its weights gone, as a file of its own."""
    stored = load_checkpoint(path)
    tensors, card = sorted(stored.model.items()), stored.card  # a file gives its tensors in any order
    torch.manual_seed(0)
    worse = {name: t * (torch.rand(t.shape) > 0.33) if t.is_floating_point() else t for name, t in tensors}
    save_checkpoint(into, worse, card)
    return str(into)


def test_a_night_that_cannot_begin_says_why_in_one_line(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reevaluate, "registered_encoders", lambda uri: [])
    with pytest.raises(SystemExit) as ended:
        cli.main(["reevaluate", "ds"])
    said = capsys.readouterr().err + caplog.text
    assert ended.value.code == 2 and "error: no encoder is registered" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_worse_encoder_is_found_and_an_unchanged_night_does_nothing_twice(
    project: Path, tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, uri = write_dataset(project / "ds", (24, 24)), f"sqlite:///{project}/own.db"
    monkeypatch.setenv("EDIT_DATASET__TRACK__URI", uri)  # other tests register encoders too
    nights = CliRunner()
    none = nights.invoke(cli.app, ["reevaluate", dataset])
    assert isinstance(none.exception, ParamsError) and "page:" not in none.output
    register_checkpoint("nightly-psp", tiny_models["encoder"], uri)
    assert nights.invoke(cli.app, ["reevaluate", dataset, "--date", "2026-11-18"]).exit_code == 0
    written = {str(p): p.stat().st_mtime_ns for p in Path("runs/nightly").rglob("*.parquet")}
    assert nights.invoke(cli.app, ["reevaluate", dataset, "--date", "2026-11-19"]).exit_code == 0
    assert {str(p): p.stat().st_mtime_ns for p in Path("runs/nightly").rglob("*.parquet")} == written

    register_checkpoint("nightly-psp", spoil(tiny_models["encoder"], project / "worse.safetensors"), uri)
    ended = nights.invoke(cli.app, ["reevaluate", dataset, "--date", "2026-11-20"])
    assert ended.exit_code == 3 and f"nightly-psp on {dataset}: {FID} is" in ended.output
    last = read_history("runs/nightly")[-1]
    assert (last.date, last.version, last.tracked) == ("2026-11-20", "2", True)
    assert FID in {finding.metric for finding in last.findings}
    assert "Metrics have moved" in Path("runs/nightly/report.html").read_text()

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(f"{load_params().track.experiment}-nightly")
    (run,) = client.search_runs([experiment.experiment_id])
    assert FID in run.data.tags["finding"]
    steps = [point.step for point in client.get_metric_history(run.info.run_id, FID)]
    assert steps == [20261118, 20261119, 20261120]
    with get_client(sync_client=True) as prefect:
        texts = [str(a.data) for a in prefect.read_artifacts() if a.key == "nightly-findings"]
    assert any(FID in text for text in texts) and any("Nothing has moved" in text for text in texts)


def test_datasets_with_the_same_last_name_have_folders_of_their_own(project: Path, tiny_dataset: str) -> None:
    shutil.copytree(tiny_dataset, f"other/{Path(tiny_dataset).name}")
    name, other = Path(tiny_dataset).name, f"other/{Path(tiny_dataset).name}"
    first = place_of("nights", tiny_dataset, "psp")
    assert first == place_of("nights", other, "psp") == f"nights/{name}/psp"
    plan_run(tiny_dataset, first, overrides={"edits": []}).begin()
    second = place_of("nights", other, "psp")
    assert re.fullmatch(rf"nights/{name}-[0-9a-f]{{8}}/psp", second)
    plan_run(other, second, overrides={"edits": []}).begin()
    assert (place_of("nights", tiny_dataset, "psp"), place_of("nights", other, "psp")) == (first, second)
    assert place_of("new", other, "psp", {f"new/{name}/psp"}) == second.replace("nights/", "new/")
    Path(first, "run.json").write_text("{")
    assert place_of("nights", tiny_dataset, "psp") == first


def test_a_night_says_what_moved_before_what_could_not_be_measured() -> None:
    moved = Finding(encoder="psp", dataset="ds", metric=FID, value=14, usual=9, band=2)
    ended = conclude(1, [moved], ["not measured: no shards"])
    assert (ended.name, ended.is_failed()) == ("Moved", True)
    assert ended.message == f"{moved}; not measured: no shards"
    assert conclude(0, [], ["not measured: no shards"]).name == "Incomplete"
    assert conclude(1, [], []).is_completed()


def test_one_dataset_that_is_missing_does_not_hide_the_others(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reevaluate, "encoders_of", lambda *_: [Registered("psp", "1", "psp", "e", "aa")])
    monkeypatch.setattr(reevaluate, "edit_dataset", lambda source, *_, **__: Path(source).mkdir())
    monkeypatch.setattr(reevaluate, "load_run", lambda _: reevaluate.Entry)
    monkeypatch.setattr(reevaluate.Entry, "identities", {"encode": {"encoder_sha256": "aa"}}, raising=False)
    monkeypatch.setattr(reevaluate.Entry, "source", "there", raising=False)
    told = Evidence({FID: Measured(value=9, noise=0.3)}, "aa")
    monkeypatch.setattr(reevaluate, "gather", lambda *_: told)
    ended = reevaluate_nightly(["missing/deeper", "there"], "nights", date="2026-11-20", return_state=True)
    assert ended.name == "Incomplete" and "missing/deeper" in ended.message
    (kept,) = json.loads(Path("nights/history.json").read_text())
    assert (kept["dataset"], kept["rows"], kept["reference"]) == ("there", "aa", "aa")


def test_a_night_shows_no_password_of_a_dataset(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Registered("psp", "1", "psp", "e", "aa")
    secret, shown = "memory://me:s3cret@host/ds", "memory://me:***@host/ds"

    def fail(source: str, *_: object, **__: object) -> None:
        raise OSError(f"no route to {source}")

    monkeypatch.setattr(reevaluate, "encoders_of", lambda *_: [measured])
    monkeypatch.setattr(reevaluate, "edit_dataset", fail)
    ended = reevaluate_nightly([secret], "nights", date="2026-11-20", return_state=True)
    assert "s3cret" not in ended.message and f"no route to {shown}" in ended.message
    assert reevaluate.measure.task_run_name is reevaluate.name_of_measuring
    assert reevaluate.name_of_measuring({"encoder": measured, "dataset": secret}) == f"psp on {shown}"


@pytest.mark.usefixtures("project")
def test_a_registered_name_never_leads_out_of_the_folder() -> None:
    places = {place_of("nights", "ds", name) for name in ("..", "../psp", ".psp", "a/b", "a/b:c")}
    assert len(places) == 5 and all(re.fullmatch(r"nights/ds/encoder-[0-9a-f]{16}", place) for place in places)


def test_only_one_night_at_a_time_works_in_a_folder(project: Path) -> None:
    with hold_folder("nights"), pytest.raises(DataError, match="nights is being written by process"):
        reevaluate_nightly.fn(["ds"], "nights", date="2026-11-20")


def test_without_mlflow_the_last_encoders_are_measured_and_logged_later(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise TrackingError("MLflow can't be used: no route")

    track = load_params().track
    with disable_run_logger(), monkeypatch.context() as patch:
        patch.setattr(reevaluate, "registered_encoders", down)
        patch.setattr(reevaluate, "track_nights", down)
        history = [entry("2026-11-19"), entry()]
        assert encoders_of(track, history) == [Registered("psp", "", "psp", "models/e.safetensors", "aa")]
        assert log_nights(track, history) == history
        with pytest.raises(ParamsError, match="no encoder is registered: `edit-dataset register"):
            encoders_of(track, [])
    with disable_run_logger():
        assert [night.tracked for night in log_nights(track, history)] == [True, True]


def test_the_date_is_that_of_the_time_zone() -> None:
    assert today("UTC") <= today("Pacific/Kiritimati")
    with pytest.raises(ParamsError, match="'Mars/Base' is not known"):
        today("Mars/Base")


def test_a_dataset_whose_name_leads_elsewhere_is_refused(project: Path) -> None:
    with pytest.raises(DataError, match="a dataset's name"):
        place_of("nights", "data/..", "psp")


@pytest.mark.parametrize("date", ["2026-13-02", "2026-W46-1", "20261107", "yesterday"])
def test_a_date_that_is_none_is_refused_before_anything_is_measured(
    project: Path, capsys: pytest.CaptureFixture[str], date: str
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["reevaluate", "ds", "--date", date])
    assert end.value.code == 2 and f"date '{date}'" in capsys.readouterr().err
    with pytest.raises(ParamsError, match="write one such as 2026-11-21"):
        reevaluate_nightly.fn(["ds"], "nights", date=date)
    assert not Path("nights").exists() and not Path("runs/nightly").exists()


def test_a_dataset_is_one_series_however_it_is_spelled(project: Path) -> None:
    ways = ["ds/", "./ds", str(project / "ds"), "ds", "other"]
    assert reevaluate.spelled(ways, []) == ["ds", "other"]
    assert reevaluate.spelled(ways, [entry()]) == ["ds", "other"]
    known = entry().model_copy(update={"dataset": str(project / "ds")})
    assert reevaluate.spelled(["ds/"], [known]) == [str(project / "ds")]
    assert reevaluate.spelled(["memory://a/ds/", "memory://a/ds"], []) == ["memory://a/ds"]


def test_nights_want_datasets_and_a_folder_that_is_no_run(project: Path) -> None:
    with pytest.raises(ParamsError, match="datasets is empty: name at least one"):
        reevaluate.reevaluate_nightly([])
    Path("runs/a").mkdir(parents=True)
    Path("runs/a/run.json").touch()
    with pytest.raises(DataError, match="runs/a holds a run: choose another folder for the nights"):
        reevaluate.reevaluate_nightly(["ds"], "runs/a")
    assert [path.name for path in Path("runs/a").iterdir()] == ["run.json"]
