"""Files of HFGI through inspect and import: encoder, generator and features."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.encoders.base import ENCODERS
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.features import HFGI, load_features
from gan_core.loading import load_generator
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint


def write(path: Path, without: str = "-") -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    networks: dict[str, torch.nn.Module] = {
        "encoder": ENCODERS.get("e4e")(10, 16, 256, [1, 1, 1, 1], 4),  # type: ignore[call-arg]
        "decoder": StyleGAN2(64, 16, 2, channels={4: 8, 8: 8, 16: 8, 32: 8, 64: 8}),
    }
    state = {
        f"{name}.{key}": value for name, network in networks.items() for key, value in network.state_dict().items()
    }
    state |= HFGI(channels=8).state_dict()
    options = argparse.Namespace(encoder_type="Encoder4Editing", stylegan_size=64, start_from_latent_avg=True)
    state = {key: value for key, value in state.items() if without not in key}
    torch.save({"state_dict": state, "opts": options, "latent_avg": torch.randn(10, 16)}, path)
    return state


def test_a_file_becomes_a_generator_its_encoder_and_features(tmp_path: Path) -> None:
    state = write(tmp_path / "x.pt")
    about = inspect_checkpoint(tmp_path / "x.pt")
    assert about["import"] == "yes" and "features (HFGI)" in str(about["variant"]) and "other_networks" not in about
    written = list(import_checkpoint(tmp_path / "x.pt", tmp_path / "y.safetensors"))
    assert [Path(path).name for path in written] == [
        f"y.{name}.safetensors" for name in ("generator", "encoder", "features")
    ]
    network = load_features(written[2], load_generator(written[0])).model
    assert (network.channels, network.layer) == (8, 6)
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("grid_align", r"x.pt has residue\.\* without all of residue, grid_align, decoder"),
        ("scale3.2.weight", r"x.pt is no whole file of HFGI: residue.condition_scale3.2.weight not found"),
        ("dconv_layer2.0.res_layer.1", r"x.pt doesn't fit HFGI: 1 missing \(grid_align.dconv_layer2.0.res_layer.1"),
    ],
)
def test_damaged_files_are_refused_by_inspect_and_import_alike(without: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "x.pt", without)
    with pytest.raises(CheckpointError, match=message) as refused:
        import_checkpoint(tmp_path / "x.pt", tmp_path / "y.safetensors")
    about: Any = inspect_checkpoint(tmp_path / "x.pt")["import"]
    assert about == f"refused: {refused.value}"
