"""The deployments of ``prefect.yaml`` and their work pools; what users have switched on the server stays."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from flows.prefect_api import client_of
from gan_core.errors import UserError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.events.schemas.automations import Automation

POOL, SHARDS_POOL = "local", "shards"
Item = TypeVar("Item")


@dataclass
class Found:
    """The deployments with their schedules, and the automations, that a server has."""

    deployments: "list[DeploymentResponse]"
    automations: "list[Automation]"


def make_pools() -> None:
    """Make the work pools of the deployments, unless they are there."""
    for pool in (POOL, SHARDS_POOL):
        _prefect("work-pool", "create", pool, "--type", "process")  # fails where it is there already, and may


def deploy() -> None:
    """Deploy all flows of ``prefect.yaml`` on the server of ``PREFECT_API_URL``; ``UserError`` if it fails.

    Schedules and automations that are there stay switched on or off as they are, also if it is interrupted: ``prefect
    deploy`` alone would set them back to what the file says. Schedules that the file doesn't have are the server's and
    stay, unless the file has some without a slug for the same deployment: then all are the file's.
    """
    with client_of(os.environ["PREFECT_API_URL"]) as client:
        before = _read(client)
        try:
            reply = _prefect("deploy", "--all")
        finally:
            _restore(client, before)
    if reply.returncode:
        raise UserError(f"the flows could not be deployed: {' '.join((reply.stdout + reply.stderr).split())[-400:]}")


def _read(client: "SyncPrefectClient") -> Found:
    import httpx

    found = Found(_all(client.read_deployments), [])
    with suppress(httpx.HTTPStatusError):  # a server of others may allow none
        found.automations = _all(client.read_automations)
    return found


def _all(read: Callable[..., list[Item]]) -> list[Item]:
    """Return what a client reads page by page."""
    found: list[Item] = []
    while page := read(offset=len(found)):
        found += page
    return found


def _restore(client: "SyncPrefectClient", before: Found) -> None:
    now = _read(client)
    schedules = {deployment.id: deployment.schedules for deployment in before.deployments}
    for deployment in now.deployments:
        _restore_schedules(client, deployment, schedules.get(deployment.id, []))
    kept = {each.id for each in now.automations} & {each.id for each in before.automations}
    off = {each.name for each in before.automations if each.id not in kept and not each.enabled}
    for each in now.automations:  # those of a deployment are made anew
        if each.id not in kept and each.name in off and each.enabled:
            client.pause_automation(each.id)


def _restore_schedules(
    client: "SyncPrefectClient", deployment: "DeploymentResponse", before: "list[DeploymentSchedule]"
) -> None:
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    active: dict[str | None, bool] = {each.slug: each.active for each in before if each.slug}
    for each in deployment.schedules:
        if active.get(each.slug, each.active) != each.active:
            client.update_deployment_schedule(deployment.id, each.id, active=not each.active)
    there = {each.slug or None for each in deployment.schedules}
    gone = [
        DeploymentScheduleCreate(
            slug=each.slug,
            schedule=each.schedule,
            active=each.active,
            max_scheduled_runs=each.max_scheduled_runs,
            parameters=each.parameters,
        )
        for each in before
        if (each.slug or None) not in there
    ]
    if gone and None not in there:
        client.create_deployment_schedules(deployment.id, gone)


def _prefect(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    return subprocess.run(command, capture_output=True, text=True)
