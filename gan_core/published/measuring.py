"""Published weights of measuring networks, recognised by a few of their keys and stored under their published names."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from gan_core.checkpoints.stored import StateDict, StoredTensor, load_tensors, outlines, state_of
from gan_core.judges.networks import NETWORKS
from gan_core.judges.trunks import IMPORTED, LICENCE, check_linear, find_trunk
from gan_core.loading import load_state
from gan_core.published.layouts import LAYOUTS, Layout, Part

MOCO = "encoder_q."
RESEARCH = "code MIT; trained on data for research only, so not for commercial use"


@dataclass(frozen=True)
class Network:
    """How to recognise and read the published file of a network; ``marks`` maps some of its keys to their shapes.

    Keys that begin with ``prefix`` are kept without it, except those that begin with ``dropped``.
    """

    marks: dict[str, tuple[int, ...]]
    licence: str
    prefix: str = ""
    dropped: str | None = None


PUBLISHED: dict[str, Network] = {
    "arcface-ir-se50": Network(
        {"output_layer.3.weight": (512, 25088), "body.23.res_layer.5.fc1.weight": (32, 512, 1, 1)}, RESEARCH
    ),
    "curricularface-ir101": Network(
        {"output_layer.3.weight": (512, 25088), "body.48.res_layer.1.weight": (512, 512, 3, 3)}, RESEARCH
    ),
    "moco-resnet50": Network(
        {f"{MOCO}conv1.weight": (64, 3, 7, 7), f"{MOCO}layer4.2.conv3.weight": (2048, 512, 1, 1)},
        "CC BY-NC 4.0 (Meta), non-commercial",
        MOCO,
        f"{MOCO}fc",
    ),
    "inception-fid": Network(
        {"fc.weight": (1008, 2048), "Mixed_7c.branch1x1.conv.weight": (320, 2048, 1, 1)},
        "Apache-2.0 (pytorch-fid's port of Google's network)",
        dropped="fc.",
    ),
    "fairface": Network({"fc.weight": (18, 512), "layer4.2.conv2.weight": (512, 512, 3, 3)}, "CC BY 4.0 (FairFace)"),
    "hopenet": Network({"fc_yaw.weight": (66, 2048)}, "code Apache-2.0; trained on 300W-LP, whose terms are its own"),
    "celeba-5": Network(
        {"classifier32Smiling.1.weight": (6, 256)}, "trained on CelebA, which is for non-commercial research only"
    ),
}


@LAYOUTS.register("measuring-network")
class MeasuringNetwork(Layout):
    """A bare state dict (or one under ``state_dict``) of one of the networks that metrics use."""

    name: ClassVar[str] = "measuring-network"

    def terms(self, value: object) -> str:
        return PUBLISHED[known_network(state_of(value)) or ""].licence

    def recognises(self, value: object) -> bool:
        return known_network(state_of(value)) is not None

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        return {"family": known_network(state_of(value)), "variant": "measuring network"}

    def check(self, value: object, where: str | Path) -> None:
        state = state_of(value) or {}
        with torch.device("meta"):
            _network(state, outlines(state), where)

    def convert(self, value: object, where: str | Path) -> list[Part]:
        state = state_of(value) or {}
        name, network = _network(state, load_tensors(state), where)
        return [network_part(name, dict(network.state_dict()))]


@LAYOUTS.register("perceptual-trunk")
class PerceptualTrunk(Layout):
    """AlexNet, VGG-16 or SqueezeNet 1.1 for LPIPS: torchvision's classifier, or a whole ``lpips`` state dict."""

    name: ClassVar[str] = "perceptual-trunk"
    licence: ClassVar[str] = LICENCE

    def recognises(self, value: object) -> bool:
        state = state_of(value)
        return state is not None and find_trunk(state) is not None

    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        found = find_trunk(state_of(value) or {})
        return {"family": IMPORTED + (found[0] if found else ""), "variant": "trunk of a perceptual distance"}

    def convert(self, value: object, where: str | Path) -> list[Part]:
        state = state_of(value) or {}
        name, theirs = find_trunk(state) or ("", {})
        check_linear(state, name, where)
        return [network_part(IMPORTED + name, load_tensors({key: state[other] for key, other in theirs.items()}))]


def _network(state: dict[str, StoredTensor], tensors: StateDict, where: str | Path) -> tuple[str, nn.Module]:
    name = known_network(state) or ""
    network = NETWORKS.get(name)()
    load_state(network, old_counters(network.state_dict(), renamed(tensors, PUBLISHED[name])), where)
    return name, network


def network_part(name: str, tensors: StateDict) -> Part:
    """Return the part of a measuring network of the published size."""
    return Part(name, tensors, {"kind": "network", "name": name})


def known_network(state: dict[str, StoredTensor] | None) -> str | None:
    """Return which network a state dict of tensors ``[...]`` belongs to, or None if no network's marks fit."""
    for name, network in PUBLISHED.items():
        if state and all(key in state and state[key].shape == shape for key, shape in network.marks.items()):
            return name
    return None


def renamed(state: StateDict, network: Network) -> StateDict:
    """Return the tensors of a published state dict that are used, under our names."""
    wanted = {key: value for key, value in state.items() if key.startswith(network.prefix)}
    dropped = [key for key in wanted if network.dropped is not None and key.startswith(network.dropped)]
    return {key.removeprefix(network.prefix): value for key, value in wanted.items() if key not in dropped}


def old_counters(expected: StateDict, state: StateDict) -> StateDict:
    """Add the batch counters of batch norms: files of 2017 and before lack them, and inference doesn't need them."""
    missing = [key for key in expected if key.endswith("num_batches_tracked") and key not in state]
    return state | {key: torch.zeros((), dtype=torch.int64) for key in missing}
