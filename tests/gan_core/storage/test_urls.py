"""Addresses that can't be used are told in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from gan_core.checkpoints import files
from gan_core.errors import DataError
from gan_core.storage import urls
from gan_core.storage.keys import check_dataset
from gan_core.storage.shards import list_shards, open_shard


def test_an_unknown_kind_of_address_is_told() -> None:
    with pytest.raises(DataError, match="can't use nonsense://faces/in: Protocol not known: nonsense"):
        urls.open_fs("nonsense://faces/in")


def test_a_client_that_is_not_installed_is_told_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_client(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(urls, "url_to_fs", without_client)
    with pytest.raises(DataError, match=r"can't use s3://faces/in: Install s3fs to access S3 .*pip install"):
        urls.open_fs("s3://faces/in")


def _open_shard(path: Path) -> None:
    with open_shard(path):
        pass


@pytest.mark.parametrize(
    "read",
    [urls.read_bytes, urls.hash_file, _open_shard, files.load_checkpoint, files.placeholder, files.read_card],
)
def test_what_may_not_be_read_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    (tmp_path / "a").write_bytes(b"not for you")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalFileSystem, "_open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(DataError, match=r"^can't read .*/a: permission denied"):
        read(tmp_path / "a")


@pytest.mark.parametrize("read", [list_shards, check_dataset])
def test_a_dataset_that_may_not_be_read_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[str], object]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalFileSystem, "ls", refuse)
    with pytest.raises(DataError, match=r"^can't read .*: permission denied"):
        read(str(tmp_path))
