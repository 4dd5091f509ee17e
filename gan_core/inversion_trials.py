"""What steps of tuning cost and bring: the same rows of a run tuned by more and more of them, into a table."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from gan_core.align.framing import framing_of
from gan_core.batching import one_thread
from gan_core.budgets import InvertParams
from gan_core.device import CPU, compute_on, computing, synchronise
from gan_core.errors import DataError, ParamsError
from gan_core.inversion.allocation import Table, Trial
from gan_core.inversion.refinement import Inverted, refine_all
from gan_core.rows import Rejected, Row
from gan_core.runs.run import Run
from gan_core.stages.encode import EncodeStage
from gan_core.stages.tune import TuneStage
from gan_core.storage.shards import read_rows

STEPS = (0, 1, 2, 5, 10, 20, 40, 80)
FEWEST = 4
T = TypeVar("T")


def measure_table(run: Run, rows: int, tell: Callable[[str], None]) -> Table:
    """Tune up to ``rows`` encoded rows of a run by each of ``STEPS``, with the run's own parameters of tuning.

    Seconds are those of one core, or of the device. ``tell`` gets a line a trial. Raises ``DataError`` for a run with
    fewer than 4 encoded rows, and ``ParamsError`` for one without encoding.
    """
    params = run.params.model_copy(update={"invert": InvertParams()})
    if "encode" not in run.stages:
        raise ParamsError(f"{run.output} encodes nothing: give a run of the recipe edit")
    with compute_on(params.run.device), one_thread():
        stage = TuneStage(params.tune, params.models, frame=framing_of(params).frame)
        encoded = list(islice(_encoded(run), rows))
        chosen = [row for row in map(stage.load, encoded) if not isinstance(row, Rejected)]
        if len(chosen) < FEWEST:
            raise DataError(
                f"{run.output} has {len(chosen)} encoded rows, and a table needs {FEWEST}: use a larger one"
            )
        size = params.tune.batch_size
        batches = [chosen[begin : begin + size] for begin in range(0, len(chosen), size)]
        _timed(lambda: [refine_all(stage.refinements, _steps(stage.invert(batches[0]), 1), None)])  # warms up
        encoder = EncodeStage.build(params, run.source)
        seen = [encoder.load(row) for row in encoded]
        encode_s = _timed(lambda: list(encoder.calculate(seen)))[1] / len(seen)
        inverted, pivot_s = _timed(lambda: [stage.invert(batch) for batch in batches])
        starts, look_s = _timed(lambda: [start for batch in inverted for start in stage.starts(batch)])
        trials = [_trial(stage, inverted, steps, tell) for steps in STEPS]
    before = encode_s + (pivot_s + look_s) / len(chosen)
    tell(f"{len(chosen)} rows; the encoder and a look at what it found take {before:.3g} s a row")
    return Table(
        setting=stage.setting(), source=run.output, encode_s=before, starts=tuple(starts), trials=tuple(trials)
    )


def _trial(stage: TuneStage, batches: list[Inverted], steps: int, tell: Callable[[str], None]) -> Trial:
    rows = sum(len(batch.pivots) for batch in batches)
    tuned, seconds = _timed(
        lambda: [one for batch in batches for one in refine_all(stage.refinements, _steps(batch, steps), None)]
    )
    ends = [one.losses[0 if one.stop_reason == "diverged" else -1].perceptual for one in tuned]
    tell(f"{steps} steps: {seconds / rows:.3g} s a row, mean distance {sum(ends) / rows:.3g}")
    return Trial(steps=steps, seconds=seconds / rows, distances=tuple(ends))


def _steps(batch: Inverted, steps: int) -> Inverted:
    return replace(batch, steps=[steps] * len(batch.pivots))


def _encoded(run: Run) -> Iterator[Row]:
    """Yield the finished rows of a run after encoding, with their aligned images; raises ``DataError`` without any."""
    for shard in run.shards:
        run.require_receipt("encode", shard, f"run `edit-dataset run {run.source} {run.output}`")
        aligned, encoded = read_rows(run.shard("align", shard)), read_rows(run.shard("encode", shard))
        for images, latents in zip(aligned, encoded, strict=True):
            yield from (
                image | latent for image, latent in zip(images, latents, strict=True) if latent["status"] == "ok"
            )


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what ``work`` returns, and its seconds: of processors on the CPU, of the clock on a device."""
    clock = time.process_time if computing().kind == CPU else time.perf_counter
    begin = clock()
    found = work()
    synchronise()
    return found, clock() - begin
