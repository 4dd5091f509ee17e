"""The ``README.md`` of a folder of shards, a dataset card: ``load_dataset(FOLDER)`` of Hugging Face finds shards by it.

Without it, ``datasets`` would take the receipts beside the shards for data. The keys of the card are those of
https://huggingface.co/docs/hub/datasets-cards.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import yaml

from gan_core.storage.atomic import remove, write_bytes
from gan_core.storage.shards import IMAGE, open_shard
from gan_core.storage.urls import exists, join_url, read_bytes

README = "README.md"
OURS = "<!-- Written by edit-dataset, and written again with the dataset. -->"


def remove_readme(folder: str | Path) -> None:
    """Remove the dataset card of a folder that has no dataset any more; one that is not ours stays."""
    url = join_url(folder, README)
    if exists(url) and OURS.encode() in read_bytes(url):
        remove(url)


def write_readme(
    folder: str | Path, shard: str, title: str, text: Sequence[str], content: str = "", licence: str = "other"
) -> None:
    """Write the dataset card of a folder whose shards have the columns of ``shard``; one that is not ours stays.

    ``text`` has paragraphs in Markdown. ``content`` and ``licence`` are those of ``write_card``.
    """
    write_card(folder, title, text, column_types(shard), "*.parquet", content, licence)


def write_card(
    folder: str | Path,
    title: str,
    text: Sequence[str],
    columns: Mapping[str, str],
    data_files: str,
    content: str = "",
    licence: str = "other",
) -> None:
    """Write a dataset card, unless the folder has one that is not ours.

    ``columns`` has the types by name, and ``data_files`` is the pattern of the files that hold the rows. ``licence`` is
    one of the hub's identifiers. ``content`` is a hash of the rows: ``load_dataset`` takes what it has cached of any
    local folder of the same name whose ``configs`` are the same.
    """
    url = join_url(folder, README)
    if exists(url) and OURS.encode() not in read_bytes(url):
        return
    config = {"config_name": "default", "data_files": data_files}
    head = {
        "license": licence,
        "pretty_name": title,
        "tags": ["edit-dataset"],
        "configs": [config | {"description": f"content {content}"} if content else config],
    }
    table = "\n".join(["| column | type |", "|---|---|", *(f"| `{name}` | {kind} |" for name, kind in columns.items())])
    read = '```python\nfrom datasets import load_dataset\n\nrows = load_dataset("THIS_FOLDER", split="train")\n```'
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        OURS,
        f"# {title}",
        *text,
        read,
        table,
    ]
    write_bytes(url, ("\n\n".join(parts) + "\n").encode())


def column_types(shard: str) -> dict[str, str]:
    """Return the types of a shard's columns by name, as a card says them."""
    with open_shard(shard) as opened:
        return {field.name: _kind(field.type) for field in opened.schema_arrow}


def _kind(kind: pa.DataType) -> str:
    if kind == IMAGE:
        return "image"
    return str(kind).replace("fixed_size_list<item: ", "array<").replace("|", "\\|")
