"""What ways to invert cost and bring: the same rows of a run, refined by each of them, into a table."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeVar

from gan_core.align.framing import framing_of
from gan_core.batching import one_thread
from gan_core.budgets import InvertParams
from gan_core.device import CPU, compute_on, computing, synchronise
from gan_core.encoders.base import ENCODERS
from gan_core.errors import DataError, ParamsError
from gan_core.inversion.allocation import Choice, Table, Trial, Way, ends_with_look, write_table
from gan_core.inversion.pti import Tuned
from gan_core.inversion.refinement import Inverted
from gan_core.inversion.ways import OpenWay, parse_way, part_of
from gan_core.params import Params
from gan_core.rows import Rejected, Row
from gan_core.runs.run import Run
from gan_core.stages.encode import EncodeStage
from gan_core.stages.tune import TuneStage
from gan_core.storage.shards import read_rows
from gan_core.storage.urls import exists
from gan_core.wording import counted

STEPS = (0, 1, 2, 5, 10, 20, 40, 80, 160)
FEW_STEPS = 40
"""More aren't tried after a network or before one: by then they bring what tuning alone brings (docs/frontier.md)."""
FEWEST = 4
ROUNDS, SHORT_S = 3, 2.0
"""What takes less than two seconds is measured so often: the shorter, the more measures differ."""
OF_HYPERNETWORK = "psp-w"
"""The encoder that hypernetworks are trained over, here and as published."""
T = TypeVar("T")
Tell = Callable[[str], None]


def ways_there(params: Params) -> list[str]:
    """Return the ways beside tuning whose networks are there: features, a hypernetwork, other encoders."""
    models, found = params.models, []
    if exists(models.features):
        found += ["features", "pti, features"]
    if exists(models.hypernetwork) and exists(params.encoder_path(OF_HYPERNETWORK)):
        found += [f"{OF_HYPERNETWORK}: hypernetwork", f"{OF_HYPERNETWORK}: hypernetwork, pti"]
    others = [name for name in ENCODERS.names() if name != params.encode.encoder]
    return [*found, *(f"{name}:" for name in others if exists(params.encoder_path(name)))]


def measure_table(run: Run, rows: int, tell: Tell, also: Sequence[str] = ()) -> Table:
    """Measure up to ``rows`` encoded rows of a run, with the run's own parameters; see ``measure_rows``.

    Raises ``DataError`` for a run with fewer than 4 encoded rows, and ``ParamsError`` for one without encoding.
    """
    if "encode" not in run.stages:
        raise ParamsError(f"{run.output} encodes nothing: give a run of the recipe edit")
    return measure_rows(run.params, list(islice(_encoded(run), rows)), run.output, tell, also)


def measure_rows(params: Params, encoded: Sequence[Row], source: str, tell: Tell, also: Sequence[str] = ()) -> Table:
    """Tune rows of ``source`` by each of ``STEPS``, and invert them by each way of ``also`` (``ways.parse_way``).

    Seconds are those of one core, or of the device. ``tell`` gets a line a trial. Raises ``DataError`` for fewer than
    4 rows.
    """
    params = params.model_copy(update={"invert": InvertParams()})
    more = [parse_way(text) for text in also]
    with compute_on(params.run.device), one_thread():
        stage = TuneStage(params.tune, params.models, frame=framing_of(params).frame)
        chosen = [row for row in map(stage.load_to_look, encoded) if not isinstance(row, Rejected)]
        if len(chosen) < FEWEST:
            raise DataError(f"{source} has {len(chosen)} encoded rows, and a table needs {FEWEST}: use a larger one")
        encoder = EncodeStage.build(params, source)
        seen = [encoder.load(row) for row in encoded]
        own, encode_s, look_s = _begin(stage, chosen, lambda: list(encoder.calculate(seen)))
        trials = [_trial(own, steps, 0.0, tell) for steps in STEPS]
        others = [_measured(own, name, refine, tell) for name, refine in more]
        table = Table(
            setting=stage.setting(),
            source=source,
            encode_s=encode_s,
            look_s=look_s,
            starts=tuple(one.reached for batch in own.looked for one in batch),
            trials=tuple(trials),
            others=tuple(others),
        )
        mixed = _mixed(params, table, chosen)
    said = f"the encoder takes {encode_s:.3g} s a row, a look at what it found {look_s:.3g} s"
    tell(f"{counted(len(chosen), 'row')}; {said}; steps of their own take {mixed:.3g} of equal ones")
    return table.model_copy(update={"mixed": mixed})


def _mixed(params: Params, table: Table, rows: Sequence[Row]) -> float:
    """Return what rows take that follow a table, without the look, over what it says of them.

    They get the budget of the middle one of the trials, so that their steps differ.
    """
    before_s = table.encode_s + table.look_s
    budget = before_s + table.trials[len(table.trials) // 2].seconds
    with TemporaryDirectory() as folder:
        path = f"{folder}/inversion.json"
        write_table(path, table)
        models, invert = params.models.model_copy(update={"inversion": path}), InvertParams(budget_s=budget)
        stage = TuneStage(params.tune, models, frame=framing_of(params).frame, invert=invert)
    parts = [rows[begin : begin + stage.batch_size] for begin in range(0, len(rows), stage.batch_size)]
    found, seconds = _timed(lambda: [row for part in parts for row in stage.calculate(part)])
    said = sum(before_s if isinstance(row, Rejected) else row["spent_s"] for row in found) / len(rows) - before_s
    looked_s = table.look_s if stage.allocation and stage.allocation.looks else 0.0
    return max(seconds / len(rows) - looked_s, said) / said if said > 0 else 1.0  # never cheaper than equal steps


@dataclass(frozen=True)
class _Trials:
    """Batches of rows at their pivots, what takes them further, and the stage that makes columns of the result."""

    stage: TuneStage
    rows: list[Sequence[Row]]
    batches: list[Inverted]
    looked: list[list[Tuned]]
    way: OpenWay | None = None

    @property
    def count(self) -> int:
        return sum(map(len, self.rows))

    def refine(self, steps: int) -> list[Tuned]:
        """Take all rows to the end, as a run does: refined, drawn once more and packed."""
        found: list[Tuned] = []
        for rows, batch, looked in zip(self.rows, self.batches, self.looked, strict=True):
            choice = Choice(0 if self.way is None else 1, steps)
            given = part_of(batch, range(len(rows)), [steps] * len(rows))
            tuned = looked
            if not ends_with_look(choice, self.stage.params.refine):
                tuned = self.way.refine(given, None) if self.way else self.stage.refine(given)
            for row, pivot, one in zip(rows, given.pivots.split(1), tuned, strict=True):
                self.stage.columns(row, pivot, one, choice)
            found += tuned
        return found


def _begin(stage: TuneStage, chosen: Sequence[Row], encode: Callable[[], object]) -> tuple[_Trials, float, float]:
    """Return the rows at their pivots, the seconds a row of the encoder and pivots, and those of a look at them."""
    size = stage.params.batch_size
    rows = [chosen[begin : begin + size] for begin in range(0, len(chosen), size)]
    first = stage.invert(rows[0])
    _Trials(stage, rows[:1], [first], [stage.look(rows[0], first)]).refine(1)  # warms up
    encode()
    encode_s = _timed(encode)[1]
    batches, pivot_s = _timed(lambda: [stage.invert(batch) for batch in rows])
    looked, look_s = _timed(lambda: [stage.look(*pair) for pair in zip(rows, batches, strict=True)])
    return _Trials(stage, rows, batches, looked), (encode_s + pivot_s) / len(chosen), look_s / len(chosen)


def _measured(own: _Trials, encoder: str, refine: tuple[str, ...], tell: Tell) -> Way:
    """Return a way with its trials; a first batch warms it up."""
    unmeasured = Trial(steps=0, seconds=0.0, distances=())
    way = Way(encoder=encoder, refine=refine, trials=(unmeasured,))
    opened = own.stage.open_way(way)
    opened.begin(own.batches[0])
    begun, encode_s = _timed(lambda: [opened.begin(batch) for batch in own.batches])
    trials = _Trials(own.stage, own.rows, begun, own.looked, opened)
    _Trials(own.stage, own.rows[:1], begun[:1], own.looked[:1], opened).refine(1)
    tell(f"{way}:")
    tried = [steps for steps in STEPS if steps <= (FEW_STEPS if opened.steps_matter else 0)]
    found = tuple(_trial(trials, steps, encode_s / own.count, tell) for steps in tried)
    return way.model_copy(update={"hashes": opened.hashes, "trials": found})


def _trial(trials: _Trials, steps: int, before_s: float, tell: Tell) -> Trial:
    tuned, seconds = _timed(lambda: trials.refine(steps))
    ends, taken = [one.reached for one in tuned], before_s + seconds / trials.count
    tell(f"{steps} steps: {taken:.3g} s a row, mean distance {sum(ends) / trials.count:.3g}")
    return Trial(steps=steps, seconds=taken, distances=tuple(ends))


def _encoded(run: Run) -> Iterator[Row]:
    """Yield the finished rows of a run after encoding, with their aligned images; raises ``DataError`` without any."""
    for shard in run.shards:
        run.require_receipt("encode", shard)
        aligned, encoded = read_rows(run.shard("align", shard)), read_rows(run.shard("encode", shard))
        for images, latents in zip(aligned, encoded, strict=True):
            yield from (
                image | latent for image, latent in zip(images, latents, strict=True) if latent["status"] == "ok"
            )


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what ``work`` returns, and its seconds: of processors on the CPU, of the clock on a device.

    What takes less than ``SHORT_S`` is done ``ROUNDS`` times, and the median counts.
    """
    clock = time.process_time if computing().kind == CPU else time.perf_counter
    times: list[float] = []
    while not times or (len(times) < ROUNDS and times[0] < SHORT_S):
        begin = clock()
        found = work()
        synchronise()
        times.append(clock() - begin)
    return found, median(times)
