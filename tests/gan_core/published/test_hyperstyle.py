"""Files of HyperStyle through inspect and import."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.checkpoints.files import read_card
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.hypernetwork import HyperStyle, load_hypernetwork, weight_names
from gan_core.loading import load_generator
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint

LAYERS = [0, 2, 3, 5, 6]


def write(path: Path, prefix: str = "", without: str = "-", **options: Any) -> dict[str, Any]:
    """A file as published: each block names the shared tensors again, and there is no encoder."""
    torch.manual_seed(0)
    decoder = StyleGAN2(16, style_dim=16, n_mlp=2, channels={4: 8, 8: 8, 16: 4})
    filters = [list(decoder.get_parameter(name).shape[1:4]) for name in weight_names(decoder)]
    network = HyperStyle(filters, LAYERS, shared=8, units=[1, 2, 1, 1], width=4)
    state = {f"hypernet.{prefix}{key}": value for key, value in network.state_dict().items()}
    for i in (0, 2, 3):
        for name in ("w1", "b1", "w2", "b2"):
            shared = state[f"hypernet.{prefix}shared_weight_hypernet.{name}"]
            state[f"hypernet.{prefix}refinement_blocks.{i}.hypernet.{name}"] = shared
    state |= {f"decoder.{key}": value for key, value in decoder.state_dict().items()}
    state = {key: value for key, value in state.items() if without not in key}
    opts = argparse.Namespace(output_size=16, layers_to_tune="0,2,3,5,6", **{"n_iters_per_batch": 5} | options)
    content = {"state_dict": state, "opts": opts, "latent_avg": torch.randn(6, 16), "global_step": 3}
    if without == "latent_avg":
        content["latent_avg"] = torch.randn(6, 15)
    torch.save(content, path)
    return content


@pytest.mark.parametrize(
    ("prefix", "options", "size"), [("", {}, 256), ("module.", {"dataset_type": "cars_hyper"}, [192, 256])]
)
def test_a_file_becomes_a_generator_and_its_hypernetwork(
    prefix: str, options: dict[str, Any], size: Any, tmp_path: Path
) -> None:
    content = write(tmp_path / "x.pt", prefix, **options)
    about = inspect_checkpoint(tmp_path / "x.pt")
    assert (about["layout"], about["import"], about["layers"]) == ("hyperstyle", "yes", LAYERS)
    assert (about["steps"], about["input_size"], about["generator_size"]) == (5, size, 16)
    first, second = import_checkpoint(tmp_path / "x.pt", tmp_path / "y.safetensors")
    assert (Path(first).name, Path(second).name) == ("y.generator.safetensors", "y.hypernetwork.safetensors")
    generator = load_generator(first)
    network = load_hypernetwork(second, generator).model
    for key, value in network.state_dict().items():
        assert torch.equal(value, content["state_dict"][f"hypernet.{prefix}{key}"]), key
    torch.testing.assert_close(generator.model.latent_avg, content["latent_avg"].mean(0))
    assert (network.arguments["shared"], network.arguments["separable"]) == (8, False)


@pytest.mark.parametrize(
    ("dataset_type", "told", "subject", "size"),
    [
        ("cars_hypernet", None, "cars", [192, 256]),
        ("afhq_wild_hypernet", None, "animals", 256),
        (None, "cars", "cars", [192, 256]),
        ("ffhq_hypernet", "faces", None, 256),
    ],
)
def test_cards_say_what_pictures_show_that_are_not_faces(
    dataset_type: str | None, told: str | None, subject: str | None, size: Any, tmp_path: Path
) -> None:
    write(tmp_path / "x.pt", **({"dataset_type": dataset_type} if dataset_type else {}))
    written = import_checkpoint(tmp_path / "x.pt", tmp_path / "y.safetensors", subject=told)
    cards = [read_card(path) for path in written]
    assert [card.extra.get("subject") for card in cards] == [subject, subject]
    assert cards[1].arguments["input_size"] == size


@pytest.mark.parametrize("form", ["args", "net.", "bare"])
def test_other_forms_of_a_file_give_the_same_network(form: str, tmp_path: Path) -> None:
    content = write(tmp_path / "x.pt", n_iters_per_batch=2)
    state, opts = content["state_dict"], content["opts"]
    if form == "args":
        content = {"state_dict": state, "args": opts}
    else:
        state = {f"net.{key}" if form == "net." else key: value for key, value in state.items()}
        content = state if form == "bare" else {"state_dict": state, "opts": opts}
    torch.save(content, tmp_path / "x.pt")
    written = list(import_checkpoint(tmp_path / "x.pt", tmp_path / "y.safetensors"))
    assert read_card(written[1]).arguments["steps"] == (5 if form == "bare" else 2)


def test_options_that_are_no_dictionary_are_refused(tmp_path: Path) -> None:
    torch.save(write(tmp_path / "x.pt") | {"opts": [2]}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"options \(opts\) that can't be read: a list instead of a dictionary"):
        import_checkpoint(tmp_path / "x.pt", tmp_path / "y.safetensors")


@pytest.mark.parametrize(
    ("without", "options", "message"),
    [
        ("decoder", {}, r"x.pt has a hypernetwork without its generator \(decoder.\*\): name the whole file"),
        ("hypernet.body.1.conv1", {}, "x.pt is not a whole hypernetwork"),
        ("hypernet.bn1.bias", {}, r"x.pt doesn't fit HyperStyle: 1 missing \(bn1.bias\)"),
        ("shared_weight_hypernet.w1", {}, "x.pt doesn't fit HyperStyle: 1 missing"),
        ("-", {"n_iters_per_batch": 0}, "n_iters_per_batch '0'"),
        ("latent_avg", {}, r"x.pt has a latent_avg of \[6, 15\], but its latents have 16 numbers"),
    ],
)
def test_damaged_files_are_refused_by_inspect_and_import_alike(
    without: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "x.pt", without=without, **options)
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(tmp_path / "x.pt", tmp_path / "y.safetensors")
    if without.startswith(("hypernet.bn1", "shared", "latent_avg")):
        assert str(inspect_checkpoint(tmp_path / "x.pt")["import"]).startswith("refused: ")
    else:
        with pytest.raises(CheckpointError, match=message):
            inspect_checkpoint(tmp_path / "x.pt")
    assert not list(tmp_path.glob("y*"))


def test_layers_beyond_the_generators_are_refused(tmp_path: Path) -> None:
    content = write(tmp_path / "x.pt")
    state = content["state_dict"]
    moved = {key.replace("refinement_blocks.6.", "refinement_blocks.9."): value for key, value in state.items()}
    torch.save(content | {"state_dict": moved}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"changes the layers \[0\] to \[9\], but its generator has 8"):
        inspect_checkpoint(tmp_path / "x.pt")
