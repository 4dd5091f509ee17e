"""A run that can't fit on its disk is refused when it is planned."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from gan_core.errors import ParamsError
from gan_core.recipes.base import plan_run
from gan_core.recipes.space import SHARE, check_space

Usage = namedtuple("Usage", "free")


def with_free(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free))


def test_what_fits_exactly_is_taken_and_a_byte_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 10 * 4 * 3 * 64**2 * SHARE
    with_free(monkeypatch, needed)
    check_space(str(tmp_path / "new/run"), 10, 4, 64)
    with_free(monkeypatch, needed - 2)
    with pytest.raises(ParamsError, match=r"new/run needs at least .* GB for the pictures of 10 rows") as refused:
        check_space(str(tmp_path / "new/run"), 10, 4, 64)
    assert "\n" not in str(refused.value) and not (tmp_path / "new").exists()


def test_what_is_there_already_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "align").mkdir()
    (tmp_path / "align/shard.parquet").write_bytes(bytes(200_000))
    with_free(monkeypatch, 0)
    check_space(str(tmp_path), 10, 4, 64)
    with pytest.raises(ParamsError):
        check_space(str(tmp_path), 100, 4, 64)


def test_a_bucket_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 0)
    check_space("memory://bucket/run", 10**6, 10, 1024)


def test_planning_asks(project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 1000)
    with pytest.raises(ParamsError, match="runs/full needs at least"):
        plan_run(tiny_dataset, "runs/full")
    assert not Path("runs").exists()
