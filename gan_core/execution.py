"""Parameters of how a run is executed, how it stores pictures and where it is logged; few of them change a result."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from gan_core.secrets import hide
from gan_core.sections import Count, Precision, Section


def _check_device(name: str) -> str:
    if not re.fullmatch(r"[a-z]+(:[0-9]{1,4})?", name):
        raise ValueError("a device is auto, cpu, mps, cuda or cuda:N, such as cuda:1")
    return name


class RunParams(Section):
    """How a run is executed; nothing here changes a result, except `precision` and, within a tolerance, `device`."""

    workers: Count = 2
    """Threads or processes that take shards at the same time."""
    batch_size: Count = 32
    """Pictures that go through a network at once."""
    precision: Precision = "exact"
    """Float32 and the same bytes every time, or bfloat16 where the hardware has it."""
    device: Annotated[str, AfterValidator(_check_device)] = "auto"
    """auto, cpu, cuda, cuda:N or mps; results of two kinds of devices are equal within a tolerance only."""
    runner: Literal["threads", "processes", "dask"] = "threads"
    """What the workers are."""
    dask_address: str = ""
    """The scheduler of a Dask cluster; empty: one of `workers` processes on this machine."""
    deployment: str = ""
    """The deployment whose runs take batches of shards, such as `edit-shards/shards`; empty: this run takes all."""
    shards_per_batch: Count = 8
    """Shards of one such batch."""
    concurrency_limit: str = ""
    """A global concurrency limit of Prefect that each stage of a shard waits for; empty: none."""
    io_threads: Annotated[int, Field(ge=0, le=256)] | None = None
    """Threads that decode and encode beside a stage's computing; null: the cores that are free, 0: none."""

    @model_validator(mode="before")
    @classmethod
    def _read_old_name(cls, values: Any) -> Any:
        """Read ``device_limit``, the former name of ``concurrency_limit``, unless that is set as well."""
        if not isinstance(values, dict) or "device_limit" not in values:
            return values
        new = {name: value for name, value in values.items() if name != "device_limit"}
        return new if new.get("concurrency_limit") else new | {"concurrency_limit": values["device_limit"]}


class TrackParams(Section):
    """Where runs are logged. Wherever the section is written, ``uri`` has ``***`` for its password."""

    experiment: str = "edit-dataset"
    """The experiment in MLflow."""
    uri: Annotated[str, PlainSerializer(hide)] = ""
    """The address of an MLflow; empty: the project's own server, or its store `sqlite:///mlflow.db`."""
    grid_rows: Count = 8
    """Rows of each picture grid."""
    system_metrics: bool | None = None
    """Log the load of the machine too; null: as the variable MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING says."""


class PictureParams(Section):
    """How stages store pictures."""

    format: Literal["png", "webp", "jpeg"] = "png"
    """png and webp lose nothing."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """That of jpeg."""
