"""Remove what an earlier run has left in a folder: only shards that lie inside of it and that a run has written."""

import logging
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from gan_core.storage.atomic import remove, sweep_folder
from gan_core.storage.readme import remove_readme
from gan_core.storage.receipts import read_receipt, receipt_path, statistics_path
from gan_core.storage.urls import exists, is_local, join_url, open_fs

_log = logging.getLogger(__name__)


def clear(
    output: str, stages: Iterable[str], shards: Collection[str], kept_stages: Collection[str], kept: Collection[str]
) -> None:
    """Remove the shards of an earlier run that a new one in ``output`` doesn't have, and folders that are empty then.

    ``stages`` and ``shards`` are those of the earlier run, whose names are checked; ``kept_stages`` and ``kept`` those
    of the new one. What has no receipt of its stage, or lies elsewhere by a link, stays and is warned about.
    """
    for stage in stages:
        for shard in shards:
            if stage not in kept_stages or shard not in kept:
                _remove_shard(output, stage, shard)
        if stage not in kept_stages:
            _remove_empty(join_url(output, stage))


def withdraw(output: str, stage: str, shard: str) -> None:
    """Remove the receipt of a shard, so that the next run makes it again; what no run has written is left alone."""
    if _is_written_by_run(output, stage, shard):
        remove(receipt_path(join_url(output, stage, shard)))


def _remove_shard(output: str, stage: str, shard: str) -> None:
    url = join_url(output, stage, shard)
    if _is_written_by_run(output, stage, shard):
        lock = join_url(output, stage, f".{shard}.lock")
        for path in (statistics_path(url), url, lock, receipt_path(url)):  # the receipt last: it says whose they are
            remove(path)
    elif exists(url):
        _log.warning("%s stays: it lies outside of the run, or has no receipt that says that a run wrote it", url)


def _is_written_by_run(output: str, stage: str, shard: str) -> bool:
    """Whether a shard lies inside ``output``, links followed, and its stage has begun or finished writing it."""
    url = join_url(output, stage, shard)
    if not is_local(url):
        receipt = read_receipt(url)
        return receipt is not None and receipt.stage == stage
    target, root = Path(open_fs(url)[1]), os.path.realpath(open_fs(output)[1])
    if os.path.realpath(target.parent) != os.path.join(root, stage):
        return False
    receipt = read_receipt(url)
    begun = receipt is None and target.with_name(f".{target.name}.lock").is_file()  # its writer was killed
    return begun or (receipt is not None and receipt.stage == stage)


def _remove_empty(folder: str) -> None:
    if not is_local(folder):
        return
    path = Path(open_fs(folder)[1])
    with suppress(OSError):
        if not path.is_symlink():
            sweep_folder(folder)
            remove_readme(folder)
            path.rmdir()
