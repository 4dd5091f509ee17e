"""Published weights of measuring networks: told apart by their keys, imported with equal tensors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import file_sha256, load_checkpoint, read_card
from gan_core.errors import CheckpointError
from gan_core.judges.networks import NETWORKS
from gan_core.judges.perceptual import load_perceptual
from gan_core.judges.trunks import TRUNKS
from gan_core.loading import load_network
from gan_core.published.layouts import find_layout, import_checkpoint, inspect_checkpoint
from gan_core.published.measuring import PUBLISHED
from tests.golden.fill import keys

LISTINGS = {
    "arcface-ir-se50": "arcface_ir_se50_112",
    "curricularface-ir101": "curricularface_ir101_112",
    "moco-resnet50": "moco_resnet50",
    "fairface": "attr_fairface_resnet34_18",
    "hopenet": "attr_hopenet_resnet50_66bins",
    "celeba-5": "attr_celeba5_talk_to_edit_resnet50",
}


def empty(listing: str) -> dict[str, Tensor]:
    """Tensors of these shapes that take no room in a file: numbers without a value of their own."""
    return {key: torch.zeros(1).expand(shape) if shape else torch.tensor(0) for key, shape in keys(listing).items()}


def published(name: str, listing: str) -> Any:
    state = empty(listing)
    return {"epoch": 800, "arch": "resnet50", "state_dict": state} if name == "moco-resnet50" else state


@pytest.mark.parametrize("name", LISTINGS)
def test_each_is_known_by_its_keys(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_core.checkpoints.containers.MAX_INDEX_BYTES", 1 << 40)
    torch.save(published(name, LISTINGS[name]), tmp_path / "x.pth")
    about = inspect_checkpoint(tmp_path / "x.pth")
    assert (about["layout"], about["family"]) == ("measuring-network", name)
    assert about["licence"] == PUBLISHED[name].licence


@pytest.mark.parametrize("legacy", [False, True])
def test_hopenet_comes_in_without_the_counters_that_old_files_lack(legacy: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = NETWORKS.get("hopenet")().state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "hopenet.pkl", _use_new_zipfile_serialization=not legacy)
    import_checkpoint(tmp_path / "hopenet.pkl", tmp_path / "h.safetensors")
    stored = load_checkpoint(tmp_path / "h.safetensors")
    tensors, card = stored.model, stored.card
    assert card.licence == PUBLISHED["hopenet"].licence and tensors.keys() == state.keys()
    assert all(torch.equal(tensors[key], value) for key, value in old.items())
    assert not load_network(tmp_path / "h.safetensors", "hopenet").model.training


def test_what_is_not_part_of_the_network_is_left_out(tmp_path: Path) -> None:
    state = {f"module.encoder_q.{key}": value for key, value in NETWORKS.get("moco-resnet50")().state_dict().items()}
    more = {"module.encoder_q.fc.0.weight": torch.zeros(2, 2), "module.queue": torch.zeros(2), **state}
    torch.save({"state_dict": more, "epoch": 1}, tmp_path / "moco.pth.tar")
    import_checkpoint(tmp_path / "moco.pth.tar", tmp_path / "m.safetensors")
    tensors = load_checkpoint(tmp_path / "m.safetensors").model
    assert tensors.keys() == {key.removeprefix("module.encoder_q.") for key in state}


def test_inception_is_known_and_its_classifier_left_out(tmp_path: Path) -> None:
    state = dict(NETWORKS.get("inception-fid")().state_dict())
    torch.save(state | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, tmp_path / "i.pth")
    import_checkpoint(tmp_path / "i.pth", tmp_path / "i.safetensors")
    assert load_checkpoint(tmp_path / "i.safetensors").model.keys() == state.keys()


def test_an_imported_perceptual_trunk_measures_as_the_published_file_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {f"features.{key.split('.', 1)[1]}": value for key, value in TRUNKS.get("alex")().state_dict().items()}
    torch.save(state | {"classifier.1.weight": torch.zeros(3, 3)}, tmp_path / "alexnet.pth")
    import_checkpoint(tmp_path / "alexnet.pth", tmp_path / "alex.safetensors")
    assert read_card(tmp_path / "alex.safetensors").name == "lpips-alex"
    published, imported = (load_perceptual(tmp_path / name) for name in ("alexnet.pth", "alex.safetensors"))
    assert published.sha256 == file_sha256(tmp_path / "alexnet.pth")
    assert (published.card.name, published.card.licence) == (imported.card.name, imported.card.licence)
    before, after = published.model, imported.model
    x, y = torch.rand(2, 1, 3, 64, 64) * 2 - 1
    assert before.name == after.name == "lpips_alex" and torch.equal(before(x, y), after(x, y))


def test_an_unknown_network_is_named_by_its_keys(tmp_path: Path) -> None:
    torch.save({"backbone.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"no known layout \(it holds backbone\.weight\).*rosinality"):
        find_layout(open_checkpoint(tmp_path / "x.pth"))
