"""The generator of shapes: the network of SNGAN, taught by the renderer what each of its latents looks like.

It learns from pairs instead of in a game, so that it's known what each latent should show. In a game nothing would make
it fill the circles: SNGAN's discriminator adds its features up over the picture, and sees little of where a shape lies.
"""

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.device import place
from gan_core.generators.sngan import SNGAN
from gan_core.loading import model_tensors
from gan_core.params import Params
from gan_core.precision import autocast
from gan_core.toy.params import TrainShapesParams
from gan_core.toy.shapes import FACTORS, PERIODIC, Z_DIM, factor_errors, factors_of, measure_shapes, render_shapes
from gan_core.training.fit import Course, fit
from gan_core.training.log import Report
from gan_core.training.schedule import set_rate
from gan_core.training.state import Resumable

TARGET = Path("data/models/shapes.safetensors")
REPORT_STEPS = 200
SCORED = 1024
ARCS = 12
"""Parts of a circle whose shares of all pictures are compared."""


class PupilState(Resumable):
    """The generator, its average and its optimiser; ``key`` names the parameters."""

    kept = ("generator", "average", "optimiser", "seen")

    def __init__(self, params: TrainShapesParams) -> None:
        torch.manual_seed(params.seed)
        self.generator = place(SNGAN(params.channels, image_channels=3, z_dim=Z_DIM).train())
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        if params.precision == "fast":
            self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.generator.parameters(), params.lr)
        self.key = params.model_dump_json()
        self.seen = 0

    def averaged(self) -> tuple[nn.Module, nn.Module]:
        return self.average, self.generator


def train_shapes(params: TrainShapesParams, state_path: Path, report: Report) -> SNGAN:
    """Train (or go on training) and return the averaged generator."""
    state, batch = PupilState(params), params.batch_size
    course = Course(params.steps * batch, batch, params.seed, REPORT_STEPS * batch, params.ema_steps * batch)

    def step(stream: torch.Generator) -> dict[str, float]:
        z = place(torch.randn(batch, Z_DIM, generator=stream))
        set_rate(state.optimiser, params.lr * course.rate(state.seen // batch))
        with autocast(params.precision == "fast"):
            drawn = state.generator.draw(z)
        error = F.mse_loss(drawn.float(), render_shapes(factors_of(z), state.generator.size))
        state.optimiser.zero_grad(set_to_none=True)
        error.backward()
        state.optimiser.step()
        return {"error": error.item()}

    def show() -> tuple[dict[str, float], Tensor]:
        z = place(torch.randn(16, Z_DIM, generator=torch.Generator().manual_seed(0)))
        drawn = state.average.draw(z)
        return {}, torch.cat([drawn, render_shapes(factors_of(z), state.generator.size)])

    fit(state, course, step, report, show, state_path)
    return state.average


@torch.no_grad()
def score_shapes(generator: SNGAN) -> dict[str, float]:
    """How far what is measured in drawn pictures is from what their latents ask for, and how full each circle is.

    ``<factor>_error``: mean absolute difference, in shares of the circle or the range; ``<factor>_cover``: the share of
    the emptiest of twelve arcs of a circle, as a multiple of an even one; ``pixel_error``: root of the mean square, in
    shares of the range of pixels.
    """
    z = place(torch.randn(SCORED, Z_DIM, generator=torch.Generator().manual_seed(1)))
    factors = factors_of(z)
    drawn, wanted = generator.draw(z), render_shapes(factors, generator.size)
    found = measure_shapes(drawn)
    scores = {"pixel_error": F.mse_loss(drawn, wanted).sqrt().item() / 2}
    errors = factor_errors(found, factors).mean(0)
    scores |= dict(zip((f"{name}_error" for name in FACTORS), errors.tolist(), strict=True))
    for column, name in enumerate(PERIODIC):
        arcs = torch.bincount((found[:, column] * ARCS).long().clamp_max(ARCS - 1), minlength=ARCS)
        scores[f"{name}_cover"] = arcs.min().item() * ARCS / SCORED
    return scores


def make_shapes(chosen: TrainShapesParams, params: Params, folder: Path, report: Report) -> dict[str, float]:
    """Train the shapes' generator, or go on in ``folder``; store it, and return its scores."""
    generator = train_shapes(chosen, folder / "state.pt", report)
    scores = {name: round(value, 4) for name, value in score_shapes(generator).items()}
    card = Card(
        kind="generator",
        name=generator.family,
        arguments=generator.arguments,
        space="z",
        made_by="python -m tasks.train train-shapes",
        licence="Apache-2.0",
        source="taught by the renderer of coloured shapes",
        extra={"scores": scores, "params": chosen.model_dump()},
    )
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(TARGET, model_tensors(generator), card)
    return scores
