"""Names that become paths: those of files stay as they are, all others are refused in a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_core.errors import DataError
from gan_core.storage.names import check_name, check_shard_name, require_name
from gan_core.storage.urls import base_name, join_url, open_fs

BAD = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc",
    "a\\b",
    "..\\x",
    ".hidden",
    "a\0b",
    "a\nb",
    "a::b",
    "s3://b",
    "\udcff",
    "é" * 200,
]


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_what_is_no_name_of_one_file_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(ValueError, match="can't name a file of a run"):
        check_name(name)
    with pytest.raises(DataError) as refused:
        require_name(name, "here")
    assert len(str(refused.value)) < 250 and "\n" not in str(refused.value) and str(refused.value).startswith("here: ")
    with pytest.raises(ValueError):
        check_shard_name(f"{name}.parquet" if name.endswith(("/", ".")) or "/" in name else name)


@pytest.mark.parametrize("name", ["align", "shard-00000.parquet", "a b [1]*.parquet", "Ж e\u0301 👩‍👩.parquet", "x..y"])
def test_names_of_files_stay(name: str) -> None:
    assert check_name(name) == name


def test_shards_are_told_by_their_end() -> None:
    assert check_shard_name("a.parquet") == "a.parquet"
    with pytest.raises(ValueError, match=r"doesn't end in \.parquet"):
        check_shard_name("notes.txt")


@given(st.text(max_size=300))
def test_a_name_that_passes_stays_in_its_folder(name: str) -> None:
    try:
        check_name(name)
    except ValueError:
        return
    _, path = open_fs(join_url("/runs/r", name))
    assert path.rpartition("/")[0] == "/runs/r" and base_name(path) == name
