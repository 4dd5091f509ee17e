"""Parameters of the stages, and of the networks that they use: what runs do to each picture, and how it is measured."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gan_core.errors import near_matches
from gan_core.sections import Count, Decay, Positive, Precision, Section, Unit, Weight


class ModelPaths(Section):
    """The files of networks, as paths or fsspec URLs."""

    generator: str = "data/models/generator.safetensors"
    """The generator whose latents are searched, and which draws every picture."""
    encoder: str = "data/models/{encoder}.safetensors"
    """The encoder of this generator; `{encoder}` stands for `encode.encoder`."""
    identity: str = "data/models/identity.safetensors"
    """What measures whether two pictures show the same person (metric `identity`)."""
    attributes: str = "data/models/attributes.safetensors"
    """What measures attributes such as a smile (metric `attributes`)."""
    perceptual: str = "data/models/perceptual.safetensors"
    """What measures LPIPS, in the metric `lpips` and in the loss of tuning."""
    landmarks: str = "data/models/landmarks.safetensors"
    """The network of `align.landmarks: toy-net`, or the list of points of `align.landmarks: table`."""
    inception: str = "data/models/inception.safetensors"
    """The network of the extractor `inception`, for the published FID; not shipped."""
    directions: str = "data/models/directions.safetensors"
    """The directions that `edits` name."""
    latent_edits: str = "data/models/latent-edits.safetensors"
    """What edits of the kinds `label` and `reference` read."""
    paths: str = "data/models/paths-curvilinear.safetensors"
    """The learned paths that edits of the kind `path` move along."""
    second_generator: str = "data/models/generator-cel.safetensors"
    """The generator of another style that compositions translate to."""
    segmenter: str = "data/models/segmenter.safetensors"
    """What measures whether a translation keeps its label map."""
    domain: str = "data/models/domain.json"
    """The limits beyond which a row is out of the generator's domain; written by `edit-dataset calibrate`."""
    hypernetwork: str = "data/models/hyperstyle.safetensors"
    """What refines the generator's weights with `tune.refine: [hypernetwork]`."""
    inversion: str = "data/models/inversion.json"
    """What steps of tuning cost and bring; written by `edit-dataset calibrate-inversion`, read for `invert`."""
    features: str = "data/models/hfgi.safetensors"
    """What draws details by features with `tune.refine: [features]` (HFGI)."""

    def beside_encoder(self, name: str) -> str:
        """Return the path or URL of the network ``name`` in the folder of ``encoder``."""
        folder, slash, _ = self.encoder.rpartition("/")
        return f"{folder}{slash}{name}.safetensors"


class AlignParams(Section):
    """FFHQ alignment: finding the face and cutting it out as a square in a standard position."""

    landmarks: str = "columns"
    """Where the points of a face come from: a name of `edit-dataset list landmarks`."""
    faces: Literal["largest", "only"] = "largest"
    """Of several faces take the largest, or reject the picture as `many_faces`."""
    size: Count | None = None
    """Side of the aligned picture in pixels; null: the larger of what the generator draws and the encoder sees."""
    transform_size: Count | None = None
    """Side in pixels at which faces are sampled before they are reduced to `size`; null: four times `size`."""
    enable_padding: bool = True
    """Fill what lies beyond the picture's border by its blurred mirror image, as FFHQ does; false: black."""
    max_pixels: Count = 64_000_000
    """A picture of more pixels is rejected as `too_many_pixels` before it is decoded."""
    min_face_px: Positive = 12.0
    """A face whose square has a shorter side, in pixels of the picture, is rejected as `tiny_face`."""


class EncodeParams(Section):
    """The encoder network, which predicts the latent of each aligned picture."""

    encoder: str = "psp"
    """The encoder's architecture, a name of `edit-dataset list encoders`; or `champion`, the registered best one."""
    rounded: bool = False
    """Reduce pictures to the encoder's size by Pillow in 8 bits, as the published loaders do."""
    out_of_domain: Literal["report", "flag", "reject"] = "report"
    """Rows that the generator can't draw are named in the report, or flagged in each stage, or rejected."""


class TuneParams(Section):
    """Pivotal tuning (Roich et al. 2021, eq. 2-5): a copy of the generator is fitted to each picture."""

    enabled: bool = True
    """Whether pictures are tuned; false leaves the stage out."""
    refine: Annotated[list[str], Field(min_length=1)] = ["pti"]
    """What is done, in order: names of `edit-dataset list refinements`."""
    pivot: Literal["encoder", "w", "w_plus", "in_domain"] = "encoder"
    """Where the latent comes from: the encoder, an optimisation into W or W+, or one that stays near the encoder's."""
    pivot_steps: Count = 450
    """Steps of that optimisation."""
    pivot_lr: Positive = 0.01
    """Learning rate of that optimisation."""
    persist: Literal["none", "delta", "full"] = "delta"
    """What is kept of a tuned generator: nothing (edits are drawn at once), its change in 8 bits, or in float32."""
    shared: bool = False
    """The rows of a batch share one tuned generator."""
    steps: Count = 40
    """Most steps of tuning a row."""
    lr: Positive = 5e-3
    """Learning rate of tuning."""
    lr_rampdown: Unit = 0.25
    """The last share of the steps, in which the learning rate falls to zero."""
    betas: tuple[Decay, Decay] = (0.8, 0.95)
    """The two decay rates of Adam."""
    min_resolution: Count = 32
    """Layers of this many pixels and above are tuned; 4: all, as published."""
    batch_size: Count = 8
    """Rows that are tuned at once."""
    precision: Precision = "exact"
    """Float32, or bfloat16 where that is faster."""
    l2_weight: Weight = 10.0
    """Weight of the squared error in the loss."""
    perceptual_weight: Weight = 1.0
    """Weight of LPIPS in the loss."""
    stop_perceptual: Weight = 0.0
    """A row stops as soon as its LPIPS is at most this (published: 0.06); 0: never."""
    locality_weight: Weight = 0.0
    """Weight of the term that keeps neighbouring latents as they were (published: 0.1, and off)."""
    locality_alpha: Positive = 30.0
    """How far those neighbours are from the pivot, in W."""


class PasteParams(Section):
    """Whether edited faces return into their photographs, in a stage of its own."""

    enabled: bool = False
    """Whether the stage `paste` is part of a run."""
    feather: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Width of the soft edge, as a share of the square's side."""


METRIC_SETS: dict[str, list[str]] = {
    "toy": ["mse", "psnr", "lpips", "identity", "attributes", "fid", "swd"],
    "photos": ["mse", "psnr", "perceptual", "identity-distance", "face-attributes", "frechet", "swd"],
    "photos-basic": ["mse", "psnr", "perceptual", "identity-distance", "frechet", "swd"],
    "photos-things": ["mse", "psnr", "perceptual", "frechet", "swd"],
    "photos-people": ["mse", "psnr", "perceptual", "identity-distance", "identity-pairs", "face-attributes", "frechet"],
}
"""Metrics by the name of their set, which may stand for them or for the whole section: ``measure: photos``.

``photos-basic`` needs no package beside the extra ``photos``; ``photos-things`` is for pictures of anything but faces;
``photos-people`` also compares rows with each other.
"""


class MeasureParams(Section):
    """Which numbers are computed; a set's name may stand for the whole section, such as `measure: photos`."""

    metrics: list[str] = METRIC_SETS["toy"]
    """Names of `list metrics`, or a set: `toy`, `photos`, `photos-basic`, `photos-things` or `photos-people`."""
    swd_images: Count = 256
    """Pictures that SWD compares, drawn by their keys."""
    swd_edits: bool = False
    """Compute SWD of the edited pictures too."""

    @model_validator(mode="before")
    @classmethod
    def _read_set(cls, values: Any) -> Any:
        values = {"metrics": values} if isinstance(values, str) else values
        chosen = values.get("metrics") if isinstance(values, dict) else None
        if not isinstance(chosen, str):
            return values
        if chosen not in METRIC_SETS:
            raise ValueError(f"unknown set of metrics {chosen!r}{near_matches(chosen, METRIC_SETS)}")
        return values | {"metrics": METRIC_SETS[chosen]}
