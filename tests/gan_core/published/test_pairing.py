"""Encoders beside generators that they weren't made for: PTI's pairing, as its published script has it."""

from pathlib import Path

import pytest
import torch

from gan_core.checkpoints.files import load_checkpoint, read_card
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_encoder, load_generator
from gan_core.params import EncodeParams, ModelPaths
from gan_core.published.layouts import import_checkpoint
from gan_core.published.pairing import average_distance, pair_encoder
from gan_core.stages.encode import EncodeStage
from gan_core.storage.images import encode_png, to_uint8
from tests.gan_core.published.test_wrappers import GOLDEN, write_wrapper


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The file of an e4e, its two networks, and one generator that PTI has tuned."""
    write_wrapper(tmp_path / "e4e.pt", "e4e")
    generator, encoder = import_checkpoint(tmp_path / "e4e.pt", tmp_path / "e4e.safetensors")
    (tuned,) = import_checkpoint(GOLDEN / "pti-tuned-tiny.pt", tmp_path / "tuned.safetensors")
    return {"file": str(tmp_path / "e4e.pt"), "generator": generator, "encoder": encoder, "tuned": tuned}


@pytest.mark.parametrize("which", ["encoder", "file"])
def test_an_encoder_is_bound_to_a_tuned_generator_on_request(which: str, files: dict[str, str], tmp_path: Path) -> None:
    target = tmp_path / "paired.safetensors"
    with pytest.raises(CheckpointError, match="use --any-generator to pair them all the same"):
        pair_encoder(files[which], target, files["tuned"])
    assert not target.exists()
    (path,) = pair_encoder(files[which], target, files["tuned"], any_generator=True)
    tuned, card, before = load_generator(files["tuned"]), read_card(path), load_checkpoint(files["encoder"])
    assert card.generator_sha256 == tuned.sha256 and card.extra["paired"]["average_distance"] > 0
    assert "paired with tuned.safetensors" in card.notes and "latents agree in number and width" in card.notes
    found = load_checkpoint(path).model
    assert all(torch.equal(found[key], value) for key, value in before.model.items())
    models = ModelPaths(generator=files["tuned"], encoder=path)
    stage = EncodeStage(EncodeParams(encoder="e4e"), models)
    picture = encode_png(to_uint8(torch.zeros(1, 3, 16, 16))[0])
    (row,) = stage.process([{"key": "a", "image": {"bytes": picture}}])
    assert isinstance(row, dict) and row["latent"].shape == (6, 16)


def test_what_refuses_the_pair_says_how_to_make_it(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(files["encoder"]).parent)  # a long path would be cut short in the message
    files = {which: Path(path).name for which, path in files.items()}
    command = f"checkpoints import {files['encoder']} TARGET --generator {files['tuned']} --any-generator"
    with pytest.raises(CheckpointError, match="was made for the generator") as refused:
        load_encoder(files["encoder"], load_generator(files["tuned"]), "e4e")
    assert command in str(refused.value) and "\n" not in str(refused.value)


def test_its_own_generator_needs_no_word_and_leaves_no_note(files: dict[str, str], tmp_path: Path) -> None:
    (path,) = pair_encoder(files["encoder"], tmp_path / "same.safetensors", files["generator"])
    assert Path(path).read_bytes() == Path(files["encoder"]).read_bytes()


def test_latents_of_another_number_or_files_without_an_encoder_are_refused(
    files: dict[str, str], tmp_path: Path
) -> None:
    larger = StyleGAN2(32, style_dim=16, n_mlp=2, channels={4: 8, 8: 8, 16: 8, 32: 8})
    torch.save({"g_ema": larger.state_dict(), "latent_avg": torch.zeros(16)}, tmp_path / "larger.pt")
    (other,) = import_checkpoint(tmp_path / "larger.pt", tmp_path / "larger.safetensors")
    target = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match=r"writes 6 latents of 16 but .* takes 8 of 16"):
        pair_encoder(files["encoder"], target, other, any_generator=True)
    with pytest.raises(CheckpointError, match="holds a generator, and only encoders are paired"):
        pair_encoder(files["tuned"], target, files["tuned"], any_generator=True)
    with pytest.raises(CheckpointError, match="holds no encoder"):
        pair_encoder(tmp_path / "larger.pt", target, files["tuned"], any_generator=True)
    assert not target.exists()


def test_averages_are_compared_in_distances_of_latents(files: dict[str, str]) -> None:
    generator = load_generator(files["generator"]).model
    encoder = load_encoder(files["encoder"], None).model
    encoder.latent_avg = generator.latent_avg.expand(6, -1).clone()
    assert average_distance(encoder, generator) == 0
    w = generator.mapping(torch.randn(1000, 16, generator=torch.Generator().manual_seed(1)))
    typical = (w - w.mean(0)).norm(dim=1).mean()
    direction = torch.nn.functional.normalize(torch.randn(16), dim=0)
    encoder.latent_avg = (generator.latent_avg + 0.5 * typical * direction).expand(6, -1)
    assert average_distance(encoder, generator) == pytest.approx(0.5, rel=0.1)
    encoder.latent_avg = torch.zeros(6, 16)
    assert average_distance(encoder, generator) is None
