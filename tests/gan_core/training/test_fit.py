"""The training loop: what is drawn, averaged, reported and saved, on a training of one number."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gan_core.errors import ParamsError
from gan_core.training import fit as loop
from gan_core.training.fit import Course, fit
from gan_core.training.state import Resumable, fingerprint
from tests.reports import Reports

COURSE = Course(images=48, batch_size=4, seed=3, report_every=16, average_images=8)
PICTURES = torch.zeros(1, 3, 4, 4)


class Walk(Resumable):
    """A weight that each step moves by what it draws."""

    kept = ("network", "average", "seen")

    def __init__(self, key: str = "walk") -> None:
        self.network, self.average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False).eval()
        for network in (self.network, self.average):
            nn.init.zeros_(network.weight)
        self.key, self.seen, self.draws = key, 0, list[float]()
        self.modes: set[bool] = set()

    def averaged(self) -> tuple[nn.Module, nn.Module]:
        return self.average, self.network

    @torch.no_grad()
    def step(self, stream: torch.Generator) -> dict[str, float]:
        self.draws.append(torch.randn((), generator=stream).item() + torch.randn(()).item())
        self.network.weight += self.draws[-1]
        self.modes.add(self.network.training)
        return {"drawn": self.draws[-1]} | ({"first": 1.0} if self.seen == 0 else {})


def walk(path: Path, reports: Reports | None = None, course: Course = COURSE, key: str = "walk") -> Walk:
    state = Walk(key)
    show: Callable[[], tuple[dict[str, float], Tensor]] = lambda: ({"score": float(state.seen)}, PICTURES)  # noqa: E731
    fit(state, course, state.step, Reports() if reports is None else reports, show, path)
    return state


def test_reports_come_at_their_interval_and_at_the_end(tmp_path: Path) -> None:
    reports = Reports()
    state = walk(tmp_path / "s.pt", reports, Course(images=42, batch_size=4, seed=0, report_every=16))
    assert [seen for seen, _, _ in reports] == [16, 32, 44]
    assert reports.steps == list(range(4, 45, 4))
    assert [metrics["score"] for _, metrics, _ in reports] == [16, 32, 44]
    assert all(metrics["first"] == 1.0 for _, metrics, _ in reports), "a loss of some steps is told as it was last"
    assert reports[-1][1]["drawn"] == state.draws[-1]
    assert state.modes == {True} and not state.network.training and not state.average.training


def test_a_state_that_has_seen_more_is_refused(tmp_path: Path) -> None:
    walk(tmp_path / "s.pt")
    assert walk(tmp_path / "s.pt", course=Course(47, 4, 3, 16)).seen == 48
    with pytest.raises(ParamsError, match=r"s.pt has seen 48 images, too many for 44: remove it"):
        walk(tmp_path / "s.pt", course=Course(44, 4, 3, 16))


def test_a_steps_draws_follow_from_the_seed_and_its_number(tmp_path: Path) -> None:
    first = walk(tmp_path / "a.pt").draws
    assert walk(tmp_path / "b.pt").draws == first and len(set(first)) == 12
    other = Course(images=48, batch_size=4, seed=4, report_every=16)
    assert not set(walk(tmp_path / "c.pt", course=other).draws) & set(first)


def test_the_callers_own_draws_are_left_alone(tmp_path: Path) -> None:
    state, before = Walk(), torch.get_rng_state()
    fit(state, COURSE, state.step, Reports(), lambda: ({}, PICTURES), tmp_path / "s.pt")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_killed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = walk(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path / "s.pt", Reports(stop_at=32))
    resumed = walk(tmp_path / "s.pt")
    assert resumed.draws == whole.draws[4:], "it was saved with its first report"
    assert torch.equal(resumed.network.weight, whole.network.weight)
    assert torch.equal(resumed.average.weight, whole.average.weight)
    assert walk(tmp_path / "s.pt", key="other").draws == whole.draws, "work for something else is not taken up"


def test_a_training_is_saved_once_an_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, saves, now, here = iter(range(0, 10_000, 25)), list[int](), time.monotonic, threading.get_ident()
    # threads that other tests have left look at the clock, too
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock) if threading.get_ident() == here else now())
    monkeypatch.setattr(Walk, "save", lambda self, path: saves.append(self.seen))
    walk(tmp_path / "s.pt", course=Course(images=48, batch_size=4, seed=0, report_every=1_000))
    assert saves == [12, 24, 36, 48], "every third step of 25 s is more than a minute after the last save"


def test_the_average_forgets_its_start_and_then_has_its_half_life(tmp_path: Path) -> None:
    state = walk(tmp_path / "s.pt", course=Course(images=400, batch_size=4, seed=0, report_every=400, average_images=8))
    expected, network = 0.0, 0.0
    for step, drawn in enumerate(state.draws):
        network += drawn
        half_life = min(8, max(0.1 * 4 * step, 1))
        expected = network + (expected - network) * 0.5 ** (4 / half_life)
    assert state.average.weight.item() == pytest.approx(expected, rel=1e-3)


def test_what_a_state_was_made_of_is_known_by_every_value_and_its_place() -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones((), dtype=torch.bfloat16)}
    others = [{"a": tensors["a"].flip(0)}, {"a": -tensors["a"]}, {"a": tensors["a"] + 1e-6}, {"b": tensors["b"] * 2}]
    assert fingerprint(tensors) == fingerprint({"b": tensors["b"], "a": tensors["a"].t().contiguous().t()})
    assert len({fingerprint(tensors | other) for other in others} | {fingerprint(tensors)}) == 5
