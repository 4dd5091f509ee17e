"""Published wrappers become our encoders: by name, with the variant, the sizes and the average they came with."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.encoders.base import ENCODERS
from gan_core.errors import CheckpointError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.published.encoders import (
    Undecided,
    check_published_encoder,
    infer_encoder,
    load_published_encoder,
    split_wrapper,
)
from tests.golden.fill import fill, fill_state, golden, relative_error

GENERATOR: dict[str, Any] = {"size": 64, "style_dim": 16, "n_mlp": 2, "channels": {4: 8, 8: 8, 16: 8, 32: 8, 64: 8}}
ENCODER: dict[str, Any] = {"n_latent": 10, "style_dim": 16, "input_size": 256, "units": [1, 2, 1, 1], "width": 4}
TYPES = {
    "psp": "GradualStyleEncoder",
    "e4e": "Encoder4Editing",
    "psp-w": "BackboneEncoderUsingLastLayerIntoW",
    "psp-w-plus": "BackboneEncoderUsingLastLayerIntoWPlus",
    "style-transformer": "StyleTransformer",
}


def wrapper(variant: str, prefix: str = "", **changes: Any) -> dict[str, Any]:
    """A file as published: the encoder's and the decoder's tensors under their prefixes, options and average."""
    torch.manual_seed(0)
    arguments = ENCODER | ({"n_mlp": 2, "n_queries": 18} if variant == "style-transformer" else {}) | changes
    encoder, decoder = ENCODERS.get(variant)(**arguments), StyleGAN2(**GENERATOR)
    state = {f"encoder.{prefix}{k}": v for k, v in encoder.state_dict().items() if not k.startswith("style.")}
    state |= {f"decoder.{prefix}{k}": v for k, v in decoder.state_dict().items()}
    options = {"encoder_type": TYPES.get(variant), "device": "cuda:0", "start_from_latent_avg": True}
    return {"state_dict": state, "opts": options, "latent_avg": torch.randn(10, 16)}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("variant", TYPES)
def test_every_variant_is_told_apart_and_loaded(variant: str, prefix: str) -> None:
    content = wrapper(variant, prefix)
    found = load_published_encoder(content)
    assert found.encoder.name == variant
    assert found.generator is not None and found.generator.size == 64
    state = content["state_dict"]
    for key, value in found.encoder.state_dict().items():
        published = f"{'decoder' if key.startswith('style.') else 'encoder'}.{prefix}{key}"
        assert torch.equal(value, state[published]), key
    assert torch.equal(found.encoder.latent_avg, content["latent_avg"])
    assert found.encoder.encode(torch.rand(1, 3, 256, 256)).shape == (1, 10, 16)


@pytest.mark.parametrize("stored", [(16,), (1, 16), (10, 16)])
def test_the_average_may_be_one_row(stored: tuple[int, ...]) -> None:
    average = torch.randn(stored)
    found = load_published_encoder(wrapper("psp") | {"latent_avg": average})
    assert torch.equal(found.encoder.latent_avg, average.expand(10, 16))


def test_a_missing_average_is_computed_or_zero() -> None:
    content = {key: value for key, value in wrapper("e4e").items() if key != "latent_avg"}
    found = load_published_encoder(content)
    assert found.generator is not None
    torch.testing.assert_close(found.encoder.latent_avg[3], found.generator.mean_latent())
    without = load_published_encoder(content | {"opts": content["opts"] | {"start_from_latent_avg": False}})
    assert without.generator is not None
    assert not without.encoder.latent_avg.any() and torch.equal(
        without.generator.latent_avg, found.generator.latent_avg
    )


def test_a_stored_average_is_not_added_where_the_options_say_so() -> None:
    content = wrapper("e4e")
    content["opts"]["start_from_latent_avg"] = False
    found, image = load_published_encoder(content), torch.rand(1, 3, 256, 256)
    assert torch.equal(found.encoder.encode(image), found.encoder(image))
    assert found.generator is not None
    torch.testing.assert_close(found.generator.latent_avg, content["latent_avg"].mean(0))


@pytest.mark.parametrize(
    ("average", "message"),
    [
        (torch.randn(4, 16), "4 different rows in latent_avg, but its network has 10 latents"),
        (torch.randn(10, 8), r"latent_avg of \[10, 8\], but its latents have 16 numbers"),
        (torch.tensor(1.0), r"latent_avg of \[\]"),
        ("mean", "latent_avg of str"),
    ],
)
def test_an_average_of_another_network_is_refused(average: object, message: str) -> None:
    content = wrapper("psp") | {"latent_avg": average}
    with pytest.raises(CheckpointError, match=message):
        load_published_encoder(content)
    with pytest.raises(CheckpointError, match=message):
        check_published_encoder(content, average, "the file")


def test_the_average_may_lie_among_the_weights_of_the_decoder() -> None:
    content = {key: value for key, value in wrapper("psp").items() if key != "latent_avg"}
    content["state_dict"]["decoder.latent_avg"] = torch.full((1, 16), 0.5)
    check_published_encoder(content, None, "the file")
    found = load_published_encoder(content)
    assert torch.equal(found.encoder.latent_avg, torch.full((10, 16), 0.5))


def test_an_average_with_equal_rows_may_have_any_number_of_them() -> None:
    row = torch.randn(1, 16)
    found = load_published_encoder(wrapper("psp") | {"latent_avg": row.repeat(18, 1)})
    assert torch.equal(found.encoder.latent_avg, row.expand(10, 16))
    found = load_published_encoder(wrapper("psp") | {"latent_avg": row.repeat(4, 1)})
    assert torch.equal(found.encoder.latent_avg, row.expand(10, 16))


@pytest.mark.parametrize("options", [None, {}, {"stylegan_size": 64, "start_from_latent_avg": True}])
def test_where_names_do_not_decide_the_variant_is_asked_for(options: dict[str, Any] | None) -> None:
    content = wrapper("e4e") | {"opts": options}
    with pytest.raises(Undecided, match=r"x.pt doesn't say whether it is psp or e4e.*--variant psp or --variant e4e"):
        load_published_encoder(content, "x.pt")
    with pytest.raises(Undecided):
        check_published_encoder(content, content["latent_avg"], "x.pt")
    for variant in ("psp", "e4e"):
        assert load_published_encoder(content, "x.pt", variant).encoder.name == variant


def test_a_variant_that_the_file_contradicts_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"x.pt says itself that it is e4e, not psp: leave the variant out"):
        load_published_encoder(wrapper("e4e"), "x.pt", "psp")
    with pytest.raises(CheckpointError, match=r"x.pt says itself that it is style-transformer, not e4e"):
        load_published_encoder(wrapper("style-transformer"), "x.pt", "e4e")
    assert load_published_encoder(wrapper("e4e"), "x.pt", "e4e").encoder.name == "e4e"


RESTYLES: list[tuple[str, str, dict[str, Any]]] = [
    ("BackboneEncoder", "restyle-psp", {}),
    ("GradualStyleEncoder", "restyle-psp", {"pyramid": True}),
    ("ResNetGradualStyleEncoder", "restyle-psp", {"pyramid": True, "backbone": "resnet"}),
    ("ProgressiveBackboneEncoder", "restyle-e4e", {}),
    ("ResNetProgressiveBackboneEncoder", "restyle-e4e", {"backbone": "resnet"}),
]


@pytest.mark.parametrize(("said", "name", "changes"), RESTYLES)
def test_encoders_of_restyle_are_told_apart(said: str, name: str, changes: dict[str, Any]) -> None:
    content = wrapper(name, **changes)
    content["opts"] |= {"encoder_type": said, "n_iters_per_batch": 2, "input_nc": 6, "start_from_latent_avg": False}
    check_published_encoder(content, content["latent_avg"], "x.pt")
    found = load_published_encoder(content)
    assert (found.encoder.name, found.encoder.arguments["steps"]) == (name, 2)
    assert found.encoder.arguments.items() >= changes.items()
    assert torch.equal(found.encoder.latent_avg, content["latent_avg"])  # the option counts in training only
    assert found.encoder.encode(torch.rand(1, 3, 256, 256)).shape == (1, 10, 16)


def test_without_its_type_only_a_pyramid_of_restyle_is_known() -> None:
    content = wrapper("restyle-e4e") | {"opts": {}}
    with pytest.raises(Undecided, match=r"x.pt doesn't say whether it is restyle-psp or restyle-e4e"):
        load_published_encoder(content, "x.pt")
    with pytest.raises(Undecided, match=r"restyle-psp or restyle-e4e"):
        load_published_encoder(content, "x.pt", "e4e")
    assert load_published_encoder(content, "x.pt", "restyle-e4e").encoder.arguments["steps"] == 5
    pyramid = wrapper("restyle-psp", pyramid=True) | {"opts": {}}
    assert load_published_encoder(pyramid).encoder.name == "restyle-psp"


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({"encoder_type": "BackboneEncoder"}, {"encoder.input_layer.0.weight": torch.zeros(4, 2, 3, 3)}, "2 channels"),
        ({"encoder_type": "ProgressiveBackboneEncoder", "n_iters_per_batch": "5"}, {}, "n_iters_per_batch '5'"),
        ({"encoder_type": "ProgressiveBackboneEncoder"}, {"encoder.body.4.res_layer.3.weight": None}, "is not a whole"),
        ({"encoder_type": "ResNetMine", "n_iters_per_batch": 5}, {}, "encoder_type 'ResNetMine', which is not known"),
        ({"encoder_type": "BackboneEncoder"}, {"encoder.styles.3.linear.bias": None}, r"1 missing \(styles.3"),
    ],
)
def test_what_of_restyle_is_refused(options: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    content = wrapper("restyle-psp")
    state = {k: v for k, v in (content["state_dict"] | changes).items() if v is not None}
    with pytest.raises(CheckpointError, match=message):
        load_published_encoder(content | {"state_dict": state, "opts": options}, "x.pt")


def test_a_translation_of_six_classes_is_no_restyle() -> None:
    content = wrapper("psp", input_channels=6)
    content["opts"] |= {"label_nc": 6, "input_nc": 6}
    assert load_published_encoder(content).encoder.arguments["input_channels"] == 6


def test_another_encoder_type_is_refused_by_name() -> None:
    content = wrapper("psp") | {"opts": {"encoder_type": "MyEncoder"}}
    with pytest.raises(CheckpointError, match=r"x.pt has encoder_type 'MyEncoder', which is not known here"):
        load_published_encoder(content, "x.pt")


@pytest.mark.parametrize("said", [None, ""])
def test_an_encoder_type_that_says_nothing_is_asked_for(said: str | None) -> None:
    content = wrapper("e4e")
    content["opts"] |= {"encoder_type": said}
    with pytest.raises(CheckpointError, match=r"say which with --variant psp or --variant e4e"):
        load_published_encoder(content, "x.pt")
    assert load_published_encoder(content, "x.pt", "e4e").encoder.name == "e4e"


def test_noise_maps_and_counters_may_be_missing() -> None:
    content = wrapper("psp")
    kept = {k: v for k, v in content["state_dict"].items() if "noises." not in k and "num_batches" not in k}
    assert load_published_encoder(content | {"state_dict": kept}).generator is not None


def test_cars_are_wide() -> None:
    content = wrapper("psp")
    content["opts"]["dataset_type"] = "cars_encode"
    assert load_published_encoder(content).encoder.input_shape == (192, 256)


def test_an_old_e4e_for_cars_is_cut_to_its_generator() -> None:
    content = wrapper("e4e", n_latent=12)
    content["opts"]["stylegan_size"] = 64
    whole = ENCODERS.get("e4e")(**ENCODER | {"n_latent": 12})  # type: ignore[call-arg]
    whole.load_state_dict({k.removeprefix("encoder."): v for k, v in content["state_dict"].items() if "encoder." in k})
    found = load_published_encoder(content).encoder
    image = torch.rand(1, 3, 256, 256)
    torch.testing.assert_close(found(image), whole.eval()(image)[:, :10])


def test_an_encoder_for_a_larger_generator_is_refused_with_the_cause() -> None:
    message = (
        r"x.pt writes 12 latents \(styles.0 to styles.11: a generator of 128 px\), but its decoder takes 10 \(64 px\)"
    )
    with pytest.raises(CheckpointError, match=message):
        load_published_encoder(wrapper("psp", n_latent=12), "x.pt")


def test_keys_that_do_not_fit_are_named() -> None:
    content = wrapper("psp")
    del content["state_dict"]["encoder.latlayer1.bias"]
    with pytest.raises(CheckpointError, match=r"x.pt doesn't fit GradualStyleEncoder: .*latlayer1.bias"):
        load_published_encoder(content, "x.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "has no state_dict"),
        ({"state_dict": {"decoder.a": torch.zeros(1)}}, r"has no encoder.\* keys \(it has decoder\)"),
        ({"state_dict": {"encoder.fc.weight": torch.zeros(1)}}, "holds no known encoder .*fc.weight"),
        ({"state_dict": {"encoder.styles.0.linear.weight": torch.zeros(1, 1)}}, "is not a whole psp encoder"),
    ],
)
def test_other_files_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_published_encoder(content)


@pytest.mark.parametrize("size", [float("nan"), float("inf"), 1 << 60, -4])
def test_a_size_that_no_generator_has_tells_nothing(size: float) -> None:
    file = wrapper("psp")
    file["opts"] |= {"output_size": size}
    assert load_published_encoder(file).encoder.arguments == load_published_encoder(wrapper("psp")).encoder.arguments


@pytest.mark.parametrize("variant", ["psp", "style-transformer"])
def test_a_number_far_above_the_layers_in_the_file_is_refused_at_once(variant: str) -> None:
    file = wrapper(variant)
    part = "encoder.styles.100000000.linear.weight" if variant == "psp" else "decoder.style.100000000.weight"
    file["state_dict"][part] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"not found|differ"):
        load_published_encoder(file)


def test_shapes_alone_tell_the_variant() -> None:
    parts = split_wrapper(wrapper("style-transformer", "module."))
    assert infer_encoder(parts["encoder"], {}, 10, decoder=parts["decoder"]) == (
        "style-transformer",
        {"width": 4, "input_channels": 3, "units": [1, 2, 1, 1], "n_latent": 10, "style_dim": 16}
        | {"input_size": 256, "n_queries": 18, "n_mlp": 2},
    )


def images() -> Tensor:
    return torch.from_numpy(np.clip(0.5 * fill("input:x", (2, 3, 256, 256), rule="raw"), -1, 1))


@pytest.mark.slow
def test_the_published_wrapper_gives_the_same_codes_and_picture() -> None:
    with torch.device("meta"):
        networks = {"encoder": ENCODERS.get("psp-w")(10), "decoder": StyleGAN2(64)}  # type: ignore[call-arg]
    state: dict[str, Tensor] = {}
    for name, rule in (("encoder", "psp"), ("decoder", "stylegan2")):
        shapes = {f"{name}.{key}": list(value.shape) for key, value in networks[name].state_dict().items()}
        state |= {key: torch.from_numpy(value) for key, value in fill_state(shapes, rule=rule).items()}
    kernels = {f"decoder.{k}": v for k, v in StyleGAN2(64).state_dict().items() if k.endswith("kernel")}
    average = 0.5 * torch.from_numpy(fill("input:latent_avg", (10, 512), rule="raw"))[:1]
    content = {"state_dict": state | kernels, "opts": {"learn_in_w": True}, "latent_avg": average}
    found = load_published_encoder(content)
    codes = found.encoder.encode(images())
    expected, _ = golden("psp-wrapper-64-w")
    assert relative_error(codes, expected["codes"]) < 1e-4
    assert found.generator is not None
    assert relative_error(found.generator.synthesis(codes[:1]), expected["image"]) < 1e-4
