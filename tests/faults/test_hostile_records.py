"""Small files that are read back, landmarks in files, and names: whatever they hold is read, or refused in one line."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fault_bench import bounded
from benchmarks.reading_trials import GOOD
from flows.inspection import describe
from flows.servers import find
from gan_core.align.table_landmarks import read_table
from gan_core.errors import MAX_LETTERS, DataError, UserError
from gan_core.importers import import_dataset
from gan_core.importers.dataset import imported_from
from gan_core.importers.sidecars import read_sidecars
from gan_core.importers.tally import Tally
from gan_core.judges.domain import read_domains
from gan_core.loading import load_generator
from gan_core.nightly.evidence import _read_noise
from gan_core.nightly.history import read_history
from gan_core.params import load_params
from gan_core.recipes.base import plan_run
from gan_core.runs.summary import find_summary
from gan_core.storage.urls import open_fs
from tasks.record import read_record, read_tracked

READERS: dict[str, Callable[[Path], object]] = {
    "history.json": lambda folder: read_history(str(folder)),
    "pending.json": lambda folder: read_record(str(folder)),
    "tracking.json": lambda folder: (read_record(str(folder), "tracking.json"), read_tracked(str(folder))),
    "summary.json": lambda folder: find_summary(str(folder)),
    "noise.json": lambda folder: _read_noise(f"{folder}/noise.json"),
    "domain.json": lambda folder: read_domains(f"{folder}/domain.json"),
    "dataset.json": lambda folder: imported_from(folder),
    ".servers/mlflow.json": lambda folder: find("mlflow"),
    "ffhq.json": lambda folder: _read_fresh(folder / "ffhq.json"),
    "sidecar": lambda folder: read_sidecars({".json": ("a.json", (folder / "sidecar").read_bytes())}, Tally()),
}
SHAPES: dict[str, Any] = {
    "summary.json": {"metrics": {"mse": 1.0}, "omitted": {}, "rows": {"ok": 1}, "out_of_domain": {"rows": 1}},
    "noise.json": {"digest": "a", "noise": {"mse": 1.0}},
    "ffhq.json": {"0": {"image": {"file_path": "a.png", "pixel_size": [1, 1], "face_landmarks": [[1, 1]] * 68}}},
    "sidecar": {"landmarks": [[1, 2]] * 5},
    ".servers/mlflow.json": GOOD["mlflow.json"],
}
RAW = (b"", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff\xfe{}", b"NaN", b"null", b'"' + b"x" * 2000 + b'"')
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


def _read_fresh(path: Path) -> object:
    return read_table(str(path))


def places_in(content: Any) -> list[list[Any]]:
    """The ways to all values in JSON content."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [[], *([key, *way] for key, value in inside for way in places_in(value))]


def replaced(content: Any, way: list[Any], value: Any) -> Any:
    """JSON content with another value at that place."""
    if not way:
        return value
    copy = content.copy()
    copy[way[0]] = replaced(content[way[0]], way[1:], value)
    return copy


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path(".servers").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_record_is_refused_in_a_line(folder: Path, name: str) -> None:
    for content in RAW:
        (folder / name).write_bytes(content)
        bounded(lambda: READERS[name](folder))
    if name != "sidecar":
        (folder / name).unlink()
        (folder / name).mkdir()
        bounded(lambda: READERS[name](folder))


@pytest.mark.parametrize("name", READERS)
def test_any_value_at_any_place_of_a_record_is_read_or_refused(folder: Path, name: str) -> None:
    good = SHAPES[name] if name in SHAPES else GOOD[name]
    ways = places_in(good)
    (folder / name).write_text(json.dumps(good))
    assert bounded(lambda: READERS[name](folder))

    @settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(ways), VALUES)
    def check(way: list[Any], value: Any) -> None:
        (folder / name).write_text(json.dumps(replaced(good, way, value)))
        bounded(lambda: READERS[name](folder))

    check()


LONG = ("n" * 300, "é" * 200, "a\0b")


@pytest.mark.parametrize("name", LONG)
def test_names_that_no_file_can_have_are_refused_in_a_line(project: Path, tiny_dataset: str, name: str) -> None:
    asked: dict[str, Callable[[], object]] = {
        "dataset": lambda: plan_run(name, "out"),
        "output": lambda: plan_run(tiny_dataset, name),
        "folder above the output": lambda: plan_run(tiny_dataset, f"{name}/out"),
        "import": lambda: import_dataset(tiny_dataset, name),
        "imported": lambda: import_dataset(name, "out"),
        "described": lambda: list(describe(name)),
        "checkpoint": lambda: load_generator(name),
        "encoder": lambda: plan_run(tiny_dataset, "out", overrides={"encode.encoder": name}),
        "network": lambda: plan_run(tiny_dataset, "out", overrides={"models.encoder": name}),
        "direction": lambda: plan_run(
            tiny_dataset, "out", overrides={"edits": [{"direction": name, "strengths": [1]}]}
        ),
        "metric": lambda: plan_run(tiny_dataset, "out", overrides={"measure.metrics": [name]}),
        "parameters": lambda: load_params(name),
    }
    before = sorted(project.rglob("*"))
    for what, ask in asked.items():
        with pytest.raises(UserError) as refused:
            ask()
        assert len(str(refused.value)) <= MAX_LETTERS and str(refused.value).isprintable(), what
    assert sorted(project.rglob("*")) == before


def test_a_path_is_refused_by_its_parts_and_urls_of_buckets_are_not() -> None:
    with pytest.raises(DataError, match="more than 255 bytes"):
        open_fs(f"a/{'é' * 128}/b")
    open_fs("/".join(["n" * 255] * 4))
    with suppress(ImportError):
        open_fs(f"memory://a/{'n' * 300}")
