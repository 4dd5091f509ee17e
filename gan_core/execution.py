"""Parameters of how a run is executed, how it stores pictures and where it is logged; few of them change a result."""

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, model_validator

from gan_core.secrets import hide
from gan_core.sections import Count, Precision, Section


class RunParams(Section):
    """How a run is executed; nothing here may change a result, except ``precision``.

    ``device`` is auto, cpu, cuda, cuda:N or mps; results of two kinds of devices are equal within a tolerance only.
    ``io_threads`` decode and encode pictures beside the computing of each stage at work: 0 for one step after the
    other, null for a worker's share of the cores, or 0 where workers that compute on the CPU take all of them.
    """

    workers: Count = 2
    batch_size: Count = 32
    precision: Precision = "exact"
    device: Annotated[str, Field(pattern=r"^[a-z]+(:\d+)?$")] = "auto"
    runner: Literal["threads", "processes", "dask"] = "threads"
    dask_address: str = ""
    deployment: str = ""
    shards_per_batch: Count = 8
    concurrency_limit: str = ""
    io_threads: Annotated[int, Field(ge=0, le=256)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_old_name(cls, values: Any) -> Any:
        """Read ``device_limit``, the former name of ``concurrency_limit``, unless that is set as well."""
        if not isinstance(values, dict) or "device_limit" not in values:
            return values
        new = {name: value for name, value in values.items() if name != "device_limit"}
        return new if new.get("concurrency_limit") else new | {"concurrency_limit": values["device_limit"]}


class TrackParams(Section):
    """Where runs are logged; an empty ``uri`` means the project's MLflow server, or its store ``sqlite:///mlflow.db``.

    Wherever the section is written, ``uri`` has ``***`` for its password.
    ``system_metrics``: whether the machine's load is too; null: as ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING`` says.
    """

    experiment: str = "edit-dataset"
    uri: Annotated[str, PlainSerializer(hide)] = ""
    grid_rows: Count = 8
    system_metrics: bool | None = None


class PictureParams(Section):
    """The format in which stages store pictures: png, webp (both without loss), or jpeg of a ``quality`` up to 100."""

    format: Literal["png", "webp", "jpeg"] = "png"
    quality: Annotated[int, Field(ge=1, le=100)] = 95
