"""Whole files of each layout with one tensor that is missing, misshapen or none: one line says so, and nothing else."""

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.hostile_files import state
from gan_core.errors import CheckpointError
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint
from tests.gan_core.published import test_alae, test_hfgi, test_hyperstyle, test_idinvert
from tests.gan_core.published.test_encoder_checkpoints import wrapper
from tests.golden.families import filled

WRITERS: dict[str, Callable[[Path], Any]] = {
    "alae": lambda folder: test_alae.write(folder / "file"),
    "hfgi": lambda folder: test_hfgi.write(folder / "file"),
    "hyperstyle": lambda folder: test_hyperstyle.write(folder / "file"),
    "idinvert-generator": lambda folder: (
        test_idinvert.small_files(folder),
        (folder / "generator.pth").rename(folder / "file"),
    ),
    "idinvert-encoder": lambda folder: (
        test_idinvert.small_files(folder),
        (folder / "encoder.pth").rename(folder / "file"),
    ),
    "psp": lambda folder: torch.save(wrapper("psp"), folder / "file"),
    "psp-w": lambda folder: torch.save(wrapper("psp-w"), folder / "file"),
    "style-transformer": lambda folder: torch.save(wrapper("style-transformer"), folder / "file"),
    "rosinality": lambda folder: torch.save({"g_ema": state(), "latent_avg": torch.zeros(4)}, folder / "file"),
    "sngan": lambda folder: torch.save(filled("sngan_mnist"), folder / "file"),
}
SPOILT: dict[str, Callable[[Tensor], Any]] = {
    "missing": lambda tensor: ...,
    "number": lambda tensor: torch.tensor(1.0),
    "empty": lambda tensor: torch.zeros(0),
    "flat": lambda tensor: tensor.flatten(),
    "no rows": lambda tensor: tensor[:0] if tensor.dim() else tensor,
    "no columns": lambda tensor: tensor[:, :0] if tensor.dim() > 1 else tensor,
    "integers": lambda tensor: tensor.long(),
    "flags": lambda tensor: tensor.bool(),
    "text": lambda tensor: "weights",
    "nothing": lambda tensor: None,
}
TRIALS = 4
"""Files of each layout, other tensors and other damages each; eight times as many in the slow tests."""


def places(content: Mapping[Any, Any], inside: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where the tensors of a file are."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from places(value, (*inside, key))
        elif isinstance(value, Tensor):
            yield (*inside, key)


def spoil(content: Any, place: tuple[Any, ...], damage: Callable[[Tensor], Any]) -> Any:
    """Return the content with the tensor at a place damaged."""
    if not place:
        return damage(content)
    key, *rest = place
    changed = spoil(content[key], tuple(rest), damage)
    return {name: value for name, value in (content | {key: changed}).items() if value is not ...}


@pytest.mark.parametrize("trials", [TRIALS, pytest.param(8 * TRIALS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", WRITERS)
def test_a_file_with_one_bad_tensor_is_imported_or_refused_in_one_line(
    layout: str, trials: int, tmp_path: Path
) -> None:
    WRITERS[layout](tmp_path)
    content = torch.load(tmp_path / "file", weights_only=False)
    assert inspect_checkpoint(tmp_path / "file")["import"] == "yes"
    chosen, refused = random.Random(0), 0
    for trial in range(trials):
        place, damage = chosen.choice(list(places(content))), chosen.choice(list(SPOILT))
        path = tmp_path / f"{trial}"
        torch.save(spoil(content, place, SPOILT[damage]), path)
        try:
            verdict = inspect_checkpoint(path)["import"]
        except CheckpointError:
            verdict = "refused"
        try:
            import_checkpoint(path, tmp_path / f"{trial}.safetensors")
        except CheckpointError as error:
            assert "\n" not in str(error)
            assert verdict != "yes", f"{damage} at {place}: {error}"
            refused += 1
        else:
            assert verdict == "yes", f"{damage} at {place}: {verdict}"
    assert refused


@pytest.mark.parametrize(
    ("layout", "inside", "style"),
    [
        ("alae", ("models", "discriminator_s"), "style_1.weight"),  # the moving average, which is what is read
        ("idinvert-generator", (), "style_mod.dense.fc.weight"),
    ],
)
def test_weights_of_another_type_are_refused(layout: str, inside: tuple[str, ...], style: str, tmp_path: Path) -> None:
    WRITERS[layout](tmp_path)
    content = torch.load(tmp_path / "file", weights_only=False)
    place = next(p for p in places(content) if p[:-1] == inside and str(p[-1]).endswith(style))
    torch.save(spoil(content, place, SPOILT["flags"]), tmp_path / "flags")
    with pytest.raises(CheckpointError, match="is of the type bool, not of weights"):
        import_checkpoint(tmp_path / "flags", tmp_path / "x.safetensors")


def test_a_picture_of_absurd_size_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    content = state()
    for block in range(1, 15):
        content |= {f"to_rgbs.{block}.bias": torch.zeros(1, 3, 1, 1)}
        content |= {f"convs.{2 * block + i}.conv.weight": torch.zeros(1, 1, 1, 1, 1) for i in (0, 1)}
    torch.save({"g_ema": content}, tmp_path / "huge.pt")
    for call in (inspect_checkpoint, lambda path: import_checkpoint(path, tmp_path / "x.safetensors")):
        with pytest.raises(CheckpointError, match="speaks of pictures of 131072 px, at most 4096 are read"):
            call(tmp_path / "huge.pt")
