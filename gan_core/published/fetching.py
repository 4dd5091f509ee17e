"""Downloads of published files by name: resumed, checked against published hashes, and pinned on first use.

Where a program can't download a file, the error says which file to save where.
"""

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gan_core.checkpoints.files import placeholder
from gan_core.errors import CheckpointError
from gan_core.published.pins import check_pin, pin
from gan_core.published.sources import DRIVE, HUB, Source, find_source

FOLDER = "data/checkpoints"
EXTRA = "pip install 'edit-dataset[fetch]'"
CHUNK = 1 << 20
"""Bytes that are read at once; an interrupted download loses at most this much."""
TIMEOUT_S = 30
"""Seconds without data after which a download fails."""
SAID = 200
"""Letters of another program's message that an error repeats."""


@dataclass(frozen=True)
class Fetched:
    """A downloaded file; ``verified`` if its hash is published and was compared, ``known`` if it was pinned before."""

    path: Path
    sha256: str
    verified: bool
    known: bool


def fetch(name: str, folder: str | Path = FOLDER) -> Fetched:
    """Download a file by its name, resuming an earlier attempt, verify it, and pin its hash beside it.

    A file that exists already is only verified and pinned. Raises ``CheckpointError``, saying what to do by hand, if
    there is no network, if the file can't be downloaded by a program, or if another file than expected is there.
    """
    source = find_source(name)
    path = Path(folder) / source.file
    if not path.exists():
        part = path.with_name(path.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        WAYS[source.way](source, part, by_hand(source, path))
        if meaning := placeholder(part):
            part.unlink()
            raise CheckpointError(f"{source.url or source.page} is {meaning}; {by_hand(source, path)}")
        part.replace(path)
    sha256 = _checked(source, path)
    known = check_pin(path, sha256)
    if not known:
        pin(path, sha256)
    return Fetched(path, sha256, bool(source.sha256 or source.md5), known)


def by_hand(source: Source, path: Path) -> str:
    """Return instructions for downloading a file by hand."""
    address = source.page if source.way in ("hub", "drive", "hand") else source.url
    return f"open {address}, save the file as {path}, and run `edit-dataset checkpoints import {path}`"


def _by_url(source: Source, part: Path, instead: str) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(source.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply, open(part, "ab") as file:
            if have and reply.status != 206:  # the host ignores the range and sends the file from the beginning
                file.truncate(0)
            while data := reply.read(CHUNK):
                file.write(data)
            expected = reply.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the range is empty, because the file is complete
            raise CheckpointError(f"{source.url} answers {error.code}: {instead}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(source.url, getattr(error, "reason", error), instead) from None
    else:
        got = part.stat().st_size - (have if reply.status == 206 else 0)
        if expected is not None and got < int(expected):
            raise CheckpointError(f"{source.url} ended early: run the command again, it resumes from {part}")


def _by_drive(source: Source, part: Path, instead: str) -> None:
    try:
        import gdown
    except ModuleNotFoundError:
        raise CheckpointError(f"{source.file} is on Google Drive, which needs gdown ({EXTRA}): or {instead}") from None
    file = source.page.removeprefix(DRIVE).partition("/")[0]
    try:
        gdown.download(id=file, output=str(part), resume=True, use_cookies=False, timeout=TIMEOUT_S)
    except (gdown.exceptions.DownloadError, OSError, ValueError) as error:
        raise _unreachable(source.page, error, instead) from None


def _by_hub(source: Source, part: Path, instead: str) -> None:
    try:
        from huggingface_hub import hf_hub_download
    except ModuleNotFoundError:
        raise CheckpointError(
            f"{source.file} is on Hugging Face's hub, which needs huggingface_hub ({EXTRA}): or {instead}"
        ) from None
    owner, name, path = source.url.removeprefix(HUB).split("/", 2)
    folder = part.with_name(part.name + ".hub")
    try:
        Path(hf_hub_download(f"{owner}/{name}", path, local_dir=folder)).replace(part)
    except (OSError, ValueError) as error:
        raise _unreachable(source.page, error, instead) from None
    shutil.rmtree(folder)


def _by_hand_only(source: Source, part: Path, instead: str) -> None:
    raise CheckpointError(f"{source.file} can only be downloaded by hand: {instead}")


WAYS: dict[str, Callable[[Source, Path, str], None]] = {
    "url": _by_url,
    "drive": _by_drive,
    "hub": _by_hub,
    "hand": _by_hand_only,
}
"""What writes a source's file to a partial file, or raises with what to do instead, by ``Source.way``."""


def _unreachable(address: str, reason: object, instead: str) -> CheckpointError:
    said = " ".join(str(reason).split())[:SAID]
    return CheckpointError(f"{address} can't be reached ({said}): {instead}")


def _checked(source: Source, path: Path) -> str:
    """Return the sha256 of a file; raises ``CheckpointError`` if it isn't what was published."""
    found = {}
    for name, known in (("sha256", source.sha256), ("md5", source.md5)):
        with open(path, "rb") as file:
            found[name] = hashlib.file_digest(file, name).hexdigest() if known or name == "sha256" else ""
        if not found[name].startswith(known):
            raise CheckpointError(
                f"{path} has {name} {found[name]}, what was published has {known[:16]}...: remove it and fetch it again"
            )
    return found["sha256"]
