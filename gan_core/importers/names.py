"""What the name of a file says: whether it is a picture, or hidden, and its kind where an import leaves it out."""

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"),
    *(".jp2", ".ppm", ".pgm", ".pbm"),
)

HIDDEN = "hidden files and folders"
RESOURCE_FORKS = "resource forks of macOS"
SYSTEM = "files of the operating system"
ARCHIVES = "archives, which are not unpacked here"
TABLES = "tables"
OTHER = "other files"

_BY_NAME = dict.fromkeys((".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"), SYSTEM)
_BY_SUFFIX = {
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst"), ARCHIVES),
    **dict.fromkeys((".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"), TABLES),
}


def is_picture(name: str) -> bool:
    """Return whether the name ends like that of an image file, ignoring case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_hidden(name: str) -> bool:
    """Return whether a part of the path begins with a dot or is the folder of macOS' resource forks."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def is_resource_fork(name: str) -> bool:
    """Return whether it is what macOS' archives put beside each file: ``._name``, or a copy below ``__MACOSX``."""
    return any(part.startswith("._") or part == "__MACOSX" for part in name.split("/"))


def kind_of(name: str) -> str:
    """Return the kind, in the plural, of a file that no importer of the source reads."""
    last = name.rpartition("/")[2].lower()
    return _BY_NAME.get(last) or _BY_SUFFIX.get(f".{last.rpartition('.')[2]}" if "." in last else "", OTHER)
