"""The ways to invert a portrait that ``benchmarks.frontier`` compares, and what each needs to be there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.pti import published_loop
from gan_core.batching import in_chunks
from gan_core.budgets import InvertParams
from gan_core.checkpoints.files import Loaded
from gan_core.errors import DataError, ParamsError
from gan_core.generators.base import Generator
from gan_core.inversion.delta import pack_full
from gan_core.inversion.features import HFGI
from gan_core.inversion.in_domain import InDomain, optimise_in_domain
from gan_core.inversion.projector import PTI as PTI_RECIPE
from gan_core.inversion.projector import Space, project
from gan_core.judges.perceptual import PerceptualLoss
from gan_core.loading import load_encoder
from gan_core.params import ModelPaths, Params
from gan_core.rows import Rejected, Row
from gan_core.stages.encode import EncodeStage
from gan_core.stages.tune import TuneStage
from gan_core.storage.images import encode_png, image_value, to_uint8
from gan_core.storage.urls import exists

ENCODERS = ("psp", "e4e", "style-transformer", "psp-w", "restyle-psp", "restyle-e4e", "idinvert", "alae")
STEPS = (1, 2, 5, 10, 20, 40)
"""Steps of tuning after a hypernetwork, and without one."""
MANY = 5
"""Steps from which a method gets a part of the portraits, the same for all, so that their distances compare."""
BUDGETS = (0.02, 0.05, 0.1, 0.3, 1.0, 2.0)
LOOP_STEPS, PROJECTOR_STEPS, IN_DOMAIN_STEPS = 350, 300, 100
OVER = "psp-w"
"""The encoder that the hypernetwork was trained over."""


@dataclass(frozen=True)
class Result:
    """What a method finds for B portraits: latents ``[B, n_latent, w_dim]`` and packed deltas."""

    latents: Tensor
    deltas: Sequence[bytes]


Invert = Callable[[Tensor], Result]
"""From aligned images ``[B, 3, H, W]`` in [-1, 1] to what is kept of them."""


@dataclass(frozen=True)
class Setting:
    """What methods are built from; ``table`` is the file that budgets follow, empty where none was measured."""

    params: Params
    generator: Loaded[Generator]
    loss: PerceptualLoss
    table: str = ""


@dataclass(frozen=True)
class Method:
    """A way to invert: ``needs`` are names of models and ``made_by`` what trains them; ``slow`` ones get fewer rows.

    ``group`` is ``one pass``, ``network``, ``optimisation``, ``tuning`` or ``ours``.
    """

    name: str
    group: str
    build: Callable[[Setting], Invert]
    needs: Sequence[str] = ()
    share: str = "all"

    def missing(self, params: Params) -> list[str]:
        """Return the commands that train what is not there."""
        return [f"python -m tasks.train {command_of(need)}" for need in self.needs if not exists(path_of(need, params))]


def path_of(need: str, params: Params) -> str:
    """Return where a model lies: an encoder by its name, ``hyperstyle`` and ``hfgi``."""
    known = {"hyperstyle": params.models.hypernetwork, "hfgi": params.models.features}
    return known[need] if need in known else params.encoder_path(need)


def command_of(need: str) -> str:
    """Return the training of a model."""
    return {"hyperstyle": "train-hypernetwork", "hfgi": "train-features"}.get(need, f"train-encoder@{need}")


def models_of(setting: Setting, name: str) -> ModelPaths:
    """Return the models of a run with the encoder ``name``."""
    return setting.params.models.model_copy(update={"encoder": setting.params.encoder_path(name)})


def encoding(setting: Setting, name: str) -> EncodeStage:
    """Return the stage of a run with the encoder ``name``: latents, and the pictures drawn from them."""
    return EncodeStage(setting.params.encode.model_copy(update={"encoder": name}), models_of(setting, name))


def encoder_of(setting: Setting, name: str) -> Callable[[Tensor], Tensor]:
    """Return what encodes images and draws them, as a run does: latents ``[B, n_latent, w_dim]``."""
    stage = encoding(setting, name)
    return lambda images: torch.from_numpy(np.stack([row["latent"] for row in finished(stage, rows_of(images))]))


def one_pass(name: str) -> Callable[[Setting], Invert]:
    """An encoder alone."""

    def build(setting: Setting) -> Invert:
        encode = encoder_of(setting, name)
        return lambda images: Result(encode(images), [b""] * len(images))

    return build


def run_of(name: str, invert: InvertParams | None = None, **tune: Any) -> Callable[[Setting], Invert]:
    """A run's stages of encoding by ``name`` and of tuning; ``tune`` is what differs from ``params.yaml``."""

    def build(setting: Setting) -> Invert:
        models = models_of(setting, name).model_copy(update={"inversion": setting.table} if invert else {})
        encode = encoding(setting, name)
        stage = TuneStage(setting.params.tune.model_copy(update=tune), models, invert=invert)

        def through(images: Tensor) -> Result:
            latents, deltas = [], []
            rows = rows_of(images)
            for begin in range(0, len(rows), stage.batch_size):
                encoded = finished(encode, rows[begin : begin + stage.batch_size])
                for row in finished(stage, encoded):
                    latents.append(torch.from_numpy(row["latent"]))
                    deltas.append(row["delta"])
            return Result(torch.stack(latents), deltas)

        return through

    return build


def finished(stage: EncodeStage | TuneStage, rows: Sequence[Row]) -> list[Row]:
    """Return decoded rows with what a stage computes for them; raises ``DataError`` if it rejects one."""
    found = []
    for row, new in zip(rows, stage.calculate(rows), strict=True):
        if isinstance(new, Rejected):
            raise DataError(f"{row['key']} was rejected by the stage {stage.name}: {new.reason}")
        found.append(row | new)
    return found


def projected(space: Space) -> Callable[[Setting], Invert]:
    """Optimisation of the latents by PTI's recipe."""

    def build(setting: Setting) -> Invert:
        recipe = replace(PTI_RECIPE, space=space, steps=PROJECTOR_STEPS)

        def invert(images: Tensor) -> Result:
            latents, _ = project(setting.generator.model, images, setting.loss, recipe, list(range(len(images))))
            return Result(latents, [b""] * len(images))

        return invert

    return build


def in_domain(setting: Setting) -> Invert:
    """The encoder of IDInvert and its optimisation near what the encoder says."""
    generator = setting.generator.model
    encoder = load_encoder(setting.params.encoder_path("idinvert"), setting.generator, "idinvert").model
    recipe = InDomain(IN_DOMAIN_STEPS, feature_weight=setting.params.tune.perceptual_weight)

    def invert(images: Tensor) -> Result:
        with torch.no_grad():
            start = in_chunks(encoder.encode, images)
        latents = optimise_in_domain(generator, encoder.encode, images, start, setting.loss, recipe)
        return Result(latents, [b""] * len(images))

    return invert


def published(setting: Setting) -> Invert:
    """Pivotal tuning as published: one image at a time, all weights."""
    generator, encode = setting.generator.model, encoder_of(setting, setting.params.encode.encoder)

    def invert(images: Tensor) -> Result:
        latents, deltas, weights = encode(images), [], dict(generator.named_parameters())
        for latent, image in zip(latents.split(1), images.split(1), strict=True):
            tuned, _ = published_loop(generator, latent, image, setting.loss, LOOP_STEPS, 0.0)
            deltas.append(pack_full({name: after - weights[name] for name, after in tuned.named_parameters()}))
        return Result(latents, deltas)

    return invert


def rows_of(images: Tensor) -> list[Row]:
    """Return images as aligned rows, decoded."""
    return [{"key": f"portrait-{i}", "image": pixels} for i, pixels in enumerate(to_uint8(images))]


def stored(rows: Sequence[Row]) -> list[Row]:
    """Return rows whose pictures are stored, as a run has them."""
    pictures = ("image", "reconstruction")
    return [row | {name: image_value(encode_png(row[name]), "") for name in pictures} for row in rows]


def methods() -> list[Method]:
    """Return all, cheapest first."""
    hyper = (OVER, "hyperstyle")
    found = [Method(name, "one pass", one_pass(name), [name]) for name in ENCODERS]
    found += [Method("hfgi", "network", run_of("psp", refine=["features"]), ["psp", "hfgi"])]
    found += [Method("hyperstyle", "network", run_of(OVER, refine=["hypernetwork"]), hyper)]
    for n in STEPS:
        share = "some" if n >= MANY else "all"
        after = run_of(OVER, refine=["hypernetwork", "pti"], steps=n)
        found.append(Method(f"hyperstyle, {n} of pti", "tuning", after, hyper, share))
        found.append(Method(f"pti, {n} steps", "tuning", run_of("psp", refine=["pti"], steps=n), ["psp"], share))
    found += [
        Method("hybrid", "tuning", run_of("psp", refine=["hybrid"]), ["psp"], "few"),
        Method("in-domain optimisation", "optimisation", in_domain, ["idinvert"], "few"),
        Method("optimisation in W", "optimisation", projected("w"), [], "few"),
        Method("optimisation in W+", "optimisation", projected("w_plus"), [], "few"),
        Method("pti, published loop", "tuning", published, ["psp"], "few"),
    ]
    for s in BUDGETS:
        ours = run_of("psp", InvertParams(budget_s=s))
        found.append(Method(f"ours, {s:g} s", "ours", ours, ["psp"], "some" if s >= 1 else "all"))
    return found


def find_method(name: str) -> Method:
    """Return a method by its name; raises ``ParamsError``."""
    for method in methods():
        if method.name == name:
            return method
    raise ParamsError(f"no method {name!r}: {', '.join(method.name for method in methods())}")


def features_of(setting: Setting) -> HFGI | None:
    """Return the feature network, if it is there."""
    from gan_core.inversion.features import load_features

    path = setting.params.models.features
    return load_features(path, setting.generator).model if exists(path) else None
