"""SinGANs learn scale after scale, go on where they were stopped, and are measured beside SOAT."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import claims
from benchmarks import singan as page
from gan_core.errors import ParamsError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.metrics.frechet import frechet_distance, gather_positions
from gan_core.params import check_params
from gan_core.toy.params import load_toy_params
from gan_core.toy.training.singan_study import singan_study
from gan_core.training import singan
from gan_core.training import singan_study as studying
from gan_core.training.params import SinganParams, SinganStudyParams
from gan_core.training.singan import Scale, SinganState, train_singan
from gan_core.training.singan_study import SinganStudy
from tests.reports import Reports

ROOT = Path(__file__).parents[3]


def weights(state: SinganState) -> list[Tensor]:
    return [*state.model.state_dict().values(), *state.discriminators.state_dict().values()]


@pytest.mark.parametrize("precision", ["exact", pytest.param("fast", marks=pytest.mark.slow)])
def test_a_training_that_was_killed_ends_with_the_same_bits(
    precision: str, params: SinganParams, pictures: Tensor, tmp_path: Path
) -> None:
    params = params.model_copy(update={"precision": precision})
    reports, path = Reports(), tmp_path / "killed.pt"
    once = SinganState.create(pictures, params)
    assert [tuple(real.shape) for real in once.reals] == [(1, 2, 3, side, side) for side in (11, 13, 14)]
    began = time.process_time()
    train_singan(once, params, tmp_path / "once.pt", reports)
    assert 0 < once.seconds < time.process_time() - began
    for stop in (2, 4):  # at the end of a scale, and in the middle of one
        with pytest.raises(KeyboardInterrupt):
            train_singan(SinganState.create(pictures, params), params, path, Reports(stop_at=stop))
    rest = Reports()
    again = SinganState.create(pictures, params)
    train_singan(again, params, path, rest)
    assert rest.steps == [4, 5, 6] and reports.steps == list(range(1, 7))
    assert all(torch.equal(one, other) for one, other in zip(weights(once), weights(again), strict=True))
    assert set(reports[-1][1]) == {"distance", "penalty", "reconstruction"}
    assert reports[-1][2].shape == (9, 3, 14, 14) and reports[1][2].shape == (9, 3, 11, 11)
    assert again.optimiser.param_groups[0]["lr"] == pytest.approx(params.lr / 10) and again.seconds > 0
    assert not any(parameter.requires_grad for parameter in again.model.parameters())
    assert path.stat().st_size < 1.3 * sum(8 * tensor.numel() for tensor in weights(again)) + 100_000


def test_noise_is_as_strong_as_the_error_that_the_former_scale_left(
    params: SinganParams, pictures: Tensor, tmp_path: Path
) -> None:
    params = params.model_copy(update={"iterations": 1, "steps": 1})
    state = SinganState.create(pictures, params)
    train_singan(state, params, tmp_path / "state.pt", Reports())
    left = state.model.enlarged(state.model.reconstruct(1), state.reals[1].shape[3:]) - state.reals[1]
    torch.testing.assert_close(state.model.amplitudes[1], 0.1 * left.square().mean((0, 2, 3, 4)).sqrt())
    assert state.model.amplitudes[0].tolist() == [1, 1] and (state.model.noise != 0).all()


@pytest.mark.parametrize("same", [True, False])
def test_a_scale_begins_with_the_former_ones_weights_where_they_fit(
    same: bool, params: SinganParams, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(singan, "SCALES_A_WIDTH", 4 if same else 1)
    state = SinganState.create(pictures[:1], params)
    before = state.model.generators[1].tail[0].weight.clone()
    scale = Scale(state, params, 1, torch.Generator().manual_seed(0))
    former, now = (state.model.generators[i].head.conv.weight for i in (0, 1))
    assert (former.shape == now.shape) == same
    assert torch.equal(former, now) if same else torch.equal(before, state.model.generators[1].tail[0].weight)
    assert [network.training for network in state.model.generators] == [False, True, False]
    assert scale.rebuilt.shape == state.reals[1].shape


def test_the_paper_keeps_the_noise_that_the_script_draws_anew(params: SinganParams, pictures: Tensor) -> None:
    for redraw in (True, False):
        chosen = params.model_copy(update={"redraw": redraw, "steps": 1})
        scale, stream = None, torch.Generator().manual_seed(0)
        state = SinganState.create(pictures[:1], chosen)
        scale = Scale(state, chosen, 0, stream)
        before = state.model.noise.clone()
        scale.step(0, stream)
        assert torch.equal(before, state.model.noise) != redraw


@pytest.mark.slow
def test_the_one_noise_gives_the_picture_back(params: SinganParams, pictures: Tensor, tmp_path: Path) -> None:
    params = params.model_copy(update={"channels": 16, "iterations": 60, "steps": 3, "drop_at": 0.8, "redraw": False})
    state = SinganState.create(pictures, params)
    train_singan(state, params, tmp_path / "state.pt", Reports())
    error = (state.model.reconstruct() - state.reals[-1]).square().mean((0, 2, 3, 4))
    other = (state.model.sample(torch.Generator().manual_seed(5)) - state.reals[-1]).square().mean((0, 2, 3, 4))
    assert (error < 0.15).all() and (other > 2 * error).all()


@pytest.fixture
def study(params: SinganParams) -> SinganStudy:
    torch.manual_seed(0)
    generator = StyleGAN2(16, style_dim=6, n_mlp=1, channels={4: 8, 8: 8, 16: 8}).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise.weight"):
            parameter.fill_(0.1)
    codes = torch.randn(64, generator.n_latent, 6)
    chosen = SinganStudyParams(
        seeds=[0], pictures=2, together=1, samples=2, extensions=["reflect", "stretch"], paste_at=1, others=8,
        singan=params.model_copy(update={"iterations": 1, "steps": 1}),
    )  # fmt: skip

    def portraits(first: int, count: int) -> Tensor:
        drawn = [torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(first + i)) for i in range(count)]
        return 2 * torch.stack(drawn) - 1

    return SinganStudy(
        chosen,
        portraits,
        generator,
        lambda images: codes[: len(images)],
        lambda images: images.mean(3).flatten(1)[:, ::12],
        lambda images: images,
        "judge",
        "patches",
        "networks",
    )


def test_both_are_measured_beside_each_other_a_seed_at_a_time(
    study: SinganStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, target = list[int](), tmp_path / "rows.json"
    monkeypatch.setattr(studying, "in_processes", lambda jobs, workers: beside.extend(workers for job in jobs if job()))
    first = study.run(tmp_path, target, lambda _: Reports(), workers=2)
    assert beside == [2, 2] and sorted(path.name for path in tmp_path.glob("*.pt")) == ["0-0-1.pt", "0-1-1.pt"]
    assert [row["method"] for row in first] == ["singan", "soat", "soat stretch", "collage"]
    measures = {f"{name} {score}" for name in ("wide", "horizontal", "vertical") for score in SCORES}
    assert set(first[0]) == measures | {"method", "seed", "pictures", "seconds"}
    assert set(first[3]) == {name for name in set(first[0]) if not name.startswith(("wide", "sec"))}
    assert first[0]["seconds"] > first[1]["seconds"] > 0
    more = replace(study, params=study.params.model_copy(update={"seeds": [0, 1, 2]}))
    rows = more.run(tmp_path, target, lambda _: Reports())
    assert rows[:4] == first and [row["seed"] for row in rows[4:]] == [1] * 4 + [2] * 4
    assert json.loads(target.read_text()) == {"key": study.key, "rows": rows}
    assert study.make(0, study.trained(0, tmp_path))["singan"].wide.shape == (4, 3, 16, 32)
    drawn = page.drawn(study, [0, 1], tmp_path)
    assert drawn.size == (16 * (1 + 2 + 2 + 6), 16 * 4)
    table = page.table_of(rows).splitlines()
    assert table[0] == "| measure | singan | soat | soat stretch | collage |" and len(table) == 2 + 10
    assert " ± " in table[2] and table[2].startswith("| seconds |") and table[2].endswith(" |  |")


SCORES = ("sifid/patches", "nearest/judge", "seam")


def test_what_isnt_trained_to_its_end_is_not_drawn(study: SinganStudy, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"0-0-1.pt isn't trained to its end: run the study again, it goes on there"):
        study.trained(0, tmp_path)
    far = replace(study, params=study.params.model_copy(update={"paste_at": 4}))
    with pytest.raises(ParamsError, match=r"study_singan.paste_at 4: there are 4 scales"):
        far.train(0, 0, tmp_path, lambda _: Reports())


def test_blends_keep_the_first_picture_and_wide_ones_differ(study: SinganStudy, tmp_path: Path) -> None:
    states = [study.train(0, start, tmp_path, lambda _: Reports()) for start in study.starts]
    made, pictures = study.make(0, states), study.group(0)
    torch.testing.assert_close(made["singan"].blends["vertical"][:, :, :2], pictures[:, :, :2], rtol=0, atol=1e-2)
    assert (made["singan"].blends["vertical"] - made["collage"].blends["vertical"]).abs()[:, :, 12:].mean() > 0.1
    for name in ("singan", "soat"):
        one, other = made[name].wide[:2]
        assert not torch.equal(one, other)
    assert torch.equal(made["soat"].wide, study.make(0, states)["soat"].wide)


def test_the_fid_of_single_images_compares_all_places() -> None:
    image = torch.rand(1, 3, 6, 8)
    places = image.flatten(2)[:, :, torch.randperm(48)].reshape(1, 3, 8, 6)
    assert frechet_distance(gather_positions(image), gather_positions(places)) < 1e-9
    shifted = frechet_distance(gather_positions(image), gather_positions(image + 0.5))
    assert shifted == pytest.approx(3 * 0.25, rel=1e-5)


def test_portraits_are_as_near_to_portraits_as_these_are_to_each_other(study: SinganStudy) -> None:
    images, others = study.portraits(100, 64), study.judge(study.portraits(200, 64))
    near, twice, noise = (
        study._scores("one", part, [part], others, "vertical")["one nearest/judge"]
        for part in (images[:8], images[:8].repeat(3, 1, 1, 1), torch.zeros_like(images[:8]) + 1)
    )
    assert near == pytest.approx(1, abs=0.3) and twice == pytest.approx(near, rel=1e-5) and noise > 2


def test_the_page_says_when_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "singan.md"
    target.write_text(f"# A\n\n{page.MEASURED}\nold\n\n## B\n")
    monkeypatch.setattr(page, "PAGE", target)
    page.write_page([])
    assert target.read_text() == f"# A\n\n{page.MEASURED}\n{page.NOT_YET}\n\n## B\n"


def test_claims_read_what_the_study_of_portraits_measures(tiny_models: dict[str, str]) -> None:
    found = singan_study(load_toy_params(ROOT / "toy.yaml"), check_params({"models": tiny_models}))
    portraits = found.group(1)
    assert portraits.shape == (2, 3, 64, 64) and torch.equal(portraits[:2], found.portraits(64, 2))
    assert found.patches(portraits[:1]).shape == (1, 8, 32, 32), "the map before the second pooling"
    assert found.judge(portraits[:2]).shape == (2, 16)
    assert found.encode(portraits[:2]).shape == (2, found.generator.n_latent, found.generator.w_dim)
    scores = (f"sifid/{found.patches_name}", f"nearest/{found.judge_name}", "seam")
    measures = {f"{name} {score}" for name in ("wide", "horizontal", "vertical") for score in scores} | {"seconds"}
    parts = [part for claim in claims.CLAIMS if claim.source == "singan" for part in claim.parts]
    assert len(parts) == 7 and {part.measure for part in parts} <= measures
    assert {name for part in parts for name in (part.method, part.rival)} == {"soat", "singan"}
    assert claims.COMMANDS["singan"].startswith(f"python -m {singan_study.__module__}")
