"""FFHQ's JSON: which of its pictures a file is, by hash, path and size, so that landmarks are never another picture's.

Each of its entries has a photograph, the face aligned from it and a thumbnail, all with the same file name. Only the
first two have landmarks, in pixels of their own.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from PIL import Image

from gan_core.geometry import Points
from gan_core.rows import Rejected, composed

KINDS = ("in_the_wild", "image", "thumbnail")


class FfhqImage(TypedDict, total=False):
    """One picture of an entry in FFHQ's JSON."""

    file_path: str
    file_md5: str
    pixel_size: list[int]
    face_landmarks: list[list[float]]


FfhqEntry = Mapping[str, FfhqImage]
"""One entry of FFHQ's JSON by the kind of picture: ``in_the_wild``, ``image`` and ``thumbnail``."""


@dataclass(frozen=True)
class FfhqPicture:
    """A picture that the JSON lists; ``size`` (width, height) and ``md5`` are empty where it says none."""

    path: str
    points: Points | None
    size: tuple[int, ...]
    md5: str


class FfhqTable:
    """The pictures of FFHQ's JSON.

    The constructor raises ``KeyError``, ``ValueError``, ``TypeError`` or ``AttributeError`` for another layout.
    """

    def __init__(self, content: Mapping[str, FfhqEntry]) -> None:
        self.by_name: dict[str, list[FfhqPicture]] = defaultdict(list)
        for entry in content.values():
            for kind in KINDS:
                if (image := entry.get(kind)) is not None:
                    picture = _picture(image)
                    self.by_name[picture.path.rpartition("/")[2]].append(picture)
        pictures = [picture for found in self.by_name.values() for picture in found]
        self.has_landmarks = any(picture.points is not None for picture in pictures)
        folders = {picture.path.rpartition("/")[0] for picture in pictures}
        self.folders = {folder.rsplit("/", count)[0] for folder in folders for count in range(folder.count("/") + 1)}

    def folder_of(self, origin: str) -> str:
        """Return the end of a path that is the beginning of paths in the JSON, or an empty string."""
        parts = normal(origin).split("/")
        ends = ("/".join(parts[place:]) for place in range(len(parts)))
        return next((end for end in ends if end in self.folders), "")

    def landmarks(self, path: str, data: bytes, image: Image.Image) -> Points | Rejected:
        """Return the landmarks of the ``image`` that was decoded from ``data``, the file at ``path``.

        Rejections are ``no_face`` where the JSON has no landmarks for it, ``degenerate_landmarks`` where they are those
        of another size of the picture, and ``ambiguous_landmarks`` where it may be one of several pictures.
        """
        path = normal(path)
        named = self.by_name.get(path.rpartition("/")[2], [])
        own = [picture for picture in named if f"/{path}".endswith(f"/{picture.path}")]
        found = _by_hash(named, data) or own or named
        fitting = [picture for picture in found if picture.size in ((), image.size)]
        if not found:
            return Rejected("no_face", "has no landmarks for it")
        if not fitting:
            sizes = " or ".join("x".join(map(str, picture.size)) for picture in found)
            return Rejected("degenerate_landmarks", f"is for {sizes} pixels, but this picture has {_size(image)}")
        if len(fitting) > 1:
            paths = " or ".join(picture.path for picture in fitting)
            advice = "import the folder above, so that keys hold the folder's name"
            return Rejected("ambiguous_landmarks", f"can't tell whether it is {paths}: {advice}")
        return _checked(fitting[0], image)


def normal(path: str) -> str:
    """Return a path with slashes, in the Unicode form NFC, without what begins it needlessly."""
    return composed(path.replace("\\", "/")).removeprefix("./").lstrip("/")


def _picture(image: FfhqImage) -> FfhqPicture:
    stored = image.get("face_landmarks")
    points = None if stored is None else np.array(stored, dtype=np.float64).reshape(68, 2)
    size = tuple(int(side) for side in image.get("pixel_size", ()))
    return FfhqPicture(normal(image["file_path"]), points, size, str(image.get("file_md5", "")))


def _by_hash(pictures: Sequence[FfhqPicture], data: bytes) -> list[FfhqPicture]:
    if not any(picture.md5 for picture in pictures):
        return []
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return [picture for picture in pictures if picture.md5 == md5]


def _checked(picture: FfhqPicture, image: Image.Image) -> Points | Rejected:
    if picture.points is None:
        return Rejected("no_face", f"has no landmarks for {picture.path}")
    middle = picture.points.mean(axis=0)
    if not ((middle >= 0) & (middle < image.size)).all():
        where = f"({middle[0]:.0f}, {middle[1]:.0f})"
        return Rejected("degenerate_landmarks", f"has a face at {where}, but this picture has {_size(image)} pixels")
    return picture.points


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
