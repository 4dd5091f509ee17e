"""Parameters of what is fitted to a generator: directions, paths, and the edits of latents."""

from typing import Annotated, Any

from pydantic import Field

from gan_core.compose.operations import Stretch
from gan_core.sections import Count, Positive, Precision, Section, Unit, Weight


class DirectionsParams(Section):
    """Linear directions fitted on labelled samples of the generator; strength 1 moves by ``move`` of the range."""

    samples: Annotated[int, Field(ge=16)] = 8_000
    """Latents that are drawn and scored."""
    attributes: list[str] = ["smile", "yaw", "hair_lightness"]
    """Names that get a direction, of those that `models.attributes` scores."""
    move: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of an attribute's range that strength 1 moves."""
    refine_steps: Annotated[int, Field(ge=0)] = 300
    """Steps of Adam after the fit, by which a direction changes less else (toy directions only)."""
    seed: int = 0
    """What is drawn follows from it."""


class PathsParams(Section):
    """Paths learnt without labels (``gan_core.paths``), then named after the attributes that they change.

    They run through ``space`` of the generator, in its ``rank`` leading principal axes (the whole space for null);
    amounts are in standard deviations there. ``models`` holds arguments of single path models, by name. Strength 1
    moves an attribute by ``move`` of its range. A step makes ``batch_size`` moves, ``moves_per_code`` of them from each
    code, whose picture is drawn once. ``precision`` is that of pictures and reconstructor in training, which looks at
    the generator's own pictures of ``drawn_size`` (the sum of its coarser to-RGB layers), or at whole ones for null.
    """

    space: str = "w"
    """Space of the generator through which paths run: `z`, `w` or `w_plus`."""
    rank: Count | None = 16
    """How many of the leading principal axes of the space paths may use; null: the whole space."""
    count: Count | None = None
    """How many paths are learnt; null: as many as there are axes."""
    models: dict[str, dict[str, Any]] = {}
    """Arguments of single path models, by the model's name."""
    steps: Count = 600
    """Steps of Adam."""
    batch_size: Annotated[int, Field(ge=2, le=2**31 - 1)] = 8
    """Moves in a step."""
    moves_per_code: Count = 1
    """How many of them begin at one code, whose picture is drawn once."""
    precision: Precision = "exact"
    """`exact`, or `fast`: pictures and reconstructor in bfloat16."""
    drawn_size: Annotated[Count | None, Field(exclude_if=lambda size: size is None)] = None
    """Side of the generator's own smaller pictures that training looks at; null: whole ones."""
    lr: Positive = 1e-3
    """Learning rate of the reconstructor."""
    path_lr: Positive = 1e-3
    """Learning rate of the paths."""
    amounts: tuple[Positive, Positive] = (0.5, 3.0)
    """Shortest and longest move, in standard deviations of the space."""
    amount_weight: Weight = 0.25
    """Weight of the error of the amount that the reconstructor names, beside that of the path."""
    volume_weight: Weight = 1.0
    """Weight of the flow's change of volume (curvilinear paths)."""
    reconstructor: str = "lenet"
    """Network that names path and amount from two pictures: `lenet` or `resnet`."""
    reconstructor_channels: Count = 3
    """Colour channels that it sees."""
    reconstructor_size: Count | None = None
    """Side of the pictures that it sees; null: as they are drawn."""
    rank_codes: Count = 24
    """Codes at which paths are compared with attributes when they are named."""
    attributes: list[str] = ["smile", "yaw", "hair_lightness", "hair_length"]
    """Names that get a path, of those that `models.attributes` scores."""
    move: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of an attribute's range that strength 1 moves."""
    seed: int = 0
    """What is drawn follows from it."""


class PathStudyParams(Section):
    """Paths learnt by several ``methods`` from several ``seeds``, measured side by side over ``codes`` as they learn.

    They are measured after each number of moves in ``moves``; ``paths`` holds what all trainings share, and its
    ``steps`` and ``seed`` are not used.
    """

    methods: Annotated[list[str], Field(min_length=1)] = ["linear", "warped", "curvilinear"]
    seeds: Annotated[list[int], Field(min_length=1)] = [0, 1, 2]
    moves: Annotated[list[Count], Field(min_length=1)] = [19_200, 100_000, 200_000]
    codes: Count = 200
    paths: PathsParams = PathsParams()


class LatentEditsParams(Section):
    """The classifier of latents, and a block for each attribute of ``blocks`` that can be taken from a reference.

    A block learns by the classifier for ``block_steps``, then from pictures for ``picture_steps``.
    """

    samples: Annotated[int, Field(ge=64)] = 4_000
    hidden: Annotated[list[int], Field(min_length=1)] = [512, 128]
    embedding: Count = 32
    heads: Count = 4
    blocks: list[str] = ["smile", "yaw", "hair_lightness", "glasses"]
    batch_size: Count = 128
    classifier_steps: Count = 1_000
    block_steps: Count = 100
    picture_steps: Annotated[int, Field(ge=0)] = 180
    lr: Positive = 1e-3
    weight_decay: Weight = 0.0
    precision: Precision = "fast"
    seed: int = 0


class SinganParams(Section):
    """SinGAN of one picture (Rott Shaham et al. 2019), with the published values as defaults.

    The picture is seen at sizes from ``min_size`` (shorter side) to ``max_size`` (longer side), each about ``factor``
    of the next. Networks have ``channels``, twice as many after every four scales, at most 128. A scale takes
    ``iterations``, each with so many ``steps`` of the discriminator and then of the generator; from ``drop_at`` of them
    on, rates are a tenth. ``amplitude`` is that of the noise, over the error of the reconstruction. With ``redraw`` the
    noise that the coarsest scale reconstructs from is a new one each iteration, as in the published script; the paper
    has one for all.
    """

    factor: Annotated[float, Field(gt=0.1, lt=1)] = 0.75
    min_size: Count = 25
    max_size: Count = 250
    channels: Count = 32
    iterations: Count = 2_000
    steps: Count = 3
    lr: Positive = 5e-4
    drop_at: Unit = 0.8
    penalty_weight: Weight = 0.1
    reconstruction_weight: Weight = 10.0
    amplitude: Weight = 0.1
    redraw: bool = True
    precision: Precision = "fast"
    seed: int = 0


class SinganStudyParams(Section):
    """SinGAN beside SOAT over held-out portraits: ``pictures`` of each of ``seeds``, other ones for each.

    So many SinGANs learn ``together``, as one network. Of each picture ``samples`` of twice its width are drawn. SOAT
    extends it in each way of ``extensions``; claims are about the first. ``paste_at`` is the scale from which SinGAN
    makes a collage of two pictures look like one. ``others`` are real portraits that results are compared with.
    """

    seeds: Annotated[list[int], Field(min_length=1)] = list(range(16))
    pictures: Annotated[int, Field(ge=2, le=64)] = 2
    together: Count = 1
    samples: Count = 4
    extensions: Annotated[list[Stretch], Field(min_length=1)] = ["reflect", "stretch", "replicate"]
    paste_at: Count = 2
    others: Annotated[int, Field(ge=2)] = 256
    singan: SinganParams = SinganParams()
