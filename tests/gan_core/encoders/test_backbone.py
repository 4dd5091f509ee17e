"""Units of the backbone learn in each layout of memory."""

import pytest
import torch

from gan_core.encoders.backbone import ShortcutConv


@pytest.mark.parametrize("inputs", [3, 8, 12, 16])
def test_narrow_shortcuts_learn_in_channels_last_as_else(inputs: int) -> None:
    stream = torch.Generator().manual_seed(0)
    images, weight = torch.randn(2, inputs, 64, 64, generator=stream), torch.randn(16, inputs, 1, 1, generator=stream)
    slopes = []
    for layout in (torch.contiguous_format, torch.channels_last):
        conv = ShortcutConv(inputs, 16, 2)
        conv.load_state_dict({"weight": weight})
        conv.to(memory_format=layout)  # type: ignore[call-overload]
        seen = images.clone(memory_format=layout)
        with torch.no_grad():
            drawn = conv(seen)
        learnt = conv(seen)
        assert torch.allclose(drawn, learnt, atol=1e-5)
        learnt.square().sum().backward()
        assert conv.weight.grad is not None
        slopes.append(conv.weight.grad.contiguous())
    assert torch.allclose(slopes[0], slopes[1], rtol=1e-4)
