"""The files of a source that importers read, and what is left out of them: hidden files, and links that lead away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from heapq import heappop, heappush
from pathlib import Path
from typing import TypedDict

from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from gan_core.errors import DataError
from gan_core.importers.base import SourceFile, printable
from gan_core.importers.names import HIDDEN, RESOURCE_FORKS, is_hidden, is_resource_fork
from gan_core.importers.shipped import PACKAGES, shipped_files
from gan_core.importers.tally import Tally
from gan_core.secrets import hide
from gan_core.storage.urls import file_name, is_local, open_fs, store_place

LINKED_FOLDERS = "links to folders that are read in their own place"
OUTSIDE_FOLDERS = "links to folders outside of the source (--follow-links reads them)"
OUTSIDE = "a link that leaves the source: --follow-links reads it"


def name_of(source: str | Path) -> str:
    """Return what a source is called, wherever the command runs: its absolute path, or its address without secrets."""
    if str(source) == PACKAGES:
        return PACKAGES
    return printable(store_place(source)[1]) if is_local(source) else hide(str(source))


class FileInfo(TypedDict, total=False):
    """The fields of a file in fsspec."""

    name: str
    size: int | None


def find_files(source: str | Path, left_out: Tally, follow_links: bool = False) -> list[SourceFile]:
    """Return the files of a folder and its subfolders, sorted by name, or the single file ``source``.

    ``packages:`` stands for the photographs that Python packages ship (``gan_core.importers.shipped``).

    Hidden files and folders are skipped and counted in ``left_out``. A link to a file in the source is followed. One
    that leaves the source gives a file with a ``fault``, or, if it leads to a folder, is counted in ``left_out``;
    ``follow_links`` follows both. Raises ``DataError`` if ``source`` doesn't exist or a folder can't be listed.
    """
    if str(source) == PACKAGES:
        return shipped_files(left_out)
    fs, root = open_fs(source)
    fs.invalidate_cache()
    if not fs.exists(root):
        raise DataError(f"nothing at {name_of(source)}: check the path")
    if fs.isfile(root):
        info = fs.info(root)
        if str(info.get("mimetype")).startswith("text/html"):
            advice = "folders of web servers can't be listed, so name one of its files, such as a tar archive"
            raise DataError(f"{name_of(source)} is a page: {advice}")
        return [SourceFile(fs, root, file_name(root), int(info.get("size") or 0))]
    if isinstance(fs, LocalFileSystem) and not os.path.isdir(root):
        raise DataError(f"{source} is neither a file nor a folder: name one of these")
    found = _Walk(fs, root, left_out, follow_links).files() if isinstance(fs, LocalFileSystem) else _remote(fs, root)
    visible = (file for file in found if not _leave_out_hidden(file.name, left_out))
    return sorted(visible, key=lambda file: os.fsencode(file.name))


def _leave_out_hidden(name: str, left_out: Tally) -> bool:
    if hidden := is_hidden(name):
        left_out.add(RESOURCE_FORKS if is_resource_fork(name) else HIDDEN, printable(name))
    return hidden


def _remote(fs: AbstractFileSystem, root: str) -> Iterator[SourceFile]:
    info: FileInfo
    for info in fs.find(root, detail=True).values():
        yield SourceFile(fs, info["name"], info["name"][len(root) :].lstrip("/"), int(info.get("size") or 0))


class _Walk:
    """The files below a local folder. Each folder is entered once, by whatever name, so that no ring is endless.

    Links are followed last, and of those the ones that lead to the outermost folders first. A hidden folder of the
    source is read where a link that isn't hidden leads to it.
    """

    def __init__(self, fs: LocalFileSystem, root: str, left_out: Tally, follow_links: bool) -> None:
        self.fs = fs
        self.root = root
        self.real_root = os.path.realpath(root)
        self.left_out = left_out
        self.follow_links = follow_links
        self.entered = set[str]()
        self.waiting = [(False, 0, "", self.real_root)]
        """Whether it is a link, the depth of the real folder, the name, and the real folder."""

    def files(self) -> Iterator[SourceFile]:
        for below, real in self._folders():
            for entry in self._list(below):
                name = f"{below}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    self._add(name, os.path.join(real, entry.name))
                elif not entry.is_symlink():
                    yield self._describe(entry.path, name)
                elif self._leads_to_folder(entry.path):
                    self._add_link(name, os.path.realpath(entry.path))
                else:
                    yield self._describe(entry.path, name, is_link=True)

    def _folders(self) -> Iterator[tuple[str, str]]:
        while self.waiting:
            *_, below, real = heappop(self.waiting)
            if real in self.entered:
                self.left_out.add(LINKED_FOLDERS, printable(below.rstrip("/")))
                continue
            self.entered.add(real)
            yield below, real

    def _list(self, below: str) -> list[os.DirEntry[str]]:
        folder = os.path.join(self.root, below)
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise _cannot_list(folder, error) from None

    def _add(self, name: str, real: str, is_link: bool = False) -> None:
        if not _leave_out_hidden(f"{name}/", self.left_out):
            heappush(self.waiting, (is_link, real.count("/"), f"{name}/", real))

    def _add_link(self, name: str, real: str) -> None:
        if self.follow_links or self._is_inside(real):
            self._add(name, real, is_link=True)
        else:
            self.left_out.add(OUTSIDE_FOLDERS, printable(name))

    def _describe(self, path: str, name: str, is_link: bool = False) -> SourceFile:
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            return SourceFile(self.fs, path, name, 0, "a link to nothing" if is_link else "it was removed meanwhile")
        except OSError as error:
            if not is_link:
                raise _cannot_list(os.path.dirname(path), error) from None
            return SourceFile(self.fs, path, name, 0, f"the link can't be followed: {error.strerror}")
        if is_link and not self.follow_links and not self._is_inside(os.path.realpath(path)):
            return SourceFile(self.fs, path, name, size, OUTSIDE)
        return SourceFile(self.fs, path, name, size, "" if os.path.isfile(path) else "not a regular file")

    def _leads_to_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def _is_inside(self, real: str) -> bool:
        return f"{real}/".startswith(f"{self.real_root.rstrip('/')}/")


def _cannot_list(folder: str, error: OSError) -> DataError:
    folder = printable(folder)
    return DataError(
        f"can't read the folder {folder} ({error.strerror}): make it readable, or move it out of the source"
    )
