"""HyperStyle (Alaluf et al. 2022, "StyleGAN Inversion with HyperNetworks", section 3): weight offsets from pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.checkpoints.files import Loaded
from gan_core.encoders.backbone import Units
from gan_core.encoders.pyramid import Shape, check_shape
from gan_core.encoders.resnet import RESNET_34, resnet_body, resnet_stem
from gan_core.encoders.restyle import PAIR
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.layers import EqualLinear
from gan_core.geometry import framed_like
from gan_core.inversion.weights import draw_changed
from gan_core.loading import load_model
from gan_core.precision import autocast
from gan_core.registry import Arguments, Registry

LARGEST = 256
"""Longer side in pixels of what a hypernetwork sees: its blocks halve a sixteenth of that down to one pixel."""
Filters = Sequence[int]
"""Output channels, input channels and side of a layer's filters."""
Changes = dict[str, Tensor]
"""Weight differences ``[B, ...]`` by parameter name, one for each picture."""
FIRST_SPREAD, MOST = 40.0, 2.0
"""Shared weights begin with a normal deviate over 40, in [-2, 2], as published."""


class Convolution(nn.Conv2d):
    """A 3x3 convolution that takes a map of one pixel by the middle of its filters, which is the same.

    In bfloat16 oneDNN leaves the gradient of the other weights unset there, so that it holds whatever was in memory
    (torch 2.13, stride 2).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (1, 1):
            return super().forward(x)
        return F.conv2d(x, self.weight[..., 1:2, 1:2], self.bias)


def convolutions(widths: Sequence[int], strides: Sequence[int]) -> nn.Sequential:
    """Build 3x3 convolutions from each width to the next, each with a leaky ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in zip(widths[:-1], widths[1:], strides, strict=True):
        layers += [Convolution(inputs, outputs, 3, stride, 1), nn.LeakyReLU()]
    return nn.Sequential(*layers)


class SharedFilters(nn.Module):
    """From vectors ``[B, inner]`` to offsets ``[B, out, in, k, k]`` of equal layers: two linear maps for all."""

    def __init__(self, inner: int, filters: Filters) -> None:
        super().__init__()
        self.outputs, self.inputs, self.side = filters
        rest = self.inputs * self.side**2
        for name, shape in (("w1", (inner, rest)), ("b1", (rest,)), ("w2", (inner, self.outputs * inner))):
            self.register_parameter(name, _first(*shape))
        self.b2 = _first(self.outputs * inner)

    def forward(self, z: Tensor) -> Tensor:
        rows = (z @ self.get_parameter("w2") + self.b2).unflatten(1, (self.outputs, -1))
        flat = rows @ self.get_parameter("w1") + self.get_parameter("b1")
        return flat.unflatten(2, (self.inputs, self.side, self.side))


class SharedBlock(nn.Module):
    """A layer's own part before ``SharedFilters``."""

    def __init__(self, features: int) -> None:
        super().__init__()
        inner = features // 4
        self.convs = convolutions([features, inner, inner, inner, inner, features], [1, 2, 2, 2, 2])
        self.linear = EqualLinear(features, features)

    def forward(self, maps: Tensor) -> Tensor:
        return self.linear(self.convs(maps).flatten(1))


class PairBlock(nn.Module):
    """One offset ``[B, out, in, k, k]`` per pair of channels, repeated over a layer's filter."""

    def __init__(self, features: int, filters: Filters) -> None:
        super().__init__()
        self.outputs, self.inputs, self.side = filters
        half, rgb = features // 2, self.side == 1
        widths = [features, half, half, half, features] if rgb else [features, half, half, features]
        self.convs = convolutions(widths, [2] * (len(widths) - 1))
        pooled = [] if rgb else [nn.AdaptiveAvgPool2d(1)]
        self.output = nn.Sequential(*pooled, nn.Conv2d(features, self.outputs * self.inputs, 1))

    def forward(self, maps: Tensor) -> Tensor:
        pairs = self.output(self.convs(maps)).flatten(1).unflatten(1, (self.outputs, self.inputs, 1, 1))
        return pairs.expand(-1, -1, -1, self.side, self.side)


class SeparableFilters(nn.Module):
    """Offsets ``[B, out, in, k, k]`` as products of one vector per side, each then mixed by a linear map."""

    def __init__(self, features: int, filters: Filters) -> None:
        super().__init__()
        self.outputs, self.inputs, self.side = filters
        self.make_kernel_in = nn.Linear(features, self.side**2 * self.inputs)
        self.make_kernel_out = nn.Linear(features, self.side**2 * self.outputs)
        self.kernel_linear_in = nn.Linear(self.inputs, self.inputs)
        self.kernel_linear_out = nn.Linear(self.outputs, self.outputs)

    def forward(self, maps: Tensor) -> Tensor:
        vector, place = maps.flatten(1), (self.side, self.side)
        into = self.make_kernel_in(vector).unflatten(1, (*place, 1, self.inputs))
        out = self.make_kernel_out(vector).unflatten(1, (*place, self.outputs, 1))
        mixed = self.kernel_linear_out(self.kernel_linear_in(out @ into).transpose(3, 4))
        return mixed.permute(0, 4, 3, 1, 2)


class SeparableBlock(nn.Module):
    """A layer's convolutions before ``SeparableFilters``."""

    def __init__(self, features: int, filters: Filters) -> None:
        super().__init__()
        half = features // 2
        self.convs = convolutions([features, half, half, half, features], [2] * 4)
        self.output = nn.Sequential(SeparableFilters(features, filters))

    def forward(self, maps: Tensor) -> Tensor:
        return self.output(self.convs(maps))


HYPERNETWORKS: Registry[type["HyperStyle"]] = Registry("hypernetwork", "gan_core.inversion")


@HYPERNETWORKS.register("hyperstyle")
class HyperStyle(nn.Module):
    """A ResNet over a picture and what is drawn of it, and a block for each of ``layers``, with the published names.

    ``filters`` are those of all layers of the generator, in the order of ``StyleGAN2.layers``; ``layers`` are the
    indices of those that change. Layers of 3x3 filters with ``shared`` input and output channels (0: none) share one
    hypernetwork; the others have an offset for each pair of channels, or ``separable`` ones. A weight ``W`` becomes
    ``W (1 + offset)``, and offsets are summed over ``steps``. Published: units of ResNet-34, width 64, 512 shared.
    """

    name = "hyperstyle"

    def __init__(
        self,
        filters: Sequence[Filters],
        layers: Sequence[int],
        shared: int = 512,
        separable: bool = False,
        input_size: Shape = 256,
        units: Units | Sequence[int] = RESNET_34,
        width: int = 64,
        steps: int = 5,
    ) -> None:
        super().__init__()
        self.input_shape = check_shape(input_size)
        if max(self.input_shape) > LARGEST:
            raise ParamsError(f"input_size is {input_size}: a hypernetwork takes pictures up to {LARGEST} px")
        size = input_size if isinstance(input_size, int) else list(input_size)
        self.arguments: Arguments = {
            "filters": [list(each) for each in filters],
            "layers": list(layers),
            "shared": shared,
            "separable": separable,
            "input_size": size,
            "units": list(units),
            "width": width,
            "steps": steps,
        }
        self.filters, self.layers, self.steps = self.arguments["filters"], list(layers), steps
        first, second, third, fourth = units
        features = 8 * width
        self.conv1, self.bn1, self.relu = resnet_stem(PAIR, width)
        self.body = resnet_body((first, second, third, fourth), width)
        alike = [shared, shared, 3]
        if any(self.filters[i] == alike for i in layers):
            self.shared_weight_hypernet = SharedFilters(features, alike)
        block = SeparableBlock if separable else PairBlock
        self.refinement_blocks = nn.ModuleDict(
            {
                str(i): SharedBlock(features)
                if self.filters[i] == alike
                else (PairBlock if self.filters[i][2] == 1 else block)(features, self.filters[i])
                for i in layers
            }
        )

    @classmethod
    def for_generator(cls, generator: Generator, **network: Any) -> "HyperStyle":
        """Build one for all layers of ``generator`` from ``network["resolution"]`` on, those to RGB left out.

        Raises ``CheckpointError`` for a generator without modulated layers.
        """
        resolution = network.pop("resolution", 4)
        names = weight_names(generator)
        kept = set(generator.upper_parameters(resolution))
        filters = [list(generator.get_parameter(name).shape[1:4]) for name in names]
        layers = [i for i, name in enumerate(names) if name in kept and filters[i][2] == 3]
        return cls(filters, layers, **{"shared": 0, **network})

    def features(self, pairs: Tensor) -> Tensor:
        """Return the trunk's maps ``[B, 8 width, H / 16, W / 16]`` of ``pairs [B, 6, *input_shape]``."""
        return self.body(self.relu(self.bn1(self.conv1(pairs))))

    def forward(self, pairs: Tensor) -> dict[int, Tensor]:
        """Return offsets ``[B, out, in, k, k]`` by layer, for ``pairs [B, 6, *input_shape]`` in [-1, 1]."""
        maps = self.features(pairs)
        found = {int(i): block(maps) for i, block in self.refinement_blocks.items()}
        return {i: self.shared_weight_hypernet(x) if x.ndim == 2 else x for i, x in found.items()}

    def passes(
        self, generator: Generator, images: Tensor, w_plus: Tensor, fast: bool = False
    ) -> Iterator[tuple[Changes, Tensor]]:
        """Yield weight differences and pictures ``[B, 3, size, size]`` after each step; latents stay as they are.

        ``images [B, 3, *input_shape]`` are in [-1, 1], ``w_plus [B, n_latent, w_dim]`` what an encoder of W found of
        them. Gradients reach a step from its own offsets only; with ``fast`` the network runs in bfloat16. Raises
        ``CheckpointError`` for another generator.
        """
        names = self.check(generator)
        weights = {i: generator.get_parameter(names[i]).detach() for i in self.layers}
        drawn = generator.synthesis(w_plus)
        summed: dict[int, Tensor] = {}
        for _ in range(self.steps):
            pairs = torch.cat([images, framed_like(drawn.detach(), images)], 1)
            with autocast(fast):
                offsets = {i: offset.float() for i, offset in self(pairs).items()}
            summed = {i: offsets[i] + summed[i].detach() if i in summed else offsets[i] for i in self.layers}
            changes = {names[i]: weights[i] * summed[i][:, None] for i in self.layers}
            drawn = draw_changed(generator, changes, w_plus)
            yield changes, drawn

    def changed_names(self, generator: Generator) -> list[str]:
        """Return the names of the weights that ``passes`` changes, in its order."""
        names = weight_names(generator)
        return [names[i] for i in self.layers]

    def check(self, generator: Generator) -> list[str]:
        """Return the names of the generator's weights; raises ``CheckpointError`` if it has other layers."""
        names = weight_names(generator)
        theirs = [list(generator.get_parameter(name).shape[1:4]) for name in names]
        if theirs != self.filters:
            raise CheckpointError(
                f"the hypernetwork changes {len(self.filters)} layers, the first of {self.filters[0]}, but this "
                f"generator has {len(theirs)}, the first of {theirs[0]}: choose the one trained for this generator"
            )
        return names


def weight_names(generator: Generator) -> list[str]:
    """Return the names of the weights of all modulated layers, in the order of evaluation.

    Raises ``CheckpointError`` for a generator that has none.
    """
    layers = getattr(generator, "layers", None)
    if layers is None:
        raise CheckpointError(f"hypernetworks change the layers of a StyleGAN2, and {generator.family!r} has no such")
    names = {id(parameter): name for name, parameter in generator.named_parameters()}
    return [names[id(layer.conv.weight)] for layer, _ in layers()]


def _first(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.fmod(torch.randn(shape) / FIRST_SPREAD, MOST))


def load_hypernetwork(path: str | Path, generator: Loaded[Generator]) -> Loaded[HyperStyle]:
    """Build the hypernetwork of a checkpoint; raises ``CheckpointError`` if it was made for another generator."""
    found: Loaded[HyperStyle] = load_model(path, "hypernetwork", HYPERNETWORKS, None)
    found.model.check(generator.model)
    found.check_made_for(
        generator,
        "train it again (`python -m tasks.train train-hypernetwork`), or name the one made for this generator",
    )
    return found
