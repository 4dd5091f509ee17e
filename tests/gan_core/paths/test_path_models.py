"""What holds for every registered path model, and what only some promise."""

import json
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jvp

from gan_core.errors import ParamsError
from gan_core.paths.base import PATHS, PathModel, Straightening
from gan_core.paths.coupling import CurvilinearCoupling
from gan_core.paths.flow import Curvilinear, field_and_tangent, field_of
from gan_core.paths.solver import dormand_prince, runge_kutta
from gan_core.paths.warped import Warped

DIM = 12
SMALL: dict[str, dict[str, int]] = {"fc": {"width": 16}, "warped": {"dipoles": 6}}
SCALE = {"curvilinear": 0.4}
each = pytest.mark.parametrize("name", PATHS.names())


@cache
def small(name: str) -> PathModel:
    """Return a model with weights far from the first ones."""
    torch.manual_seed(3)
    model = PATHS.get(name)(**({"dim": DIM} | SMALL.get(name, {})))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += SCALE.get(name, 0.2) * torch.randn_like(parameter) * parameter.requires_grad
    return model.eval().requires_grad_(False)


def codes(n: int = 5) -> Tensor:
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(1))


def one(path: int, amount: float, n: int = 5) -> Tensor:
    amounts = torch.zeros(n, DIM)
    amounts[:, path] = amount
    return amounts


@each
def test_each_row_moves_along_its_own_path_by_its_own_amount(name: str) -> None:
    model, paths, amounts = small(name), torch.tensor([0, 3, 3, 11, 5]), torch.tensor([1.0, -2.0, 0.5, 0.1, 0.0])
    moved = model.move(codes(), paths, amounts)
    for i in range(5):
        alone = model.move(codes()[i : i + 1], paths[i : i + 1], amounts[i : i + 1])
        torch.testing.assert_close(moved[i : i + 1], alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(moved[4], codes()[4], rtol=1e-5, atol=1e-5)
    assert (moved[:4] - codes()[:4]).norm(dim=1).min() > 0.05


@each
def test_a_move_in_training_is_the_same_move(name: str) -> None:
    model, paths, amounts = small(name), torch.tensor([0, 3, 3, 11, 5]), torch.tensor([1.0, -2.0, 0.5, 0.1, 0.0])
    moved, penalty = model.move_and_penalty(codes(), paths, amounts, codes())
    torch.testing.assert_close(moved, model.move(codes(), paths, amounts), rtol=1e-5, atol=1e-5)
    assert penalty.shape == (5,)


def test_the_layers_of_a_flow_at_a_time_are_its_field_then() -> None:
    model = small("curvilinear")
    assert isinstance(model, Curvilinear)
    times, tangent = torch.tensor([0.0, 0.04, 0.1]), codes() - 1
    for t, layers in zip(times, model.field.at(times), strict=True):
        field, along = field_and_tangent(layers, codes(), tangent)
        expected, derivative = jvp(lambda x, t=t: model.field(t[None], x), codes(), tangent)
        torch.testing.assert_close(field, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(along, derivative, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(field_of(layers, codes()), expected, rtol=1e-5, atol=1e-5)


@each
def test_several_paths_at_once_are_one_after_the_other(name: str) -> None:
    model = small(name)
    together = model.move_all(codes(), one(2, 1.5) + one(7, -1.0))
    in_turn = model.move_all(model.move_all(codes(), one(2, 1.5)), one(7, -1.0))
    torch.testing.assert_close(together, in_turn, rtol=1e-4, atol=1e-4)


@each
def test_order_matters_only_where_the_model_says_so(name: str) -> None:
    model = small(name)
    first = model.move_all(model.move_all(codes(), one(2, 2.0)), one(7, -2.0))
    second = model.move_all(model.move_all(codes(), one(7, -2.0)), one(2, 2.0))
    difference = (first - second).abs().max().item()
    assert difference < 1e-4 if model.commutes else difference > 1e-2


@each
def test_the_arguments_rebuild_the_model(name: str) -> None:
    model = small(name)
    again = PATHS.get(name)(**json.loads(json.dumps(model.arguments)))
    again.load_state_dict(model.state_dict())
    paths, amounts = torch.tensor([1, 2, 3, 4, 5]), torch.ones(5)
    assert torch.equal(again.eval().move(codes(), paths, amounts), model.move(codes(), paths, amounts))
    assert model.name == name


@each
def test_wrong_codes_and_paths_are_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(ParamsError, match=r"codes are \[5, 3\], these paths need \[B, 12\]"):
        small(name).move(torch.zeros(5, 3), torch.zeros(5).long(), torch.ones(5))
    for wrong in (12, -1):
        with pytest.raises(ParamsError, match=rf"no path {wrong}: this model has 12, counted from 0"):
            small(name).move(codes(2), torch.tensor([3, wrong]), torch.ones(2))


@pytest.mark.parametrize("model", [Curvilinear(DIM), CurvilinearCoupling(DIM)], ids=["continuous", "coupling"])
def test_straightening_models_come_back_and_start_near_the_identity(model: Straightening) -> None:
    trained = small(model.name)
    assert isinstance(trained, Straightening)
    assert (trained.inverse(trained(codes())) - codes()).abs().max() < 1e-4
    assert (trained(codes()) - codes()).abs().max() > 0.05
    assert (model(codes()) - codes()).abs().max() < 0.3


@pytest.mark.parametrize("name", ["curvilinear", "curvilinear-coupling"])
def test_log_volumes_are_those_of_the_jacobian(name: str) -> None:
    model = small(name)
    assert isinstance(model, Straightening)
    model = model.double()
    z = codes(1).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x)[0], z)[:, 0]
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(4000, DIM, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        _, estimates = model.inverse_and_log_volume(model(z).expand(4000, -1), probes)
    model.float()
    assert estimates.mean().item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=0.05)


def test_the_log_volume_has_a_gradient() -> None:
    model = Curvilinear(DIM, steps=2)
    _, penalty = model.move_and_penalty(codes(), torch.arange(5), torch.ones(5), codes())
    penalty.mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "gate" in n)


def test_a_warped_direction_is_a_unit_vector_even_far_away() -> None:
    direction = small("warped").direction(1e3 * codes(), torch.arange(5))  # type: ignore[operator]
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(5))


def test_a_warped_direction_is_the_gradient_of_its_function() -> None:
    model = small("warped")
    assert isinstance(model, Warped)
    z = codes(1).requires_grad_(True)
    supports = model.SUPPORT_SETS.view(DIM, 12, DIM)[4]
    value = (model.ALPHAS[4] * torch.exp(-model.LOGGAMMA[4].exp() * (z - supports).square().sum(1))).sum()
    (gradient,) = torch.autograd.grad(value, z)
    torch.testing.assert_close(model.direction(z.detach(), torch.tensor([4])), gradient / gradient.norm())


def test_solvers_agree_with_the_exponential() -> None:
    matrix = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    start = torch.eye(4, dtype=torch.float64)

    def field(t: float, x: Tensor) -> Tensor:
        return (1 + t) * x @ matrix.t()

    expected = torch.matrix_exp(1.5 * matrix).t()
    assert (runge_kutta(field, start, 0.0, 1.0, 64) - expected).abs().max() < 1e-5
    for tolerance in (1e-5, 1e-10):
        there = dormand_prince(field, start, 0.0, 1.0, tolerance)
        assert (there - expected).abs().max() < 100 * tolerance
        assert (dormand_prince(field, there, 1.0, 0.0, tolerance) - start).abs().max() < 1000 * tolerance


def test_a_flow_that_can_not_be_solved_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_core.paths.solver.MAX_STEPS", 20)
    with pytest.raises(ParamsError, match=r"can't be solved to 1e-12"):
        dormand_prince(lambda t, x: torch.sin(1e4 * x), torch.ones(2), 0.0, 1.0, 1e-12)


def test_rows_of_a_flow_with_adaptive_steps_do_not_affect_each_other() -> None:
    model = small("curvilinear")
    assert isinstance(model, Curvilinear)
    model.tolerance = 1e-5
    together = model.move_all(codes(), one(2, 1.5))
    alone = [model.move_all(codes()[i : i + 1], one(2, 1.5, 1)) for i in range(5)]
    assert torch.equal(together, torch.cat(alone))
