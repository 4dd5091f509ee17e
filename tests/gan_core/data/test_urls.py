"""Addresses that can't be used are told in one line."""

import pytest

from gan_core.data.urls import open_fs
from gan_core.errors import DataError


@pytest.mark.parametrize(
    ("url", "why"), [("nonsense://faces/in", "Protocol not known: nonsense"), ("gs://faces/in", "install gcsfs")]
)
def test_an_address_without_a_client_is_told_with_what_to_do(url: str, why: str) -> None:
    with pytest.raises(DataError, match=f"can't use {url}: .*{why}.*pip install"):
        open_fs(url)
