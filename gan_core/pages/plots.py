"""Small histograms as inline SVG, coloured by the page's own variables."""

import math
from collections.abc import Mapping

import numpy as np
from markupsafe import Markup, escape

from gan_core.meaning import Meaning
from gan_core.wording import counted

WIDTH, HEIGHT = 320, 132
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 8, 22
BINS = 28
COLOURS = 4
STEPS = 160
"""Points of a curve: one for every second pixel."""


def histogram(series: Mapping[str, np.ndarray], meaning: Meaning, label: str) -> Markup:
    """Draw the values of each series as overlaid bars of one scale, with a mark at each median.

    Series take the colours 1, 2, ... of the page. Without values the result is empty; values below the 1st or above the
    99th percentile are put into the outer bars, so that an outlier doesn't flatten the rest.
    """
    filled = {name: values for name, values in series.items() if len(values)}
    if not filled:
        return Markup("")
    low, high = _bounds(np.concatenate(list(filled.values())))
    counts = {n: np.histogram(np.clip(v, low, high), BINS, (low, high))[0] for n, v in filled.items()}
    tallest = max(int(c.max()) for c in counts.values())
    parts = [_bars(counts[name], tallest, i) for i, name in enumerate(series) if name in filled]
    parts += [_median(filled[n], low, high, i) for i, n in enumerate(series) if n in filled]
    parts += [_axis(low, high)]
    described = "; ".join(
        f"{n}: median {meaning.show(float(np.median(v)))}, {counted(len(v), 'row')}" for n, v in filled.items()
    )
    title = f"<title>{escape(label)}. {escape(described)}</title>"
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="plot">{title}{"".join(parts)}</svg>')


def kept_curve(values: np.ndarray, limit: float | None, higher: bool, meaning: Meaning, label: str) -> Markup:
    """Draw the share of rows that each limit of their scores ``[N]`` would keep, and mark the chosen one.

    With ``higher`` the rows above a limit are kept, else those below; NaN is never kept. The axis ends as that of
    ``histogram`` does. Without a finite score the result is empty.
    """
    known = np.sort(values[np.isfinite(values)].astype(np.float64))
    if not len(known):
        return Markup("")
    low, high = _bounds(known if limit is None else np.append(known, limit))
    places = np.linspace(low, high, STEPS)
    below = np.searchsorted(known, places, "left" if higher else "right")
    shares = (len(known) - below if higher else below) / len(values)
    points = [f"{_x(x, low, high):.1f},{_height(share):.1f}" for x, share in zip(places, shares, strict=True)]
    parts = [*_share_lines(higher), f'<polyline class="curve" points="{" ".join(points)}"/>']
    if limit is not None:
        x, kept = _x(limit, low, high), float(np.mean(values >= limit if higher else values <= limit))
        left, width = (x, WIDTH - RIGHT - x) if higher else (LEFT, x - LEFT)
        area = f'<rect class="kept" x="{left:.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - BOTTOM - TOP}"/>'
        mark = f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        parts = [area, *parts, mark, f'<circle class="dot" cx="{x:.1f}" cy="{_height(kept):.1f}" r="3.2"/>']
    shown = "no limit" if limit is None else f"limit {meaning.show(limit)}"
    rows = counted(len(values), "row")
    title = f"<title>{escape(label)}: share of rows kept by each limit; {escape(shown)}, {rows}</title>"
    parts.append(_axis(low, high))
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="plot gate">{title}{"".join(parts)}</svg>')


def _height(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _share_lines(on_the_right: bool) -> list[str]:
    """Lines at half and all of the rows, their labels on the side where the curve is low."""
    lines, (x, anchor) = [], (WIDTH - RIGHT, "end") if on_the_right else (LEFT, "start")
    for share in (0.5, 1.0):
        y = _height(share)
        lines.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{x}" y="{y + 10:.1f}" text-anchor="{anchor}">{share:.0%}</text>')
    return lines


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) between ``low`` and ``high``."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _bounds(values: np.ndarray) -> tuple[float, float]:
    low, high = (float(q) for q in np.quantile(values.astype(np.float64), [0.01, 0.99]))
    margin = max((high - low) * 0.04, abs(high) * 1e-3, 1e-6)
    return low - margin, high + margin


def _bars(counts: np.ndarray, tallest: int, colour: int) -> str:
    width = (WIDTH - LEFT - RIGHT) / BINS
    bars = []
    for i, count in enumerate(counts):
        if count:
            height = (HEIGHT - TOP - BOTTOM) * count / tallest
            place = f'x="{LEFT + i * width:.1f}" y="{HEIGHT - BOTTOM - height:.1f}"'
            bars.append(f'<rect {place} width="{width - 0.6:.1f}" height="{height:.1f}"/>')
    return f'<g class="series-{colour % COLOURS + 1}">{"".join(bars)}</g>'


def _median(values: np.ndarray, low: float, high: float, colour: int) -> str:
    x = _x(float(np.median(values)), low, high)
    ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
    return f'<line class="median series-{colour % COLOURS + 1}" {ends}/>'


def _axis(low: float, high: float) -> str:
    base = HEIGHT - BOTTOM
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>']
    marks = ticks(low, high)
    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9)) if len(marks) > 1 else 2
    for value in marks:
        x = _x(value, low, high)
        text = f"{value + 0.0:.{digits}f}".replace("-", "\u2212")
        anchor = "start" if x < LEFT + 12 else "end" if x > WIDTH - RIGHT - 12 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 7}" text-anchor="{anchor}">{text}</text>')
    return "".join(parts)


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (min(max(value, low), high) - low) / (high - low)
