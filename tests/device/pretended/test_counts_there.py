"""How often the host waits for the device, and how many operators it launches: both have ceilings."""

import torch

from gan_core.device import LOOK_EVERY, fetch, place
from gan_core.inversion.pti import tune_pivots
from gan_core.judges.perceptual import load_perceptual
from gan_core.loading import load_generator
from gan_core.params import EditParams, EncodeParams, ModelPaths, TuneParams
from gan_core.rows import Row
from gan_core.stages.edit import EditStage
from gan_core.stages.encode import EncodeStage
from tests.device.fakegpu import Counts
from tests.device.pretended.conftest import there

CALLS_A_STEP = 1300
"""Operators of a step of tuning at 64 px, views included; a card waits for launches there."""


def counts_of_tuning(models: ModelPaths, steps: int, rows: int = 2) -> tuple[int, int]:
    """Return how many operators were called and values read while rows were tuned."""

    def tune() -> tuple[int, int]:
        generator, loss = load_generator(models.generator).model, load_perceptual(models.perceptual).model
        pivots = generator.latent_avg.expand(rows, generator.n_latent, -1).clone()
        targets = place(torch.zeros(rows, 3, generator.size, generator.size))
        Counts.calls = Counts.reads = 0
        tune_pivots(generator, pivots, targets, loss, TuneParams(steps=steps), list(range(rows)))
        return Counts.calls, Counts.reads

    return there(tune)


def test_the_host_looks_at_the_losses_of_tuning_every_eighth_step(models: ModelPaths) -> None:
    (few_calls, few), (many_calls, many) = (counts_of_tuning(models, n * LOOK_EVERY) for n in (1, 2))
    assert many - few == 1, "a read every eighth step"
    assert few <= 2 + 2, "one at the start and one at the end, and one a row for its weights"
    assert (many_calls - few_calls) / LOOK_EVERY <= CALLS_A_STEP


def test_a_batch_is_encoded_with_two_reads(models: ModelPaths, aligned_rows: list[Row]) -> None:
    def encode() -> int:
        stage = EncodeStage(EncodeParams(), models)
        Counts.reads = 0
        assert all(isinstance(row, dict) for row in stage.process(aligned_rows[:4]))
        return Counts.reads

    assert there(encode) == 2, "latents and pixels"


def test_edits_are_read_once_a_picture_and_once_a_row(models: ModelPaths) -> None:
    def edit() -> int:
        stage = EditStage([EditParams(direction="smile", strengths=[-1, 1])], models, tuned=False)
        codes = stage.generator.latent_avg.expand(stage.generator.n_latent, -1)
        rows = [{"key": str(i), "latent": fetch(codes), "delta": b""} for i in range(3)]
        Counts.reads = 0
        stage.process(rows)
        return Counts.reads

    assert there(edit) <= 3 * (2 + 1)
