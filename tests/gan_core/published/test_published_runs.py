"""A stored run of published code is made again by the documented commands, and what differs is found."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.published import main
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.generators.stylegan2 import StyleGAN2

TYPES = {"psp": "GradualStyleEncoder", "e4e": "Encoder4Editing"}
STEPS, RATE, STRENGTH = 3, 1e-2, 2.5
NAMES = ["b/one.png", "a.png"]


def networks(name: str, shape: list[int]) -> tuple[Encoder, StyleGAN2]:
    torch.manual_seed(5)
    generator = StyleGAN2(64, 16, 2, channels={4: 8, 8: 8, 16: 8, 32: 8, 64: 8})
    more = {"n_mlp": 2, "n_queries": 18} if name == "style-transformer" else {}
    encoder = ENCODERS.get(name)(
        n_latent=10, style_dim=16, input_size=shape, units=[1, 1, 1, 1], width=8, input_channels=3, **more
    )  # type: ignore[call-arg]
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    encoder.train()(torch.randn(4, 3, *shape))
    return encoder.eval(), generator


def published_file(encoder: Encoder, generator: StyleGAN2, dataset: str) -> dict[str, Any]:
    """What the training code saves."""
    state = {f"encoder.{key}": value for key, value in encoder.state_dict().items() if not key.startswith("style.")}
    state |= {f"decoder.{key}": value for key, value in generator.state_dict().items()}
    options = {"encoder_type": TYPES.get(encoder.name, ""), "stylegan_size": 64, "dataset_type": dataset}
    return {"state_dict": state, "opts": options | {"start_from_latent_avg": True}, "latent_avg": torch.zeros(10, 16)}


def loaded(image: Image.Image, shape: tuple[int, int]) -> Tensor:
    """Return a picture as the published transforms do: resized, to [0, 1], then to [-1, 1]."""
    resized = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return (torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1).float().div(255) - 0.5).div(0.5)[None]


def tune(generator: StyleGAN2, latent: Tensor, target: Tensor) -> StyleGAN2:
    """Take the steps of PTI with its squared error alone: Adam on all weights, in float32."""
    tuned = copy.deepcopy(generator).requires_grad_(True)
    adam = torch.optim.Adam(tuned.parameters(), lr=RATE)
    top = (64 - target.shape[2]) // 2
    for _ in range(STEPS):
        adam.zero_grad()
        torch.nn.functional.mse_loss(tuned.synthesis(latent)[:, :, top : 64 - top], target).backward()
        adam.step()
    return tuned.requires_grad_(False)


def write_run(folder: Path, name: str, cars: bool, whole_squares: bool = False) -> dict[str, Any]:
    """Write a run as published code makes it, and return its arrays."""
    shape, size = ([192, 256], (100, 75)) if cars else ([256, 256], (80, 80))
    encoder, generator = networks(name, shape)
    if name == "style-transformer":
        encoder.style.load_state_dict(generator.style.state_dict())  # type: ignore[union-attr, operator]
    torch.save(published_file(encoder, generator, "cars_encode" if cars else "ffhq_encode"), folder / "file.pt")
    images = [Image.effect_noise(size, 90).convert("RGB"), Image.radial_gradient("L").resize(size).convert("RGB")]
    direction = np.random.default_rng(0).normal(size=(1, 16)).astype(np.float32)
    crop = slice(8, 56) if cars and not whole_squares else slice(0, 64)
    with torch.no_grad():
        latents = torch.cat([encoder(loaded(image, encoder.input_shape)) for image in images])
        pictures = generator.synthesis(latents)[:, :, crop]
    targets = [loaded(image, (48, 64) if cars else (64, 64)) for image in images]
    tuned = [tune(generator, latents[[i]], target) for i, target in enumerate(targets)]
    moved = latents + STRENGTH * torch.from_numpy(direction)
    edited = torch.cat([own.synthesis(moved[[i]])[:, :, crop] for i, own in enumerate(tuned)])
    arrays = {
        "names": np.array(NAMES),
        "inputs": np.stack([np.asarray(image) for image in images]),
        "latents": latents.numpy(),
        "pictures": pictures.numpy(),
        "edited": np.uint8(255 * ((edited + 1) / 2).clamp(0, 1)).transpose(0, 2, 3, 1),  # e4e's tensor2im truncates
        "direction": direction,
        "tuned": torch.cat([own.synthesis(latents[[i]])[:, :, crop] for i, own in enumerate(tuned)]).numpy(),
    }
    return arrays


def save(folder: Path, arrays: dict[str, Any], models: dict[str, str], **settings: Any) -> None:
    tuning = {"steps": STEPS, "lr": RATE, "lr_rampdown": 0.0, "betas": [0.9, 0.999], "min_resolution": 4}
    tuning |= {"l2_weight": 1.0, "perceptual_weight": 0.0, "batch_size": 1, "persist": "full"}
    chosen = {f"tune.{key}": value for key, value in tuning.items()} | {"models.perceptual": models["perceptual"]}
    told = {"checkpoint": "file.pt", "strength": STRENGTH, "set": chosen, "import": {"licence": "random weights"}}
    np.savez(folder / "run.npz", settings=json.dumps(told | settings), **arrays)


def result(text: str) -> dict[str, float]:
    last = text.strip().splitlines()[-1]
    assert last.startswith("RESULT ")
    found: dict[str, float] = json.loads(last.removeprefix("RESULT "))
    return found


@pytest.mark.parametrize(
    ("name", "cars", "whole_squares"),
    [
        ("psp", False, False),
        ("style-transformer", True, True),
        pytest.param("e4e", False, False, marks=pytest.mark.slow),
        pytest.param("e4e", True, False, marks=pytest.mark.slow),
    ],
)
def test_a_published_run_comes_out_the_same(
    name: str,
    cars: bool,
    whole_squares: bool,
    tmp_path: Path,
    tiny_models: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(tmp_path, write_run(tmp_path, name, cars, whole_squares), tiny_models)
    main([str(tmp_path)])
    found = result(capsys.readouterr().out)
    assert (found["rows"], found["names"], found["equal"]) == (2, 2, 1)
    assert found["latents"] < 1e-5
    assert found["pictures"] <= 0.51 and found["edited"] <= 1 and found["tuned"] <= 0.6


def test_an_encoder_into_w_is_run_with_another_generator_as_pti_does(
    tmp_path: Path, tiny_models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = write_run(tmp_path, "psp-w", False)
    del arrays["direction"], arrays["edited"], arrays["tuned"]
    torch.manual_seed(9)
    other = StyleGAN2(64, 16, 2, channels={4: 8, 8: 8, 16: 8, 32: 8, 64: 8})
    torch.save({"g_ema": other.state_dict(), "latent_avg": torch.ones(16)}, tmp_path / "other.pt")
    with torch.no_grad():
        pictures = other.synthesis(torch.from_numpy(arrays["latents"])).numpy()
    save(
        tmp_path,
        arrays | {"latents": arrays["latents"][:, 0], "pictures": pictures},
        tiny_models,
        generator="other.pt",
    )
    main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert "paired with checkpoint.safetensors" in printed and result(printed)["equal"] == 1


def test_what_differs_is_found(tmp_path: Path, tiny_models: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    arrays = write_run(tmp_path, "psp", False)
    del arrays["direction"], arrays["edited"], arrays["tuned"]
    for name, change in (
        ("latents", arrays["latents"] + 1e-3 * np.abs(arrays["latents"]).max()),
        ("pictures", arrays["pictures"].clip(-1, 1) * 0.9),
        ("names", np.array(["b/one.png", "other.txt"])),
    ):
        save(tmp_path, arrays | {name: change}, tiny_models)
        with pytest.raises(SystemExit) as stopped:
            main([str(tmp_path)])
        assert stopped.value.code == 1
        found = result(capsys.readouterr().out)
        assert found["equal"] == 0
        assert (found["latents"] > 9e-4, found["pictures"] > 5, found["names"] < 2) == (
            name == "latents",
            name == "pictures",
            name == "names",
        )


def test_a_folder_without_a_run_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no run\.npz: docs/checkpoints\.md says what it holds"):
        main([str(tmp_path)])
    np.savez(tmp_path / "run.npz", names=["a"])
    with pytest.raises(SystemExit, match="has no inputs, latents, pictures, settings"):
        main([str(tmp_path)])
