"""Every published layout that no other file takes there and back: what was written is what an import gives."""

import json
import pickle
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import load_checkpoint
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.judges.networks import NETWORKS
from gan_core.judges.trunks import TRUNKS
from gan_core.loading import load_generator, model_tensors
from gan_core.published.ada import names
from gan_core.published.generators import build_published
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint
from gan_core.published.measuring import MOCO, PUBLISHED
from gan_core.published.rosinality import build_generator
from tests.golden.families import filled

GOLDEN = Path(__file__).parents[2] / "golden"
RECONSTRUCT = "_reconstruct_persistent_obj"


def brought_in(content: Any, folder: Path) -> dict[str, Tensor]:
    """Save as PyTorch does, import, and read what that wrote."""
    torch.save(content, folder / "x.pt")
    import_checkpoint(folder / "x.pt", folder / "x.safetensors")
    return load_checkpoint(folder / "x.safetensors").model


@pytest.mark.parametrize("start", [b"\x80", b"\x1f\x8b", b"\x80\x02"])
def test_the_length_of_a_header_may_begin_like_another_kind_of_file(start: bytes, tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    length = int.from_bytes(start, "little")
    while length < len(header):
        length += 256 ** len(start)
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + struct.pack("<f", 0.5))
    assert path.read_bytes().startswith(start)
    contents = open_checkpoint(path)
    assert contents.container == "safetensors" and contents.load() == {"x": torch.tensor([0.5])}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


class Persistent:
    """Pickles as NVIDIA's modules do: a class's name, its program text and its state, put together by a function."""

    def __init__(self, name: str, state: dict[str, Any]) -> None:
        self.about = {"type": "class", "version": 6, "module_src": "raise", "class_name": name, "state": state}

    def __reduce__(self) -> Any:
        return getattr(sys.modules["torch_utils.persistence"], RECONSTRUCT), (self.about,)


def write_ada(path: Path, generator: StyleGAN2, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a generator as NVIDIA's pickle: the inverse of ``names``."""
    module = ModuleType("torch_utils.persistence")
    stand_in = lambda about: about  # noqa: E731  (a function that pickle finds by its name)
    stand_in.__module__, stand_in.__qualname__ = module.__name__, RECONSTRUCT
    setattr(module, RECONSTRUCT, stand_in)
    monkeypatch.setitem(sys.modules, "torch_utils", ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    options = {"img_resolution": generator.size, "z_dim": generator.z_dim, "w_dim": generator.w_dim, "img_channels": 3}
    options |= {"c_dim": generator.classes, "synthesis_kwargs": {"conv_clamp": generator.conv_clamp}}
    root: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}, "_init_kwargs": options}
    ours = model_tensors(generator)
    for name, theirs, _ in names(generator):
        *parents, last = theirs.split(".")
        inner = root
        for parent in parents:
            fresh = Persistent("Part", {"_parameters": {}, "_buffers": {}, "_modules": {}})
            inner = inner["_modules"].setdefault(parent, fresh).about["state"]
        inner["_parameters"][last] = _theirs(name, ours[name])
    path.write_bytes(pickle.dumps({"G_ema": Persistent("Generator", root)}))


def _theirs(name: str, tensor: Tensor) -> Tensor:
    if name.endswith("kernel"):
        return tensor / 4
    if name.endswith("noise.weight"):
        return tensor.reshape(())
    if name.startswith("noises."):
        return tensor[0, 0]
    if name.startswith("to_rgb") and name.endswith(".bias") and tensor.ndim == 4:
        return tensor.flatten()
    return tensor[0] if name.endswith("conv.weight") or name == "input.input" else tensor


def test_a_conditional_pickle_with_a_clamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"style_dim": 8, "n_mlp": 2, "channels": {4: 6, 8: 5, 16: 4}}
    generator = StyleGAN2(16, **sizes, conv_clamp=256.0, classes=3).requires_grad_(False)
    generator.latent_avg.copy_(torch.randn(8))
    write_ada(tmp_path / "x.pkl", generator, monkeypatch)
    about = inspect_checkpoint(tmp_path / "x.pkl")
    assert (about["layout"], about["classes"], about["conv_clamp"], about["size"]) == ("ada", 3, 256.0, 16)
    import_checkpoint(tmp_path / "x.pkl", tmp_path / "x.safetensors")
    again = load_generator(tmp_path / "x.safetensors").model
    assert again.arguments == generator.arguments
    assert_same(model_tensors(again), model_tensors(generator))


def test_our_names_of_nvidias_tensors_are_the_published_table() -> None:
    table = json.loads((GOLDEN / "ada-to-rosinality-64.json").read_text())
    with torch.device("meta"):
        generator = StyleGAN2(64)
    published = {entry["rosinality"]: entry["ada"] for entry in table["generator"]}
    found = {ours: theirs for ours, theirs, _ in names(generator)}
    blurs = {key for key in found if key.endswith("blur.kernel")}  # a block has its filter twice, the table once
    assert all(found.pop(key).replace(".conv0", "") == published.pop(key) for key in blurs)
    assert found == published | {"latent_avg": table["latent_avg"]}


def test_an_old_conversion_with_its_average(tmp_path: Path) -> None:
    published = GOLDEN / "rosinality-tiny-converted.pt"
    import_checkpoint(published, tmp_path / "g.safetensors")
    expected = model_tensors(build_generator(open_checkpoint(published).load(), published))
    assert_same(model_tensors(load_generator(tmp_path / "g.safetensors").model), expected)


@pytest.mark.parametrize(
    ("listing", "rule", "family"),
    [
        ("sngan_mnist", "plain", "sngan"),
        ("biggan128_ajbrock_tiny_ch8_cls10", "biggan", "biggan"),
        ("biggan_deep_128_hf_tiny_ch16_cls10", "biggan-deep", "biggan-deep"),
        pytest.param("pggan_1024_interfacegan", "equalised", "proggan", marks=pytest.mark.slow),
        pytest.param("proggan_1024_ptrblck", "proggan", "proggan", marks=pytest.mark.slow),
    ],
)
def test_the_other_families(listing: str, rule: str, family: str, tmp_path: Path) -> None:
    state = filled(listing, rule)
    found = brought_in(state, tmp_path)
    assert inspect_checkpoint(tmp_path / "x.pt")["family"] == family
    assert_same(found, model_tensors(build_published(state)))


@pytest.mark.parametrize("name", ["alex", "squeeze", pytest.param("vgg", marks=pytest.mark.slow)])
def test_trunks_of_the_perceptual_distance(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trunk = TRUNKS.get(name)().state_dict()
    torchvision = {f"features.{key.split('.', 1)[1]}": value for key, value in trunk.items()}
    assert_same(brought_in(torchvision | {"classifier.1.weight": torch.zeros(3, 3)}, tmp_path), trunk)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_measuring_networks(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = NETWORKS.get(name)().state_dict()
    published = {f"module.{PUBLISHED[name].prefix}{key}": value for key, value in state.items()}
    if name == "inception-fid":
        published |= {"module.fc.weight": torch.zeros(1008, 2048), "module.fc.bias": torch.zeros(1008)}
    found = brought_in({"epoch": 1, "state_dict": published} if PUBLISHED[name].prefix == MOCO else published, tmp_path)
    assert inspect_checkpoint(tmp_path / "x.pt")["family"] == name
    assert_same(found, state)


def test_kinds_of_tensors_that_are_not_read_are_told_and_types_are(tmp_path: Path) -> None:
    content: dict[str, Any] = torch.load(GOLDEN / "rosinality-tiny-training.pt", weights_only=False)
    assert brought_in(content | {"dtype": torch.int16}, tmp_path)
    weight = torch.ones(2, 2)
    for kind, message in (
        (torch._neg_view(weight), "stored as a view that is negated or conjugated: save a copy of it"),
        (weight.to_sparse(), r"a kind of tensor that isn't read \(torch._utils._rebuild_sparse_tensor\)"),
    ):
        torch.save(content | {"more": kind}, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(tmp_path / "x.pt")
