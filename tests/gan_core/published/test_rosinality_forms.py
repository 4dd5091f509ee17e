"""The forms in which people have generators of the rosinality layout: inspect and import agree about all of them."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_generator, model_tensors
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint

torch.manual_seed(0)
GENERATOR = StyleGAN2(16, style_dim=8, n_mlp=2, channels={4: 8, 8: 8, 16: 8}).requires_grad_(False)
GENERATOR.latent_avg.copy_(torch.randn(8))
STATE = {key: value.clone() for key, value in GENERATOR.state_dict().items()}
OTHER = {key: value + 1 for key, value in STATE.items()}
AVERAGE = GENERATOR.latent_avg.clone()


def prefixed(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


READ: dict[str, Any] = {
    "[d]": {"g_ema": STATE, "latent_avg": AVERAGE},
    "[1, d]": {"g_ema": STATE, "latent_avg": AVERAGE[None]},
    "[18, d]": {"g_ema": STATE, "latent_avg": AVERAGE[None].repeat(18, 1)},
    "[1, 14, d]": {"g_ema": STATE, "latent_avg": AVERAGE[None, None].repeat(1, 14, 1)},
    "bare": STATE,
    "bare with average": STATE | {"latent_avg": AVERAGE[None].repeat(6, 1)},
    "module": {"g_ema": prefixed("module."), "latent_avg": AVERAGE},
    "module of module": {"g_ema": prefixed("module.module."), "latent_avg": AVERAGE},
    "bare module": prefixed("module.", STATE | {"latent_avg": AVERAGE}),
    "compiled": {"g_ema": prefixed("module._orig_mod."), "latent_avg": AVERAGE},
    "averaged by PyTorch": {"n_averaged": torch.tensor(5)} | prefixed("module."),
    "params_ema": {"params_ema": STATE, "params": OTHER, "latent_avg": AVERAGE},
    "state_dict": {"state_dict": STATE, "latent_avg": AVERAGE, "epoch": 3},
    "decoder": {"state_dict": prefixed("decoder."), "latent_avg": AVERAGE},
    "ema of two": {"state_dict": prefixed("generator.", OTHER) | prefixed("generator_ema."), "latent_avg": AVERAGE},
    "trained with DataParallel": {
        "g": prefixed("module.", OTHER),
        "d": {},
        "g_ema": prefixed("module."),
        "g_optim": {"state": {}},
        "args": argparse.Namespace(size=16),
        "latent_avg": AVERAGE,
    },
}


def read(path: Path) -> StyleGAN2:
    assert inspect_checkpoint(path)["import"] == "yes"
    (written,) = import_checkpoint(path, path.with_suffix(".imported"))
    return load_generator(written).model  # type: ignore[return-value]


@pytest.mark.parametrize("form", READ)
def test_every_form_is_the_same_generator(form: str, tmp_path: Path) -> None:
    torch.save(READ[form], tmp_path / "x.pt")
    found = read(tmp_path / "x.pt")
    assert all(torch.equal(found.state_dict()[key], value) for key, value in STATE.items())
    stored = "latent_avg" in READ[form] or any(key.endswith("latent_avg") for key in READ[form])
    assert torch.equal(found.latent_avg, AVERAGE if stored else found.mean_latent())
    assert inspect_checkpoint(tmp_path / "x.pt")["latent_avg"] == stored


@pytest.mark.parametrize("prefix", ["", "g_ema."])
def test_safetensors_of_others_are_read(prefix: str, tmp_path: Path) -> None:
    save_file({key: value.contiguous() for key, value in prefixed(prefix).items()}, tmp_path / "x.safetensors")
    found = model_tensors(read(tmp_path / "x.safetensors"))
    assert all(torch.equal(found[key], value) for key, value in STATE.items())
    with pytest.raises(CheckpointError, match=r"has no card, .*edit-dataset checkpoints import"):
        load_generator(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"g_ema": STATE, "latent_avg": torch.randn(18, 8)}, "18 different rows in latent_avg"),
        ({"g_ema": STATE, "latent_avg": torch.randn(144)}, r"latent_avg of \[144\], but its latents have 8 numbers"),
        ({"g_ema": STATE, "latent_avg": [0.0] * 8}, "latent_avg of list"),
        ({"g_ema": STATE | {"to_rgb1.bias": torch.zeros(1, 4, 1, 1)}}, "the same architecture with other widths$"),
        (
            {"g_ema": {key: value for key, value in STATE.items() if key != "to_rgb1.bias"}},
            r"1 missing \(to_rgb1.bias\)",
        ),
        ({"g_ema": STATE | {"conv1.conv.weight": torch.zeros(1, 0, 8, 3, 3)}}, "has a layer without channels"),
        (STATE | {"epoch": 3}, r"1 unexpected \(epoch\)"),
        ({k: v for k, v in STATE.items() if not k.startswith("style.")}, r"keys or shapes differ \('style\.\*'\)"),
        ({"first": STATE, "second": OTHER}, r"holds several generators \(first, second\)"),
        ({"state_dict": prefixed("decoder.") | {"residue.a": torch.zeros(2)}}, "residue beside a decoder"),
    ],
)
def test_inspect_says_what_import_refuses(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=message) as refused:
        import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors")
    assert "card" not in str(refused.value) and not (tmp_path / "x.safetensors").exists()
    try:
        said = str(inspect_checkpoint(tmp_path / "x.pt")["import"])
    except CheckpointError as error:
        said = str(error)
    assert said.removeprefix("refused: ") == str(refused.value)


def test_a_file_of_no_known_layout_shows_what_lies_deeper(tmp_path: Path) -> None:
    torch.save({"meta": {}, "state_dict": {"generator_ema.style_mapping.1.weight": torch.zeros(1)}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"state_dict begins with generator_ema.style_mapping.1.weight"):
        inspect_checkpoint(tmp_path / "x.pt")
