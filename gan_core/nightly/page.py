"""The page about all nights: each number with its band, one chart a number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gan_core.nightly.history import (
    Entry,
    Finding,
    by_series,
    explain_number,
    nights_needed,
    trailing,
    usual_and_band,
)
from gan_core.report.plots import ticks
from gan_core.storage.atomic import write_bytes
from gan_core.storage.urls import join_url

PAGE = "report.html"
WIDTH, HEIGHT = 360, 150
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 20


@dataclass(frozen=True)
class Point:
    """One night of one number; ``low`` and ``high`` bound what chance explains, ``None`` where nothing came before."""

    day: int
    value: float
    low: float | None
    high: float | None
    found: bool


@dataclass(frozen=True)
class Chart:
    """One number of one encoder on one dataset through the nights."""

    metric: str
    meaning: str
    value: str
    usual: str
    found: Finding | None
    svg: Markup


def write_page(output: str, history: Sequence[Entry]) -> str:
    """Write ``OUTPUT/report.html`` about all nights and return its path."""
    path = join_url(output, PAGE)
    write_bytes(path, render_nights(history).encode())
    return path


def render_nights(history: Sequence[Entry]) -> str:
    """Return the page about a history that isn't empty."""
    loader = PackageLoader("gan_core.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    last = max(entry.date for entry in history)
    series = {names: list(_charts(entries, history)) for names, entries in by_series(history).items()}
    findings = [(entry, finding) for entry in history for finding in entry.findings]
    return environment.get_template("nights.html.j2").render(
        last=last,
        nights=len({entry.date for entry in history}),
        series=series,
        newest={names: entries[-1] for names, entries in by_series(history).items()},
        tonight=[str(finding) for entry, finding in findings if entry.date == last],
        earlier=[(entry.date, str(finding)) for entry, finding in reversed(findings) if entry.date != last],
    )


def _charts(entries: Sequence[Entry], history: Sequence[Entry]) -> Iterator[Chart]:
    newest = entries[-1]
    for name, now in newest.measured.items():
        points = [_point(entry, name, history) for entry in entries if name in entry.measured]
        last = points[-1]
        usual = "" if last.low is None or last.high is None else f"{(last.low + last.high) / 2:.4g}"
        band = "" if last.low is None or last.high is None else f" ± {(last.high - last.low) / 2:.2g}"
        found = next((finding for finding in newest.findings if finding.metric == name), None)
        yield Chart(name, explain_number(name).help, f"{now.value:.4g}", usual + band, found, draw(name, points))


def _point(entry: Entry, name: str, history: Sequence[Entry]) -> Point:
    now, tests = entry.measured[name], sum(len(e.measured) for e in history if e.date == entry.date)
    earlier = [night.measured[name] for night in trailing(history, entry) if name in night.measured]
    found = any(finding.metric == name for finding in entry.findings)
    day = date.fromisoformat(entry.date).toordinal()
    if len(earlier) < nights_needed(name):
        return Point(day, now.value, None, None, found)
    usual, band = usual_and_band(name, now, earlier, tests)
    return Point(day, now.value, usual - band, usual + band, found)


def draw(name: str, points: Sequence[Point]) -> Markup:
    """Draw the nights as dots joined by a line over their band; those with a finding are marked."""
    values = [v for p in points for v in (p.value, p.low, p.high) if v is not None]
    low, high = min(values), max(values)
    margin = max((high - low) * 0.08, abs(high) * 1e-3, 1e-6)
    place = _Place(points[0].day, points[-1].day, low - margin, high + margin)
    parts = [*_scale(place), _band(points, place), _line(points, place), *_dots(points, place)]
    title = f"{name}: {points[-1].value:.4g} on {date.fromordinal(points[-1].day)}, {len(points)} nights"
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
    for day, anchor in {place.first: "start", place.last: "end"}.items():
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
