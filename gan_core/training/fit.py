"""The training loop: place, resume, step, average, report, save."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gan_core.device import CPU, computing
from gan_core.errors import ParamsError
from gan_core.training.log import Report
from gan_core.training.schedule import warm, warm_cosine
from gan_core.training.state import Resumable, move_average

SAVE_SECONDS = 60.0
"""A kill costs at most about this much work; writing the largest state takes a fraction of a second."""
AVERAGE_SHARE = 0.1
"""The half-life of a running average is at most this share of what was seen: it must forget where training began."""
SEED_STRIDE = 1_000_003
"""More than the steps of any training here, so that trainings with neighbouring seeds share no step's draws."""

Step = Callable[[torch.Generator], dict[str, float]]
"""Takes one step, drawing from the stream alone, and returns its losses."""
Show = Callable[[], tuple[dict[str, float], Tensor]]
"""Returns scores of the training as it stands, and pictures ``[N, 3, H, W]`` in [-1, 1]."""


@dataclass(frozen=True)
class Course:
    """How long a training goes on and how often it is reported, in images; ``seed`` decides everything that it draws.

    ``average_images`` is the half-life of the running average. An ``endless`` training can go on later, to more images.
    ``unit`` is what errors call the images, where a training sees something else.
    """

    images: int
    batch_size: int
    seed: int
    report_every: int
    average_images: float = 1.0
    endless: bool = False
    unit: str = "images"

    @property
    def steps(self) -> int:
        """The number of steps."""
        return -(-self.images // self.batch_size)

    def rate(self, number: int) -> float:
        """Return the factor on the learning rate at a step: it falls to 0 at the end, unless there is none."""
        return warm(number) if self.endless else warm_cosine(number, self.steps)


def fit(state: Resumable, course: Course, step: Step, report: Report, show: Show, path: Path) -> None:
    """Train ``state`` to the end of ``course``, from where the file at ``path`` left off.

    Step i follows from the seed and i alone, so that a resumed training ends with the same bits. ``report`` is called
    every ``report_every`` images and at the end, with the newest losses and what ``show`` gives; then too ``path`` is
    written, and else about every ``SAVE_SECONDS``. Raises ``ParamsError`` for a state that is further than ``course``.
    """
    state.place(training=True)
    state.load(path)
    if state.seen > (last := course.steps * course.batch_size):
        raise ParamsError(f"{path} has seen {state.seen} {course.unit}, too many for {last}: remove it")
    losses: dict[str, float] = {}
    saved = time.monotonic()
    while state.seen < course.images:
        started = clock()
        losses |= _seeded(step, course.seed, state.seen // course.batch_size)
        _average(state, course)
        state.seconds += clock() - started
        before, state.seen = state.seen, state.seen + course.batch_size
        report.progress(state.seen, course.images)
        done = state.seen >= course.images
        if due := done or before // course.report_every != state.seen // course.report_every:
            scores, pictures = show()
            report(state.seen, losses | scores, pictures)
        if due or time.monotonic() - saved > SAVE_SECONDS:
            state.save(path)
            saved = time.monotonic()
    state.place(training=False)


def clock() -> float:
    """Return seconds that other work on the machine doesn't lengthen: the processor's, where it computes."""
    return time.process_time() if computing().kind == CPU else time.monotonic()


def step_seed(seed: int, number: int) -> int:
    """Return what the draws of a step are seeded with."""
    return seed * SEED_STRIDE + number


def _seeded(step: Step, seed: int, number: int) -> dict[str, float]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(seed, number))
        return step(torch.default_generator)


def _average(state: Resumable, course: Course) -> None:
    average, network = state.averaged()
    if average is not None and network is not None:
        half_life = min(course.average_images, max(state.seen * AVERAGE_SHARE, 1))
        move_average(average, network, 0.5 ** (course.batch_size / half_life))
