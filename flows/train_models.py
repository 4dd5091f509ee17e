"""Train models as stages of DVC: those up to date are skipped, and ``dvc.lock`` records inputs and outputs."""

import sys
from typing import Annotated

from prefect import flow, get_run_logger, task
from pydantic import AfterValidator, Field

from flows.naming import named
from flows.notify import HOOKS
from gan_core.errors import ParamsError
from gan_core.toy.trainings import TRAININGS, find_training
from tasks.versions import DvcBusyError, reproduce


def _known(stage: str) -> str:
    if not find_training(stage).shipped:
        raise ParamsError(f"{stage} is no stage of dvc.yaml: train it with `python -m tasks.train {stage}`")
    return stage


STAGES = [name for name, training in TRAININGS.items() if training.shipped]
Stage = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": STAGES})]


def is_busy(task: object, run: object, state: object) -> bool:
    """Tell whether another DVC command was at work: then a retry helps, after a failed training it doesn't."""
    return isinstance(getattr(state, "data", None), DvcBusyError)


@task(
    name="train",
    task_run_name="{stage}",
    retries=20,
    retry_delay_seconds=30,
    retry_condition_fn=is_busy,
    persist_result=False,
)
def train(stage: str) -> None:
    """Run one stage of ``dvc.yaml``, unless it is up to date."""
    reproduce(stage, get_run_logger().info)


@flow(name="train-models", flow_run_name=named(lambda given: ", ".join(given["models"])), **HOOKS)
def train_models(models: list[Stage]) -> None:
    """Train models of ``dvc.yaml`` one after the other; each stage's own dependencies are made before it.

    Args:
        models: Training stages of dvc.yaml, such as train-encoder@psp; what is up to date is not trained again.
    """
    for stage in models:
        train(stage)


if __name__ == "__main__":
    sys.exit("one training: python -m tasks.train STAGE; as a flow: prefect deployment run train-models/models")
