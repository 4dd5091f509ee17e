"""What Prefect's server does by itself: silent runs become crashed, failures are posted, new encoders are measured."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import cast
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events import AutomationCore, CallWebhook, ChangeFlowRunState, EventTrigger
from prefect.events.schemas.automations import Posture
from prefect.events.schemas.events import Event, Resource
from pydantic import SecretStr

from flows.notify import ADDRESS, POSTING
from flows.prefect_api import client_of
from tasks.tracking.registry import Registered

SILENT = "edit-dataset: silent runs have crashed"
SILENT_S = 600
"""Three heartbeats of Prefect's flow runs (PREFECT_FLOWS_HEARTBEAT_FREQUENCY, 180 s) and a minute."""
WEBHOOK_BLOCK = "edit-dataset-failures"
FAILED = ("Failed", "Crashed", "TimedOut", "Moved", "Incomplete")
"""Names of states in which a flow run has not done what it should."""
REGISTERED = "edit-dataset.encoder.registered"
RUNS: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.flow-run.*"}
OFF = " (switched off on the server)"
SAID = '[flow_run.name, flow_run.state.name, flow_run.state.message or "no message"]'
TEXT = '{"text": {{ ' + SAID + '|join(": ")|tojson }}}'


def automate() -> Iterator[str]:
    """Make the automations on the server of ``PREFECT_API_URL``, or bring them up to date; yield a line about each.

    One that was switched off on the server stays so. Failures are posted if ``EDIT_DATASET_WEBHOOK`` is set; the
    address is kept in an encrypted block of the server.
    """
    with client_of(os.environ["PREFECT_API_URL"]) as client:
        off = _put(client, crash_silent_runs())
        yield f"automation: a run without a sign of life for {SILENT_S // 60} minutes becomes Crashed{off}"
        if address := os.environ.get(ADDRESS):
            off = _put(client, post_failures(address))
            yield f"automation: failures are posted to the address in {ADDRESS}{off}"
        elif _remove(client, POSTING):
            yield f"automation: the server no longer posts failures, as {ADDRESS} is not set here"


def crash_silent_runs(silent_s: int = SILENT_S) -> AutomationCore:
    """Return the automation that marks a run as crashed whose process has stopped to send heartbeats."""
    trigger = EventTrigger(
        match=RUNS,
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.*"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=silent_s),
    )
    message = "no heartbeat: its machine or its process is gone; run it again to go on"
    crash = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=message, force=False)
    return AutomationCore(name=SILENT, trigger=trigger, actions=[crash])


def post_failures(address: str) -> AutomationCore:
    """Store the address of a webhook in a block, and return the automation that posts failed and crashed runs to it."""
    block = cast(UUID, Webhook(url=SecretStr(address)).save(WEBHOOK_BLOCK, overwrite=True))
    trigger = EventTrigger(
        match=RUNS,
        expect={f"prefect.flow-run.{name}" for name in FAILED},
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
    )
    return AutomationCore(name=POSTING, trigger=trigger, actions=[CallWebhook(block_document_id=block, payload=TEXT)])


def announce(made: Registered, address: str) -> bool:
    """Tell Prefect's server that a version of an encoder was registered; return whether it heard of it.

    The deployment ``nightly`` has a trigger for this event.
    """
    resource = {
        "prefect.resource.id": f"edit-dataset.encoder.{made.name}",
        "edit-dataset.version": made.version,
        "edit-dataset.sha256": made.sha256,
    }
    event = Event(event=REGISTERED, resource=Resource(resource))
    with suppress(Exception):  # the registry has it; a server that is away misses the event only
        import httpx

        sent = httpx.post(f"{address}/events", json=[event.model_dump(mode="json")], timeout=10)
        return sent.is_success
    return False


def _put(client: SyncPrefectClient, automation: AutomationCore) -> str:
    """Make an automation, or give the one of its name what it has now: the server is never without it.

    Others of the name go. Return what is to be said of one that is switched off.
    """
    earlier = client.read_automations_by_name(automation.name)
    if not earlier:
        client.create_automation(automation)
        return ""
    first, *others = earlier
    # The client sends what was set; the server refuses a change of owner, and needs the rest.
    values = automation.model_dump(exclude={"owner_resource"}) | {"enabled": first.enabled}
    client.update_automation(first.id, AutomationCore.model_validate(values))
    for other in others:
        client.delete_automation(other.id)
    return "" if first.enabled else OFF


def _remove(client: SyncPrefectClient, name: str) -> bool:
    earlier = client.read_automations_by_name(name)
    for automation in earlier:
        client.delete_automation(automation.id)
    return bool(earlier)
