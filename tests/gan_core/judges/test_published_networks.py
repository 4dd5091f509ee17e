"""Published measuring networks: their layouts, their numbers, and what metrics call them."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.align.quad import FaceSquare
from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.geometry import REFERENCE
from gan_core.judges.face_attributes import CelebaFive, FairFace, Hopenet
from gan_core.judges.faces import FaceEmbedder, face_crop, warp_faces
from gan_core.judges.inception import InceptionFid, clean_input, clean_resize, legacy_input
from gan_core.judges.networks import NETWORKS
from gan_core.judges.pictures import Pictures
from gan_core.judges.resnet import IMAGENET_MEAN, IMAGENET_STD, BasicBlock, Bottleneck, ResNet
from gan_core.metrics.base import METRICS, Setting
from gan_core.params import MeasureParams, ModelPaths
from gan_core.stages.measure import landmarks_in_crop
from tests.golden.fill import fill, fill_state, golden, keys, pattern, relative_error
from tests.torchvision_shim import declare_operators

LISTINGS = {
    "arcface-ir-se50": "arcface_ir_se50_112",
    "curricularface-ir101": "curricularface_ir101_112",
    "moco-resnet50": "moco_resnet50",
    "fairface": "attr_fairface_resnet34_18",
    "hopenet": "attr_hopenet_resnet50_66bins",
    "celeba-5": "attr_celeba5_talk_to_edit_resnet50",
}
MOCO = "module.encoder_q."


def clipped_noise(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(np.clip(0.5 * fill(f"input:{name}", shape, rule="raw"), -1, 1))


def smooth(name: str, cell: int) -> Tensor:
    coarse = torch.from_numpy(0.7 * fill(f"input:{name}", (2, 3, 256 // cell, 256 // cell), rule="raw"))
    return F.interpolate(coarse, scale_factor=cell, mode="bilinear", align_corners=False).clamp(-1, 1)


@cache
def filled(name: str, rule: str = "psp") -> nn.Module:
    """Return the network with weights that follow from its published names."""
    state = {key.removeprefix(MOCO): value for key, value in fill_state(keys(LISTINGS[name]), rule=rule).items()}
    network = NETWORKS.get(name)()
    missing, unexpected = network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("name", LISTINGS)
def test_the_names_and_shapes_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        network = NETWORKS.get(name)()
    published = {key.removeprefix(MOCO): shape for key, shape in keys(LISTINGS[name]).items()}
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == published


@pytest.mark.slow
def test_arcface_gives_the_published_embeddings() -> None:
    expected, _ = golden("arcface-ir-se50")
    network = filled("arcface-ir-se50")
    assert isinstance(network, FaceEmbedder)
    assert relative_error(network.embed(clipped_noise("x", 3, 3, 112, 112)), expected["embedding"]) < 1e-4
    coarse = clipped_noise("face256", 2, 3, 256, 256)[:, :, ::4, ::4]
    face = 2 * F.interpolate(coarse, scale_factor=4, mode="bilinear", align_corners=False)
    assert relative_error(network(face), expected["embedding_256"]) < 1e-4


@pytest.mark.slow
def test_the_identity_loss_of_psp_is_one_minus_our_cosine() -> None:
    expected, _ = golden("id-loss-geometry")
    network, y = filled("arcface-ir-se50"), smooth("y", 16)
    embedded = network(y), network(0.7 * y + 0.3 * smooth("y_hat", 8))
    assert relative_error(embedded[0], expected["embedding_y"]) < 1e-4
    assert relative_error(embedded[1], expected["embedding_y_hat"]) < 1e-4
    assert float((1 - (embedded[0] * embedded[1]).sum(1)).mean()) == pytest.approx(float(expected["loss"]), rel=1e-4)


def test_faces_are_cut_out_as_published() -> None:
    expected, _ = golden("id-loss-geometry")
    assert relative_error(face_crop(smooth("y", 16))[0, :, ::4, ::4], expected["pooled"]) < 1e-4


@pytest.mark.slow
def test_curricularface_gives_the_published_embeddings() -> None:
    expected, _ = golden("curricularface-ir101")
    network = filled("curricularface-ir101")
    assert isinstance(network, FaceEmbedder)
    assert relative_error(network.embed(clipped_noise("x", 2, 3, 112, 112)), expected["embedding"]) < 1e-4


@pytest.mark.slow
def test_moco_gives_the_published_features() -> None:
    expected, _ = golden("id-loss-geometry")
    features = filled("moco-resnet50", "he")(smooth("y", 16))
    assert relative_error(features[:, ::8], expected["moco_features_y"]) < 1e-4


@pytest.mark.slow
def test_attribute_regressors_give_the_published_outputs() -> None:
    expected, _ = golden("attribute-regressors")
    coarse = torch.from_numpy(fill("input:attr", (2, 3, 28, 28), rule="raw"))
    x = F.interpolate(coarse, scale_factor=8, mode="bilinear", align_corners=False)
    fairface, hopenet, celeba = (filled(name, "plain") for name in ("fairface", "hopenet", "celeba-5"))
    assert isinstance(fairface, FairFace) and isinstance(hopenet, Hopenet) and isinstance(celeba, CelebaFive)
    logits = torch.from_numpy(expected["fairface_logits"])
    assert relative_error(fairface.fc(fairface.pooled(x)), logits) < 1e-4
    groups = torch.linspace(-1, 1, 9)
    wanted = torch.stack([2 * logits[:, 7:9].softmax(1)[:, 1] - 1, logits[:, 9:].softmax(1) @ groups], 1)
    torch.testing.assert_close(fairface.values(fairface.pooled(x)), wanted, rtol=0, atol=1e-4)
    assert relative_error(hopenet.degrees(hopenet.pooled(x)), expected["hopenet_degrees"]) < 1e-4
    classes = torch.from_numpy(expected["celeba5_logits"]).softmax(2) @ torch.linspace(-1, 1, 6)
    torch.testing.assert_close(celeba.values(celeba.pooled(x)), classes, rtol=0, atol=1e-4)


def test_celeba_5_sees_values_from_minus_one_to_one_normalised_as_if_from_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, seen = CelebaFive(width=4).eval(), list[Tensor]()
    monkeypatch.setattr(network, "pooled", lambda x: seen.append(x) or torch.zeros(len(x), network.dim))
    images = 2 * torch.rand(2, 3, 224, 224) - 1
    network(images)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(seen[0], (images - mean) / std, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("block", "theirs"), [(BasicBlock, "resnet34"), (Bottleneck, "resnet50")])
def test_residual_networks_equal_torchvisions(block: type[BasicBlock], theirs: str) -> None:
    declare_operators()
    from torchvision.models.resnet import BasicBlock as TheirBasic
    from torchvision.models.resnet import Bottleneck as TheirBottleneck
    from torchvision.models.resnet import ResNet as TheirResNet

    torch.manual_seed(0)
    published = TheirResNet(TheirBasic if theirs == "resnet34" else TheirBottleneck, [1, 2, 1, 1]).eval()
    ours = ResNet(block, (1, 2, 1, 1)).eval()
    published.fc = nn.Identity()
    ours.load_state_dict(published.state_dict())
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours.pooled(images), published(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_inception_equals_torchvisions_with_the_pooling_of_fid(monkeypatch: pytest.MonkeyPatch) -> None:
    declare_operators()
    from torchvision.models import inception

    torch.manual_seed(0)
    published = inception.inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False).eval()
    published.fc, published.dropout = nn.Identity(), nn.Identity()
    real = F.avg_pool2d

    def pool(x: Tensor, *shape: int, **options: int) -> Tensor:
        return real(x, *shape, **(options | {"count_include_pad": False}))

    monkeypatch.setattr(inception.F, "avg_pool2d", pool)
    last = published.Mixed_7c
    calls = last._forward

    def forward(x: Tensor) -> list[Tensor]:
        with monkeypatch.context() as patch:
            patch.setattr(inception.F, "avg_pool2d", lambda y, **o: F.max_pool2d(y, 3, 1, 1))
            return calls(x)

    monkeypatch.setattr(last, "_forward", forward)
    ours = InceptionFid().eval()
    ours.load_state_dict(published.state_dict())
    images = torch.randn(1, 3, 299, 299)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), published(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [64, 299, 400])
def test_images_are_resized_as_published(side: int) -> None:
    expected, _ = golden("fid-preprocessing")
    pixels = pattern(side, side)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    name = f"{side}x{side}"
    assert relative_error(clean_resize(pixels)[::5, ::5], expected[f"clean_{name}"]) < 1e-4
    clean = clean_input(images)[0].permute(1, 2, 0)
    assert relative_error(clean[::10, ::10], expected[f"clean_input_{name}"]) < 1e-4
    assert relative_error(legacy_input(images)[0, :, ::10, ::10], expected[f"pytorch_fid_input_{name}"]) < 1e-4


def test_metrics_carry_the_name_of_what_measured(tmp_path: Path, tiny_models: dict[str, str]) -> None:
    paths = dict(tiny_models)
    for entry, name in (("identity", "arcface-ir-se50"), ("attributes", "fairface")):
        network = NETWORKS.get(name)(width=4)
        card = Card(kind="network", name=name, arguments=network.arguments, made_by="", licence="", source="")
        paths[entry] = str(tmp_path / f"{name}.safetensors")
        save_checkpoint(paths[entry], network.state_dict(), card)
    setting = Setting(MeasureParams(), ModelPaths(**paths), tuned=False)
    assert METRICS.get("identity")(setting).columns == ["identity/arcface-ir-se50/encoded"]
    assert METRICS.get("attributes")(setting).extractor.names == ["gender", "age"]
    assert METRICS.get("attributes")(setting)._column("age", "e") == "age/fairface/e"


def test_faces_are_laid_on_their_landmarks() -> None:
    points = REFERENCE * 1.9 + (25, 12)
    image = torch.full((1, 3, 256, 256), -1.0)
    for x, y in points.round().astype(int):
        image[..., y - 3 : y + 4, x - 3 : x + 4] = 1.0
    face = warp_faces(torch.cat([image, image]), [points.round(), None])
    assert face.shape == (2, 3, 112, 112) and torch.equal(face[1:], face_crop(image))
    light = face[0, 0].numpy() + 1
    for x, y in REFERENCE:
        window = light[int(y) - 4 : int(y) + 6, int(x) - 4 : int(x) + 6]
        rows, columns = np.indices(window.shape)
        assert abs((columns * window).sum() / window.sum() + int(x) - 4 - x) < 0.6
        assert abs((rows * window).sum() / window.sum() + int(y) - 4 - y) < 0.6


def test_landmarks_follow_the_crop() -> None:
    square = FaceSquare(np.array([90.0, 70.0]), np.array([30.0, 16.0]))
    row = {"quad": square.corners.tolist(), "landmarks": [square.centre.tolist(), square.corners[0].tolist()]}
    np.testing.assert_allclose(landmarks_in_crop(row, 64, 64), [[31.5, 31.5], [-0.5, -0.5]], atol=1e-9)
    np.testing.assert_allclose(landmarks_in_crop(row, 64, 48), [[31.5, 23.5], [-0.5, -0.5]], atol=1e-9)
    assert landmarks_in_crop({"quad": row["quad"], "landmarks": None}, 64, 64) is None


def test_curricularface_compares_faces_by_their_landmarks(tmp_path: Path, tiny_models: dict[str, str]) -> None:
    network = NETWORKS.get("curricularface-ir101")(width=4)
    name = "curricularface-ir101"
    card = Card(kind="network", name=name, arguments=network.arguments, made_by="", licence="", source="")
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, network.state_dict(), card)
    metric = METRICS.get("identity")(
        Setting(MeasureParams(), ModelPaths(**(tiny_models | {"identity": str(path)})), tuned=False)
    )
    images = {"aligned": torch.rand(1, 3, 64, 64) * 2 - 1, "encoded": torch.rand(1, 3, 64, 64) * 2 - 1}
    with_points = metric.score(Pictures(images, ["a"], points=[REFERENCE * 0.5]))
    without = metric.score(Pictures(images, ["a"]))
    assert list(with_points) == ["identity/curricularface-ir101/encoded"]
    assert with_points != without
