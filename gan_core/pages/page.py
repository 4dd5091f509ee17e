"""The parts of a page; ``gan_core.report`` writes it as one HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup


@dataclass(frozen=True)
class Tile:
    """A headline number and a sentence on what it means."""

    label: str
    value: str
    sentence: str


@dataclass(frozen=True)
class Caption:
    """A number under an image; ``help`` is shown when the pointer rests on it."""

    label: str
    value: str
    help: str = ""


@dataclass(frozen=True)
class Picture:
    """An image: its ``data:`` address (``None``: it can't be decoded), its name, and in words what it shows.

    ``width`` is in pixels of the page, ``None`` for the width of its column.
    """

    name: str
    url: str | None
    alt: str
    captions: Sequence[Caption] = ()
    width: int | None = None


@dataclass(frozen=True)
class Strip:
    """A row of a dataset: its images side by side, and ``notes`` beside its key."""

    key: str
    pictures: Sequence[Picture]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Strips:
    """Rows, one below the other."""

    kind: ClassVar[str] = "strips"
    strips: Sequence[Strip]


@dataclass(frozen=True)
class Composition:
    """An image of any shape above what it was made of."""

    key: str
    made: Picture
    inputs: Picture
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Compositions:
    """Images of any shape, side by side where they fit."""

    kind: ClassVar[str] = "compositions"
    compositions: Sequence[Composition]


@dataclass(frozen=True)
class Column:
    """The head of a table's column; numbers stand on the right."""

    label: str
    number: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell with a smaller line below its text; a ``badge`` is a status."""

    text: str
    small: str = ""
    badge: bool = False


Cells = list[Cell | str]
"""A row of a table."""


@dataclass(frozen=True)
class Table:
    """Rows of cells, as many as there are columns; an empty cell is shown as a dash."""

    kind: ClassVar[str] = "table"
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | str]]


@dataclass(frozen=True)
class Plot:
    """An SVG; ``legend`` names the series in the order of colours; ``value`` and ``badge`` tell the newest value."""

    title: str
    svg: Markup
    legend: Sequence[str] = ()
    value: str = ""
    badge: str = ""
    note: str = ""


@dataclass(frozen=True)
class Plots:
    """Small plots side by side."""

    kind: ClassVar[str] = "plots"
    plots: Sequence[Plot]


@dataclass(frozen=True)
class Example:
    """A row that was rejected: why, at which stage, and its source image; ``pictured`` is false where it has none."""

    key: str
    status: str
    stage: str
    reason: str
    url: str | None = None
    pictured: bool = True


@dataclass(frozen=True)
class Examples:
    """Rejected rows, side by side."""

    kind: ClassVar[str] = "examples"
    examples: Sequence[Example]


@dataclass(frozen=True)
class Details:
    """Monospaced texts, collapsed under ``summary``."""

    kind: ClassVar[str] = "details"
    summary: str
    texts: Sequence[str]


@dataclass(frozen=True)
class Text:
    """A paragraph; ``code`` follows it in a monospaced font."""

    kind: ClassVar[str] = "text"
    text: str
    code: str = ""


Block = Strips | Compositions | Table | Plots | Examples | Details | Text


@dataclass(frozen=True)
class Section:
    """A part of a page under a title; the page's head links to it by ``anchor``."""

    title: str
    anchor: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole page: ``kicker`` is the line above the heading, ``alerts`` stand out below it."""

    heading: str
    kicker: str
    sections: Sequence[Section]
    tiles: Sequence[Tile] = ()
    subtitle: str = ""
    alerts: Sequence[str] = ()
