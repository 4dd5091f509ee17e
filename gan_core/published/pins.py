"""Hashes of downloaded files, pinned beside them on first use, in the form that ``sha256sum --check`` reads."""

from pathlib import Path

from gan_core.errors import CheckpointError
from gan_core.storage.atomic import write_bytes


def pin_path(path: Path) -> Path:
    """Return where the hash of a file is pinned."""
    return path.with_name(path.name + ".sha256")


def pin(path: Path, sha256: str) -> None:
    """Write the hash of a file beside it."""
    write_bytes(pin_path(path), f"{sha256}  {path.name}\n".encode())


def check_pin(path: Path, sha256: str) -> bool:
    """Return whether a file's hash is pinned; raises ``CheckpointError`` if it was another one."""
    lock = pin_path(path)
    if not lock.is_file():
        return False
    if (pinned := lock.read_text(errors="replace").split()[:1]) != [sha256]:
        raise CheckpointError(
            f"{path} has sha256 {sha256}, but it had {(pinned or ['none'])[0][:64]} when it was first used ({lock}): "
            f"fetch it again, or remove {lock} if you trust the new file"
        )
    return True
