"""Train one of the networks that measure: ``python -m gan_core.toy.training.measure_networks NAME``."""

import argparse
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.params import TrainMeasureParams, load_params
from gan_core.precision import autocast
from gan_core.toy.training.learner import Learner, Scores
from gan_core.toy.training.measure_learners import LEARNERS
from gan_core.toy.training.portraits import FOLDER, load_portraits
from gan_core.training.schedule import warm_cosine
from gan_core.training.state import Resumable

SAVE_EVERY_S = 60.0
log = logging.getLogger(__name__)


class LearnerState(Resumable):
    """A learner and its optimiser; ``step`` is the next one."""

    kept = ("learner", "optimiser", "step")

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.optimiser = torch.optim.AdamW(learner.parameters(), learner.params.lr, weight_decay=1e-3)
        self.key = learner.params.model_dump_json()
        self.step = 0


def train(learner: Learner, state_path: Path) -> None:
    """Minimise the learner's loss with AdamW, taking up where ``state_path`` left off; batch i depends on i alone."""
    params, state = learner.params, LearnerState(learner)
    state.load(state_path)
    steps, saved = max(1, params.images // params.batch_size), time.monotonic()
    while state.step < steps:
        rate, stream = params.lr * warm_cosine(state.step, steps), torch.Generator()
        loss = take_step(learner, state.optimiser, rate, stream.manual_seed(params.seed * 1_000_003 + state.step))
        if state.step % 50 == 0:
            log.info("%s step %d/%d loss %.4f", learner.name, state.step, steps, loss)
        state.step += 1
        if time.monotonic() - saved > SAVE_EVERY_S:
            state.save(state_path)
            saved = time.monotonic()


def take_step(learner: Learner, optimiser: torch.optim.Optimizer, rate: float, rng: torch.Generator) -> float:
    """Draw a batch, step once at learning rate ``rate`` and return the loss."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    batch = learner.draw(rng)
    with autocast(learner.params.precision == "fast"):
        loss = learner.loss(batch)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
    optimiser.step()
    return loss.item()


def store(learner: Learner, scores: Scores, path: Path) -> str:
    """Write the network with a card that holds its held-out scores; return the file's sha256."""
    card = Card(
        kind="network",
        name=learner.name,
        arguments=learner.network.arguments,  # type: ignore[arg-type]
        made_by="gan_core.toy.training.measure_networks",
        licence="Apache-2.0",
        source="trained on toy portraits",
        notes=" ".join((learner.__doc__ or "").split()),
        extra={"held_out": scores, "params": learner.params.model_dump()},
    )
    return save_checkpoint(path, dict(learner.network.state_dict()), card)


@torch.inference_mode()
def evaluate(learner: Learner) -> Scores:
    """Held-out scores, rounded to six digits."""
    return {name: round(value, 6) for name, value in learner.score().items()}


def train_network(name: str, params: TrainMeasureParams, portraits: Path, output: Path) -> Scores:
    """Train, score and store the network ``name`` on ``portraits`` (folders ``train`` and ``held_out``).

    Work in progress lies in a hidden folder beside ``output`` and goes when the network is stored.
    """
    partial = output.parent / f".{name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(params.seed)
    sets = load_portraits("train", portraits), load_portraits("held_out", portraits)
    learner = LEARNERS[name](params, *sets, partial)
    train(learner, partial / "state.pt")
    learner.eval().finish()
    scores = evaluate(learner)
    store(learner, scores, output)
    shutil.rmtree(partial)
    return scores


def main(arguments: list[str] | None = None) -> None:
    """Train the named network with the parameters of ``params.yaml`` and write its scores as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(LEARNERS))
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument("--portraits", type=Path, default=FOLDER)
    parser.add_argument("--metrics", type=Path, default=Path("data/metrics"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    params = load_params(options.params)
    chosen: Any = getattr(params, f"train_{options.name}")
    scores = train_network(options.name, chosen, options.portraits, Path(getattr(params.models, options.name)))
    options.metrics.mkdir(parents=True, exist_ok=True)
    (options.metrics / f"{options.name}.json").write_text(json.dumps(scores, indent=2) + "\n")
    log.info("%s %s", options.name, json.dumps(scores))


if __name__ == "__main__":
    main()
