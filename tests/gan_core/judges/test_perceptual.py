"""LPIPS against the published package, and as a loss."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.errors import CheckpointError
from gan_core.judges.networks import PerceptualTrunk
from gan_core.judges.perceptual import PerceptualLoss, linear_weights, load_perceptual
from gan_core.published.layouts import import_checkpoint
from tests.golden.fill import fill, fill_state, golden, keys, relative_error
from tests.torchvision_shim import declare_operators


def picture(name: str, factor: int) -> Tensor:
    noise = torch.from_numpy(fill(f"input:{name}", (2, 3, 64 // factor, 64 // factor), rule="raw"))
    return interpolate(0.7 * noise, scale_factor=float(factor), mode="bilinear", align_corners=False).clamp(-1, 1)


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    return picture("lp_x", 8), picture("lp_y", 4)


def trunk_file(folder: Path, name: str) -> Path:
    filled = fill_state(keys(f"lpips_{name}"), rule="he")
    path = folder / f"{name}.pt"
    torch.save({key: torch.from_numpy(value) for key, value in filled.items() if key.startswith("net.")}, path)
    return path


def toy_loss(folder: Path) -> PerceptualLoss:
    torch.manual_seed(0)
    trunk = PerceptualTrunk((8, 8))
    path = folder / "toy.safetensors"
    card = Card(kind="network", name="perceptual", arguments=trunk.arguments, made_by="test", licence="-", source="-")
    save_checkpoint(path, trunk.state_dict(), card)
    return load_perceptual(path).model


@pytest.mark.parametrize("name", ["alex", "vgg", "squeeze"])
def test_equals_the_published_distance(name: str, tmp_path: Path, pair: tuple[Tensor, Tensor]) -> None:
    expected, _ = golden(f"lpips-{name}")
    loss = load_perceptual(trunk_file(tmp_path, name)).model
    assert loss.name == f"lpips_{name}"
    with torch.no_grad():
        assert relative_error(loss.per_layer(*pair), expected["per_layer"]) < 1e-4
        assert relative_error(loss(*pair), expected["distance"].reshape(-1)) < 1e-4


def test_equals_the_installed_package(tmp_path: Path, pair: tuple[Tensor, Tensor]) -> None:
    declare_operators()
    import lpips

    torch.manual_seed(0)
    package = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    torch.save(package.state_dict(), tmp_path / "alex.pt")
    with torch.no_grad():
        ours, theirs = load_perceptual(tmp_path / "alex.pt").model(*pair), package(*pair).flatten()
    assert torch.allclose(ours, theirs, rtol=1e-5)


def test_reads_the_classifier_layout_of_torchvision(tmp_path: Path, pair: tuple[Tensor, Tensor]) -> None:
    filled = fill_state(keys("lpips_alex"), rule="he")
    features = {f"features.{key.split('.', 2)[2]}": value for key, value in filled.items() if key.startswith("net.")}
    classifier = {key: torch.from_numpy(value) for key, value in features.items()} | {
        "classifier.1.bias": torch.ones(3)
    }
    torch.save(classifier, tmp_path / "alexnet.pth")
    expected, _ = golden("lpips-alex")
    with torch.no_grad():
        distance = load_perceptual(tmp_path / "alexnet.pth").model(*pair)
    assert relative_error(distance, expected["distance"].reshape(-1)) < 1e-4


def test_toy_trunk_has_its_own_name_and_uniform_weights(tmp_path: Path, pair: tuple[Tensor, Tensor]) -> None:
    loss = toy_loss(tmp_path)
    x, y = pair
    by_hand = [(a - b).square().sum(1).mean((1, 2)) / 2 for a, b in zip(loss.maps(x), loss.maps(y), strict=True)]
    assert loss.name == "lpips_toy"
    assert torch.allclose(loss(x, y), sum(by_hand), rtol=1e-5)
    assert loss(x, x).abs().max() == 0
    assert loss(x, y).shape == (2,)


def test_gradient_is_finite_where_no_channel_fires(tmp_path: Path) -> None:
    loss = toy_loss(tmp_path)
    with torch.no_grad():
        for parameter in loss.trunk.parameters():
            parameter.copy_(-parameter.abs())
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    loss(x, torch.rand(1, 3, 16, 16)).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_a_changed_target_is_not_mistaken_for_the_old_one(tmp_path: Path, pair: tuple[Tensor, Tensor]) -> None:
    loss = toy_loss(tmp_path)
    x, y = pair[0], pair[1].clone()
    before = loss(x, y)
    y.copy_(x)
    assert before.min() > 0
    assert loss(x, y).abs().max() == 0


def test_refuses_what_is_no_trunk(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.ones(2, 3, 3, 3)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="holds none of the trunks alex, squeeze, vgg"):
        load_perceptual(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no perceptual trunk at"):
        load_perceptual(tmp_path / "absent.pt")
    torch.save({"trunk": torch.nn.Linear(1, 1)}, tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match="is refused"):
        load_perceptual(tmp_path / "module.pt")


def test_linear_weights_that_were_trained_further_are_refused(tmp_path: Path) -> None:
    state = torch.load(trunk_file(tmp_path, "alex"))
    own = {f"lin{k}.model.1.weight": weight.reshape(1, -1, 1, 1) for k, weight in enumerate(linear_weights("alex"))}
    torch.save(state | own, tmp_path / "same.pt")
    assert load_perceptual(tmp_path / "same.pt").model.name == "lpips_alex"
    torch.save(state | own | {"lin3.model.1.weight": torch.zeros(1, 256, 1, 1)}, tmp_path / "other.pt")
    for read in (load_perceptual, lambda path: import_checkpoint(path, tmp_path / "x.safetensors")):
        with pytest.raises(CheckpointError, match=r"has linear weights \(lin3.model.1.weight\) that aren't those of"):
            read(tmp_path / "other.pt")


def test_linear_weights_fit_the_maps() -> None:
    assert [len(w) for w in linear_weights("squeeze")] == [64, 128, 256, 384, 384, 512, 512]
