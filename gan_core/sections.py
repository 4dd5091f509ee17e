"""Building blocks of the parameters: the base class of every section, and number types with bounds."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Unit = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["exact", "fast"]


class Section(BaseModel):
    """A section of the parameters. It is immutable, and validation fails for unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
