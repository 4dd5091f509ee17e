"""ALAE gives the published implementation's numbers with the same weights, and its files are read."""

import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.errors import CheckpointError
from gan_core.loading import load_encoder, load_generator
from gan_core.published.alae import build_alae
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint
from tests.golden.fill import fill, golden, keys, relative_error_of

LISTING = "alae_64_start32_max256_latent256"
OURS = {"encoder": "encoder", "decoder": "decoder", "mapping_f": "mapping", "dlatent_avg": "average"}
THEIRS = {"encoder": "discriminator", "decoder": "generator", "mapping": "mapping_fl", "average": "dlatent_avg"}


def filled(thin: int = 1, listing: str = LISTING) -> dict[str, dict[str, Tensor]]:
    """Fill each network as the golden numbers say; with ``thin`` it has that much fewer channels."""
    found: dict[str, dict[str, Tensor]] = {name: {} for name in OURS.values()}
    for key, shape in keys(listing).items():
        network, _, name = key.partition(".")
        if network in OURS:
            narrow = [max(n // thin, 1) if n > 4 and network != "dlatent_avg" else n for n in shape]
            narrow = [shape[0], shape[1] // thin] if network == "dlatent_avg" else narrow
            found[OURS[network]][name] = torch.from_numpy(np.asarray(one(key, narrow), dtype=np.float32))
    return found


def one(key: str, shape: list[int]) -> np.ndarray:
    if key.endswith("blur.weight"):
        return np.zeros(shape)
    raw = fill(key, shape, rule="raw")
    if "bias" in key or "noise_weight" in key:
        return np.float32(0.1) * raw
    return fill(key, shape, rule="he") if key.endswith("weight") else raw


@pytest.mark.parametrize(
    ("case", "listing", "count", "size", "width"),
    [("alae-64", LISTING, 2, 64, 256), ("alae-128", "alae_128_start16_max128_latent128", 1, 128, 128)],
)
def test_code_picture_sample_and_reciprocity(case: str, listing: str, count: int, size: int, width: int) -> None:
    encoder, generator = build_alae(filled(listing=listing))
    small = torch.from_numpy(fill("input:x", (count, 3, 16, 16), rule="raw"))
    images = F.interpolate(small, (size, size), mode="bilinear", align_corners=False).clamp(-1, 1)
    code = encoder.encode(images)
    w = generator.mapping(torch.from_numpy(fill("input:z", (count, width), rule="raw")))
    sample = generator.synthesis(generator.broadcast(w))
    again = encoder.encode(sample)[:, :1]
    found = {"code": code[:, :1], "image": generator.synthesis(code), "w": w, "sample": sample, "code_sample": again}
    found["lae"] = (again[:, 0] - w).square().mean()
    expected = golden(case)
    assert found.keys() == {key.removesuffix("__sub") for key in expected[0]}
    for key, value in found.items():
        assert relative_error_of(value, key, expected) < 1e-4, key


def write(path: Path, suffix: str = "_s", auxiliary: Any = None, **changes: Any) -> dict[str, dict[str, Tensor]]:
    states = filled(thin=16)
    models: dict[str, Any] = {"mapping_tl": {}}
    for name, theirs in THEIRS.items():
        models[theirs] = {key: value + 1 for key, value in states[name].items()} if suffix else states[name]
        if name != "average":
            models[f"{theirs}{suffix}"] = states[name]
    models[THEIRS["average"]] = states["average"]
    content = {"models": {k: v for k, v in (models | changes).items() if v is not None}, "auxiliary": auxiliary or {}}
    torch.save(content, path)
    return states


@pytest.mark.parametrize("suffix", ["_s", ""])
def test_a_file_becomes_a_generator_and_its_encoder(suffix: str, tmp_path: Path) -> None:
    states = write(tmp_path / "x.pth", suffix)
    about = inspect_checkpoint(tmp_path / "x.pth")
    assert (about["layout"], about["import"], about["size"], about["n_latent"]) == ("alae", "yes", 64, 10)
    first, second = import_checkpoint(tmp_path / "x.pth", tmp_path / "y.safetensors")
    generator = load_generator(first)
    encoder = load_encoder(second, generator).model
    expected = build_alae(states)[0]
    images = torch.rand(2, 3, 64, 64)
    code = encoder.encode(images)
    assert torch.equal(code, expected.encode(images)) and torch.equal(code, code[:, :1].expand(-1, 10, -1))
    torch.testing.assert_close(generator.model.latent_avg, states["average"]["buff"].mean(0))
    assert generator.model.synthesis(code).shape == (2, 3, 64, 64)


def test_losses_that_the_training_program_keeps_beside_the_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("tracker")
    monkeypatch.setitem(sys.modules, "tracker", module)
    tracks = OrderedDict()
    for name, state in (("RunningMean", {"_mean": 0.5, "n": 2}), ("RunningMeanTorch", {"values": [torch.ones(1)]})):
        vars(module)[name] = type(name, (), {"__module__": "tracker"})
        tracks[name] = vars(module)[name]()
        vars(tracks[name]).update(state)
    write(tmp_path / "x.pth", auxiliary={"tracker": {"tracks": tracks, "epochs": [0], "means_over_epochs": {}}})
    assert len(import_checkpoint(tmp_path / "x.pth", tmp_path / "y.safetensors")) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dlatent_avg": None}, "x.pth is an ALAE without average: name the whole file"),
        ({"generator": None, "generator_s": None}, "x.pth is an ALAE without decoder"),
        ({"mapping_fl_s": {"a": torch.zeros(1)}}, "x.pth is not a whole ALAE"),
    ],
)
def test_damaged_files_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "x.pth", **changes)
    for read in (inspect_checkpoint, lambda path: import_checkpoint(path, tmp_path / "y.safetensors")):
        with pytest.raises(CheckpointError, match=message):
            read(tmp_path / "x.pth")
