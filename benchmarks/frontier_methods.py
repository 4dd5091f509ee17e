"""The ways to invert a portrait that ``benchmarks.frontier`` compares, and what each needs to be there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.pti import published_loop
from gan_core.batching import in_chunks
from gan_core.budgets import InvertParams
from gan_core.checkpoints.files import Loaded
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.inversion.delta import pack_delta, pack_full
from gan_core.inversion.features import HFGI
from gan_core.inversion.in_domain import InDomain, optimise_in_domain
from gan_core.inversion.projector import PTI as PTI_RECIPE
from gan_core.inversion.projector import Space, project
from gan_core.inversion.refinement import Inverted, build_refinements, refine_all
from gan_core.judges.perceptual import PerceptualLoss
from gan_core.loading import load_encoder
from gan_core.params import Params
from gan_core.rows import Row
from gan_core.stages.encode import EncodeStage
from gan_core.stages.tune import TuneStage
from gan_core.storage.images import encode_png, image_value, to_uint8

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
        return [
            f"python -m tasks.train {command_of(need)}" for need in self.needs if not path_of(need, params).is_file()
        ]


def path_of(need: str, params: Params) -> Path:
    """Return where a model lies: an encoder by its name, ``hyperstyle`` and ``hfgi``."""
    known = {"hyperstyle": params.models.hypernetwork, "hfgi": params.models.features}
    return Path(known[need]) if need in known else params.encoder_path(need)


def command_of(need: str) -> str:
    """Return the training of a model."""
    return {"hyperstyle": "train-hypernetwork", "hfgi": "train-features"}.get(need, f"train-encoder@{need}")


def encoder_of(setting: Setting, name: str) -> Callable[[Tensor], Tensor]:
    """Return what encodes images, a chunk at a time."""
    encoder = load_encoder(setting.params.encoder_path(name), setting.generator, name).model
    return torch.no_grad()(lambda images: in_chunks(encoder.encode, images))


def one_pass(name: str) -> Callable[[Setting], Invert]:
    """An encoder alone."""

    def build(setting: Setting) -> Invert:
        encode = encoder_of(setting, name)
        return lambda images: Result(encode(images), [b""] * len(images))

    return build


def refined(name: str, *refine: str, steps: int = 0) -> Callable[[Setting], Invert]:
    """An encoder, and refinements as ``tune.refine`` names them, with ``steps`` of tuning; all else as in params."""

    def build(setting: Setting) -> Invert:
        tune = setting.params.tune.model_copy(update={"refine": list(refine), "steps": max(steps, 1)})
        chain = build_refinements(setting.generator, setting.loss, tune, setting.params.models)
        encode = encoder_of(setting, name)

        def invert(images: Tensor) -> Result:
            latents = encode(images)
            seeds = list(range(len(images)))
            found = refine_all(chain, Inverted(latents, images, seeds, [steps] * len(images)), None)
            return Result(latents, [pack_delta(one.delta) for one in found])

        return invert

    return build


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


def budget(seconds: float) -> Callable[[Setting], Invert]:
    """The stages of a run with ``invert.budget_s``, by the table of this setting."""

    def build(setting: Setting) -> Invert:
        params, models = setting.params, setting.params.models.model_copy(update={"inversion": setting.table})
        encode = EncodeStage(params.encode, models)
        tune = TuneStage(params.tune, models, invert=InvertParams(budget_s=seconds))

        def invert(images: Tensor) -> Result:
            latents, deltas = [], []
            for row in through(encode, tune, rows_of(images)):
                latents.append(torch.from_numpy(row["latent"]))
                deltas.append(row["delta"])
            return Result(torch.stack(latents), deltas)

        return invert

    return build


def rows_of(images: Tensor) -> list[Row]:
    """Return images as aligned rows, decoded."""
    return [{"key": f"portrait-{i}", "image": pixels} for i, pixels in enumerate(to_uint8(images))]


def through(encode: EncodeStage, tune: TuneStage, rows: Sequence[Row]) -> Iterator[Row]:
    """Take decoded rows through the computing of both stages, as many at a time as the stage of tuning looks at."""
    for begin in range(0, len(rows), tune.batch_size):
        part = rows[begin : begin + tune.batch_size]
        encoded = [row | new for row, new in zip(part, encode.calculate(part), strict=True)]  # type: ignore[operator]
        yield from (row | new for row, new in zip(encoded, tune.calculate(encoded), strict=True))  # type: ignore[operator]


def stored(rows: Sequence[Row]) -> list[Row]:
    """Return rows whose pictures are stored, as a run has them."""
    return [row | {"image": image_value(encode_png(row["image"]), "")} for row in rows]


def methods() -> list[Method]:
    """Return all, cheapest first."""
    hyper = (OVER, "hyperstyle")
    found = [Method(name, "one pass", one_pass(name), [name]) for name in ENCODERS]
    found += [Method("hfgi", "network", refined("psp", "features"), ["psp", "hfgi"])]
    found += [Method("hyperstyle", "network", refined(OVER, "hypernetwork"), hyper)]
    for n in STEPS:
        share = "some" if n >= MANY else "all"
        after = refined(OVER, "hypernetwork", "pti", steps=n)
        found.append(Method(f"hyperstyle, {n} of pti", "tuning", after, hyper, share))
        found.append(Method(f"pti, {n} steps", "tuning", refined("psp", "pti", steps=n), ["psp"], share))
    found += [
        Method("in-domain optimisation", "optimisation", in_domain, ["idinvert"], "few"),
        Method("optimisation in W", "optimisation", projected("w"), [], "few"),
        Method("optimisation in W+", "optimisation", projected("w_plus"), [], "few"),
        Method("pti, published loop", "tuning", published, ["psp"], "few"),
    ]
    found += [Method(f"ours, {s:g} s", "ours", budget(s), ["psp"], "some" if s >= 1 else "all") for s in BUDGETS]
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
    return load_features(path, setting.generator).model if Path(path).is_file() else None
