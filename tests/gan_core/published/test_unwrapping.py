"""The forms in which people have encoders: inspect and import agree, and all give the same networks."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core.encoders.base import ENCODERS
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_encoder, load_generator
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint
from tests.gan_core.published.test_wrappers import write_wrapper

Content = dict[str, Any]


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def part(state: dict[str, Tensor], network: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{network}."): v for k, v in state.items() if k.startswith(f"{network}.")}


def others(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor + 1 for name, tensor in state.items()}


def told(content: Content) -> Content:
    return {key: value for key, value in content.items() if key != "state_dict"}


FORMS: dict[str, Callable[[dict[str, Tensor], Content], Content]] = {
    "as published": lambda state, rest: {"state_dict": state} | rest,
    "net.": lambda state, rest: {"state_dict": prefixed(state, "net.")} | rest,
    "module.net.": lambda state, rest: {"state_dict": prefixed(state, "module.net.")} | rest,
    "model": lambda state, rest: {"model": state} | rest,
    "bare": lambda state, rest: state | rest,
    "bare net.": lambda state, rest: prefixed(state, "net.") | rest,
    "in module": lambda state, rest: {"module": prefixed(state, "net.")} | rest,
    "bare module.net.": lambda state, rest: prefixed(state, "module.net.") | rest,
    "by network": lambda state, rest: {"encoder": part(state, "encoder"), "decoder": part(state, "decoder")} | rest,
    "average inside": lambda state, rest: {
        "state_dict": state | {"latent_avg": rest["latent_avg"]},
        "opts": rest["opts"],
    },
    "average inside net.": lambda state, rest: {
        "state_dict": prefixed(state | {"latent_avg": rest["latent_avg"]}, "net."),
        "opts": rest["opts"],
    },
    "options called args": lambda state, rest: {
        "state_dict": state,
        "args": argparse.Namespace(**vars(rest["opts"])),
        "latent_avg": rest["latent_avg"],
    },
    "options as a dictionary": lambda state, rest: {"state_dict": state} | rest | {"opts": vars(rest["opts"])},
    "average of two": lambda state, rest: {
        "state_dict": prefixed(others(state), "net.") | prefixed(state, "net_ema."),
        **rest,
    },
    "average beside the trained": lambda state, rest: {"params": others(state), "params_ema": state} | rest,
    "compiled": lambda state, rest: {"state_dict": prefixed(state, "_orig_mod.")} | rest,
    "compiled parts": lambda state, rest: {
        "state_dict": {name.replace("coder.", "coder._orig_mod.", 1): tensor for name, tensor in state.items()},
        **rest,
    },
    "averaged by PyTorch": lambda state, rest: {
        "state_dict": {"n_averaged": torch.tensor(3)} | prefixed(state, "module."),
        **rest,
    },
    "options inside others": lambda state, rest: {
        "state_dict": prefixed(state, "net."),
        "hyper_parameters": {"opts": rest["opts"], "lr": 1e-4},
        "latent_avg": rest["latent_avg"],
    },
    "in training": lambda state, rest: {
        "state_dict": state,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]},
        "discriminator_state_dict": {"fc.weight": torch.zeros(2)},
        "global_step": 3,
        **rest,
    },
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Content:
    return write_wrapper(tmp_path_factory.mktemp("published") / "x.pt", "e4e")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_encoder_and_generator(form: str, published: Content, tmp_path: Path) -> None:
    torch.save(FORMS[form](published["state_dict"], told(published)), tmp_path / "x.pt")
    about = inspect_checkpoint(tmp_path / "x.pt")
    assert (about["layout"], about["family"], about["import"]) == ("encoder-wrapper", "e4e", "yes")
    assert "encoder" not in str(about["other_keys"])
    written = import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors")
    generator, encoder = (loader(path) for loader, path in zip((load_generator, _encoder), written, strict=True))
    assert torch.equal(encoder.latent_avg, published["latent_avg"])
    for network, model in (("decoder", generator.model), ("encoder", encoder)):
        theirs = part(published["state_dict"], network)
        assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())


def _encoder(path: str) -> Any:
    return load_encoder(path, None).model


@pytest.mark.parametrize("average", [(16,), (1, 16), (6, 16), (18, 16), (1, 18, 16)])
def test_the_average_has_any_number_of_rows(average: tuple[int, ...], published: Content, tmp_path: Path) -> None:
    row = torch.arange(16.0)
    torch.save(published | {"latent_avg": row.expand(average).clone()}, tmp_path / "x.pt")
    assert inspect_checkpoint(tmp_path / "x.pt")["import"] == "yes"
    encoder = list(import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors"))[-1]
    assert torch.equal(_encoder(encoder).latent_avg, row.expand(6, 16))


def test_two_encoders_are_refused_by_name(published: Content, tmp_path: Path) -> None:
    state = published["state_dict"]
    torch.save(told(published) | {"first": state, "second": others(state)}, tmp_path / "x.pt")
    for do in (inspect_checkpoint, lambda path: import_checkpoint(path, tmp_path / "x.safetensors")):
        with pytest.raises(CheckpointError, match=r"holds several encoders \(first, second\): save the one"):
            do(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opts": '{"encoder_type": "Encoder4Editing"}'}, r"has options \(opts\) that can't be read: a str instead of"),
        ({"opts": None, "config": ["e4e"]}, r"has options \(config\) that can't be read: a list instead of"),
    ],
)
def test_options_that_are_not_understood_are_refused(
    changes: Content, message: str, published: Content, tmp_path: Path
) -> None:
    torch.save(published | changes, tmp_path / "x.pt")
    for do in (inspect_checkpoint, lambda path: import_checkpoint(path, tmp_path / "x.safetensors")):
        with pytest.raises(CheckpointError, match=message):
            do(tmp_path / "x.pt")


def test_inspect_looks_at_an_average_inside_the_decoder_as_import_does(published: Content, tmp_path: Path) -> None:
    rows = {"decoder.latent_avg": torch.randn(6, 16)}
    torch.save(published | {"state_dict": published["state_dict"] | rows}, tmp_path / "x.pt")
    assert "6 different rows in latent_avg" in str(inspect_checkpoint(tmp_path / "x.pt")["import"])
    with pytest.raises(CheckpointError, match="6 different rows in latent_avg"):
        import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors")


def test_dictionaries_that_share_each_other_are_looked_through_once(tmp_path: Path) -> None:
    inner: Content = {"a": torch.zeros(1)}
    for _ in range(6):
        inner = {str(i): inner for i in range(60)}
    torch.save(inner, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="of no known layout"):
        inspect_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(("variant", "size", "latents"), [("psp", 256, 14), ("e4e", 512, 16), ("psp", 1024, 18)])
def test_without_options_the_sizes_come_from_the_shapes(variant: str, size: int, latents: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    decoder = StyleGAN2(size, 8, 2, channels={4 << i: 2 for i in range(size.bit_length() - 2)})
    encoder = ENCODERS.get(variant)(latents, 8, 256, [1, 2, 1, 1], 2)  # type: ignore[call-arg]
    state = prefixed(encoder.state_dict(), "encoder.") | prefixed(decoder.state_dict(), "decoder.")
    torch.save({"state_dict": state, "latent_avg": torch.zeros(1, 8)}, tmp_path / "x.pt")
    about = inspect_checkpoint(tmp_path / "x.pt")
    assert (about["n_latent"], about["generator_size"], about["input_size"]) == (latents, size, 256)
    assert "say which with --variant psp or --variant e4e" in str(about["import"])
    written = import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors", variant=variant)
    found = _encoder(list(written)[-1])
    assert (found.name, found.n_latent, found.input_size) == (variant, latents, 256)


def test_cars_without_options_are_told_by_their_subject(published: Content, tmp_path: Path) -> None:
    torch.save({k: v for k, v in published.items() if k != "opts"}, tmp_path / "x.pt")
    target = tmp_path / "x.safetensors"
    for subject, shape in ((None, (256, 256)), ("cats", (256, 256)), ("cars", (192, 256))):
        encoder = list(import_checkpoint(tmp_path / "x.pt", target, variant="e4e", subject=subject))[-1]
        assert _encoder(encoder).input_shape == shape
