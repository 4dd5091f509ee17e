from pathlib import Path

import pytest
import torch

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import read_card
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_generator
from gan_core.published.layouts import import_checkpoint
from gan_core.published.rosinality import build_generator, infer_arguments
from tests.golden.fill import fill, golden, relative_error

GOLDEN = Path(__file__).parents[2] / "golden"
TRAINING = GOLDEN / "rosinality-tiny-training.pt"
CONVERTED = GOLDEN / "rosinality-tiny-converted.pt"


def read(path: Path, network: str = "g_ema") -> StyleGAN2:
    return build_generator(open_checkpoint(path).load(), path, network)


def test_a_training_checkpoint_gives_the_published_image_and_state() -> None:
    expected, _ = golden("rosinality-tiny-expected")
    generator = read(TRAINING)
    z = torch.from_numpy(fill("input:z_ros", (2, 16), rule="raw"))
    assert relative_error(generator(z), expected["image"]) < 1e-4
    for key, value in generator.state_dict().items():
        assert torch.equal(value, torch.from_numpy(expected[f"g_ema/{key}"])), key
    assert torch.equal(generator.latent_avg, generator.mean_latent())


def test_the_other_network_of_the_file_can_be_chosen() -> None:
    smoothed, raw = read(TRAINING), read(TRAINING, "g")
    assert torch.equal(raw.conv1.conv.weight, 0.5 * smoothed.conv1.conv.weight)
    with pytest.raises(CheckpointError, match="no network 'generator': it has g, d, g_ema"):
        read(TRAINING, "generator")


def test_an_old_conversion_loads_without_noise_maps_and_with_its_average() -> None:
    expected, _ = golden("rosinality-tiny-expected")
    generator = read(CONVERTED)
    assert torch.equal(generator.style[1].weight, torch.from_numpy(expected["g_ema/style.1.weight"]))
    assert relative_error(generator.latent_avg, fill("latent_avg", (16,), rule="stylegan2")) < 1e-6
    again = read(CONVERTED)
    assert torch.equal(again.noises.noise_4, generator.noises.noise_4)
    assert again.noises.noise_4.std() > 0.5


def test_a_converted_file_is_the_same_generator(tmp_path: Path) -> None:
    import_checkpoint(TRAINING, tmp_path / "g.safetensors", licence="MIT")
    original, loaded = read(TRAINING), load_generator(tmp_path / "g.safetensors").model
    w_plus = torch.randn(2, 6, 16)
    assert torch.equal(loaded.synthesis(w_plus), original.synthesis(w_plus))
    assert read_card(tmp_path / "g.safetensors").source.startswith("rosinality-tiny-training.pt, sha256 ")


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": 64, "style_dim": 12, "n_mlp": 3, "channels": {4: 8, 8: 7, 16: 6, 32: 5, 64: 4}},
        {"size": 8, "style_dim": 4, "n_mlp": 1, "channels": {4: 2, 8: 3}},
    ],
)
def test_arguments_follow_from_the_shapes(arguments: dict[str, object]) -> None:
    assert infer_arguments(StyleGAN2(**arguments).state_dict()) == arguments


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"asks to run io\.open"):
        read(GOLDEN / "malicious.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"<HTML>", "web page"),
        (b"abc", "begins with"),
        (TRAINING.read_bytes()[:-999], "not a whole file"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=says) as raised:
        open_checkpoint(tmp_path / "x.pt")
    assert "\n" not in str(raised.value)


def test_other_contents_are_refused(tmp_path: Path) -> None:
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="no network 'g_ema': it has nothing"):
        read(tmp_path / "list.pt")
    torch.save({"g_ema": {"fc.weight": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a rosinality StyleGAN2 generator"):
        read(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        read(tmp_path / "none.pt")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    content = open_checkpoint(TRAINING).load()
    assert isinstance(content, dict)
    del content["g_ema"]["convs.1.activate.bias"]
    torch.save({"g_ema": content["g_ema"]}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"1 missing \(convs\.1\.activate\.bias\)"):
        read(tmp_path / "x.pt")
