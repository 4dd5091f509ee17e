"""The page about all nights: one chart for each number, with its band."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup, escape

from gan_core.nightly.history import (
    CHANCE,
    POWER,
    Band,
    Entry,
    by_series,
    count_tests,
    explain_number,
    find_band,
    trailing,
)
from gan_core.pages.page import Column, Page, Plot, Plots, Section, Table, Text
from gan_core.pages.plots import ticks
from gan_core.report.render import render
from gan_core.secrets import hide
from gan_core.storage.atomic import write_bytes
from gan_core.storage.urls import join_url
from gan_core.wording import counted

PAGE = "report.html"
WIDTH, HEIGHT = 360, 150
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 10, 20


@dataclass(frozen=True)
class Point:
    """One night of one number; ``low`` and ``high`` bound what chance explains, ``None`` where nothing came before."""

    day: int
    value: float
    low: float | None
    high: float | None
    found: bool


def write_page(output: str, history: Sequence[Entry], night: str, broken: Sequence[str] = ()) -> str:
    """Write ``OUTPUT/report.html`` about all nights and return its path; see ``render_nights``."""
    path = join_url(output, PAGE)
    write_bytes(path, render_nights(history, night, broken).encode())
    return path


def render_nights(history: Sequence[Entry], night: str, broken: Sequence[str] = ()) -> str:
    """Return the page about a history that isn't empty.

    ``broken`` says what could not be measured in the ``night`` that has just been; a later one of the history counts as
    that, where an earlier night was repeated.
    """
    last = max([night, *(entry.date for entry in history)])
    nights = len({entry.date for entry in history})
    findings = [(entry, finding) for entry in history for finding in entry.findings]
    moved = [str(finding) for entry, finding in findings if entry.date == last]
    first = "The first night: later ones are compared with it" if nights == 1 else "No metric has moved"
    quiet = "Not everything was measured" if broken else first
    earlier = [(entry.date, str(finding)) for entry, finding in reversed(findings) if entry.date != last]
    page = Page(
        heading="Metrics have moved" if moved else quiet,
        kicker=f"nightly re-evaluation, {last}",
        subtitle=(
            f"After {counted(nights, 'night')}. The shaded band is the range that is explained by "
            "chance: numbers that are compared row by row vary by how the rows' changes differ, the others by drawing "
            f"other rows and from night to night. At most {CHANCE:.1%} of the nights without a change raise anything."
        ),
        alerts=[*moved, *broken],
        sections=[
            *(_series(i, entries, history) for i, entries in enumerate(by_series(history).values())),
            *_earlier(earlier),
        ],
    )
    return render(page)


def _series(number: int, entries: Sequence[Entry], history: Sequence[Entry]) -> Section:
    newest = entries[-1]
    version = f"Version {newest.version} of the registry:" if newest.version else ""
    which = Text(version, f"{newest.path} {newest.sha256[:12]}".strip())
    title = f"{newest.encoder} on {hide(newest.dataset)}"
    omitted = [Text(f"{explain_number(n).label}: left out: {why}.") for n, why in newest.omitted.items()]
    return Section(title, f"series-{number}", [which, Plots(list(_charts(entries, history))), *omitted])


def _earlier(findings: Sequence[tuple[str, str]]) -> list[Section]:
    heads = [Column("night", number=False), Column("what moved", number=False)]
    return [Section("Earlier findings", "earlier", [Table(heads, findings)])] if findings else []


def _charts(entries: Sequence[Entry], history: Sequence[Entry]) -> Iterator[Plot]:
    newest = entries[-1]
    for name, now in newest.measured.items():
        those = [entry for entry in entries if name in entry.measured]
        bands = [_band_of(entry, name, history) for entry in those]
        points = [_point(entry, name, band) for entry, band in zip(those, bands, strict=True)]
        meaning, band = explain_number(name), bands[-1]
        value, note = meaning.show_with_unit(now.value), f"{name}: {meaning.help}"
        if band:
            value += f", usual {meaning.show(band.usual)} ± {band.width:.2g}"
            note += f" {_say_seen(band, now.rows)}"
        found = next((finding for finding in newest.findings if finding.metric == name), None)
        badge = ("worse" if found.worse else "better") if found else ""
        yield Plot(meaning.label, draw(name, points), value=value, badge=badge, note=note)


def _say_seen(band: Band, rows: int) -> str:
    how = f"row by row over {rows:,} rows" if band.paired else "as sets of other rows"
    return f"A change of {band.seen:.2g} is seen with {POWER:.0%} power; compared {how}."


def _band_of(entry: Entry, name: str, history: Sequence[Entry]) -> Band | None:
    tests = count_tests(e for e in history if e.date == entry.date)
    return find_band(name, entry.measured[name], trailing(history, entry), tests)


def _point(entry: Entry, name: str, band: Band | None) -> Point:
    value, found = entry.measured[name].value, any(finding.metric == name for finding in entry.findings)
    day = date.fromisoformat(entry.date).toordinal()
    if band is None:
        return Point(day, value, None, None, found)
    return Point(day, value, band.usual - band.width, band.usual + band.width, found)


def draw(name: str, points: Sequence[Point]) -> Markup:
    """Draw the nights as dots joined by a line over their band; those with a finding are marked."""
    values = [v for p in points for v in (p.value, p.low, p.high) if v is not None]
    low, high = min(values), max(values)
    margin = max((high - low) * 0.08, abs(high) * 1e-3, 1e-6)
    place = _Place(points[0].day, points[-1].day, low - margin, high + margin)
    parts = [*_scale(place), _band(points, place), _line(points, place), *_dots(points, place)]
    title = f"{name}: {points[-1].value:.4g} on {date.fromordinal(points[-1].day)}, {counted(len(points), 'night')}"
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="plot nights"><title>{escape(title)}</title>'
    return Markup(f"{head}{''.join(parts)}</svg>")


@dataclass(frozen=True)
class _Place:
    first: int
    last: int
    low: float
    high: float

    def x(self, day: int) -> float:
        share = (day - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return LEFT + 6 + share * (WIDTH - LEFT - RIGHT - 12)

    def y(self, value: float) -> float:
        return TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def _scale(place: _Place) -> Iterator[str]:
    for value in ticks(place.low, place.high, 4):
        y = place.y(value)
        yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{value:.4g}</text>'
    ends = {place.first: "start", place.last: "end"} if place.last > place.first else {place.first: "middle"}
    for day, anchor in ends.items():
        yield f'<text x="{place.x(day):.1f}" y="{HEIGHT - 5}" text-anchor="{anchor}">{date.fromordinal(day)}</text>'


def _band(points: Sequence[Point], place: _Place) -> str:
    known = [
        (place.x(p.day), place.y(p.low), place.y(p.high)) for p in points if p.low is not None and p.high is not None
    ]
    corners = [(x, top) for x, _, top in known] + [(x, bottom) for x, bottom, _ in reversed(known)]
    return f'<polygon class="band" points="{_pairs(corners)}"/>' if len(known) > 1 else ""


def _line(points: Sequence[Point], place: _Place) -> str:
    return f'<polyline class="line" points="{_pairs([(place.x(p.day), place.y(p.value)) for p in points])}"/>'


def _dots(points: Sequence[Point], place: _Place) -> Iterator[str]:
    for point in points:
        kind, radius = ("found", 4) if point.found else ("dot", 2.4)
        at = f'cx="{place.x(point.day):.1f}" cy="{place.y(point.value):.1f}"'
        said = f"<title>{date.fromordinal(point.day)}: {point.value:.4g}</title>"
        yield f'<circle class="{kind}" {at} r="{radius}">{said}</circle>'


def _pairs(corners: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
