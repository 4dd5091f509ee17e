"""A disk that is full, a wire that breaks, a key that is pressed: one clear line, nothing half-written, go on later."""

import errno
import itertools
import multiprocessing
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gan_core.errors import DataError
from gan_core.importers import import_dataset
from gan_core.storage.receipts import valid_receipt

EVERY_STEP = pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])
FailAt = Callable[[Callable[[], object], int, BaseException], bool]


def _no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _check_state(workplace: Any, undisturbed: dict[str, bytes]) -> None:
    left = workplace.files()
    assert not [name for name in left if name.endswith(".tmp")]
    for name in left:
        if name.endswith(".parquet"):
            assert left[name] == undisturbed[name]
    workplace.run()
    assert workplace.files() == undisturbed


@pytest.mark.parametrize("stride", [13, EVERY_STEP])
def test_a_full_disk_at_any_step_is_told_and_leaves_nothing_half(
    workplace: Any, undisturbed: dict[str, bytes], fail_at: FailAt, stride: int
) -> None:
    told = 0
    for at in itertools.count(0, stride):
        workplace.clear()
        try:
            if not fail_at(workplace.run, at, _no_space()):
                break
        except DataError as error:
            told += 1
            assert "the disk is full: free some space and run again" in str(error) and "\n" not in str(error)
        except OSError:  # raised by a stage itself or after a commit, where nothing was being written
            pass
        _check_state(workplace, undisturbed)
    assert told > 2


def test_a_broken_wire_passes_through_for_a_retry(
    workplace: Any, undisturbed: dict[str, bytes], fail_at: FailAt
) -> None:
    for at in (3, 10, 17, 24):
        workplace.clear()
        with pytest.raises(OSError, match="wire") as caught:
            fail_at(workplace.run, at, OSError(errno.EIO, "wire"))
        assert caught.value.errno == errno.EIO
        _check_state(workplace, undisturbed)


@pytest.mark.parametrize("stride", [13, EVERY_STEP])
def test_an_interrupt_leaves_nothing_half(
    workplace: Any, undisturbed: dict[str, bytes], fail_at: FailAt, stride: int
) -> None:
    interrupted = 0
    for at in itertools.count(1, stride):
        workplace.clear()
        try:
            if not fail_at(workplace.run, at, KeyboardInterrupt()):
                break
        except KeyboardInterrupt:
            interrupted += 1
        _check_state(workplace, undisturbed)
        assert not list(workplace.output.rglob("*.lock"))
    assert interrupted > 2


def _run_with_small_files(work: Callable[[], object], limit: int, told: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        work()
    except DataError as error:
        told.put(str(error))
    else:
        told.put("nothing")


@pytest.mark.parametrize("limit", [0, 300, 2000])
def test_a_write_that_the_kernel_refuses(workplace: Any, undisturbed: dict[str, bytes], limit: int) -> None:
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    workplace.log.unlink()  # the log would be refused, too
    workplace.log.symlink_to(os.devnull)
    child = context.Process(target=_run_with_small_files, args=(workplace.run, limit, told))
    child.start()
    assert "the file would be larger than is allowed here" in told.get(timeout=600)
    child.join()
    assert workplace.files() == {}
    workplace.run()
    assert workplace.files() == undisturbed


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of four files to import."""
    (tmp_path / "in").mkdir()
    for i in range(4):
        (tmp_path / "in" / f"{i}.png").write_bytes(bytes([i]) * 100)
    return tmp_path / "in"


@pytest.mark.parametrize("stride", [13, EVERY_STEP])
def test_an_import_onto_a_full_disk_leaves_no_dataset(
    tmp_path: Path, pictures: Path, fail_at: FailAt, stride: int
) -> None:
    told = 0
    for at in itertools.count(0, stride):
        output = tmp_path / str(at)
        try:
            if not fail_at(lambda output=output: import_dataset(pictures, output, 2), at, _no_space()):
                break
        except DataError as error:
            told += 1
            assert "the disk is full" in str(error) and "kept" not in str(error)
            assert not list(output.glob("*")) and not list(output.glob(".*.tmp"))
        except OSError:
            pass
    assert told > 3
    assert valid_receipt(output / "shard-00001.parquet")[0] is not None


@pytest.mark.parametrize("stride", [13, EVERY_STEP])
def test_an_interrupted_import_is_whole_or_absent(tmp_path: Path, pictures: Path, fail_at: FailAt, stride: int) -> None:
    import_dataset(pictures, tmp_path / "whole", 2)
    whole = {path.name for path in (tmp_path / "whole").iterdir()}
    interrupted = 0
    for at in itertools.count(1, stride):
        output = tmp_path / str(at)
        try:
            if not fail_at(lambda output=output: import_dataset(pictures, output, 2), at, KeyboardInterrupt()):
                break
        except KeyboardInterrupt:
            interrupted += 1
        left = {path.name for path in output.iterdir()}
        assert not left or left >= whole
    assert interrupted > 3
