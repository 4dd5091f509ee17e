"""The deployments of ``prefect.yaml`` and their work pools; what users have switched on the server stays."""

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from flows.prefect_api import client_of
from gan_core.errors import UserError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL, SHARDS_POOL = "local", "shards"


@dataclass
class Switches:
    """Which schedules, by deployment and slug, are active, and which automations, by name, are enabled."""

    schedules: dict[tuple[UUID, str], bool] = field(default_factory=dict)
    automations: dict[str, bool] = field(default_factory=dict)


def make_pools() -> None:
    """Make the work pools of the deployments, unless they are there."""
    for pool in (POOL, SHARDS_POOL):
        _prefect("work-pool", "create", pool, "--type", "process")  # fails where it is there already, and may


def deploy() -> None:
    """Deploy all flows of ``prefect.yaml`` on the server of ``PREFECT_API_URL``; ``UserError`` if it fails.

    Schedules and automations that are there stay switched on or off as they are: ``prefect deploy`` alone would set
    them back to what the file says.
    """
    with client_of(os.environ["PREFECT_API_URL"]) as client:
        switches = _read(client)
        reply = _prefect("deploy", "--all")
        _restore(client, switches)
    if reply.returncode:
        raise UserError(f"the flows could not be deployed: {' '.join((reply.stdout + reply.stderr).split())[-400:]}")


def _read(client: "SyncPrefectClient") -> Switches:
    import httpx

    found = Switches()
    for deployment in client.read_deployments():
        found.schedules |= {(deployment.id, each.slug): each.active for each in deployment.schedules if each.slug}
    with suppress(httpx.HTTPStatusError):  # a server of others may allow none
        found.automations = {each.name: each.enabled for each in client.read_automations()}
    return found


def _restore(client: "SyncPrefectClient", switches: Switches) -> None:
    for deployment in client.read_deployments():
        for each in deployment.schedules:
            active = switches.schedules.get((deployment.id, each.slug or ""), each.active)
            if active != each.active:
                client.update_deployment_schedule(deployment.id, each.id, active=active)
    for automation in client.read_automations() if switches.automations else ():
        if automation.enabled and not switches.automations.get(automation.name, True):
            client.pause_automation(automation.id)


def _prefect(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    return subprocess.run(command, capture_output=True, text=True)
