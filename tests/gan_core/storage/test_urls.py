"""Addresses that can't be used are told in one line."""

import pytest

from gan_core.errors import DataError
from gan_core.storage import urls


def test_an_unknown_kind_of_address_is_told() -> None:
    with pytest.raises(DataError, match="can't use nonsense://faces/in: Protocol not known: nonsense"):
        urls.open_fs("nonsense://faces/in")


def test_a_client_that_is_not_installed_is_told_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_client(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(urls, "url_to_fs", without_client)
    with pytest.raises(DataError, match=r"can't use s3://faces/in: Install s3fs to access S3 .*pip install"):
        urls.open_fs("s3://faces/in")
