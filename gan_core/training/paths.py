"""Learn paths without labels: two pictures of a move must tell which path it took, and how far it went.

Voynov and Babenko 2020 (section 3.1); the penalty on the volume is of Aoshima and Matsubara 2023. Any generator, any of
its spaces, any registered path model.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.device import place
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.loading import model_tensors
from gan_core.paths.base import PATHS
from gan_core.paths.reconstructor import RECONSTRUCTORS, Reconstructor
from gan_core.paths.space import Frame, check_space, code_width, codes_to_w_plus, sample_codes
from gan_core.paths.stored import SemanticPaths
from gan_core.precision import autocast
from gan_core.training.drawing import Drawing
from gan_core.training.fit import Course, fit, step_seed
from gan_core.training.log import Report
from gan_core.training.params import PathsParams
from gan_core.training.state import Resumable, fingerprint

FRAME_SAMPLES = 4096
REPORT_STEPS = 100
ACCURACY_STEPS = 50
"""The accuracy that is reported is a mean over about this many steps."""
STRIP_ROWS, STRIP_COLUMNS = 6, 8


@dataclass
class Moves:
    """What one step draws: ``codes [B, width]``, ``paths [B]``, ``amounts [B]``, and a ``probe [B, rank]``.

    Of ``repeats`` codes in a row all are the same.
    """

    codes: Tensor
    paths: Tensor
    amounts: Tensor
    probe: Tensor
    repeats: int = 1


@dataclass
class PathState(Resumable):
    """Paths in training, and the network that tells them apart."""

    kept = ("paths", "reconstructor", "optimiser", "seen", "accuracy", "seconds")
    paths: SemanticPaths
    reconstructor: Reconstructor
    optimiser: torch.optim.Adam
    key: str
    seen: int = 0
    accuracy: float = 0.0
    seconds: float = 0.0

    @classmethod
    def create(cls, name: str, params: PathsParams, generator: Generator, generator_sha256: str) -> "PathState":
        """Begin paths of the model ``name``; ``key`` follows from the parameters and the generator's weights."""
        check_space(generator, params.space)
        torch.manual_seed(params.seed)
        stream = torch.Generator().manual_seed(params.seed)
        width = code_width(generator, params.space)
        frame = Frame(width)
        if params.rank is not None:
            frame = Frame.principal(sample_codes(generator, params.space, FRAME_SAMPLES, stream), params.rank)
        model = PATHS.get(name)(**({"dim": len(frame.axes), "count": params.count} | params.models.get(name, {})))  # type: ignore[call-arg]
        build = RECONSTRUCTORS.get(params.reconstructor)
        reconstructor = place(build(model.count, params.reconstructor_channels, params.reconstructor_size))
        seen = params.reconstructor_size or params.drawn_size or generator.size
        if seen < reconstructor.smallest:
            raise ParamsError(
                f"the reconstructor {params.reconstructor!r} would see {seen} px, and needs {reconstructor.smallest}: "
                "set reconstructor_size"
            )
        if params.precision == "fast":
            reconstructor.folds = True
            reconstructor = reconstructor.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        paths = place(SemanticPaths(model, frame, params.space, generator_sha256))
        groups = [
            {"params": [p for p in model.parameters() if p.requires_grad], "lr": params.path_lr},
            {"params": list(reconstructor.parameters()), "lr": params.lr},
        ]
        key = f"{name} {params.model_dump_json(exclude={'steps'})} {fingerprint(model_tensors(generator))}"
        return cls(paths, reconstructor, torch.optim.Adam([g for g in groups if g["params"]], fused=True), key)


def train_paths(state: PathState, params: PathsParams, generator: Generator, state_path: Path, report: Report) -> None:
    """Train (or go on training) ``state`` for ``params.steps``."""
    batch = params.batch_size
    course = Course(params.steps * batch, batch, params.seed, REPORT_STEPS * batch, unit="moves")
    draw = Drawing(generator, params.space, params.precision, params.drawn_size)

    def step(stream: torch.Generator) -> dict[str, float]:
        losses = train_step(state, params, draw, draw_moves(state.paths, params, generator, stream))
        steps = min(state.seen // batch + 1, ACCURACY_STEPS)
        state.accuracy += (losses["accuracy"] - state.accuracy) / steps
        return losses | {"accuracy": state.accuracy}

    fit(state, course, step, report, lambda: ({}, strip(state.paths, generator, params)), state_path)
    for network in (state.paths, state.reconstructor):
        network.requires_grad_(False)


def draw_moves(paths: SemanticPaths, params: PathsParams, generator: Generator, stream: torch.Generator) -> Moves:
    """Draw codes, paths and amounts; forward and backward equally often, lengths evenly in ``params.amounts``."""
    repeats = params.moves_per_code
    codes = sample_codes(generator, paths.space, -(-params.batch_size // repeats), stream)
    codes = codes.repeat_interleave(repeats, 0)[: params.batch_size]
    chosen = torch.randint(paths.model.count, (len(codes),), generator=stream)
    low, high = params.amounts
    lengths = low + (high - low) * torch.rand(len(codes), generator=stream)
    signs = 2 * torch.randint(2, (len(codes),), generator=stream) - 1
    probe = torch.randn(len(codes), paths.model.dim, generator=stream)
    return Moves(codes, place(chosen), place(signs * lengths), place(probe), repeats)


def train_step(state: PathState, params: PathsParams, draw: Drawing, moves: Moves) -> dict[str, float]:
    """Take one step of Adam; return losses and the share of moves whose path was recognised."""
    model, frame = state.paths.model, state.paths.frame
    before = frame.coordinates(moves.codes)
    after, penalty = model.move_and_penalty(before, moves.paths, moves.amounts, moves.probe)
    with torch.no_grad():
        first = draw(moves.codes[:: moves.repeats]).repeat_interleave(moves.repeats, 0)[: len(after)]
    second = draw(frame.moved(moves.codes, before, after))
    with autocast(draw.fast):
        logits, amounts = state.reconstructor(first, second)
    which = F.cross_entropy(logits.float(), moves.paths)
    how_far = (amounts.float() - moves.amounts).abs().mean()
    volume = penalty.mean()
    loss = which + params.amount_weight * how_far + params.volume_weight * volume
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    trained = [p for group in state.optimiser.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, 10.0, error_if_nonfinite=True)
    state.optimiser.step()
    accuracy = (logits.argmax(1) == moves.paths).float().mean()
    names = ("which", "how_far", "volume", "accuracy")
    return dict(zip(names, torch.stack([which, how_far, volume, accuracy]).tolist(), strict=True))


@torch.no_grad()
def recognised(state: PathState, params: PathsParams, generator: Generator, batches: int = 16) -> float:
    """Share of fresh moves whose path the trained reconstructor recognises."""
    correct, draw = [], Drawing(generator, params.space, "exact", params.drawn_size)
    for i in range(batches):
        stream = torch.Generator().manual_seed(step_seed(params.seed, params.steps + i))
        moves = draw_moves(state.paths, params, generator, stream)
        images = map(draw, (moves.codes, state.paths.move(moves.codes, moves.paths, moves.amounts)))
        correct.append((state.reconstructor(*images)[0].argmax(1) == moves.paths).float().mean().item())
    return sum(correct) / batches


@torch.no_grad()
def strip(paths: SemanticPaths, generator: Generator, params: PathsParams) -> Tensor:
    """One code walked along the first paths, a row each of ``STRIP_COLUMNS`` pictures from end to end."""
    stream = torch.Generator().manual_seed(params.seed)
    rows = min(STRIP_ROWS, paths.model.count)
    amounts = place(torch.linspace(-params.amounts[1], params.amounts[1], STRIP_COLUMNS).repeat(rows))
    which = place(torch.arange(rows).repeat_interleave(STRIP_COLUMNS))
    codes = sample_codes(generator, paths.space, 1, stream).expand(len(which), -1)
    training = paths.training
    moved = paths.eval().move(codes, which, amounts)
    paths.train(training)
    return generator.synthesis(codes_to_w_plus(generator, paths.space, moved))
