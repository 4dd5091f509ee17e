"""The frontier: what an inversion takes, and what it brings: ``python -m benchmarks.frontier``.

Every method of ``benchmarks.frontier_methods`` inverts the same held-out portraits: seconds of a core a row, from the
aligned image to what is stored, by the stages of a run where it has them (the median of three rounds where a row takes
less than 0.1 s); LPIPS, MSE and identity of its picture; of the edits smile, yaw and hair, each to the side where there
is room, the smallest mean move (a share of the attribute's range), and the lowest identity after it
(``identity_edited``) and that over the one before (``identity_kept``); bytes a row. ``..._error`` is a standard error
over the rows. The slowest methods get a random part of the portraits (``--few``, ``--some``), which their numbers name
as ``rows``. Methods whose networks are not there are named with the command that trains them.

Ours is ``invert.budget_s`` at six budgets, by a table that is measured here on other portraits (``--rows``). RESULT:
``methods`` has the numbers of each (``lpips_some`` and ``lpips_few`` over the smaller parts, by which methods are
compared, so that all have the same portraits); ``dominated`` names those that are on or above our curve, which is a
line between budgets over the logarithms of seconds and LPIPS, as the chart draws it; ``area_ratio`` is the area of
LPIPS over the logarithm of seconds under the best other method so far at each time, over the area under ours;
``edits_worse`` names the budgets whose edits move less, or keep less identity, than those of the best encoder of one
pass, beyond both errors; ``steps_after_hypernetwork`` has, for steps of tuning alone, the fewest after the hypernetwork
that come as near.

``--store`` writes the numbers to ``data/metrics/frontier.json`` (with ``--only`` those of other methods stay there);
``--page`` writes the page and its chart from there, ``--log`` logs them to MLflow, each method as a run with
``seconds``, ``lpips`` and the rest; neither measures.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.frontier_methods import (
    STEPS,
    Result,
    Setting,
    encoding,
    features_of,
    find_method,
    finished,
    methods,
    rows_of,
    stored,
)
from benchmarks.harness import print_result
from benchmarks.tuning import Portraits, hash_networks, held_out_portraits
from gan_core.editing.apply import apply_edit
from gan_core.editing.directions import find_direction, load_directions
from gan_core.errors import UserError
from gan_core.inversion.allocation import write_table
from gan_core.inversion.features import HFGI
from gan_core.inversion.own import own_generator
from gan_core.inversion_trials import measure_rows, ways_there
from gan_core.loading import load_generator
from gan_core.params import load_params
from gan_core.precision import prepare_worker
from gan_core.toy.training.encoder_scores import EDITS, sides
from gan_core.training.log import SCORES
from gan_core.training.study import Row, stored_rows, write_rows

TARGET = SCORES / "frontier.json"
BATCH = 32
ROUNDS, CHEAP_S = 3, 0.1
SLOWEST = ("few", "some", "all")
"""Shares in the order in which they are measured, so that no process ends long after the other."""
PARTS = ("some", "few")
OTHERS = 100_000
"""The first of the held-out portraits that the table is measured on."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Shares:
    """How many portraits methods get; ``some`` and ``few`` are random parts of ``all``."""

    all: int
    some: int
    few: int

    def rows(self, share: str) -> Tensor:
        """Return the places of a share's portraits, ``[N]``."""
        order = torch.randperm(self.all, generator=torch.Generator().manual_seed(0))
        return order[: getattr(self, share)].sort().values


@cache
def portraits_of(count: int) -> tuple[Portraits, Setting, HFGI | None]:
    """Render and encode the portraits, once a process."""
    prepare_worker()
    params = load_params(overrides={"run.device": "cpu"})
    portraits = held_out_portraits(params, count)
    setting = Setting(params, load_generator(params.models.generator), portraits.loss)
    return portraits, setting, features_of(setting)


def measure(name: str, shares: Shares, table: str) -> Row:
    """Invert the portraits by one method; return its numbers, or what it lacks."""
    method = find_method(name)
    portraits, setting, features = portraits_of(shares.all)
    about: Row = {"method": name, "group": method.group}
    if missing := method.missing(setting.params):
        return about | {"missing": " && ".join(missing)}
    rows = shares.rows(method.share)
    try:
        invert = method.build(Setting(setting.params, setting.generator, setting.loss, table))
    except UserError as error:
        return about | {"missing": str(error).replace(table, "the table")}
    images = portraits.images[rows]
    invert(images[:8])
    result, times = invert_timed(invert, images)
    numbers = scores(portraits, rows, shares, result, features)
    size = result.latents[0].numel() * 4 + statistics.fmean(map(len, result.deltas))
    seconds = statistics.median(times)
    spread = statistics.stdev(times) if len(times) > 1 else 0.0
    return about | {"rows": len(rows), "seconds": seconds, "seconds_error": spread, "bytes": size} | numbers


def invert_timed(invert: Any, images: Tensor) -> tuple[Result, list[float]]:
    """Return what a method finds, and its seconds a row in one round or several."""
    times: list[float] = []
    while not times or (len(times) < ROUNDS and times[0] < CHEAP_S):
        begin = time.process_time()
        result = invert(images)
        times.append((time.process_time() - begin) / len(images))
    return result, times


@torch.no_grad()
def scores(
    portraits: Portraits, rows: Tensor, shares: Shares, result: Result, features: HFGI | None
) -> dict[str, float]:
    """Return the means over rows with their standard errors, and LPIPS over the smaller shares among them."""
    scorers, wanted = portraits.scorers, portraits.images[rows]
    drawn = pictures(portraits, rows, result, features)
    before, truth = drawn[0], scorers.identity(wanted)
    start = F.cosine_similarity(scorers.identity(before), truth)
    seen = scorers.attributes(before)
    batches = zip(before.split(BATCH), wanted.split(BATCH), strict=True)
    values = {
        "lpips": torch.cat([portraits.loss(a, b) for a, b in batches]),
        "mse": (before - wanted).square().flatten(1).mean(1),
        "identity": start,
    }
    moves, after = {}, {}
    for name, edited in zip(EDITS, drawn[1:], strict=True):
        change = (scorers.attributes(edited) - seen)[:, scorers.names.index(name)]
        moves[name] = change * sides(portraits.factors, name)[rows]
        after[name] = F.cosine_similarity(scorers.identity(edited), truth)
    values["move"] = min(moves.values(), key=lambda move: move.mean().item())
    values["identity_edited"] = min(after.values(), key=lambda kept: kept.mean().item())
    values["identity_kept"] = values["identity_edited"] / start.mean()
    means = {name: value.mean().item() for name, value in values.items()}
    free = min(1, len(rows) - 1)
    errors = {f"{name}_error": value.std(correction=free).item() for name, value in values.items()}
    parts = {f"lpips_{share}": values["lpips"][kept].mean().item() for share, kept in within(rows, shares).items()}
    return means | parts | {name: error / math.sqrt(len(rows)) for name, error in errors.items()}


def within(rows: Tensor, shares: Shares) -> dict[str, Tensor]:
    """Return which of ``rows [N]`` are in each smaller share that they have all of, as masks ``[N]``."""
    found = {share: torch.isin(rows, shares.rows(share)) for share in PARTS}
    return {share: mask for share, mask in found.items() if int(mask.sum()) == getattr(shares, share)}


@torch.no_grad()
def pictures(portraits: Portraits, rows: Tensor, result: Result, features: HFGI | None) -> Tensor:
    """Draw each row as it is and with each edit: ``[1 + edits, N, 3, H, W]`` in [-1, 1]."""
    models = portraits.params.models
    generator = portraits.generator
    directions = load_directions(models.directions, load_generator(models.generator)).model
    found = [find_direction(directions, name) for name in EDITS]
    strengths = torch.stack([sides(portraits.factors, name)[rows] for name in EDITS], 1)
    drawn = []
    for latent, delta, strength in zip(result.latents.split(1), result.deltas, strengths.tolist(), strict=True):
        edited = [apply_edit(latent, direction, s) for direction, s in zip(found, strength, strict=True)]
        codes = torch.cat([latent, *edited])
        with own_generator(generator, delta, features) as own:
            drawn.append(own(partial(generator.synthesis, codes)).clamp(-1, 1))
    return torch.stack(drawn, 1)


def shared_part(row: Row, other: Row | None = None) -> str:
    """Return the key of LPIPS over the largest part of the portraits, short of all, that a row (and another) has."""
    keys = [f"lpips_{share}" for share in PARTS]
    return next((key for key in keys if key in row and (other is None or key in other)), "lpips")


def curve_of(rows: Sequence[Row], like: Row | None = None) -> list[Point]:
    """Return logarithms of seconds and LPIPS of rows, by seconds, over the portraits that all have.

    With ``like`` over those that this row has too.
    """
    return sorted((math.log(row["seconds"]), row[shared_part(row, like)]) for row in rows)


def on_curve(curve: Sequence[Point], at: float) -> float:
    """Return the lowest value of a curve up to ``at``, as it is drawn on a logarithmic axis; infinite before it."""
    best = math.inf
    for (x, y), (nx, ny) in pairwise([*curve, (math.inf, math.inf)]):
        if x > at:
            break
        best = min(best, y)
        if at < nx < math.inf:
            best = min(best, y * (ny / y) ** ((at - x) / (nx - x)))
    return best


def best_so_far(points: Sequence[Point], at: float) -> float:
    """Return the lowest value of points up to ``at``; infinite before the first."""
    return min((y for x, y in points if x <= at), default=math.inf)


def area_ratio(ours: Sequence[Point], others: Sequence[Point], steps: int = 2000) -> float:
    """Return the area under the best other so far over that under our curve, from where both have a point on.

    It ends at the last of our budgets.
    """
    begin, end = max(ours[0][0], others[0][0]), ours[-1][0]
    places = [begin + (end - begin) * (i + 0.5) / steps for i in range(steps)]
    return sum(best_so_far(others, x) for x in places) / sum(on_curve(ours, x) for x in places)


def judged(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what RESULT says beside the numbers of each method."""
    measured = [row for row in rows if "missing" not in row]
    ours = [row for row in measured if row["group"] == "ours"]
    others = [row for row in measured if row["group"] != "ours"]
    if not ours or not others:
        return {"dominated": [], "area_ratio": math.nan, "edits_worse": [], "steps_after_hypernetwork": {}}
    curve, points = curve_of(ours), curve_of(others)
    dominated = [row["method"] for row in others if is_dominated(row, ours)]
    return {
        "dominated": dominated,
        "area_ratio": area_ratio(curve, points),
        "edits_worse": worse_edits(ours, others),
        "steps_after_hypernetwork": steps_after_hypernetwork(measured),
    }


def is_dominated(row: Row, ours: Sequence[Row]) -> bool:
    """Tell whether our curve is on or below a method's point, over the portraits that it shares with all budgets.

    Seconds that differ by less than both errors are equal.
    """
    early = [budget | {"seconds": budget["seconds"] - budget["seconds_error"]} for budget in ours]
    at = math.log(row["seconds"] + row["seconds_error"])
    return on_curve(curve_of(early, row), at) <= row[shared_part(row, ours[0])]


def steps_after_hypernetwork(measured: Sequence[Row]) -> dict[str, float]:
    """Return, by steps of tuning alone, the fewest after a hypernetwork that come as near, of those that were tried.

    Only methods with the same portraits are compared; infinite where none comes as near.
    """
    by_name = {row["method"]: row for row in measured}
    found: dict[str, float] = {}
    for steps in STEPS:
        alone = by_name.get(f"pti, {steps} steps")
        after = [(n, by_name.get(f"hyperstyle, {n} of pti")) for n in STEPS]
        known = [(n, row) for n, row in after if row and alone and row["rows"] == alone["rows"]]
        if alone and known:
            near = [n for n, row in known if row["lpips"] <= alone["lpips"]]
            found[str(steps)] = float(min(near, default=math.inf))
    return found


def worse_edits(ours: Sequence[Row], others: Sequence[Row]) -> list[str]:
    """Return the budgets whose edits are worse than those of the best encoder of one pass, and by which number."""
    passes = [row for row in others if row["group"] == "one pass"]
    found = []
    for key in ("move", "identity_edited"):
        best = max(passes, key=lambda row: row[key], default=None)
        for row in ours if best else []:
            assert best is not None
            if row[key] + row[f"{key}_error"] + best[f"{key}_error"] < best[key]:
                found.append(f"{row['method']}: {key} {row[key]:.3f}, {best['method']} {best[key]:.3f}")
    return found


def make_table(rows: int, path: str) -> None:
    """Measure what ways cost and bring on other held-out portraits, into ``path``."""
    prepare_worker()
    params = load_params(overrides={"run.device": "cpu"})
    portraits = held_out_portraits(params, rows, OTHERS)
    setting = Setting(params, load_generator(params.models.generator), portraits.loss)
    encoded = finished(encoding(setting, params.encode.encoder), rows_of(portraits.images))
    write_table(path, measure_rows(params, stored(encoded), "held-out portraits", print, ways_there(params)))


def measure_all(shares: Shares, rows: int, processes: int, only: str) -> list[Row]:
    """Measure all methods, the others beside the table, and then ours by it."""
    names = [method for method in methods() if only in method.name]
    found: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder, _pool(processes) as pool:
        table = str(Path(folder) / "inversion.json")
        made = pool.submit(make_table, rows, table) if any(m.group == "ours" for m in names) else None
        others = [m.name for m in sorted(names, key=lambda m: SLOWEST.index(m.share)) if m.group != "ours"]
        for row in pool.map(measure, others, repeat(shares), repeat(table)):
            found[row["method"]] = shown(row)
        if made:
            made.result()
        ours = [m.name for m in reversed(names) if m.group == "ours"]
        for row in pool.map(measure, ours, repeat(shares), repeat(table)):
            found[row["method"]] = shown(row)
    return [found[method.name] for method in names]


def among_stored(key: str, rows: Sequence[Row]) -> list[Row]:
    """Return all methods that were measured under ``key``, these ``rows`` in place of what is stored of theirs."""
    found = {row["method"]: row for row in [*stored_rows(TARGET, key), *rows]}
    return [found[method.name] for method in methods() if method.name in found]


def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,))


def shown(row: Row) -> Row:
    """Print a method's numbers, and return them with four significant digits."""
    row = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}
    if "missing" in row:
        print(f"{row['method']:24} not measured: {row['missing']}", flush=True)
    else:
        parts = (f"{key} {row[key]:.4g} ±{row[f'{key}_error']:.2g}" for key in ("lpips", "mse", "identity", "move"))
        kept = f"edited {row['identity_edited']:.3f}, kept {row['identity_kept']:.3f}, {row['bytes'] / 1e3:.0f} kB"
        print(f"{row['method']:24} {row['seconds']:.4g} s, {', '.join(parts)}, {kept} ({row['rows']} rows)", flush=True)
    return row


def main() -> None:
    """Measure and print, or use what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--some", type=int, default=64, help="portraits for 5 steps, or a second, and more")
    parser.add_argument("--few", type=int, default=10, help="portraits for optimisations and the published loop")
    parser.add_argument("--rows", type=int, default=32, help="other portraits that the table is measured on")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="methods whose name has this text")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--page", action="store_true", help="write the page from what is stored")
    parser.add_argument("--log", action="store_true", help="log what is stored to MLflow")
    options = parser.parse_args()
    if options.page or options.log:
        rows = json.loads(TARGET.read_text())["rows"]
        publish(rows, options.page, options.log)
    else:
        shares = Shares(options.images, min(options.some, options.images), min(options.few, options.images))
        rows = measure_all(shares, options.rows, options.processes, options.only)
        if options.store:
            params = load_params()
            networks = hash_networks(params.models)
            key = f"{shares}, table of {options.rows} rows, {params.tune.model_dump_json()} {networks}"
            rows = among_stored(key, rows)
            write_rows(TARGET, key, rows)
    print_result(methods={row["method"]: numbers_of(row) for row in rows}, **judged(rows))


def publish(rows: Sequence[Row], page: bool, log: bool) -> None:
    """Write the page, or log to MLflow."""
    from benchmarks.frontier_page import log_methods, write_page

    if page:
        write_page(rows, judged(rows))
    if log:
        log_methods(rows)


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a method, none for one that was not measured."""
    return {key: float(value) for key, value in row.items() if isinstance(value, int | float)}


if __name__ == "__main__":
    main()
