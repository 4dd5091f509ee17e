"""Path models and reconstructors against the published implementations, with weights filled from their keys."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gan_core.paths.base import PATHS
from gan_core.paths.flow import Curvilinear
from gan_core.paths.reconstructor import RECONSTRUCTORS
from gan_core.paths.warped import Warped
from tests.golden.families import filled, raw
from tests.golden.fill import golden, keys, relative_error

DEFORMATORS: dict[str, tuple[str, dict[str, int], str]] = {
    "voynov-fc": ("fc", {"dim": 128}, "fc_128"),
    "voynov-linear": ("linear", {"dim": 128}, "linear_128"),
    "voynov-linear-cut": ("linear", {"dim": 128, "count": 20, "out": 160}, "linear_20_160_128"),
    "voynov-linear-padded": ("linear", {"dim": 128, "count": 20, "out": 100}, "linear_20_100_128"),
    "voynov-ortho": ("orthogonal", {"dim": 128}, "ortho_128"),
    "voynov-projective": ("projective", {"dim": 128}, "projective_128"),
    "voynov-projective-spatial": ("projective", {"dim": 128, "count": 20}, "projective_20_128_128"),
}


def loaded(model: nn.Module, state: dict[str, Tensor]) -> Any:
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert [key for key in missing if not key.endswith(("num_batches_tracked", "_num_evals"))] == unexpected == []
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("case", DEFORMATORS)
def test_deformators(case: str) -> None:
    expected, _ = golden(case)
    name, arguments, listing = DEFORMATORS[case]
    model = loaded(PATHS.get(name)(**arguments), filled(f"voynov_deformator_{listing}"))
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == keys(f"voynov_deformator_{listing}")
    moves = torch.from_numpy(expected["in_v"])
    assert relative_error(model.shift(moves), expected["out_shift"].reshape(4, 128)) < 1e-4
    path, amount = moves[2].argmax()[None], moves[2].max()[None]
    assert relative_error(model.move(torch.ones(1, 128), path, amount) - 1, model.shift(moves[2:3])) < 1e-5


@pytest.mark.parametrize("precision", ["", "-double"])
def test_radial_field(precision: str) -> None:
    expected, _ = golden(f"warped-rbf-direction{precision}")
    dtype, tolerance, every = (torch.float64, 1e-10, 6) if precision else (torch.float32, 1e-4, 3)
    model = loaded(Warped(128, 64, 128), filled("warped_support_sets_K64_N128_d128_sngan", "rbf")).to(dtype)
    z, paths = raw("z", 4, 128).to(dtype), torch.from_numpy(expected["in_k"])
    assert relative_error(model.direction(z, paths), expected["out_direction"]) < tolerance
    amounts = [0.2 * steps for steps in range(-6, 7)][::every]
    walked = torch.stack([model.move(z, paths, torch.full((4,), amount, dtype=dtype)) for amount in amounts], 1)
    assert relative_error(walked, expected["out_path"]) < tolerance


def test_first_supports() -> None:
    expected, _ = golden("warped-rbf-init")
    model = Warped(7, 5, 3)
    supports = model.SUPPORT_SETS.detach().view(5, 6, 7)
    np.testing.assert_allclose(supports.norm(dim=2), expected["out_norms"], rtol=1e-5)
    np.testing.assert_allclose(supports[:, ::2] + supports[:, 1::2], expected["out_pair_sums"], atol=1e-6)
    np.testing.assert_array_equal(model.ALPHAS.detach(), expected["out_alphas"])
    np.testing.assert_allclose(model.LOGGAMMA.detach(), expected["out_loggamma"], rtol=1e-5)


@pytest.fixture(scope="module")
def flow() -> Curvilinear:
    state = filled("decurved_ffjord_d128", "flow")
    return loaded(Curvilinear(128, steps=16), state).double()


@pytest.mark.parametrize("tolerance", [None, 1e-9])
def test_flow_there_and_back(flow: Curvilinear, tolerance: float | None) -> None:
    expected, _ = golden("decurved-forward-inverse")
    flow.tolerance = tolerance
    z, probe = raw("z", 3, 128).double(), raw("probe", 3, 128).double()
    shift = flow.one_hot(torch.from_numpy(expected["in_k"]), torch.from_numpy(expected["in_mag"]).double())
    coordinates = flow(z)
    assert relative_error(coordinates, expected["out_v_tight"]) < 1e-5
    with torch.no_grad():
        edited, log_volume = flow.inverse_and_log_volume(coordinates + shift, probe)
        inverted, log_volume_there = flow.inverse_and_log_volume(z, probe)
    assert relative_error(edited, expected["out_z_edited_tight"]) < 1e-5
    assert relative_error(log_volume[:, None], expected["out_logdet_tight"]) < 1e-5
    assert relative_error(flow.inverse(coordinates), expected["out_z_back_tight"]) < 1e-5
    assert relative_error(inverted, expected["out_inverse_of_z_tight"]) < 1e-5
    assert relative_error(log_volume_there[:, None], expected["out_logdet_inverse_of_z_tight"]) < 1e-5


def test_flow_in_single_precision_is_as_near_as_the_published_solver() -> None:
    expected, _ = golden("decurved-forward-inverse")
    model = loaded(Curvilinear(128), filled("decurved_ffjord_d128", "flow"))
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == keys("decurved_ffjord_d128")
    assert relative_error(model(raw("z", 3, 128)), expected["out_v"]) < 1e-4
    assert relative_error(model.inverse(raw("z", 3, 128)), expected["out_inverse_of_z"]) < 1e-4


def test_flow_edits_in_either_order(flow: Curvilinear) -> None:
    expected, _ = golden("decurved-commutator")
    flow.tolerance = None
    z = raw("z", 3, 128).double()

    def edit(codes: Tensor, path: int, amount: float) -> Tensor:
        return flow.move(codes, torch.full((3,), path), torch.full((3,), amount, dtype=torch.float64))

    once = torch.zeros(3, 128, dtype=torch.float64)
    once[:, 1], once[:, 4] = 3.0, 2.0
    results = {
        "k_then_l": edit(edit(z, 1, 3.0), 4, 2.0),
        "l_then_k": edit(edit(z, 4, 2.0), 1, 3.0),
        "one_inverse": flow.move_all(z, once),
        "undo": edit(edit(z, 1, 3.0), 1, -3.0),
    }
    for name, codes in results.items():
        assert relative_error(codes, expected[f"out_{name}_tight"]) < 1e-5, name
    assert relative_error(results["one_inverse"] - z, expected["out_linear_difference_tight"]) < 1e-5


WARPED_NAMES = {
    "lenet": {"feature_extractor": "convnet", "path_indices": "fc_logits", "shift_magnitudes": "fc_shift"},
    "resnet": {"path_indices": "type_estimator", "shift_magnitudes": "shift_estimator"},
}


def renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    parts = {key: key.partition(".") for key in state}
    return {f"{names.get(first, first)}.{rest}": state[key] for key, (first, _, rest) in parts.items()}


@pytest.mark.parametrize(
    ("case", "listing", "kind", "count", "shape"),
    [
        ("voynov-shift-predictor-lenet", "voynov_shift_predictor_lenet_d128_ch1", "lenet", 128, (1, 32)),
        ("voynov-shift-predictor-lenet-rgb", "voynov_shift_predictor_lenet_d128_ch3", "lenet", 128, (3, 64)),
        ("voynov-shift-predictor-resnet", "voynov_shift_predictor_resnet18_d120", "resnet", 120, (3, 128)),
        ("warped-reconstructor-lenet", "warped_reconstructor_lenet_dim64_ch3", "lenet", 64, (3, 64)),
        ("warped-reconstructor-resnet", "warped_reconstructor_resnet_dim200_ch3", "resnet", 200, (3, 128)),
    ],
)
def test_reconstructors(case: str, listing: str, kind: str, count: int, shape: tuple[int, int]) -> None:
    expected, _ = golden(case)
    channels, size = shape
    model = RECONSTRUCTORS.get(kind)(count, channels)
    state = filled(listing)
    model = loaded(model, renamed(state, WARPED_NAMES[kind]) if case.startswith("warped") else state)
    logits, amount = model(*(raw(name, 2, channels, size, size) for name in ("x1", "x2")))
    assert relative_error(logits, expected["out_logits"]) < 1e-4
    assert relative_error(amount, expected["out_shift"]) < 1e-4
