"""How the networks that score pictures are trained, scored and stored."""

from pathlib import Path

import torch

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.device import on_host, place
from gan_core.params import ModelPaths, Params
from gan_core.precision import autocast
from gan_core.toy.params import TrainMeasureParams
from gan_core.toy.training.learner import Learner, Scores
from gan_core.toy.training.measure_learners import LEARNERS
from gan_core.toy.training.portraits import FOLDER, load_portraits
from gan_core.training.fit import Course, fit
from gan_core.training.log import Report
from gan_core.training.schedule import set_rate, warm_cosine
from gan_core.training.state import Resumable

SHOWN = 32


class LearnerState(Resumable):
    """A learner and its optimiser; ``key`` names the parameters."""

    kept = ("learner", "optimiser", "seen")

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.optimiser = torch.optim.AdamW(learner.parameters(), learner.params.lr, weight_decay=1e-3)
        self.key = f"{learner.name} {learner.params.model_dump_json()}"
        self.seen = 0


def train_learner(learner: Learner, state_path: Path, report: Report, report_every: int = 5_000) -> None:
    """Minimise the learner's loss with AdamW, or go on where ``state_path`` left off."""
    params, state = learner.params, LearnerState(learner)
    course = Course(params.images, params.batch_size, params.seed, report_every)

    def step(stream: torch.Generator) -> dict[str, float]:
        set_rate(state.optimiser, params.lr * warm_cosine(state.seen // params.batch_size, course.steps))
        return {"loss": take_step(learner, state.optimiser, stream)}

    def show() -> tuple[dict[str, float], torch.Tensor]:
        with on_host():
            return {}, learner.draw(torch.Generator().manual_seed(params.seed))["images"][:SHOWN]

    fit(state, course, step, report, show, state_path)


def take_step(learner: Learner, optimiser: torch.optim.Optimizer, stream: torch.Generator) -> float:
    """Draw a batch, step once and return the loss."""
    with on_host():
        drawn = learner.draw(stream)
    batch = {name: place(tensor) for name, tensor in drawn.items()}
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
        name=learner.registered or learner.name,
        arguments=learner.network.arguments,  # type: ignore[arg-type]
        made_by=f"python -m tasks.train train-network@{learner.name}",
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


def train_network(
    name: str, params: TrainMeasureParams, portraits: Path, output: Path, folder: Path, report: Report
) -> Scores:
    """Train the network ``name``, or go on in ``folder``; score and store it.

    ``portraits`` has the folders ``train`` and ``held_out``; pictures for this network alone are kept in ``folder``.
    """
    torch.manual_seed(params.seed)
    sets = load_portraits("train", portraits), load_portraits("held_out", portraits)
    learner = place(LEARNERS[name](params, *sets, folder))
    train_learner(learner, folder / "state.pt", report)
    learner.eval().finish()
    scores = evaluate(learner)
    store(learner, scores, output)
    return scores


def network_path(name: str, models: ModelPaths) -> Path:
    """Return where one of ``LEARNERS`` is: the path in ``models`` that has its name, or beside the project's others."""
    return Path(getattr(models, name, f"data/models/{name}.safetensors"))


def make_network(name: str, chosen: TrainMeasureParams, params: Params, folder: Path, report: Report) -> Scores:
    """Train one of ``LEARNERS`` as ``train_network`` does, for its ``network_path``."""
    return train_network(name, chosen, FOLDER, network_path(name, params.models), folder, report)
