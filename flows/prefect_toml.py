"""The file ``prefect.toml``, which points the ``prefect`` commands of a project folder at the server of its runs."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gan_core.storage.atomic import write_bytes

POINTER = Path("prefect.toml")
WRITTEN_BY = "# Written by `edit-dataset server up`"
OWN = "# It names the server that runs in this folder."


def is_ours() -> bool:
    """Tell whether ``up`` has written the file, or may: there is none of somebody else."""
    return not POINTER.exists() or POINTER.read_text(errors="replace").startswith(WRITTEN_BY)


def point_at(address: str, own: bool) -> None:
    """Name the API at this address; ``own`` says that it is that of the server which runs in this folder."""
    first = f"{WRITTEN_BY} in {os.getcwd()}, removed by `server down`.\n"
    write_bytes(POINTER, f'{first}{f"{OWN}{chr(10)}" if own else ""}[api]\nurl = "{address}"\n'.encode())


def follow(address: str) -> None:
    """Name the address at which the folder's own server runs now, if it is this server that the file names."""
    if POINTER.is_file() and is_ours() and OWN in POINTER.read_text(errors="replace").splitlines():
        point_at(address, own=True)


def drop_copied(say: Callable[[str], object] = lambda _: None) -> None:
    """Remove the file that ``up`` wrote in another folder, if this one was copied from there."""
    with suppress(FileNotFoundError):
        first = POINTER.read_text(errors="replace").partition("\n")[0]
        if first.startswith(f"{WRITTEN_BY} in ") and f" in {os.getcwd()}, " not in first:
            POINTER.unlink()
            say(f"{POINTER} was removed: it named the server of the folder that this one was copied from")
