"""A canvas painted back to front, that keeps colour and label together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SEGMENTATION_LABELS: tuple[str, ...] = (
    "background", "skin", "hair", "left_eye", "right_eye", "brows", "nose",
    "mouth", "teeth", "glasses", "neck", "clothes", "ears",
)  # fmt: skip


class Canvas:
    """Colour ``[B, 3, H, W]`` in [0, 1] and label ids ``[B, H, W]`` uint8 (see ``SEGMENTATION_LABELS``)."""

    def __init__(self, colour: Tensor) -> None:
        self.colour = colour
        self.label = torch.zeros_like(colour[:, 0], dtype=torch.uint8)

    def paint(self, colour: Any, alpha: Tensor, label: str | None = None) -> None:
        """Lay ``colour`` (broadcast) over with opacity ``alpha`` ``[B, H, W]``, and the label where > 0.5."""
        self.colour = self.colour + (colour - self.colour) * alpha[:, None]
        if label is not None:
            self.label = self.label.masked_fill(alpha > 0.5, SEGMENTATION_LABELS.index(label))

    def darken(self, amount: Tensor) -> None:
        """Multiply the colour by 1 - ``amount`` ``[B, H, W]``, redder in the shade than grey."""
        tint = amount.new_tensor([0.85, 1.0, 1.05])[:, None, None]
        self.colour = self.colour * (1 - amount[:, None] * tint).clamp(0, 1)
