"""Import a folder of image files, including its subfolders."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from gan_core.importers.base import IMPORTERS, MAX_FILE_BYTES, Importer, Item, SourceFile, printable
from gan_core.importers.metadata import METADATA, TWICE, FolderMetadata, as_sidecar
from gan_core.importers.names import IMAGE_SUFFIXES, is_picture
from gan_core.importers.sidecars import (
    ALONE,
    FIELDS,
    LARGE,
    MAX_SIDECAR_BYTES,
    SHARED,
    SUFFIXES,
    match_sidecars,
    read_sidecars,
)
from gan_core.rows import Row
from gan_core.storage.urls import base_name

UNREADABLE = "sidecars that can't be opened"


@IMPORTERS.register("folder")
class FolderImporter(Importer):
    """Each file with an image suffix becomes a row; its key is the path below the folder, including the suffix.

    The JSON and text files beside the pictures become columns, as those in tar archives do, if there are any. So does
    what a ``metadata.parquet`` says of a picture, as if it were its JSON; in one of an export ``key`` is the row's key.
    """

    suffixes: ClassVar[tuple[str, ...]] = IMAGE_SUFFIXES
    beside: ClassVar[tuple[str, ...]] = (*SUFFIXES, METADATA)

    def __init__(self, files: Sequence[SourceFile]) -> None:
        super().__init__(files)
        self.matches = match_sidecars([file.name for file in files])
        self.metadata = FolderMetadata(files, self.left_out)
        self.fields = FIELDS if self.matches.of or self.metadata.files else ()

    def items(self) -> Iterator[Item]:
        """Yield the pictures. One that can't be opened is ``unreadable``, and one over 256 MiB is ``too_large``."""
        for place, file in enumerate(self.files):
            if is_picture(file.name):
                said = self.metadata.of(file.name)
                columns = self._columns(self.matches.of.get(place, {}), file.name, said)
                yield _read(file, self.metadata.key_of(file.name), columns)
        self.metadata.tell_rest()
        for place in self.matches.shared:
            self.left_out.add(SHARED, printable(self.files[place].name))
        for group in self.matches.alone:
            for place in group:
                self.left_out.add(ALONE, printable(self.files[place].name))

    def _columns(self, places: Mapping[str, int], picture: str, said: Row) -> Row:
        found = {suffix: self.files[place] for suffix, place in places.items()}
        contents = {suffix: (printable(file.name), self._text(file)) for suffix, file in found.items()}
        read = {suffix: (name, data) for suffix, (name, data) in contents.items() if data is not None}
        if said and ".json" in read:
            self.noted.add(TWICE, printable(picture))
        elif said:
            read[".json"] = printable(picture), as_sidecar(said)
        return read_sidecars(read, self.noted)

    def _text(self, file: SourceFile) -> bytes | None:
        """Return the bytes of a sidecar, or ``None`` and count it among what is left out."""
        if file.size > MAX_SIDECAR_BYTES:
            self.left_out.add(LARGE, printable(file.name))
            return None
        data, _ = file.read(MAX_SIDECAR_BYTES)
        if data is None:
            self.left_out.add(file.fault or UNREADABLE, printable(file.name))
        return data


def _read(file: SourceFile, key: str, extra: Row) -> Item:
    if file.size > MAX_FILE_BYTES and not file.fault:
        reason = f"{file.size} bytes are more than {MAX_FILE_BYTES}"
        return Item(key, None, status="too_large", reason=reason, extra=extra)
    data, fault = file.read()
    if data is None:
        return Item(key, None, status="unreadable", reason=fault, extra=extra)
    return Item(key, data, base_name(printable(file.name)), extra=extra)
