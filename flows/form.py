"""The fields with choices in the form of a run, and the parameters that they stand for."""

from typing import Annotated, Any

from pydantic import Field

from gan_core.align.landmarks import LANDMARK_SOURCES
from gan_core.encoders.base import ENCODERS
from gan_core.errors import ParamsError
from gan_core.runs.run import flatten
from tasks.tracking.registry import CHAMPION

OFF = "off"
TUNINGS = (OFF, "pti", "hypernetwork", "hypernetwork, pti", "features")
DEVICES = ("auto", "cpu", "cuda", "mps")


def _choices(*names: str) -> dict[str, Any]:
    """A list of choices; none of them, the empty text, is what is chosen at first."""
    return {"enum": ["", *names]}


EncoderChoice = Annotated[str, Field(json_schema_extra=_choices(*ENCODERS.names(), CHAMPION))]
LandmarksChoice = Annotated[str, Field(json_schema_extra=_choices(*LANDMARK_SOURCES.names()))]
TuningChoice = Annotated[str, Field(json_schema_extra=_choices(*TUNINGS))]
DeviceChoice = Annotated[str, Field(json_schema_extra=_choices(*DEVICES))]


def with_choices(
    overrides: dict[str, Any] | None, encoder: str, landmarks: str, tuning: str, device: str
) -> dict[str, Any] | None:
    """Return the overrides with what was chosen; raises ``ParamsError`` for what is given in both ways."""
    chosen: dict[str, Any] = {"encode.encoder": encoder, "align.landmarks": landmarks, "run.device": device}
    chosen = {name: value for name, value in chosen.items() if value}
    if tuning == OFF:
        chosen["tune.enabled"] = False
    elif tuning:
        chosen |= {"tune.enabled": True, "tune.refine": [part.strip() for part in tuning.split(",")]}
    if twice := sorted(chosen.keys() & flatten(overrides or {}).keys()):
        raise ParamsError(f"{twice[0]} is given twice, as a field and in overrides: leave one out")
    return (overrides or {}) | chosen if chosen else overrides
