"""Send a published dataset to the Hugging Face hub. The token is the hub's own: `hf auth login`, or ``HF_TOKEN``."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flows.publish import ORIGIN, published_files
from gan_core.errors import DataError, UserError
from gan_core.storage.readme import OURS, README
from tasks.tracking.client import say

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ENDPOINT = "HF_ENDPOINT"
_NO_DATA = re.compile(r"\.gitattributes|README\.md|LICENSE[^/]*")
"""What a dataset of the hub may have before the first upload."""
EXTRA = "pip install -e '.[hub]' -c constraints.txt"


class HubError(UserError):
    """The hub can't be reached or refuses; the dataset's folder is complete."""


def connect(repository: str) -> "HfApi":
    """Return the hub's client, ready to write to a dataset; raises ``UserError`` without package, token or good name.

    It is called before anything is published, so that a mistake costs no time.
    """
    try:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id
    except ImportError:
        raise UserError(f"--hub needs the package huggingface_hub: {EXTRA}") from None
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise DataError(f"{repository!r} can't be a dataset of the hub ({say(error)}): write OWNER/NAME") from None
    if not get_token():
        raise UserError("there is no token for the hub: run `hf auth login`, or set HF_TOKEN")
    return HfApi(endpoint=os.environ.get(ENDPOINT) or None)


def upload(api: "HfApi", folder: str, repository: str) -> str:
    """Make a dataset of the hub equal to a published folder, in one commit, and return its address.

    A new one is private. What an earlier upload wrote and this one hasn't is removed; what others put there stays, a
    dataset card too. Raises ``DataError`` for a dataset of the hub with data that no publish wrote, or where a file of
    others would be written over, and ``HubError``.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    origin = json.loads(Path(folder, ORIGIN).read_text())
    files = [*origin["files"], ORIGIN]
    with _explained(api):
        address = api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        there = set(api.list_repo_files(repository, repo_type="dataset"))
        ours = _uploaded(api, repository, there)
        data = {name for name in there if not _NO_DATA.fullmatch(name)}
        foreign = there.intersection(files) - ours if ours else data
        if foreign:
            raise DataError(f"{repository} has data that no publish wrote ({min(foreign)}): choose another name")
        if Path(folder, README).is_file() and (README not in there or _is_our_card(api, repository)):
            files.append(README)
        changes: list[Any] = [CommitOperationDelete(name) for name in sorted(ours & there - set(files))]
        changes += [CommitOperationAdd(name, str(Path(folder, name))) for name in files]
        title = f"{origin['stage']} of {origin['run']} by edit-dataset"
        api.create_commit(repository, changes, commit_message=title, repo_type="dataset")
    return str(address)


def _uploaded(api: "HfApi", repository: str, there: set[str]) -> set[str]:
    """Return the names of the files that the last upload wrote, none if there was no upload."""
    if ORIGIN not in there:
        return set()
    with TemporaryDirectory() as folder:
        api.hf_hub_download(repository, ORIGIN, repo_type="dataset", local_dir=folder)
        try:
            return published_files(Path(folder))
        except DataError:
            raise DataError(f"{ORIGIN} of {repository} on the hub is damaged: choose another name") from None


def _is_our_card(api: "HfApi", repository: str) -> bool:
    with TemporaryDirectory() as folder:
        card = api.hf_hub_download(repository, README, repo_type="dataset", local_dir=folder)
        return OURS.encode() in Path(card).read_bytes()


@contextmanager
def _explained(api: "HfApi") -> Iterator[None]:
    """Turn whatever the hub's client raises into one line: its versions have different libraries for HTTP."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise HubError(
            f"the hub at {api.endpoint} did not take the dataset ({say(error)}): the folder is whole, publish again"
        ) from error
