"""Directions in StyleSpace: files of others, and the edits that they give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_core.editing.directions import Direction, load_directions
from gan_core.editing.stylespace import style_deviations, style_widths
from gan_core.edits.base import EditSetting
from gan_core.edits.direction import DirectionEdit
from gan_core.edits.style_direction import StyleDirectionEdit, StyleDirectionSpec
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.sngan import SNGAN
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_generator
from gan_core.params import EditParams, ModelPaths
from gan_core.published.directions import Source, import_direction

RGB = (1, 4, 7, 10, 13)


def imported(models: ModelPaths, folder: Path, file: str, **told: Any) -> Direction:
    target = folder / "mine.safetensors"
    import_direction(folder / file, target, models.generator, Source("", "s", name="old", **told))
    return load_directions(target).model["old"]


@pytest.fixture
def widths(models: ModelPaths) -> list[int]:
    return style_widths(load_generator(models.generator).model)


def test_flat_vectors_with_and_without_the_colour_layers(models: ModelPaths, tmp_path: Path, widths: list[int]) -> None:
    plain = [n for i, n in enumerate(widths) if i not in RGB]
    numbers = np.arange(1.0, sum(plain) + 1)
    np.save(tmp_path / "plain.npy", numbers[None])
    parts = imported(models, tmp_path, "plain.npy").vector.split(widths)
    assert [bool(part.any()) for part in parts] == [i not in RGB for i in range(len(widths))]
    assert np.array_equal(torch.cat([p for i, p in enumerate(parts) if i not in RGB]), numbers)
    torch.save([part.reshape(1, -1, 1, 1) for part in parts], tmp_path / "list.pt")
    assert torch.equal(imported(models, tmp_path, "list.pt").vector, torch.cat(parts))


@pytest.mark.parametrize("size", [64, 256])
def test_deviations_are_of_latents_truncated_in_the_first_eight_only(size: int) -> None:
    torch.manual_seed(0)
    generator = StyleGAN2(size, 16, n_mlp=2, channels={4 << i: 8 for i in range(size.bit_length() - 2)})
    generator.latent_avg.copy_(torch.randn(16))
    w = generator.mapping(torch.randn(20_000, 16))
    for (layer, index), ours in zip(generator.layers(), style_deviations(generator), strict=True):
        published = layer.conv.modulation(generator.truncate(w, 0.7) if index < 8 else w).std(0)
        torch.testing.assert_close(ours, published, rtol=0.1, atol=0)


def test_a_text_chooses_channels_by_their_relevance(models: ModelPaths, tmp_path: Path, widths: list[int]) -> None:
    relevance = np.zeros((widths[0] + 2, 3))
    relevance[3] = [0.0, 0.8, 0.6]
    relevance[5] = [0.9, -0.4, 0.0]
    relevance[widths[0] + 1] = [0.0, 0.1, 0.0]
    np.save(tmp_path / "fs3.npy", relevance)
    np.save(tmp_path / "text.npy", np.array([0.0, 5.0, 0.0]))
    text = str(tmp_path / "text.npy")
    direction = imported(models, tmp_path, "fs3.npy", text=text)
    spread = style_deviations(load_generator(models.generator).model)[0]
    assert direction.vector.nonzero().flatten().tolist() == [3, 5]
    torch.testing.assert_close(direction.vector[[3, 5]], spread[[3, 5]] * torch.tensor([1.0, -0.5]))
    third = imported(models, tmp_path, "fs3.npy", text=text, beta=0.05).vector.nonzero().flatten()[-1]
    assert third == widths[0] + widths[1] + 1, "styles of the first ToRGB come before those of the third layer"
    with pytest.raises(ParamsError, match=r"no channel is as relevant as 0.9: lower --beta"):
        imported(models, tmp_path, "fs3.npy", text=text, beta=0.9)
    np.save(tmp_path / "text.npy", np.ones(4))
    with pytest.raises(CheckpointError, match=r"text.npy has 4 numbers, .*fs3.npy has 3 per channel"):
        imported(models, tmp_path, "fs3.npy", text=text)


def test_what_does_not_fit_the_styles_is_refused(models: ModelPaths, tmp_path: Path, widths: list[int]) -> None:
    np.save(tmp_path / "ffhq.npy", np.ones(9088))
    with pytest.raises(CheckpointError, match=rf"9088 style channels, this generator {sum(widths)} \(.* without ToRGB"):
        imported(models, tmp_path, "ffhq.npy")
    with pytest.raises(ParamsError, match=r"a direction in StyleSpace moves all its channels"):
        imported(models, tmp_path, "ffhq.npy", absolute=True)
    torch.save({"S": torch.ones(3)}, tmp_path / "dict.pt")
    with pytest.raises(CheckpointError, match=r"neither a flat vector of styles nor a list"):
        imported(models, tmp_path, "dict.pt")


def test_an_edit_adds_the_vector_to_the_styles(models: ModelPaths) -> None:
    loaded = load_generator(models.generator)
    generator: Any = loaded.model
    spec = StyleDirectionSpec(direction="styles", strengths=[0.0, 2.0])
    kind = StyleDirectionEdit(spec, EditSetting(models, loaded))
    w_plus = torch.randn(2, 10, 16, generator=torch.Generator().manual_seed(0))
    still, moved = (kind.draw(generator, w_plus, [], picture) for picture in kind.plan(spec))
    torch.testing.assert_close(still, generator.synthesis(w_plus), rtol=1e-4, atol=1e-5)
    assert (moved - still).abs().max() > 0.1
    flat = torch.cat(generator.styles(w_plus), 1) + 2 * kind.direction.vector
    expected = generator.synthesis_from_styles(flat.split(style_widths(generator), 1))
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)


def test_kinds_refuse_directions_of_each_others_spaces(models: ModelPaths) -> None:
    setting = EditSetting(models, load_generator(models.generator))
    with pytest.raises(ParamsError, match=r"'smile' is in w, not in StyleSpace"):
        StyleDirectionEdit(StyleDirectionSpec(direction="smile", strengths=[1.0]), setting)
    with pytest.raises(ParamsError, match=r"'styles' is in StyleSpace: give it the kind style-direction"):
        DirectionEdit(EditParams(direction="styles", strengths=[1.0]), setting)
    with pytest.raises(ParamsError, match=r"sngan has no StyleSpace"):
        style_widths(SNGAN((8, 8), 1, 4))
