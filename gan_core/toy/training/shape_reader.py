"""The network that reads the attributes of shapes: it learns from the renderer's pictures, new ones in each step."""

from pathlib import Path

import torch
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.device import place
from gan_core.judges.networks import AttributeRegressor
from gan_core.params import Params
from gan_core.toy.params import TrainMeasureParams
from gan_core.toy.shape_judges import READ, READER, from_reading, to_reading
from gan_core.toy.shapes import FACTORS, factor_errors, render_shapes
from gan_core.toy.training.learner import HELD_OUT_SEED, Batch, Learner, Scores
from gan_core.toy.training.measure_networks import evaluate, train_learner
from gan_core.training.log import Report

HELD_OUT = 512
NOISE = 0.05
"""Of pixels: drawn grounds aren't exactly black."""


class ShapeLearner(Learner):
    """Squared error on points of circles and on shares of ranges, scaled to [-1, 1]."""

    name = "attributes"

    def __init__(self, params: TrainMeasureParams) -> None:
        super().__init__(params)
        self.network = AttributeRegressor(list(READ), params.width)

    def draw(self, rng: torch.Generator) -> Batch:
        factors = torch.rand(self.params.batch_size, len(FACTORS), generator=rng)
        images = render_shapes(factors)
        noise = NOISE * torch.randn(images.shape, generator=rng)
        return {"images": (images + noise).clamp(-1, 1), "target": to_reading(factors)}

    def loss(self, batch: Batch) -> Tensor:
        return nn.functional.mse_loss(self.network(batch["images"]).float(), batch["target"])

    def score(self) -> Scores:
        factors = place(torch.rand(HELD_OUT, len(FACTORS), generator=torch.Generator().manual_seed(HELD_OUT_SEED)))
        errors = factor_errors(from_reading(self.network(render_shapes(factors))), factors).mean(0)
        return dict(zip((f"{name}_error" for name in FACTORS), errors.tolist(), strict=True))


def make_shape_reader(chosen: TrainMeasureParams, params: Params, folder: Path, report: Report) -> Scores:
    """Train the network, or go on in ``folder``; store it, and return its scores."""
    torch.manual_seed(chosen.seed)
    learner = place(ShapeLearner(chosen))
    train_learner(learner, folder / "state.pt", report)
    scores = evaluate(learner.eval())
    card = Card(
        kind="network",
        name=learner.name,
        arguments=learner.network.arguments,  # type: ignore[arg-type]
        made_by="python -m tasks.train train-shape-reader",
        licence="Apache-2.0",
        source="trained on the renderer's coloured shapes",
        extra={"held_out": scores, "params": chosen.model_dump()},
    )
    READER.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(READER, dict(learner.network.state_dict()), card)
    return scores
