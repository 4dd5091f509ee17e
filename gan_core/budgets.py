"""What the inversion of a row may cost, or has to reach: the section ``invert`` of the parameters."""

from typing import Annotated, Any, Self

from pydantic import PlainSerializer, PlainValidator, model_validator

from gan_core.gates import Gate
from gan_core.sections import Positive, Section

REACHED = "lpips"
"""The score that a target is set for: the perceptual distance by the network in ``models.perceptual``."""


def _target(value: Any) -> Gate | None:
    if value is None or value == "":
        return None
    gate = Gate.parse(value)
    if gate.score != REACHED or gate.higher or gate.quantile or gate.limit <= 0:
        raise ValueError(f'{str(gate)!r} is no target: write one such as "{REACHED} <= 0.01", above 0')
    return gate


class InvertParams(Section):
    """How many steps of tuning a row gets, from a measured table (`models.inversion`), instead of `tune.steps`.

    Without effect where ``tune.enabled`` is false.
    """

    budget_s: Positive | None = None
    """Seconds of a core or of the device a row on average, from the aligned picture to the end of tuning."""
    target: Annotated[
        Gate | None, PlainValidator(_target), PlainSerializer(lambda gate: None if gate is None else str(gate))
    ] = None
    """Or what rows have to reach, and no more: such as `lpips <= 0.01`."""

    @model_validator(mode="after")
    def _choose_one(self) -> Self:
        if self.budget_s is not None and self.target is not None:
            raise ValueError("a budget and a target are given: steps follow from one of them")
        return self

    @property
    def given(self) -> bool:
        """Whether steps follow from a table."""
        return self.budget_s is not None or self.target is not None
