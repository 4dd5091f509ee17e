"""What parameters are made of: the base of every section, and numbers with bounds."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Unit = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["exact", "fast"]


class Section(BaseModel):
    """A part of the parameters; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
