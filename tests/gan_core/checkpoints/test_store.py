import errno
import os
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from torch import nn

from gan_core.checkpoints.files import Card, file_sha256, how_to_get, load_checkpoint, read_card, save_checkpoint
from gan_core.errors import CheckpointError, DataError, ParamsError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_encoder, load_generator, load_state, model_tensors

TINY = {"size": 16, "style_dim": 8, "n_mlp": 1, "channels": {4: 4, 8: 4, 16: 6}}
ORIGIN = {"made_by": "a test", "licence": "Apache-2.0", "source": "random weights"}


def generator_card(**changes: object) -> Card:
    return Card(**({"kind": "generator", "name": "stylegan2", "arguments": TINY, "space": "w"} | ORIGIN | changes))


@pytest.fixture
def generator() -> StyleGAN2:
    torch.manual_seed(0)
    generator = StyleGAN2(**TINY).requires_grad_(False)
    generator.latent_avg.copy_(torch.randn(8))
    return generator


@pytest.fixture
def saved(tmp_path: Path, generator: StyleGAN2) -> Path:
    save_checkpoint(tmp_path / "g.safetensors", model_tensors(generator), generator_card(), half=False)
    return tmp_path / "g.safetensors"


def test_a_saved_generator_comes_back_ready_to_use(saved: Path, generator: StyleGAN2) -> None:
    loaded = load_generator(saved).model
    w_plus = torch.randn(2, loaded.n_latent, 8)
    assert torch.equal(loaded.synthesis(w_plus), generator.synthesis(w_plus))
    assert torch.equal(loaded.latent_avg, generator.latent_avg)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert loaded.arguments["channels"] == TINY["channels"]


def test_what_is_loaded_keeps_its_hash_and_values_when_the_file_changes(saved: Path) -> None:
    content, loaded = saved.read_bytes(), load_checkpoint(saved)
    assert (loaded.sha256, loaded.card, loaded.path) == (file_sha256(saved), read_card(saved), str(saved))
    before = loaded.model["latent_avg"].clone()
    saved.write_bytes(content[:-4096] + bytes(4096))  # in place, so that a mapping of the file would change too
    again = load_checkpoint(saved)
    assert again.sha256 == file_sha256(saved) != loaded.sha256
    assert torch.equal(loaded.model["latent_avg"], before)
    assert any(not torch.equal(tensor, again.model[key]) for key, tensor in loaded.model.items())


def test_half_storage_keeps_what_float16_cannot_hold(tmp_path: Path) -> None:
    tensors = {"small": torch.tensor([0.1]), "large": torch.tensor([1e6]), "count": torch.tensor(3)}
    save_checkpoint(tmp_path / "x.safetensors", tensors, generator_card())
    loaded = load_checkpoint(tmp_path / "x.safetensors").model
    assert loaded["small"].dtype == torch.float32 and loaded["small"].item() == pytest.approx(0.1, rel=1e-3)
    assert loaded["small"].item() != torch.tensor(0.1).item()
    assert loaded["large"].item() == 1e6
    assert loaded["count"].item() == 3 and loaded["count"].dtype == torch.int64


def test_the_same_tensors_give_the_same_file(tmp_path: Path, generator: StyleGAN2) -> None:
    first = save_checkpoint(tmp_path / "a", model_tensors(generator), generator_card())
    reordered = dict(reversed(list(model_tensors(generator).items())))
    assert save_checkpoint(tmp_path / "b", reordered, generator_card()) == first == file_sha256(tmp_path / "b")


def test_the_hash_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    first = save_checkpoint(path, {"a": torch.zeros(3)}, generator_card())
    assert save_checkpoint(path, {"a": torch.ones(3)}, generator_card()) != first


def test_diverged_weights_are_not_saved_and_leave_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match=r"a\.weight has NaN"):
        save_checkpoint(saved, {"a.weight": torch.tensor([float("nan")])}, generator_card())
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_failing_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DataError, match="the disk is full"):
        save_checkpoint(saved, {"a": torch.zeros(1)}, generator_card())
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_others_may_read_the_file(saved: Path) -> None:
    plain = saved.with_name("plain")
    plain.touch()
    assert saved.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "Git LFS pointer"),
        (b"<!doctype html><html>quota exceeded</html>", "web page"),
        (b"outs:\n- md5: 0\n", "DVC pointer"),
        (b"PK\x03\x04rest", "PyTorch pickle"),
        (b"\x80\x04\x95", "never opened"),
        (b"\x80\x04" + bytes(6) + b'{"a": ', "not a whole safetensors file"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", "has no card"),
    ],
)
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "g.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says) as raised:
        load_generator(path)
    assert "\n" not in str(raised.value) and str(path) in str(raised.value)


def test_a_truncated_file_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_generator(saved)


def test_a_missing_file_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*none\.safetensors: check the path"):
        load_generator(tmp_path / "none.safetensors")
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text("stages: {train: {cmd: x, outs: [{path: a/made.safetensors}]}, empty: {cmd: x}}")
    Path("given.safetensors.dvc").write_text("outs: []")
    assert how_to_get("a/made.safetensors").endswith("with `dvc repro train`")
    assert how_to_get("given.safetensors") == "fetch it with `dvc pull given.safetensors`"
    for damaged in ("stages: [", "stages: {train: 1}", "1"):
        Path("dvc.lock").write_text(damaged)
        assert how_to_get("a/made.safetensors").startswith("check the path")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_card(tmp_path)


def test_a_url_is_read_like_a_path(saved: Path) -> None:
    assert read_card(saved.as_uri()) == read_card(saved)
    with pytest.raises(CheckpointError, match="no checkpoint at file:"):
        read_card(saved.with_name("none").as_uri())


def test_an_address_may_have_a_query(saved: Path) -> None:
    pytest.importorskip("aiohttp")
    handler = partial(SimpleHTTPRequestHandler, directory=str(saved.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        assert file_sha256(f"{place}/{saved.name}?token=[ab]*") == file_sha256(saved)
        with pytest.raises(CheckpointError, match=r"no checkpoint at http://.*/none\?token=\*\*\*: check the address"):
            read_card(f"{place}/none?token=abcd")
        server.shutdown()


def test_mismatching_keys_are_named(generator: StyleGAN2) -> None:
    tensors = model_tensors(generator)
    tensors["conv9.weight"] = tensors.pop("conv1.conv.weight")
    tensors["style.1.bias"] = torch.zeros(9)
    with pytest.raises(CheckpointError) as raised:
        load_state(generator, tensors, "here.safetensors")
    message = str(raised.value)
    for part in (
        "here.safetensors",
        "1 missing (conv1.conv.weight)",
        "1 unexpected (conv9.weight)",
        "[9] instead of [8]",
    ):
        assert part in message


def test_a_wrong_kind_of_file_is_named_with_its_keys(tmp_path: Path, saved: Path) -> None:
    card = generator_card(kind="encoder", name="psp", arguments={})
    save_checkpoint(tmp_path / "e", {"input_layer.0.weight": torch.zeros(1)}, card)
    with pytest.raises(CheckpointError, match=r"holds an encoder 'psp' \(keys such as input_layer\.0\.weight\)"):
        load_generator(tmp_path / "e")
    with pytest.raises(CheckpointError, match="holds a generator 'stylegan2'"):
        load_encoder(saved, load_generator(saved), "psp")


def test_an_unknown_encoder_is_refused_before_its_file_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"unknown encoder 'pps'.*'psp'"):
        load_encoder(tmp_path / "none", None, "pps")


def test_arguments_of_another_version_are_refused(tmp_path: Path, generator: StyleGAN2) -> None:
    card = generator_card(arguments=TINY | {"depth": 3})
    save_checkpoint(tmp_path / "g", model_tensors(generator), card)
    with pytest.raises(CheckpointError, match=r"arguments that 'stylegan2' doesn't take: .*depth"):
        load_generator(tmp_path / "g")


def test_a_module_without_an_average_is_stored_as_its_state() -> None:
    assert model_tensors(nn.Linear(2, 1)).keys() == {"weight", "bias"}
