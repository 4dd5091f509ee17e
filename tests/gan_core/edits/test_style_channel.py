"""Edits of one StyleSpace channel."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from gan_core.edits.base import EditSetting
from gan_core.edits.style_channel import StyleChannelEdit, StyleChannelSpec
from gan_core.errors import ParamsError
from gan_core.generators.sngan import SNGAN
from gan_core.loading import load_generator
from gan_core.params import ModelPaths


def test_one_channel_moves_by_deviations_and_nothing_else(models: ModelPaths) -> None:
    loaded = load_generator(models.generator)
    generator: Any = loaded.model
    spec = StyleChannelSpec(layer=6, channel=3, strengths=[0.0, 4.0])
    kind = StyleChannelEdit(spec, EditSetting(models, loaded))
    w_plus = torch.randn(3, 10, 16, generator=torch.Generator().manual_seed(0))
    still, moved = (kind.draw(generator, w_plus, [], picture) for picture in kind.plan(spec))
    torch.testing.assert_close(still, generator.synthesis(w_plus), rtol=1e-4, atol=1e-5)
    styles = generator.styles(w_plus)
    styles[6][:, 3] += 4.0 * kind.deviation
    torch.testing.assert_close(moved, generator.synthesis_from_styles(styles), rtol=1e-4, atol=1e-5)
    assert not torch.equal(moved, still)
    z = torch.randn(3000, 16, generator=torch.Generator().manual_seed(1))
    expected = generator.styles(generator.broadcast(generator.truncate(generator.mapping(z), 0.7)))[6][:, 3].std()
    assert kind.deviation == pytest.approx(expected.item(), rel=0.1)
    assert [picture.column for picture in kind.plan(spec)] == ["style-6-3@+0", "style-6-3@+4"]


def test_only_edits_whose_unit_has_changed_are_drawn_again(models: ModelPaths) -> None:
    setting = EditSetting(models, load_generator(models.generator))
    described = []
    for layer in (10, 11, 12, 13):  # they read the latents 7, 7, 8 and 9
        spec = StyleChannelSpec(layer=layer, channel=0, strengths=[1.0])
        kind = StyleChannelEdit(spec, setting)
        described.append(kind.describe(kind.plan(spec)[0]))
    assert described[0] == {"layer": 10, "channel": 0, "strength": 1.0, "samples": 2000}
    assert ["truncated" in about for about in described] == [False, False, True, True]


def test_channels_that_are_not_there_are_refused(models: ModelPaths) -> None:
    setting = EditSetting(models, load_generator(models.generator))
    with pytest.raises(ParamsError, match=r"no style layer 14: this generator has 14"):
        StyleChannelEdit(StyleChannelSpec(layer=14, channel=0, strengths=[1.0]), setting)
    with pytest.raises(ParamsError, match=r"no channel 16 in style layer 0: it has 16"):
        StyleChannelEdit(StyleChannelSpec(layer=0, channel=16, strengths=[1.0]), setting)
    other = replace(setting, generator=setting.generator.with_model(SNGAN((8, 8), 1, 4)))
    with pytest.raises(ParamsError, match=r"sngan has no StyleSpace"):
        StyleChannelEdit(StyleChannelSpec(layer=0, channel=0, strengths=[1.0]), other)
