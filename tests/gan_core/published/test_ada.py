"""NVIDIA's pickles, PTI's modules and the TensorFlow originals, read without importing what they name."""

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import read_card
from gan_core.checkpoints.stored import Record, Storage, StoredTensor, row_major
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_generator, model_tensors
from gan_core.published.ada import AdaLayout, ada_arguments, load_ada, module_state, names
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint
from tests.golden.fill import fill, fill_state, golden, keys, relative_error

GOLDEN = Path(__file__).parents[2] / "golden"
PICKLES = ["ada-tiny.pkl", "ada-tiny-hostile-source.pkl", "pti-tuned-tiny.pt"]


def stored(array: np.ndarray) -> StoredTensor:
    storage = Storage(torch.float32, array.size, memoryview(np.ascontiguousarray(array)).cast("B"))
    return StoredTensor(storage, 0, array.shape, row_major(array.shape))


def module(state: dict[str, np.ndarray], **options: Any) -> Record:
    """A pickled generator as the reader gives it: nested records with parameters."""
    root = Record("Generator", {"_parameters": {}, "_modules": {}, "_init_kwargs": options})
    for key, array in state.items():
        *parents, name = key.split(".")
        inner = root
        for parent in parents:
            inner = inner.state["_modules"].setdefault(parent, Record("Module", {"_parameters": {}, "_modules": {}}))
        inner.state["_parameters"][name] = stored(array)
    return root


def filled(listing: str) -> dict[str, np.ndarray]:
    shapes = keys(listing)
    kernel = (np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64).astype(np.float32)
    state = fill_state(shapes, rule="stylegan2")
    return state | {key: kernel for key in shapes if key.endswith("resample_filter")}


@pytest.mark.parametrize("name", PICKLES)
def test_every_value_of_the_pickle_arrives(name: str) -> None:
    expected, _ = golden("ada-tiny-expected")
    value = open_checkpoint(GOLDEN / name).value
    networks = {"G_ema": value} if isinstance(value, Record) else {"G_ema": value["G_ema"], "D": value["D"]}
    for which, network in networks.items():
        found = {f"{which}/{key}": tensor.load() for key, tensor in module_state(network).items()}
        assert found.keys() == {key for key in expected if key.startswith(f"{which}/")}
        assert all(torch.equal(tensor, torch.from_numpy(expected[key])) for key, tensor in found.items())


@pytest.mark.parametrize("name", PICKLES)
def test_an_imported_pickle_gives_the_published_image_and_runs_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = golden("ada-tiny-expected")
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    import_checkpoint(GOLDEN / name, "g.safetensors")
    generator = load_generator("g.safetensors").model
    w = generator.mapping(torch.from_numpy(fill("input:z", (2, 16), rule="raw")))
    assert relative_error(w, expected["ws"][:, 0]) < 1e-4
    assert relative_error(generator.synthesis(generator.broadcast(w)), expected["image"]) < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["g.safetensors"]
    assert not {"torch_utils", "torch_utils.persistence", "dnnlib"} & (set(sys.modules) - known)


def test_there_and_back_gives_equal_tensors(tmp_path: Path) -> None:
    expected, _ = golden("ada-tiny-expected")
    import_checkpoint(GOLDEN / "ada-tiny.pkl", tmp_path / "g.safetensors")
    generator = load_generator(tmp_path / "g.safetensors").model
    ours = model_tensors(generator)
    for name, theirs, _ in names(generator):
        gain = 4 if name.endswith("kernel") else 1
        assert np.array_equal(
            ours[name].numpy().reshape(expected[f"G_ema/{theirs}"].shape) / gain, expected[f"G_ema/{theirs}"]
        )
    assert len(ours) == len(names(generator))


def test_inspect_says_what_it_is_without_loading() -> None:
    about = inspect_checkpoint(GOLDEN / "ada-tiny.pkl")
    assert (about["layout"], about["family"], about["size"], about["n_latent"]) == ("ada", "stylegan2", 16, 6)
    assert about["variant"] == "NVIDIA ADA pickle with G_ema, G, D" and "non-commercial" in about["licence"]
    assert inspect_checkpoint(GOLDEN / "pti-tuned-tiny.pt")["variant"].startswith("one tuned generator")


FORMS: dict[str, Any] = {
    "G alone": lambda one, other, critic: {"G_ema": None, "G": one, "D": critic},
    "ema": lambda one, other, critic: {"ema": one, "G": other},
    "G_ema last": lambda one, other, critic: {"net": other, "net_EMA": one},
    "another name": lambda one, other, critic: {"D": critic, "generator": one, "epoch": 3},
    "a tuple": lambda one, other, critic: (other, critic, one),
    "one in a list": lambda one, other, critic: [one],
    "alone": lambda one, other, critic: one,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_generator_is_found_by_whatever_name(form: str) -> None:
    value = open_checkpoint(GOLDEN / "ada-tiny.pkl").value
    other = open_checkpoint(GOLDEN / "ada-tiny.pkl").value["G"]
    del other.state["_modules"]["synthesis"].state["_modules"]["b16"]  # which can't be read
    content, layout = FORMS[form](value["G_ema"], other, value["D"]), AdaLayout()
    assert layout.recognises(content) and layout.facts(content, "x.pkl")["size"] == 16
    (part,) = layout.convert(content, "x.pkl")
    assert torch.equal(part.tensors["latent_avg"], load_ada(value["G_ema"]).latent_avg)


@pytest.mark.slow
def test_conv_clamp_acts_where_the_published_one_does() -> None:
    expected, meta = golden("ada-generator-32-conv-clamp")
    record = module(filled(meta["keys"]), img_resolution=32, synthesis_kwargs={"conv_clamp": 1.0})
    generator = load_ada(record)
    z = torch.from_numpy(fill("input:z", (2, 512), rule="raw"))[:1]
    assert relative_error(generator(z), expected["image"]) < 1e-4
    generator.conv_clamp = None
    assert relative_error(generator(z), expected["image"]) > 0.01


@pytest.mark.slow
def test_a_conditional_generator_takes_labels(tmp_path: Path) -> None:
    expected, meta = golden("ada-generator-32-conditional")
    generator = load_ada(module(filled(meta["keys"]), img_resolution=32, c_dim=5))
    z, labels = torch.from_numpy(fill("input:z", (2, 512), rule="raw")), torch.eye(5)[[1, 3]]
    w = generator.mapping(z, labels)
    assert relative_error(w, expected["ws"]) < 1e-4
    assert relative_error(generator.synthesis(generator.broadcast(w))[:1], expected["image"]) < 1e-4
    assert torch.equal(generator.mapping(z), generator.mapping(z, torch.eye(5)[[0, 0]]))
    assert StyleGAN2(**generator.arguments).classes == 5


def test_what_our_network_cannot_be_is_refused() -> None:
    value = open_checkpoint(GOLDEN / "ada-tiny.pkl").value["G_ema"]
    value.state["_init_kwargs"]["z_dim"] = 8
    with pytest.raises(CheckpointError, match="only generators with z as wide as w"):
        ada_arguments(value, "x.pkl")
    del value.state["_modules"]["synthesis"].state["_modules"]["b4"]
    with pytest.raises(CheckpointError, match="is not a StyleGAN2-ADA generator"):
        ada_arguments(value, "x.pkl")


def tensorflow_pickle(generator: StyleGAN2, monkeypatch: pytest.MonkeyPatch, **options: Any) -> bytes:
    """Pickle the arrays of a generator as TensorFlow's networks do, the inverse of the published conversion."""
    network = type("Network", (), {"__module__": "dnnlib.tflib.network"})
    for name in ("dnnlib", "dnnlib.tflib", "dnnlib.tflib.network"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["dnnlib.tflib.network"], "Network", network, raising=False)

    def make(arrays: dict[str, np.ndarray], **components: Any) -> Any:
        made = network()
        made.__dict__.update(version=4, static_kwargs=options, variables=list(arrays.items()), components=components)
        return made

    mapping, synthesis, state = {}, {}, {key: value.numpy() for key, value in generator.state_dict().items()}
    for i in range(len(generator.style) - 1):
        mapping[f"Dense{i}/weight"] = np.ascontiguousarray(state[f"style.{i + 1}.weight"].T)
        mapping[f"Dense{i}/bias"] = state[f"style.{i + 1}.bias"]
    if generator.embed is not None:
        mapping["LabelEmbed/weight"] = np.ascontiguousarray(state["embed.weight"].T)
        mapping["LabelEmbed/bias"] = state["embed.bias"]
    layers = {"4x4/Conv": "conv1", "4x4/ToRGB": "to_rgb1", "8x8/Conv0_up": "convs.0"}
    layers |= {"8x8/Conv1": "convs.1", "8x8/ToRGB": "to_rgbs.0"}
    for theirs, ours in layers.items():
        kernel = state[f"{ours}.conv.weight"][0]
        kernel = kernel[:, :, ::-1, ::-1] if theirs.endswith("up") else kernel
        synthesis[f"{theirs}/weight"] = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))
        synthesis[f"{theirs}/mod_weight"] = np.asfortranarray(state[f"{ours}.conv.modulation.weight"].T)
        synthesis[f"{theirs}/mod_bias"] = state[f"{ours}.conv.modulation.bias"] - 1
        bias = state[f"{ours}.bias" if "rgb" in ours else f"{ours}.activate.bias"]
        synthesis[f"{theirs}/bias"] = bias.reshape(-1)
        if "rgb" not in ours:
            synthesis[f"{theirs}/noise_strength"] = state[f"{ours}.noise.weight"][0]
    synthesis["4x4/Const/const"] = state["input.input"]
    synthesis |= {f"noise{i}": state[f"noises.noise_{i}"] for i in range(3)}
    average = {"dlatent_avg": generator.latent_avg.numpy(), "lod": np.float32(0)}
    return pickle.dumps(tuple(make(average, mapping=make(mapping), synthesis=make(synthesis)) for _ in range(3)), 3)


def test_tensorflow_arrays_become_the_same_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    generator = StyleGAN2(8, style_dim=6, n_mlp=2, channels={4: 5, 8: 3}).requires_grad_(False)
    generator.latent_avg.copy_(torch.randn(6))
    path = tmp_path / "stylegan2.pkl"
    path.write_bytes(tensorflow_pickle(generator, monkeypatch))
    about = inspect_checkpoint(path)
    assert (about["layout"], about["size"], about["channels"]) == ("tensorflow", 8, {4: 5, 8: 3})
    import_checkpoint(path, tmp_path / "g.safetensors")
    again = load_generator(tmp_path / "g.safetensors").model
    for key, value in model_tensors(generator).items():
        torch.testing.assert_close(model_tensors(again)[key], value, rtol=0, atol=1e-6)
    assert "non-commercial" in read_card(tmp_path / "g.safetensors").licence


def test_networks_of_the_first_stylegan_are_refused(tmp_path: Path) -> None:
    old = Record("dnnlib.tflib.network.Network", {"version": 3, "variables": []})
    from gan_core.published.tensorflow import load_tensorflow

    with pytest.raises(CheckpointError, match="old StyleGAN"):
        load_tensorflow(old)
