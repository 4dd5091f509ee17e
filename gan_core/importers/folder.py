"""Import a folder of image files, including its subfolders."""

from collections.abc import Iterator

from gan_core.importers.base import IMPORTERS, MAX_FILE_BYTES, Importer, Item, SourceFile, printable
from gan_core.storage.urls import base_name

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"),
    *(".jp2", ".ppm", ".pgm", ".pbm"),
)


@IMPORTERS.register("folder")
class FolderImporter(Importer):
    """Each file with an image suffix becomes a row; its key is the path below the folder, including the suffix."""

    suffixes = IMAGE_SUFFIXES

    def items(self) -> Iterator[Item]:
        """Yield the files. A file that can't be opened is ``unreadable``, and one over 256 MiB is ``too_large``."""
        for file in self.files:
            yield _read(file)


def _read(file: SourceFile) -> Item:
    key = printable(file.name)
    if file.fault:
        return Item(key, None, status="unreadable", reason=f"{file.fault}")
    if file.size > MAX_FILE_BYTES:
        return Item(key, None, status="too_large", reason=f"{file.size} bytes are more than {MAX_FILE_BYTES}")
    try:
        with file.open() as opened:
            return Item(key, opened.read(), base_name(key))
    except (PermissionError, FileNotFoundError) as error:
        return Item(key, None, status="unreadable", reason=f"{error.strerror or error}")
