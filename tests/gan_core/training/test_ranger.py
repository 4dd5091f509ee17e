"""Ranger gives the published optimiser's path, and goes on from a saved state."""

import copy

import pytest
import torch
from torch import Tensor

from gan_core.training.ranger import Ranger, rectified_rate
from tests.golden.fill import fill, golden, relative_error

SHAPES = ((4, 3), (5,), (2, 3, 2, 2))


def problem() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    def drawn(name: str) -> list[Tensor]:
        return [torch.from_numpy(fill(f"input:{name}{i}", shape, rule="raw")) for i, shape in enumerate(SHAPES)]

    return [p.requires_grad_() for p in drawn("p")], [a.abs() + 0.2 for a in drawn("a")], drawn("c")


def loss_of(parameters: list[Tensor], scales: list[Tensor], centres: list[Tensor]) -> Tensor:
    terms = [(a * (p - c).square()).sum() for p, a, c in zip(parameters, scales, centres, strict=True)]
    return torch.stack(terms).sum()


@pytest.mark.parametrize(
    ("case", "options"),
    [(0, {"lr": 1e-3}), (1, {"lr": 1e-2, "weight_decay": 0.1}), (2, {"lr": 1e-2})],
)
def test_twelve_steps_equal_the_published_ones(case: int, options: dict[str, float]) -> None:
    """The published code centres gradients whatever its ``use_gc`` says: the third case has them centred too."""
    expected, _ = golden("ranger-optimiser")
    parameters, scales, centres = problem()
    optimiser = Ranger(parameters, **options)  # type: ignore[arg-type]
    for step in range(12):
        optimiser.zero_grad()
        loss = loss_of(parameters, scales, centres)
        loss.backward()
        assert relative_error(loss.detach(), expected[f"loss{case}"][step]) < 1e-4
        optimiser.step()
        now = torch.cat([p.detach().flatten() for p in parameters])
        assert relative_error(now, expected[f"params{case}"][step]) < 1e-4


def test_a_saved_state_goes_on_the_same_way() -> None:
    def run(parameters: list[Tensor], optimiser: Ranger, steps: int) -> None:
        for _ in range(steps):
            optimiser.zero_grad()
            loss_of(parameters, scales, centres).backward()
            optimiser.step()

    parameters, scales, centres = problem()
    optimiser = Ranger(parameters, lr=0.01)
    run(parameters, optimiser, 8)
    others = [p.detach().clone().requires_grad_() for p in parameters]
    resumed = Ranger(others, lr=0.01)
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    run(parameters, optimiser, 8)
    run(others, resumed, 8)
    assert all(torch.equal(p, q) for p, q in zip(parameters, others, strict=True))


def test_the_first_steps_have_no_variance() -> None:
    assert [rectified_rate(step, 0.95, 0.999)[1] for step in (1, 5, 6, 12)] == [False, False, True, True]
    assert rectified_rate(100_000, 0.95, 0.999)[0] == pytest.approx(1, abs=1e-6)
