"""Training of the networks that measure: data, damage, losses, resuming, and what is stored."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gan_core.checkpoints.files import read_card
from gan_core.judges.networks import NETWORKS, load_network, soft_argmax
from gan_core.toy.params import TrainMeasureParams
from gan_core.toy.renderer import sample_factors
from gan_core.toy.training.augment import augment, cosine_basis, quantise_blocks, shift
from gan_core.toy.training.landmark_learner import LandmarkLearner, bell
from gan_core.toy.training.measure_data import (
    IDENTITY_COLUMNS,
    cached,
    invent_clutter,
    letterbox,
    look,
    render_identities,
    whiten,
)
from gan_core.toy.training.measure_learners import LEARNERS, IdentityLearner, reliability
from gan_core.toy.training.measure_networks import LearnerState, train_learner, train_network
from gan_core.toy.training.portraits import load_portraits, render_portraits
from gan_core.training import fit
from gan_core.training.schedule import warm_cosine
from tests.reports import Reports

PARAMS = TrainMeasureParams(images=32, rendered=8, batch_size=16, width=8, precision="exact")


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portraits")
    for split, seed in (("train", 1), ("held_out", 50)):
        render_portraits(folder / split, 12, seed)
    return folder


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_stores_a_network_with_its_scores(
    name: str, portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IdentityLearner, "held_out_people", 3)
    monkeypatch.setattr(LandmarkLearner, "held_out_frames", 3)
    path = tmp_path / f"{name}.safetensors"
    folder, reports = tmp_path / "work", Reports()
    folder.mkdir()
    scores = train_network(name, PARAMS, portraits, path, folder, reports)
    assert reports[-1][0] == PARAMS.images and reports[-1][2].shape[1:] == (3, 64, 64)
    kind = LEARNERS[name].registered or name
    assert type(load_network(path, kind).model) is NETWORKS.get(kind)
    assert read_card(path).extra["held_out"] == scores
    assert all(np.isfinite(value) for value in scores.values())
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, folder.name}


def make_learner(portraits: Path, cache: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    return LEARNERS["attributes"](
        PARAMS.model_copy(update={"images": 64}), *(load_portraits(s, portraits) for s in ("train", "held_out")), cache
    )


def test_goes_on_where_it_was_stopped(portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed, stopped, resumed = (make_learner(portraits, tmp_path) for _ in range(3))
    train_learner(undisturbed, tmp_path / "none.pt", Reports())
    monkeypatch.setattr(fit, "SAVE_SECONDS", -1)
    with pytest.raises(KeyboardInterrupt):
        train_learner(stopped, tmp_path / "state.pt", Reports(stop_at=48), report_every=16)
    again = LearnerState(resumed)
    again.load(tmp_path / "state.pt")
    assert again.seen == 32
    train_learner(resumed, tmp_path / "state.pt", Reports())
    for expected, actual in zip(undisturbed.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, actual)


def test_learning_rate_rises_and_falls_to_zero() -> None:
    rates = [warm_cosine(step, 1000, warmup=100) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert rates.index(max(rates)) in range(80, 100)
    assert rates[1000] == pytest.approx(0)


def test_reliability_is_the_share_of_variance_between_people() -> None:
    rng = torch.Generator().manual_seed(0)
    person = torch.randn(400, 1, 1, generator=rng).expand(-1, 4, 3)
    noise = torch.randn(400, 4, 3, generator=rng) * torch.tensor([0.0, 1.0, 100.0])
    found = reliability(person + noise)
    assert found.tolist() == pytest.approx([1, 0.5, 0], abs=0.06)


def test_views_of_a_person_share_the_identity_and_nothing_else() -> None:
    factors = render_identities(2, 3, 5)["factors"]
    spread = np.ptp(factors, axis=1)
    rest = [i for i in range(factors.shape[2]) if i not in IDENTITY_COLUMNS]
    assert spread[:, IDENTITY_COLUMNS].max() == 0
    assert spread[:, rest].min() > 0
    assert np.abs(factors[0, 0, IDENTITY_COLUMNS] - factors[1, 0, IDENTITY_COLUMNS]).min() > 0


def test_whitened_factors_have_unit_variance() -> None:
    whitened = whiten(sample_factors(range(4000)))
    assert whitened.mean(0).abs().max() < 0.08
    assert (whitened.std(0) - 1).abs().max() < 0.05


def test_block_quantisation_keeps_the_image_at_fine_steps_only() -> None:
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.allclose(cosine_basis() @ cosine_basis().T, torch.eye(8), atol=1e-6)
    assert (quantise_blocks(images, torch.full((2, 1, 1, 1), 1e-5)) - images).abs().max() < 1e-3
    coarse = quantise_blocks(images, torch.full((2, 1, 1, 1), 100.0))
    assert coarse.abs().max() == 0


def test_damage_stays_in_range_and_repeats_with_its_seed() -> None:
    images = torch.rand(8, 3, 64, 64) * 2 - 1
    (one, amounts), (two, _) = (
        augment(images, torch.Generator().manual_seed(3), share=0.8, strength=0.5) for _ in range(2)
    )
    assert torch.equal(one, two)
    assert one.abs().max() <= 1
    assert (amounts >= torch.tensor([-0.25, 0, 0])).all() and (amounts <= 0.5).all()


def test_shift_moves_by_pixels() -> None:
    images = torch.zeros(64, 1, 32, 32)
    images[:, :, 16, 16] = 1
    x = torch.arange(32.0).expand(32, 32)
    moved = shift(images, 2.0, torch.Generator().manual_seed(0))[:, 0]
    centre = (moved * x).sum((1, 2)) / moved.sum((1, 2))
    assert (centre - 16).abs().max() < 2.6
    assert centre.std() > 0.7


def test_points_stay_on_what_they_mark() -> None:
    frames = torch.full((1, 3, 128, 128), -1.0)
    frames[:, :, 40:44, 90:94] = 1
    points = torch.tensor([92 / 128, 42 / 128]).expand(1, 5, 2)
    window = look(frames, points, torch.tensor([[0.6, 0.45]]), torch.tensor([0.5]), torch.tensor([0.4]))
    brightest = window.images[0, 0].flatten().argmax().item()
    found = torch.tensor([(brightest % 64 + 0.5) / 64, (brightest // 64 + 0.5) / 64])
    assert (found - window.points[0, 0]).abs().max() < 0.03
    assert window.present.all() and not window.absent.any()


def test_bells_stand_where_the_points_are() -> None:
    bells = bell(torch.tensor([[[0.3, 0.6]]]), 32).unflatten(2, (32, 32))
    assert bells.sum() == pytest.approx(1)
    assert soft_argmax(bells.log())[0, 0].tolist() == pytest.approx([0.3, 0.6], abs=1e-3)


def test_letterbox_centres_the_picture_and_moves_its_points() -> None:
    image = np.full((50, 100, 3), 200, np.uint8)
    frame, points = letterbox(image, np.array([[0.0, 0.0], [100.0, 50.0]]), size=128)
    assert frame[31].max() == 0 and frame[32:96].min() == 200 and frame[96].max() == 0
    assert points.tolist() == [[0.0, 0.25], [1.0, 0.75]]


def test_clutter_varies_within_range() -> None:
    clutter = invent_clutter(6, torch.Generator().manual_seed(0))
    assert clutter.shape == (6, 3, 64, 64)
    assert clutter.abs().max() <= 1
    assert clutter.flatten(1).std(0).mean() > 0.2


def test_cached_arrays_are_made_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def make() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"x": np.arange(3)}

    first, second = (cached(tmp_path / "x.npz", make) for _ in range(2))
    assert len(calls) == 1
    assert first["x"].tolist() == second["x"].tolist() == [0, 1, 2]
