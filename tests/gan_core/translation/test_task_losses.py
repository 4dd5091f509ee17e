"""The table of tasks against the published totals, with the published networks filled from their keys."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.errors import ParamsError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.judges.networks import NETWORKS
from gan_core.judges.perceptual import load_perceptual
from gan_core.toy.training.encoder_losses import Inverted, weigh
from gan_core.toy.training.reconstruction import Batch, LossNetworks
from gan_core.translation.tasks import FRONTALISATION, INVERSION, TASKS, WITH_IDENTITY, WITHOUT_IDENTITY, Term
from tests.golden.fill import fill, fill_state, golden, keys, relative_error

CASES = {
    "inversion": INVERSION,
    "frontalisation": FRONTALISATION,
    "sketch_or_segmentation": WITHOUT_IDENTITY,
    "super_resolution": WITH_IDENTITY,
}


def picture(name: str, factor: int) -> Tensor:
    noise = 0.7 * torch.from_numpy(fill(f"input:{name}", (2, 3, 256 // factor, 256 // factor), rule="raw"))
    return interpolate(noise, scale_factor=float(factor), mode="bilinear", align_corners=False)


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> Inverted:
    arcface = NETWORKS.get("arcface-ir-se50")().eval().requires_grad_(False)
    filled = fill_state(keys("arcface_ir_se50_112"), rule="psp")
    arcface.load_state_dict({key: torch.from_numpy(value) for key, value in filled.items()}, strict=False)
    trunk = tmp_path_factory.mktemp("trunk") / "alex.pt"
    alex = fill_state(keys("lpips_alex"), rule="he")
    torch.save({key: torch.from_numpy(value) for key, value in alex.items() if key.startswith("net.")}, trunk)
    small = StyleGAN2(16, 8, n_mlp=1, channels={4: 8, 8: 8, 16: 8})
    y = picture("y", 16).clamp(-1, 1)
    drawn = (0.7 * y + 0.3 * picture("y_hat", 8).clamp(-1, 1)).requires_grad_()
    encoder = GradualStyleEncoder(18, 512, 32, (1, 1, 1, 1), 8, head_width=8)
    encoder.latent_avg.copy_(0.5 * torch.from_numpy(fill("input:latent_avg", (18, 512), rule="raw")))
    codes = torch.from_numpy(fill("input:latent", (2, 18, 512), rule="raw"))
    return Inverted(
        Batch(y, torch.zeros(0, 512)),
        codes,
        drawn,
        encoder,
        LossNetworks(small, load_perceptual(trunk).model, arcface, 1.0),
        17,
    )


@pytest.mark.parametrize("case", CASES)
def test_totals_and_parts_are_the_published_ones(case: str, inverted: Inverted) -> None:
    expected, meta = golden("psp-losses")
    theirs = {"lpips": "perceptual", "id": "identity", "lpips_crop": "perceptual_crop"}
    published = {theirs.get(name, name): weight for name, weight in meta["lambdas"][case].items() if weight}
    assert CASES[case] == published
    total, parts = weigh(inverted, CASES[case])
    assert relative_error(total.detach(), expected[f"{case}__total"]) < 1e-4
    ours = {name: name for name in CASES[case]} | {value: key for key, value in theirs.items()}
    for name, value in parts.items():
        assert relative_error(value, expected[f"{case}__loss_{ours[name]}"]) < 1e-4, name  # type: ignore[index]


@pytest.mark.slow
def test_where_there_are_no_faces_features_of_moco_are_compared(inverted: Inverted) -> None:
    expected, meta = golden("psp-losses")
    moco = NETWORKS.get("moco-resnet50")().eval().requires_grad_(False)
    state = fill_state(keys("moco_resnet50"), rule="he")
    moco.load_state_dict({k.removeprefix("module.encoder_q."): torch.from_numpy(v) for k, v in state.items()}, False)
    weights = meta["lambdas"]["non_face_moco"]
    table: dict[Term, float] = {"l2": weights["l2"], "perceptual": weights["lpips"], "identity": weights["moco"]}
    total, parts = weigh(replace(inverted, networks=replace(inverted.networks, identity=moco)), table)
    assert relative_error(total.detach(), expected["non_face_moco__total"]) < 1e-4
    assert parts["identity"] == pytest.approx(float(expected["non_face_moco__loss_moco"]), abs=2e-6)


def in_double(x: Inverted) -> Inverted:
    """Take everything to float64: rounding in float32 decides which side of a kink some units are on."""
    encoder, perceptual, embedder = copy.deepcopy((x.encoder, x.networks.perceptual, x.networks.identity))
    networks = replace(x.networks, perceptual=perceptual.double(), identity=embedder.double())  # type: ignore[union-attr]
    batch = replace(x.batch, images=x.batch.images.double())
    drawn = x.drawn.detach().double().requires_grad_()
    return replace(x, batch=batch, codes=x.codes.double(), drawn=drawn, encoder=encoder.double(), networks=networks)


def test_the_gradient_of_inversion_is_the_published_one(inverted: Inverted) -> None:
    expected, _ = golden("psp-inversion-loss-gradient")
    doubled = in_double(inverted)
    total, _ = weigh(doubled, INVERSION)
    (gradient,) = torch.autograd.grad(total, doubled.drawn)
    assert relative_error(gradient[:, :, ::8, ::8], expected["gradient"]) < 2e-3
    assert relative_error(gradient.flatten(1).norm(dim=1), expected["norms"]) < 2e-3


def test_the_crop_of_small_pictures_is_that_of_large_ones() -> None:
    from gan_core.toy.training.encoder_losses import face

    assert face(torch.zeros(1, 3, 256, 256)).shape == (1, 3, 188, 188)
    assert face(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 47, 47)


def test_an_unknown_task_is_refused_with_near_ones() -> None:
    assert TASKS.get("sketch") is TASKS.get("sketch")
    with pytest.raises(ParamsError, match="unknown translation task 'skech'; did you mean 'sketch'"):
        TASKS.get("skech")
