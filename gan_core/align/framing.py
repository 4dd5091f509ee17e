"""How the pictures of a run are framed and how large they are: what encoder, generator and ``align`` say of it."""

from dataclasses import dataclass

from gan_core.align.landmarks import LANDMARK_SOURCES
from gan_core.encoders.base import ENCODERS
from gan_core.errors import ParamsError
from gan_core.generators.base import GENERATORS
from gan_core.geometry import SQUARE, Frame
from gan_core.loading import outline
from gan_core.params import AlignParams, Params

UNKNOWN_SIZE = 64
"""Side of aligned pictures in pixels where neither ``align.size`` nor a generator states one."""
SUPERSAMPLING = 4
"""``align.transform_size`` as a multiple of ``align.size`` where it isn't set, as of FFHQ's own 1024 px."""

SMALLEST, LARGEST = 32, 4096
"""Bounds of ``align.size``: networks that compare pictures need 32 px, and later stages decode up to 4096 x 4096."""


@dataclass(frozen=True)
class Framing:
    """The frame of a run's pictures, and its sides in pixels.

    ``drawn`` is the side of the generator's squares, ``aligned`` that of the squares that aligned pictures are part of,
    and ``seen`` the height and width of the encoder's input (None without an encoder).
    """

    frame: Frame = SQUARE
    drawn: int = UNKNOWN_SIZE
    aligned: int = UNKNOWN_SIZE
    seen: tuple[int, int] | None = None

    @property
    def compared(self) -> tuple[int, int] | None:
        """Height and width at which aligned and drawn pictures are compared if they differ in size: the smaller one."""
        return None if self.aligned == self.drawn else self.frame.shape(min(self.aligned, self.drawn))


UNKNOWN = Framing()


def framing_of(params: Params) -> Framing:
    """Return how a run frames its pictures: as the encoder does, at ``align.size``.

    Where that isn't set, they are as large as the generator's squares or the encoder's input, whichever is larger;
    pictures that are taken whole as the generator's squares, because the encoder has its own input then, and enlarged
    pictures would be blurred targets. Only the cards of both checkpoints are read. One that can't be read says nothing;
    the stage that loads it refuses. Raises ``ParamsError`` for pictures that would be too small to be compared.
    """
    generator = outline(params.models.generator, "generator", GENERATORS)
    encoder = outline(params.models.encoder, "encoder", ENCODERS)
    drawn: int = generator.size if generator else params.align.size or UNKNOWN_SIZE
    if encoder is None:
        return Framing(SQUARE, drawn, params.align.size or drawn)
    seen = 0 if LANDMARK_SOURCES.get(params.align.landmarks).whole else encoder.input_size
    aligned = params.align.size or max(drawn, seen)
    if aligned < min(SMALLEST, drawn):
        raise ParamsError(
            f"align.size is {aligned}, too little to compare pictures with the generator's {drawn} px: leave it out "
            f"(null), or set it to {SMALLEST} or more"
        )
    return Framing(encoder.framing, drawn, aligned, encoder.input_shape)


def complete_sizes(params: AlignParams, size: int) -> AlignParams:
    """Fill in the sizes that aren't set, ``align.size`` with ``size``.

    Raises ``ParamsError`` for sizes beyond the bounds, and if pictures would be sampled at fewer pixels than they have.
    """
    size = params.size or size
    sampled = params.transform_size or SUPERSAMPLING * size
    if size > LARGEST or sampled > SUPERSAMPLING * LARGEST:
        raise ParamsError(
            f"align.size and align.transform_size are too large: at most {LARGEST} and {SUPERSAMPLING * LARGEST} px "
            "are possible"
        )
    if sampled < size:
        raise ParamsError(
            f"align.transform_size is {sampled}, less than align.size ({size}): leave it out (null: {SUPERSAMPLING} "
            "times the size), or set it to the size or more"
        )
    return params.model_copy(update={"size": size, "transform_size": sampled})
