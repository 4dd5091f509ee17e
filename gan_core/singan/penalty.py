"""The penalty on a discriminator's gradient, and the penalty's gradient, written out layer by layer.

Automatic differentiation finds the same by differentiating twice, in a half longer time: it has no fast derivative for
the gradients of convolutions and of batch normalisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_core.singan.networks import SLOPE, ScaleDiscriminator

aten = torch.ops.aten


@torch.no_grad()
def slope_penalty(network: ScaleDiscriminator, images: Tensor, dtype: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean of ``(|gradient| - 1)^2`` at images ``[1, pictures * 3, H, W]``, and its gradient.

    The gradient that is penalised is that of the sum of all patches' values, with a length at each pixel of a picture,
    as in the published script. The penalty's gradient is by names of parameters: those that it depends on. Convolutions
    are in ``dtype``.
    """
    layers = [_Layer(part, dtype) for part in (network.head, *network.body)]
    x = images.to(dtype)
    for layer in layers:
        x = layer.forward(x)
    last = _Convolution(network.tail, dtype)
    top = torch.ones(last.shape(x), dtype=dtype).to(x)
    slope = last.to_input(top, x)
    for layer in reversed(layers):
        slope = layer.slope(slope)
    penalty, v = _penalty(slope, last.conv.groups)
    v = v.to(dtype)
    for layer in layers:
        v = layer.onward(v)
    gradients = {"tail.weight": last.to_weight(top, v)}
    below: Tensor | None = None
    for name, layer in zip(("body.block3", "body.block2", "body.block1", "head"), reversed(layers), strict=True):
        below, found = layer.back(below)
        gradients |= {f"{name}.{key}": value for key, value in found.items()}
    return penalty, gradients


def _penalty(slope: Tensor, pictures: int) -> tuple[Tensor, Tensor]:
    """Return the penalty on a slope ``[1, pictures * 3, H, W]``, and its gradient there."""
    of_pixels = slope.float().unflatten(1, (pictures, 3))
    length = torch.linalg.vector_norm(of_pixels, dim=2, keepdim=True)
    excess = length - 1
    gradient = 2 * excess / (length.clamp_min(1e-12) * excess.numel()) * of_pixels
    return excess.square().mean(), gradient.flatten(1, 2)


@dataclass
class _Convolution:
    """A convolution's three linear maps."""

    conv: nn.Conv2d
    dtype: torch.dtype

    def __post_init__(self) -> None:
        self.weight = self.conv.weight.to(self.dtype)

    def shape(self, x: Tensor) -> Sequence[int]:
        return len(x), len(self.weight), x.shape[2] - 2, x.shape[3] - 2

    def onward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        bias = None if bias is None else bias.to(self.dtype)
        return aten.convolution(x, self.weight, bias, *self._rest(False))

    def to_input(self, gradient: Tensor, like: Tensor) -> Tensor:
        return self._backward(gradient, like, (True, False, False))[0]

    def to_weight(self, gradient: Tensor, x: Tensor) -> Tensor:
        return self._backward(gradient, x, (False, True, False))[1].float()

    def _rest(self, backward: bool) -> tuple[object, ...]:
        return [1, 1], [0, 0], [1, 1], False, [0, 0], self.conv.groups

    def _backward(self, gradient: Tensor, x: Tensor, wanted: Sequence[bool]) -> Sequence[Tensor]:
        return aten.convolution_backward(gradient, x, self.weight, None, *self._rest(True), wanted)


class _Layer:
    """A convolution, normalisation and leaky ReLU, with what was seen on the way."""

    def __init__(self, block: nn.Sequential, dtype: torch.dtype) -> None:
        self.conv = _Convolution(block.conv, dtype)  # type: ignore[arg-type]
        self.norm: nn.BatchNorm2d = block.norm  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """Keep the input ``x``, what is normalised (``c``), and where the activation is steep."""
        norm = self.norm
        self.x, self.c = x, self.conv.onward(x, self.conv.conv.bias)
        n, self.mean, self.scale = aten.native_batch_norm(
            self.c, norm.weight, norm.bias, None, None, True, 0.0, norm.eps
        )
        self.n = n
        return torch.nn.functional.leaky_relu(n, SLOPE)

    def _through_norm(self, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalisation's gradient: to its input, and the sums of ``gradient * normalised`` and itself."""
        kept = self.mean, self.scale, True, self.norm.eps, (True, True, True)
        return aten.native_batch_norm_backward(gradient, self.c, self.norm.weight, None, None, *kept)

    def _through_relu(self, gradient: Tensor) -> Tensor:
        return aten.leaky_relu_backward(gradient, self.n, SLOPE, False)

    def slope(self, gradient: Tensor) -> Tensor:
        """Take the slope down through the layer, from what it puts out to what it takes in."""
        self.g = self._through_relu(gradient)
        self.gc, self.g_times, self.g_sum = self._through_norm(self.g)
        return self.conv.to_input(self.gc, self.x)

    def onward(self, v: Tensor) -> Tensor:
        """Take the penalty's gradient ``v`` from the slope below the layer to that above it."""
        self.weight_gradient = self.conv.to_weight(self.gc, v)
        self.u = self.conv.onward(v)
        up, self.u_times, self.u_sum = self._through_norm(self.u)
        return self._through_relu(up)

    def back(self, above: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the penalty's gradient down to the layer's input; return it there, and for the layer's parameters."""
        found, gradient = self._second_order()
        if above is not None:
            first, gain, shift = self._through_norm(self._through_relu(above))
            gradient = gradient + first
            found |= {"norm.weight": found["norm.weight"] + gain, "norm.bias": shift}
        x, weight, _ = self.conv._backward(gradient, self.x, (True, True, False))
        return x, found | {"conv.weight": self.weight_gradient + weight.float()}

    def _second_order(self) -> tuple[dict[str, Tensor], Tensor]:
        """Return what ``u`` makes of the normalisation's gradient: for its gain, and for what it normalises.

        With means over a channel: of g (c1), of g times the normalised (c2), of u (u1), of u times it (w), of u g (m).
        """
        count = self.c.numel() / self.c.shape[1]
        c1, c2, u1, w = (total / count for total in (self.g_sum, self.g_times, self.u_sum, self.u_times))
        m = (self.u * self.g).sum((0, 2, 3), dtype=torch.float32) / count
        gain, scale = self.norm.weight, self.scale
        common = -gain * scale.square()
        rest = m - u1 * c1 - 3 * w * c2
        coefficients = (common * c2, common * w, common * scale * rest)
        shift = -common * (scale * self.mean * rest + c2 * u1 + w * c1)
        of_u, of_g, of_c, of_one = (part.to(self.c.dtype).view(1, -1, 1, 1) for part in (*coefficients, shift))
        gradient = (self.u * of_u).addcmul_(self.g, of_g).addcmul_(self.c, of_c).add_(of_one)
        return {"norm.weight": count * scale * (m - u1 * c1 - w * c2)}, gradient
