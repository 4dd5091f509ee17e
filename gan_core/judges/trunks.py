"""The image networks under LPIPS, cut into slices and named as the ``lpips`` package names them."""

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import Card, Loaded
from gan_core.checkpoints.stored import StoredTensor, load_tensors, state_of
from gan_core.errors import CheckpointError
from gan_core.registry import Registry

Layers = list[nn.Module]
CONVOLUTION = re.compile(r"^(?:features|(?:net\.)?slice\d+)\.(\d+\..+)$")
IMPORTED = "lpips-"
LINEAR = re.compile(r"^lin(\d+)\.model\.1\.weight$")
LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet, which is for non-commercial research"
TRUNKS: Registry[Callable[[], "SlicedTrunk"]] = Registry("perceptual trunk")


class SlicedTrunk(nn.Module):
    """Layers in torchvision's order, ``features[i]`` lying in the slice that ends after it.

    ``ends`` are past-the-end indices; the output after each is one map. State-dict keys are ``slice{k}.{i}...``.
    """

    def __init__(self, layers: Layers, ends: tuple[int, ...]) -> None:
        super().__init__()
        for k, (start, end) in enumerate(zip((0, *ends[:-1]), ends, strict=True), 1):
            members = {str(i): layers[i] for i in range(start, end)}
            self.add_module(f"slice{k}", nn.Sequential())
            for name, layer in members.items():
                self.get_submodule(f"slice{k}").add_module(name, layer)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images ``[B, 3, H, W]``, normalised as LPIPS does -> one map per slice."""
        maps = []
        for part in self.children():
            images = part(images)
            maps.append(images)
        return maps


class Fire(nn.Module):
    """SqueezeNet's block: a 1 x 1 bottleneck, then 1 x 1 and 3 x 3 side by side (Iandola et al. 2016)."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


@TRUNKS.register("alex")
def alexnet() -> SlicedTrunk:
    """AlexNet's convolutions, as in torchvision."""
    convolutions = [
        (3, 64, 11, 4, 2),
        (64, 192, 5, 1, 2),
        (192, 384, 3, 1, 1),
        (384, 256, 3, 1, 1),
        (256, 256, 3, 1, 1),
    ]
    layers: Layers = []
    for i, shape in enumerate(convolutions):
        layers += [nn.MaxPool2d(3, 2)] if i in (1, 2) else []
        layers += [nn.Conv2d(*shape), nn.ReLU()]
    return SlicedTrunk(layers, (2, 5, 8, 10, 12))


@TRUNKS.register("vgg")
def vgg16() -> SlicedTrunk:
    """VGG-16's convolutions, as in torchvision."""
    layers: Layers = []
    before = 3
    for block, (channels, repeats) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        layers += [nn.MaxPool2d(2)] if block else []
        for _ in range(repeats):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
    return SlicedTrunk(layers, (4, 9, 16, 23, 30))


@TRUNKS.register("squeeze")
def squeezenet() -> SlicedTrunk:
    """SqueezeNet 1.1, as in torchvision."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool()]
    layers += [Fire(128, 32, 128), Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192)]
    layers += [Fire(384, 64, 256), Fire(512, 64, 256)]
    return SlicedTrunk(layers, (2, 5, 8, 10, 11, 12, 13))


def load_trunk(path: str | Path) -> Loaded[SlicedTrunk]:
    """Read a trunk's weights: torchvision's classifier, a whole ``lpips`` state dict, or an imported file.

    The card's name is ``lpips-<trunk>``. Raises ``CheckpointError`` if the file is missing, unsafe to open, or holds
    none of the registered trunks, and as ``check_linear`` does.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"no perceptual trunk at {path}: name the file in models.perceptual")
    contents = open_checkpoint(path)
    state = state_of(contents.value)
    found = find_trunk(state or {})
    if state is None or found is None:
        raise CheckpointError(
            f"{path} holds none of the trunks {', '.join(TRUNKS.names())}: name the weights of one of them"
        )
    name, theirs = found
    check_linear(state, name, path)
    trunk = TRUNKS.get(name)()
    trunk.load_state_dict(load_tensors({key: state[other] for key, other in theirs.items()}))
    card = contents.card or Card(
        kind="network", name=IMPORTED + name, made_by="PyTorch", licence=LICENCE, source=contents.path.name
    )
    return Loaded(trunk.eval().requires_grad_(False), contents.sha256, card, str(path))


def find_trunk(state: Mapping[str, StoredTensor]) -> tuple[str, dict[str, str]] | None:
    """Which trunk a state dict holds, and for each of our keys the one that it has there."""
    theirs = {match[1]: key for key in state if (match := CONVOLUTION.match(key))}
    for name, build in TRUNKS:
        ours = {key: re.sub(r"^slice\d+\.", "", key) for key in build().state_dict()}
        if set(ours.values()) != set(theirs):
            continue
        if all(tensor.shape == state[theirs[ours[key]]].shape for key, tensor in build().state_dict().items()):
            return name, {key: theirs[short] for key, short in ours.items()}
    return None


def linear_weights(trunk: str) -> list[Tensor]:
    """The published channel weights ``[C]`` for each map of ``trunk``, from the installed ``lpips`` package.

    Raises ``CheckpointError`` without that package, and for one that lacks them.
    """
    package = find_spec("lpips")
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise CheckpointError(f"the linear weights for {trunk} come with the lpips package: run `pip install lpips`")
    path = Path(next(iter(folders))) / "weights" / "v0.1" / f"{trunk}.pth"
    if not path.is_file():
        raise CheckpointError(f"no linear weights for {trunk} at {path}: install lpips 0.1.4 again")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{k}.model.1.weight"].flatten() for k in range(len(state))]


def check_linear(state: Mapping[str, StoredTensor], trunk: str, where: str | Path) -> None:
    """Raise ``CheckpointError`` for a whole ``lpips`` state dict whose linear weights aren't the published ones."""
    own = {match[0]: int(match[1]) for match in map(LINEAR.match, state) if match}
    published = linear_weights(trunk) if own else []
    for key, tensor in load_tensors({key: state[key] for key in own}).items():
        if own[key] >= len(published) or not torch.allclose(tensor.flatten().float(), published[own[key]]):
            raise CheckpointError(
                f"{where} has linear weights ({key}) that aren't those of the lpips package: distances are taken "
                "by the published ones, so that a network that was trained further can't be used"
            )
