"""Files of pSp, e4e and Style Transformer through inspect and import."""

import argparse
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import read_card
from gan_core.encoders.base import ENCODERS
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_encoder, load_generator
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint
from gan_core.published.pairing import pair_encoder
from tests.golden.fill import golden

GOLDEN = Path(__file__).parents[2] / "golden"
TYPES = {"psp": "GradualStyleEncoder", "e4e": "Encoder4Editing", "style-transformer": "StyleTransformer"}


def write_wrapper(path: Path, variant: str, prefix: str = "", **more: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    arguments = {"n_latent": 6, "style_dim": 16, "input_size": 256, "units": [1, 2, 1, 1], "width": 4}
    arguments |= {"n_mlp": 2, "n_queries": 18} if variant == "style-transformer" else {}
    encoder = ENCODERS.get(variant)(**arguments)
    decoder = StyleGAN2(16, style_dim=16, n_mlp=2, channels={4: 8, 8: 8, 16: 8})
    state = {f"encoder.{prefix}{k}": v for k, v in encoder.state_dict().items() if not k.startswith("style.")}
    state |= {f"decoder.{prefix}{k}": v for k, v in decoder.state_dict().items()}
    options = argparse.Namespace(encoder_type=TYPES[variant], device="cuda:0", start_from_latent_avg=True)
    content = {"state_dict": state, "opts": options, "latent_avg": torch.randn(6, 16)} | more
    torch.save(content, path)
    return content


@pytest.mark.parametrize(("variant", "prefix"), [("psp", ""), ("e4e", ""), ("style-transformer", "module.")])
def test_an_encoder_comes_in_with_its_generator_bound_to_it(variant: str, prefix: str, tmp_path: Path) -> None:
    more = {"optimizer": {"lr": 1e-4}, "global_step": 3}
    content = write_wrapper(tmp_path / "x.pt", variant, prefix, **more)
    about = inspect_checkpoint(tmp_path / "x.pt")
    assert (about["layout"], about["family"], about["n_latent"]) == ("encoder-wrapper", variant, 6)
    assert about["generator_size"] == 16 and about["other_keys"] == "optimizer, global_step"
    written = import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors")
    assert [Path(path).name for path in written] == ["x.generator.safetensors", "x.encoder.safetensors"]
    generator, encoder = (str(path) for path in written)
    ours = load_generator(generator)
    found = load_encoder(encoder, ours, variant)
    loaded = found.model
    assert found.card.generator_sha256 == ours.sha256 == written[generator]
    assert torch.equal(loaded.latent_avg, content["latent_avg"])
    theirs = content["state_dict"]
    assert torch.equal(loaded.state_dict()["input_layer.0.weight"], theirs[f"encoder.{prefix}input_layer.0.weight"])
    state = ours.model.state_dict()
    assert all(torch.equal(value, theirs[f"decoder.{prefix}{key}"]) for key, value in state.items())
    assert ("random" in ours.card.notes) == (variant == "style-transformer")


@pytest.mark.parametrize("variant", ["psp", "e4e"])
def test_the_answer_to_an_open_question_is_in_the_card(variant: str, tmp_path: Path) -> None:
    write_wrapper(tmp_path / "x.pt", variant, opts={"stylegan_size": 16})
    about = inspect_checkpoint(tmp_path / "x.pt")
    assert about["family"] == "psp or e4e" and "--variant e4e" in str(about["import"])
    with pytest.raises(CheckpointError, match="--variant e4e"):
        import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors")
    assert not list(tmp_path.glob("*.safetensors"))
    told = inspect_checkpoint(tmp_path / "x.pt", variant)
    assert (told["family"], told["import"]) == (variant, "yes")
    encoder = list(import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors", variant=variant))[-1]
    card = read_card(encoder)
    assert card.name == variant and card.notes == f"taken for {variant}, as told: the file itself doesn't say"
    with pytest.raises(CheckpointError, match="the variant must be one of psp, e4e"):
        inspect_checkpoint(tmp_path / "x.pt", "style-transformer")
    with pytest.raises(CheckpointError, match="of the layout ada, so the variant must be left out"):
        import_checkpoint(GOLDEN / "ada-tiny.pkl", tmp_path / "y.safetensors", variant="psp")


def test_a_file_that_says_its_variant_has_no_note(tmp_path: Path) -> None:
    write_wrapper(tmp_path / "x.pt", "e4e")
    plain = import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors")
    assert plain == import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors", variant="e4e")


@pytest.mark.parametrize(
    "others",
    [
        ["hypernet.conv.weight"],
        ["residue.conv.weight"],
        ["encoder.conv1.weight", "encoder.body.0.conv1.weight"],
        ["encoder.fc.weight"],
    ],
)
def test_other_inversion_methods_are_refused_by_inspect_and_import_alike(others: list[str], tmp_path: Path) -> None:
    content = write_wrapper(tmp_path / "x.pt", "psp")
    state = {k: v for k, v in content["state_dict"].items() if k.startswith("decoder.")}
    torch.save(
        content | {"opts": {}, "state_dict": state | {key: torch.zeros(4, 4) for key in others}}, tmp_path / "x.pt"
    )
    cause = "residue beside a decoder|not a whole hypernetwork|not a whole restyle-psp encoder|no known encoder"
    with pytest.raises(CheckpointError, match=cause):
        inspect_checkpoint(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=cause):
        import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors")


def test_the_published_example_is_described_though_it_cannot_run() -> None:
    about, (expected, _) = inspect_checkpoint(GOLDEN / "psp-tiny.pt"), golden("psp-tiny-expected")
    assert (about["family"], about["n_latent"], about["input_size"]) == ("psp", len(expected["latent_avg"]), 256)
    with pytest.raises(CheckpointError) as refused:
        import_checkpoint(GOLDEN / "psp-tiny.pt", "never-written.safetensors")
    assert about["import"] == f"refused: {refused.value}"


def test_every_value_of_the_published_example_arrives() -> None:
    expected, _ = golden("psp-tiny-expected")
    content = open_checkpoint(GOLDEN / "psp-tiny.pt").load()
    floats = [t for t in content["state_dict"].values() if t.is_floating_point()]
    total, count = expected["checksum"]
    assert len(floats) == count
    assert sum(float(t.double().sum()) for t in floats) == pytest.approx(float(total), rel=1e-9)
    assert torch.equal(content["latent_avg"], torch.from_numpy(expected["latent_avg"]))
    assert content["opts"]["encoder_type"] == "GradualStyleEncoder"


def test_an_encoder_of_another_generator_is_refused(tmp_path: Path) -> None:
    content = write_wrapper(tmp_path / "x.pt", "psp")
    larger = StyleGAN2(32, style_dim=16, n_mlp=2, channels={4: 8, 8: 8, 16: 8, 32: 8}).state_dict()
    state = {k: v for k, v in content["state_dict"].items() if k.startswith("encoder.")}
    torch.save(content | {"state_dict": state | {f"decoder.{k}": v for k, v in larger.items()}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="writes 6 latents"):
        import_checkpoint(tmp_path / "x.pt", tmp_path / "y.safetensors")
    assert not list(tmp_path.glob("y*"))


def test_no_other_file_is_written_over(tmp_path: Path) -> None:
    source, notes, tuned = (tmp_path / name for name in ("e4e.pt", "notes.txt", "tuned.pt"))
    shutil.copy(GOLDEN / "pti-tuned-tiny.pt", tuned)
    write_wrapper(source, "e4e")
    notes.write_text("mine")
    write_wrapper(tmp_path / "psp.pt", "psp")
    written = import_checkpoint(source, tmp_path / "ffhq-v1.1.safetensors")
    assert [Path(path).name for path in written] == [f"ffhq-v1.1.{of}.safetensors" for of in ("generator", "encoder")]
    assert import_checkpoint(source, tmp_path / "ffhq-v1.1") == written
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=r"ffhq-v1\.1\.generator.* is there already, a generator from e4e\.pt"):
        import_checkpoint(tmp_path / "psp.pt", tmp_path / "ffhq-v1.1.safetensors")
    generator, encoder = written
    for single, target, said in (
        (tuned, tuned, "is the file that is imported"),
        (tuned, notes, "is there already, which no import wrote"),
    ):
        with pytest.raises(CheckpointError, match=said):
            import_checkpoint(single, target)
    for bound, target in ((source, source), (encoder, encoder)):
        with pytest.raises(CheckpointError, match="is the file that is imported"):
            pair_encoder(bound, target, generator)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
