"""How often the host waits for the device, and how many operators it launches: both have ceilings."""

import torch

from gan_core.capture import WARM_UPS
from gan_core.device import fetch, place
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
CALLS_A_REPLAY = 8
"""Those that are left when a step is replayed: its rate, and a copy of its losses."""


def counts_of_tuning(models: ModelPaths, steps: int) -> tuple[int, int]:
    """Return how many operators were called while rows were tuned, and how often the host waited."""

    def tune() -> tuple[int, int]:
        generator, loss = load_generator(models.generator).model, load_perceptual(models.perceptual).model
        pivots = generator.latent_avg.expand(2, generator.n_latent, -1).clone()
        targets = place(torch.zeros(2, 3, generator.size, generator.size))
        Counts.reset()
        tune_pivots(generator, pivots, targets, loss, TuneParams(steps=steps), [0, 1])
        assert Counts.replays == steps + 1 - WARM_UPS
        return Counts.calls, Counts.reads + Counts.sends

    return there(tune)


def test_tuning_is_replayed_and_the_host_waits_only_at_the_end(models: ModelPaths) -> None:
    (few_calls, few), (many_calls, many) = (counts_of_tuning(models, n) for n in (WARM_UPS, WARM_UPS + 1))
    assert few == many <= 4, "pivots and targets at the start, losses and weights at the end"
    assert few_calls / (WARM_UPS + 1) <= CALLS_A_STEP, "those before the recording, and it"
    assert many_calls - few_calls <= CALLS_A_REPLAY


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
