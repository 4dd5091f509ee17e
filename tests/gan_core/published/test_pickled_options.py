"""Options in NVIDIA's pickles: those that change pictures are read from every writer, or refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.stored import Record
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_generator
from gan_core.published.ada import AdaLayout, ada_arguments, load_ada, module_state
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint
from gan_core.published.options import modules
from tests.gan_core.published.test_ada import tensorflow_pickle

GOLDEN = Path(__file__).parents[2] / "golden"
NESTED = {"channel_base": 256, "channel_max": 16, "num_fp16_res": 0}
FLAT = NESTED | {"num_fp16_res": 4, "fused_modconv_default": "inference_only"}
"""What the StyleGAN3 code writes beside the dimensions for --cfg=stylegan2."""


def generator(**options: Any) -> Record:
    """NVIDIA's tiny generator with other options; ``synthesis_kwargs`` are gone unless they are given."""
    record: Record = open_checkpoint(GOLDEN / "ada-tiny.pkl").value["G_ema"]  # type: ignore[index]
    record.state["_init_kwargs"].pop("synthesis_kwargs")
    record.state["_init_kwargs"] |= options
    return record


def without_attributes(record: Record) -> Record:
    for _, part in modules(record):
        part.state = {name: value for name, value in part.state.items() if name.startswith("_")}
    return record


def clamped(record: Record, value: float | None) -> Record:
    for _, part in modules(record):
        part.state |= {"conv_clamp": value} if "conv_clamp" in part.state else {}
    return record


@pytest.mark.parametrize(
    ("record", "clamp"),
    [
        (generator(synthesis_kwargs=NESTED | {"conv_clamp": 256}), 256.0),
        (generator(**FLAT, conv_clamp=2), 2.0),
        (generator(**FLAT, conv_clamp=None), None),
        (clamped(generator(**FLAT), 256), 256.0),
        (without_attributes(generator(**FLAT)), 256.0),
        (without_attributes(generator(**FLAT, conv_clamp=None)), None),
        (without_attributes(generator(synthesis_kwargs=NESTED)), None),
    ],
    ids=["nested", "flat", "flat none", "layers", "default of the StyleGAN3 code", "fp32", "default of ADA"],
)
def test_the_clamp_is_read_from_every_writer(record: Record, clamp: float | None) -> None:
    assert ada_arguments(record, "x.pkl")["conv_clamp"] == clamp
    assert AdaLayout().facts(record, "x.pkl")["conv_clamp"] == clamp
    assert load_ada(record).arguments["conv_clamp"] == clamp


def test_positional_options_are_read() -> None:
    record = generator()
    options = record.state["_init_kwargs"]
    names = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")
    record.state["_init_args"] = tuple(options.pop(name) for name in names)
    record.state["_init_args"] += ({}, {"conv_clamp": 3})
    del options["mapping_kwargs"]
    assert ada_arguments(record, "x.pkl")["conv_clamp"] == 3.0


def test_options_that_change_no_picture_are_accepted() -> None:
    mapping = {"num_layers": 2, "w_avg_beta": 0.998, "freeze_layers": 0, "lr_multiplier": 0.01, "activation": "lrelu"}
    synthesis = FLAT | {"architecture": "skip", "use_noise": True, "resample_filter": [1, 3, 3, 1]}
    changed = generator(**synthesis, fp16_channels_last=True, mapping_kwargs=mapping)
    found, plain = load_ada(changed), load_ada(generator(synthesis_kwargs=NESTED))
    assert found.arguments == plain.arguments
    z = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found(z), plain(z))


def test_a_mean_latent_that_was_not_tracked_is_computed() -> None:
    record = generator(mapping_kwargs={"w_avg_beta": None})
    del record.state["_modules"]["mapping"].state["_buffers"]["w_avg"]
    built = load_ada(record)
    torch.testing.assert_close(built.latent_avg, built.mean_latent())
    assert built.latent_avg.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"synthesis_kwargs": {"architecture": "resnet"}}, "architecture = 'resnet', .*: our StyleGAN2 has 'skip'"),
        ({"architecture": "orig"}, "architecture = 'orig'"),
        ({"resample_filter": [1, 2, 1]}, r"resample_filter = \[1, 2, 1\]"),
        ({"synthesis_kwargs": {"resample_filter": [1, 3, 2, 1]}}, "four symmetric numbers"),
        ({"use_noise": False}, "use_noise = False"),
        ({"synthesis_kwargs": {"activation": "relu"}}, "activation = 'relu'"),
        ({"mapping_kwargs": {"lr_multiplier": 1.0}}, "lr_multiplier = 1.0"),
        ({"mapping_kwargs": {"activation": "sine"}}, "activation = 'sine'"),
        ({"mapping_kwargs": {"skip_layers": 2}}, "the option 'skip_layers', which is not known here"),
        ({"attention": True}, "the option 'attention', which is not known here"),
        ({"synthesis_kwargs": {"style_gain": 2}}, "the option 'style_gain'"),
        ({"img_channels": 4}, "img_channels = 4"),
        ({"init_res": [4, 6]}, r"init_res = \[4, 6\]"),
        ({"conv_clamp": -1}, "conv_clamp = -1: a positive number"),
        ({"conv_clamp": "x" * 999}, r"conv_clamp = 'x{59}\.\.\.: a positive number"),
        ({"img_resolution": 24}, "a power of two"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    for describe in (ada_arguments, AdaLayout().facts, load_ada):
        with pytest.raises(CheckpointError, match=message) as raised:
            describe(generator(**options), "x.pkl")
        assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ("synthesis.b8", {"architecture": "resnet"}, "synthesis.b8 has architecture = 'resnet'"),
        ("synthesis.b8.conv0", {"activation": "relu"}, "synthesis.b8.conv0 has activation = 'relu'"),
        ("mapping.fc1", {"bias_gain": 1.0}, "mapping.fc1 has bias_gain = 1.0"),
        ("synthesis.b16.torgb", {"conv_clamp": 256}, "a conv_clamp that differs between layers"),
    ],
)
def test_what_the_parts_say_of_themselves_counts(path: str, change: dict[str, Any], message: str) -> None:
    record = generator()
    dict(modules(record))[path].state |= change
    with pytest.raises(CheckpointError, match=message):
        ada_arguments(record, "x.pkl")


def test_tensors_of_other_layers_are_refused() -> None:
    record = generator()
    parts = dict(modules(record))
    parts["synthesis.b8"].state["_modules"]["attention"] = Record("Attention", dict(parts["mapping.fc0"].state))
    with pytest.raises(
        CheckpointError, match=r"has synthesis\.b8\.attention\.bias, which no StyleGAN2-ADA generator has"
    ):
        load_ada(record)


@pytest.mark.parametrize("part", ["input", "L3_52_512"])
@pytest.mark.parametrize("held", ["G_ema", None])
def test_a_stylegan3_is_named(held: str | None, part: str) -> None:
    record = generator(channel_base=32768, magnitude_ema_beta=0.9)
    synthesis = dict(modules(record))["synthesis"].state
    synthesis["_modules"] = {part: Record("Layer", {"_parameters": {}})}
    value = {held: record} if held else record
    assert AdaLayout().recognises(value)
    for describe in (AdaLayout().facts, AdaLayout().convert):
        with pytest.raises(CheckpointError, match=r"x\.pkl holds a StyleGAN3 generator"):
            describe(value, "x.pkl")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_without_its_options_is_refused_with_what_to_do(prefix: str, tmp_path: Path) -> None:
    state = {prefix + key: tensor.load() for key, tensor in module_state(generator()).items()}
    for content in (state, {"G_ema": state}):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=r"state dict of a StyleGAN2-ADA .*: name the pickle"):
            inspect_checkpoint(tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=r"state dict of a StyleGAN2-ADA .*: name the pickle"):
            import_checkpoint(tmp_path / "x.pt", tmp_path / "x.safetensors")


def small(**options: Any) -> StyleGAN2:
    torch.manual_seed(0)
    made = StyleGAN2(8, style_dim=6, n_mlp=2, channels={4: 5, 8: 3}, **options).requires_grad_(False)
    made.latent_avg.copy_(torch.randn(6))
    return made


def written(folder: Path, monkeypatch: pytest.MonkeyPatch, made: StyleGAN2, **options: Any) -> Path:
    (folder / "x.pkl").write_bytes(tensorflow_pickle(made, monkeypatch, **options))
    return folder / "x.pkl"


def test_tensorflows_clamp_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"conv_clamp": 0.5, "num_fp16_res": 4, "label_size": 0, "fmap_base": 16384, "mapping_layers": 2}
    path = written(tmp_path, monkeypatch, small(), **options)
    assert inspect_checkpoint(path)["conv_clamp"] == 0.5
    import_checkpoint(path, tmp_path / "g.safetensors")
    found, expected = load_generator(tmp_path / "g.safetensors").model, small(conv_clamp=0.5)
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found(z), expected(z), rtol=0, atol=1e-5)
    assert (found(z) - small()(z)).abs().max() > 0.1


def test_tensorflows_labels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, monkeypatch, small(classes=4), label_size=4)
    assert inspect_checkpoint(path)["classes"] == 4
    import_checkpoint(path, tmp_path / "g.safetensors")
    found, labels, z = load_generator(tmp_path / "g.safetensors").model, torch.eye(4)[[1, 3]], torch.randn(2, 6)
    torch.testing.assert_close(found.mapping(z, labels), small(classes=4).mapping(z, labels))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "resnet"}, "architecture = 'resnet'"),
        ({"resample_kernel": None}, "resample_kernel = None"),
        ({"normalize_latents": False}, "normalize_latents = False"),
        ({"synthesis_func": "G_synthesis_stylegan_revised"}, "synthesis_func = 'G_synthesis_stylegan_revised'"),
        ({"mapping_lrmul": 0.1}, "mapping_lrmul = 0.1"),
        ({"num_channels": 1}, "num_channels = 1"),
        ({"style_gain": 2}, "the option 'style_gain', which is not known here"),
    ],
)
def test_tensorflows_other_options_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, monkeypatch, small(), **options)
    with pytest.raises(CheckpointError, match=message):
        inspect_checkpoint(path)
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(path, tmp_path / "g.safetensors")
