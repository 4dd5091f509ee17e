"""The measuring networks: shapes, ranges and independence of the batch."""

import pytest
import torch
from torch import nn

from gan_core.judges.networks import (
    NETWORKS,
    AttributeRegressor,
    IdentityEmbedder,
    LandmarkNet,
    PerceptualTrunk,
    resize,
    soft_argmax,
)


def build(network: type[nn.Module], *arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return network(*arguments).eval()


def test_all_are_registered_and_rebuilt_from_their_arguments() -> None:
    for network in (IdentityEmbedder(16), AttributeRegressor(["a", "b"], 8), PerceptualTrunk((8, 8)), LandmarkNet(8)):
        name = next(name for name, kind in NETWORKS if isinstance(network, kind))
        again = NETWORKS.get(name)(**network.arguments)
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in network.state_dict().items()
        }


@torch.no_grad()
def test_identity_gives_unit_vectors_for_any_size() -> None:
    network = build(IdentityEmbedder, 16, 20)
    embedding = network(torch.rand(3, 3, 80, 80) * 2 - 1)
    assert embedding.shape == (3, 20)
    assert torch.allclose(embedding.norm(dim=1), torch.ones(3))


@torch.no_grad()
def test_attributes_come_from_the_exposed_features() -> None:
    network = build(AttributeRegressor, ["a", "b", "c"], 8, 10)
    images = torch.rand(2, 3, 64, 64)
    assert network.features(images).shape == (2, 10)
    assert torch.equal(network.head(network.features(images).relu()), network(images))


@torch.no_grad()
def test_trunk_halves_the_resolution_after_every_slice() -> None:
    maps = build(PerceptualTrunk, (4, 5, 6))(torch.rand(2, 3, 32, 32))
    assert [tuple(m.shape) for m in maps] == [(2, 4, 32, 32), (2, 5, 16, 16), (2, 6, 8, 8)]
    assert min(m.min() for m in maps) >= 0


@torch.no_grad()
def test_landmarks_are_shares_of_the_frame() -> None:
    logit, points = build(LandmarkNet, 8)(torch.rand(2, 3, 64, 64))
    assert (logit.shape, points.shape) == ((2,), (2, 5, 2))
    assert points.min() >= 0 and points.max() <= 1


@pytest.mark.parametrize("network", [IdentityEmbedder, LandmarkNet])
@torch.no_grad()
def test_rows_do_not_depend_on_their_batch(network: type[nn.Module]) -> None:
    net, images = build(network), torch.rand(4, 3, 64, 64)
    together, alone = net(images), net(images[1:2])
    for whole, part in zip(*((x if isinstance(x, tuple) else (x,)) for x in (together, alone)), strict=True):
        assert torch.allclose(whole[1:2], part, atol=1e-5)


def test_soft_argmax_finds_a_peak_in_x_and_y() -> None:
    heat = torch.zeros(1, 1, 8, 8)
    heat[0, 0, 2, 5] = 50
    assert soft_argmax(heat)[0, 0].tolist() == pytest.approx([5.5 / 8, 2.5 / 8])


def test_resize_leaves_the_right_size_alone() -> None:
    images = torch.rand(1, 3, 64, 64)
    assert resize(images) is images
    assert resize(torch.ones(1, 3, 100, 50)).shape == (1, 3, 64, 64)
