"""Files and factorisations of other people's directions, against the numbers of their own programs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.checkpoints.files import read_card
from gan_core.editing.apply import apply_edit
from gan_core.editing.directions import Direction, load_directions, save_directions
from gan_core.editing.factorised import closed_form, principal_directions, sefa, sefa_weights
from gan_core.editing.linear import condition, svm_direction
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.proggan import ProgGAN
from gan_core.generators.sngan import SNGAN
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.published.directions import Source, read_direction
from tests.golden.families import raw
from tests.golden.fill import HERE, fill, golden, keys, relative_error

SHA = "0" * 64


def boundary(i: int) -> np.ndarray:
    x = fill(f"input:boundary{i}", (1, 64), rule="raw")
    return x / np.linalg.norm(x.astype(np.float64))


def rows(directions: Tensor, expected: np.ndarray) -> Tensor:
    """Absolute cosines of corresponding rows."""
    ours, theirs = directions[: len(expected)], torch.from_numpy(expected)
    return (ours * theirs).sum(1).abs() / ours.norm(dim=1) / theirs.norm(dim=1)


@pytest.fixture
def boundary_file(tmp_path: Path) -> Path:
    path = tmp_path / "pggan_celebahq_smile_w_boundary.npy"
    np.save(path, boundary(0))
    return path


def test_interfacegan_places_and_moves(boundary_file: Path) -> None:
    expected, _ = golden("direction-interfacegan")
    distances = np.linspace(-3, 3, 10)
    absolute = read_direction(boundary_file, Source(SHA, "z", absolute=True))
    code = raw("z", 1, 64)[:, None]
    placed = torch.cat([apply_edit(code, absolute, float(d))[:, 0] for d in distances])
    assert (absolute.name, absolute.space) == ("smile", "z")
    assert relative_error(placed, expected["out_absolute"]) < 1e-5
    relative = read_direction(boundary_file, Source(SHA))
    moved = torch.cat([apply_edit(raw("wplus", 1, 18, 64), relative, float(d)) for d in distances])
    assert relative_error(moved[:, ::6], expected["out_relative"]) < 1e-5


def test_conditional_boundaries() -> None:
    expected, _ = golden("direction-interfacegan")
    for count in (1, 2, 4):
        others = np.concatenate([boundary(i) for i in range(1, count + 1)])
        assert relative_error(condition(boundary(0)[0], others)[None], expected[f"out_project_{count}"]) < 1e-5


def test_a_support_vector_machine_finds_the_boundary() -> None:
    expected, _ = golden("direction-interfacegan")
    codes = fill("input:codes", (1200, 64), rule="raw").astype(np.float64)
    scores = codes @ boundary(0)[0].astype(np.float32) + 0.1 * fill("input:noise", (1200, 1), rule="raw")[:, 0]
    found = svm_direction(codes, scores)
    truth, theirs = boundary(0)[0], expected["out_trained"][0]
    assert abs(found @ theirs) > 0.98
    assert abs(found @ truth) > abs(theirs @ truth), "trained on all codes, not on 70% of them"


def ganspace(count: int, latents: tuple[int, ...]) -> dict[str, np.ndarray]:
    components = fill("input:comp", (count, 1, 64), rule="raw")
    components = components / np.linalg.norm(components, axis=2, keepdims=True)
    spread = np.abs(fill("input:std", (count,), rule="raw")) + 0.5
    return {"comp": components, "std": spread, "mean": fill("input:mean", (1, 64), rule="raw")}


def test_ganspace_frames(tmp_path: Path) -> None:
    expected, _ = golden("direction-ganspace")
    stored = ganspace(6, ())
    names = {"lat_comp": "comp", "lat_stdev": "std", "lat_mean": "mean"}
    path = tmp_path / "stylegan2.npz"
    np.savez(path, **{theirs: stored[ours] for theirs, ours in names.items()})
    codes = raw("w", 3, 64)[:, None].expand(-1, 18, -1)
    cases = ((0, (0, 8), 2.0, 2, 1, False), (3, (4, 18), 3.0, 7, 3, False), (5, (2, 6), 2.0, 2, 1, True))
    for case, (component, layers, sigma, frames, every, absolute) in zip((0, 1, 3), cases, strict=True):
        direction = read_direction(path, Source(SHA, absolute=absolute, component=component, layers=layers))
        strengths = np.linspace(-sigma, sigma, frames)[::every]
        edited = torch.stack([apply_edit(codes, direction, float(s)) for s in strengths], 1)
        assert relative_error(edited, expected[f"out_w_{case}"]) < 1e-5, case
    assert direction.name == "stylegan2-5"


def test_e4e_components_bring_latents_to_a_place(tmp_path: Path) -> None:
    expected, _ = golden("direction-e4e-ganspace")
    path = tmp_path / "ffhq_pca.pt"
    torch.save({key: torch.from_numpy(np.asarray(value, np.float32)) for key, value in ganspace(10, ()).items()}, path)
    edits = [(7, (0, 8), -5.0), (2, (3, 6), 4.0), (0, (0, 18), 0.0)]
    results = []
    for code in raw("w", 2, 18, 64):
        for component, layers, strength in edits:
            direction = read_direction(path, Source(SHA, absolute=True, component=component, layers=layers))
            results.append(apply_edit(code[None], direction, strength)[0])
    assert relative_error(torch.stack(results)[:, ::3], expected["out_w_edited"]) < 1e-5


def test_e4e_vectors(tmp_path: Path) -> None:
    expected, _ = golden("direction-e4e-ganspace")
    torch.save(raw("direction", 1, 64), tmp_path / "age.pt")
    age = read_direction(tmp_path / "age.pt", Source(SHA))
    first = raw("w", 2, 18, 64)[:1]
    swept = torch.cat([apply_edit(first, age, float(f)) for f in range(-3, 4)])
    assert relative_error(swept[:, :2], expected["out_interfacegan_range"]) < 1e-5
    torch.save(raw("direction", 1, 64).expand(1, 18, 64).clone(), tmp_path / "pose.pt")
    assert read_direction(tmp_path / "pose.pt", Source(SHA)).space == "w_plus"


def test_sefa_of_stylegan2_and_proggan() -> None:
    expected, _ = golden("direction-sefa")
    generator = StyleGAN2(64)
    listing = keys("stylegan2_64_genforce_sefa")
    for i, weight in enumerate(sefa_weights(generator)):
        name = f"synthesis.{'output4' if i == 9 else f'layer{i}'}.style.weight"
        weight.data.copy_(torch.from_numpy(fill(name, listing[name], rule="raw")))
    for case in (0, 1, 2):
        values, directions = sefa(sefa_weights(generator, expected[f"out_layers_{case}"].tolist()))
        assert relative_error(values[:16], expected[f"out_values_{case}"]) < 1e-4
        assert rows(directions, expected[f"out_directions_{case}"]).min() > 0.9999
    proggan = ProgGAN((512, 16))
    first: Any = proggan.features[0]
    first.conv.weight.data.copy_(torch.from_numpy(fill("layer0.weight", (512, 512, 4, 4), rule="raw")))
    values, directions = sefa(sefa_weights(proggan))
    assert relative_error(values[:16], expected["out_values_pggan"]) < 1e-4
    assert rows(directions, expected["out_directions_pggan"]).min() > 0.9999


def test_closed_form_factorisation_and_its_file(tmp_path: Path) -> None:
    expected, _ = golden("direction-closed-form")
    generator = StyleGAN2(64)
    for name, parameter in generator.named_parameters():
        if name.endswith("modulation.weight"):
            parameter.data.copy_(torch.from_numpy(fill(name, parameter.shape, rule="stylegan2")))
    values, directions = closed_form(generator)
    assert relative_error(values[:8], expected["out_singular_values"]) < 1e-4
    assert rows(directions, expected["out_directions"]).min() > 0.9999
    torch.save({"ckpt": "model.pt", "eigvec": directions.t().contiguous()}, tmp_path / "factor.pt")
    third = read_direction(tmp_path / "factor.pt", Source(SHA, component=2, name="pose"))
    assert torch.equal(third.vector, directions[2])
    with pytest.raises(ParamsError, match=r"has 512 components: choose one from 0 to 511 \(not None\)"):
        read_direction(tmp_path / "factor.pt", Source(SHA))


def test_principal_directions_are_those_of_the_codes() -> None:
    stream = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(5, 5, generator=stream))[0]
    codes = torch.randn(4000, 5, generator=stream) * torch.tensor([4.0, 2.0, 1.0, 0.5, 0.1]) @ axes + 7
    mean, components, spread = principal_directions(codes, 2)
    assert (components * axes[:2]).sum(1).abs().min() > 0.995
    torch.testing.assert_close(spread, torch.tensor([4.0, 2.0]), rtol=0.05, atol=0)
    torch.testing.assert_close(mean, torch.full((5,), 7.0), atol=0.3, rtol=0)


def test_a_generator_without_styles_has_nothing_to_factorise() -> None:
    with pytest.raises(ParamsError, match=r"sngan has no weights that SeFa could factorise"):
        sefa_weights(SNGAN((8, 8), 1, 4))


def test_a_pickle_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"malicious.pt is refused"):
        read_direction(HERE / "malicious.pt", Source(SHA))
    np.save(tmp_path / "bomb.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError, match=r"bomb.npy is refused: it holds pickled objects"):
        read_direction(tmp_path / "bomb.npy", Source(SHA))


def test_files_that_are_no_directions_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", np.ones((2, 3, 4)))
    np.save(tmp_path / "zero.npy", np.zeros(4))
    np.savez(tmp_path / "other.npz", lat_comp=np.ones((2, 1, 4)))
    torch.save([torch.ones(4), torch.ones(4)], tmp_path / "list.pt")
    torch.save({"eigvec": torch.ones(4)}, tmp_path / "flat.pt")
    torch.save({"comp": torch.ones(0, 4), "std": torch.ones(0), "mean": torch.ones(4)}, tmp_path / "none.pt")
    np.savez(tmp_path / "short.npz", lat_comp=np.ones((3, 1, 4)), lat_stdev=np.ones(2), lat_mean=np.ones(4))
    np.savez(tmp_path / "mean.npz", lat_comp=np.ones((3, 1, 4)), lat_stdev=np.ones(3), lat_mean=np.ones(2))
    np.savez(tmp_path / "nan.npz", lat_comp=np.ones((3, 1, 4)), lat_stdev=np.ones(3), lat_mean=np.full(4, np.nan))
    np.savez(tmp_path / "one.npz", lat_comp=np.ones(()), lat_stdev=np.ones(1), lat_mean=np.ones(1))
    (tmp_path / "two.npy").write_bytes((tmp_path / "other.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:60])
    (tmp_path / "text.npy").write_text("smile, age\n")
    np.save(tmp_path / "huge.npy", np.full(4, 1e300))
    for name, message in (
        ("cube.npy", r"is \[2, 3, 4\], not a direction"),
        ("zero.npy", r"direction of zeros"),
        ("other.npz", r"has no lat_stdev, lat_mean"),
        ("cut.npz", r"is not a whole numpy file"),
        ("text.npy", r"is not a numpy file, though its name ends in .npy"),
        ("huge.npy", r"direction of zeros or with NaN"),
        ("none.npy", r"no directions at"),
        ("list.pt", r"holds several tensors, not one direction"),
        ("flat.pt", r"eigvec is \[4\], not a matrix"),
        ("none.pt", r"comp \[0, 4\], std \[0\], mean \[4\]: each component needs one deviation"),
        ("short.npz", r"lat_stdev \[2\]"),
        ("mean.npz", r"lat_mean \[2\]"),
        ("one.npz", r"lat_comp \[\]"),
        ("two.npy", r"has no lat_stdev, lat_mean"),
    ):
        with pytest.raises(CheckpointError, match=message):
            read_direction(tmp_path / name, Source(SHA, component=0))
    with pytest.raises(CheckpointError, match=r"nan.npz has a mean with NaN or too large numbers"):
        read_direction(tmp_path / "nan.npz", Source(SHA, component=0, absolute=True))


def test_a_card_says_which_directions_come_from_others(tmp_path: Path) -> None:
    np.save(tmp_path / "age.npy", np.ones(4))
    theirs, ours = read_direction(tmp_path / "age.npy", Source(SHA)), Direction("smile", torch.ones(4), SHA)
    save_directions(tmp_path / "ours.safetensors", [ours], "a test")
    assert read_card(tmp_path / "ours.safetensors").licence == "Apache-2.0"
    save_directions(tmp_path / "both.safetensors", [ours, theirs], "a test")
    card = read_card(tmp_path / "both.safetensors")
    assert card.licence.startswith("not stated") and card.source == "imported from age.npy"


def test_a_place_survives_the_directions_file(tmp_path: Path) -> None:
    before = Direction("age", torch.ones(8), SHA, origin=0.25)
    save_directions(tmp_path / "d.safetensors", [before], "a test")
    (after,) = load_directions(tmp_path / "d.safetensors").model.values()
    codes = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(apply_edit(codes, after, 2.0), apply_edit(codes, before, 2.0))
    placed = apply_edit(codes, after, 2.0)[:, 0].sum(1) / 8 - 0.25
    torch.testing.assert_close(placed, torch.full((3,), 2.0))
