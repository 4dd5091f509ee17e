"""The common body of all flows: plan a run, begin it, take all shards through their stages, finish it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from prefect.context import TagsContext
from prefect.states import Cancelled

from flows.batches import hand_out
from flows.champion import resolve_encoder
from flows.ledger import finish, hide_lost_tracebacks
from flows.runners import run_shards
from gan_core.recipes.base import Plan, plan_run
from gan_core.stopping import Stopped
from tasks.tracking.runs import failures_tracked

_planned: ContextVar[Plan | None] = ContextVar("planned", default=None)


@contextmanager
def planned(plan: Plan) -> Iterator[None]:
    """Let the flow called in this block use this plan, which is held: networks are built and hashed once."""
    token = _planned.set(plan)
    try:
        yield
    finally:
        _planned.reset(token)


def run_recipe(
    recipe: str, source: str, output: str, params_file: str, overrides: dict[str, Any] | None, update: bool
) -> dict[str, float]:
    """Make a run of a recipe, or go on with it, and return its metrics.

    Finished shards are skipped by their receipts. Everything is checked before anything is written: ``UserError``. A
    run that is stopped ends as a cancelled one, which whoever called the flow gets as Prefect's ``CancelledRun``.
    """
    hide_lost_tracebacks()
    started, plan = time.time(), _planned.get()
    try:
        if plan is not None:
            return _carry_out(plan, started)
        plan = plan_run(source, output, params_file, resolve_encoder(params_file, overrides), update, recipe)
        with plan.held():
            return _carry_out(plan, started)
    except Stopped as stopped:
        return cast(dict[str, float], Cancelled(message=str(stopped)))


def _carry_out(plan: Plan, started: float) -> dict[str, float]:
    run = plan.begin()
    # a task that has tags asks the server for slots of their limits first, which takes longer than a small shard
    with failures_tracked(run, started) as samples, TagsContext(current_tags=set()):
        done = hand_out(run) if run.params.run.deployment else run_shards(run)
    return finish(run, done, started, samples)
