"""What is logged about a finished run, kept in one small file until the tracking server has it."""

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefect import get_run_logger
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict

from gan_core.metrics.names import normal_name
from gan_core.params import TrackParams
from gan_core.recipes.base import recipe_of
from gan_core.runs.run import PENDING, Run, flatten
from gan_core.storage.atomic import write_bytes
from gan_core.storage.urls import base_name, exists, hash_file, join_url, read_bytes
from tasks.shards import Done
from tasks.system_metrics import Sample
from tasks.versions import dvc_hashes, git_sha

DEFAULT_URI = "sqlite:///mlflow.db"
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI")
REFUSED = re.compile(r"[^\w.\- :/]")


class Record(BaseModel):
    """Everything about a finished run that is logged; ``digest`` names its results, ``run_id`` a half-logged run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: str
    uri: str
    experiment: str
    name: str
    started: float
    ended: float
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    dataset: dict[str, str]
    samples: list[Sample] = []
    run_id: str | None = None


def digest_results(done: Iterable[Done], metrics: Mapping[str, float]) -> str:
    """Return the sha256 of all shards and metrics: the same results, the same digest."""
    shards = sorted((each["stage"], each["shard"], each["output_sha256"]) for each in done)
    return hashlib.sha256(json.dumps([shards, dict(metrics)], sort_keys=True).encode()).hexdigest()


def make_record(
    run: Run, digest: str, metrics: Mapping[str, float], started: float, samples: Sequence[Sample] = ()
) -> Record:
    """Gather what is to be logged; ``started`` is in seconds since 1970."""
    hashes = dvc_hashes({"dataset": run.source, **run.params.models.model_dump()})
    dataset = {"name": base_name(run.source), "source": run.source, "digest": _dataset_digest(run, hashes)}
    commit = git_sha()
    tags = {
        "dataset.digest": dataset["digest"],
        "recipe": run.recipe,
        "git.sha": commit,
        "prefect.flow_run_id": flow_run.id,
        "mlflow.user": os.environ.get("USER", ""),
        "mlflow.source.name": str(flow_run.flow_name or "edit-dataset"),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": (commit or "").removesuffix("-modified"),
        "mlflow.note.content": _note(run),
    }
    return Record(
        digest=digest,
        uri=tracking_uri(run.params.track),
        experiment=run.params.track.experiment,
        name=_name(run, started),
        started=started,
        ended=time.time(),
        params=_used_params(run),
        metrics=_finite(metrics),
        tags={name: str(tag) for name, tag in tags.items() if tag} | {f"dvc.{n}": h for n, h in hashes.items()},
        dataset=dataset,
        samples=list(samples),
    )


def tracking_uri(params: TrackParams) -> str:
    """Return where to log: the parameter, else ``MLFLOW_TRACKING_URI``, else the store of the project's own server."""
    return params.uri or next((os.environ[name] for name in ADDRESSES if os.environ.get(name)), DEFAULT_URI)


def read_record(output: str) -> Record | None:
    """Return what is still to be logged, if anything, with old metric names replaced by present ones."""
    path = join_url(output, PENDING)
    if not exists(path):
        return None
    record = Record.model_validate_json(read_bytes(path))
    return record.model_copy(update={"metrics": {normal_name(name): v for name, v in record.metrics.items()}})


def write_record(output: str, record: Record) -> None:
    """Write the file with what is to be logged."""
    write_bytes(join_url(output, PENDING), record.model_dump_json(indent=1).encode())


def _name(run: Run, started: float) -> str:
    """The run's name in MLflow's table: the recipe's label, dataset, output and day."""
    places = [recipe_of(run).label(run), base_name(run.source), base_name(run.output)]
    return " · ".join([*dict.fromkeys(places), time.strftime("%Y-%m-%d", time.gmtime(started))])


def _note(run: Run) -> str:
    """The run's description: where its output and its report are, and its page in Prefect."""
    page = f" [Prefect run]({flow_run.ui_url})." if flow_run.ui_url else ""
    return f"Output: `{run.output}`, report: `{run.path('report.html')}`.{page}"


def _used_params(run: Run) -> dict[str, str]:
    values: dict[str, Any] = run.params.model_dump(mode="json")
    sections = ("run", "models", *run.stages, *recipe_of(run).sections)
    used = {name: values[name] for name in sections if name in values}
    if extensions := {name: section for name, section in values["extensions"].items() if name in sections}:
        used["extensions"] = extensions
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flatten(used).items()}


def _dataset_digest(run: Run, hashes: Mapping[str, str]) -> str:
    """DVC's hash if it is that of the data as they are, else one of the shards' own (MLflow takes 36 letters)."""
    known = hashes.get("dataset", "")
    if known and not known.endswith("-modified"):
        return known
    shards = [hash_file(shard) for shard in recipe_of(run).inputs(run)]
    return hashlib.sha256("".join(shards).encode()).hexdigest()[:32]


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leave out NaN and infinity, and give the rest names that MLflow accepts."""
    refused = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if refused:
        get_run_logger().warning("not logged, because not finite: %s", ", ".join(refused))
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return {tracked_name(name): value for name, value in finite.items()}


def tracked_name(name: str) -> str:
    """Return a name that MLflow accepts for a metric: ``smile:1`` for ``smile@+1``, ``_`` for what else it refuses."""
    return REFUSED.sub("_", name.replace("@+", ":").replace("@", ":"))
