"""What Prefect's server does by itself, on a real one."""

import json
import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.events import AutomationCore, EventTrigger, RunDeployment
from prefect.events.schemas.events import Event, Resource
from prefect.flow_engine import run_flow
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, Running

from flows import automations
from flows.edit_dataset import edit_dataset
from flows.form import with_choices
from flows.naming import by_output, named
from flows.notify import ADDRESS, POSTING, notify
from flows.reevaluate import name_of_night
from gan_core.errors import ParamsError
from tasks.tracking.registry import Registered
from tests.flows.test_notify import webhook

__all__ = ["webhook"]
RUN: Any = SimpleNamespace(name="runs/demo")
STATE: Any = SimpleNamespace(name="Failed", message="spoiled")
MADE = Registered("psp", "3", "psp", "data/models/psp.safetensors", "ab")


@flow(flow_run_name=named(by_output))
def little(output: str = "runs/x") -> str:
    """Say what it is called."""
    return str(flow_run.name)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *((name, "runs/x") for name in ("brave-otter", "magnificent-kakapo", "pi29-teplan", "omega2-canis-majoris-b")),
        *((name, name) for name in ("anna-trial", "trial", "runs/a", "beta-test", "pi-day", "eta2/x", "alphabet2-run")),
    ],
)
def test_a_name_that_was_given_stays_and_others_say_what_is_made(
    given: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = SimpleNamespace(flow_run=SimpleNamespace(name=given), parameters={"output": "runs/x"})
    monkeypatch.setattr(FlowRunContext, "get", lambda: context)
    assert named(by_output)() == name


def test_a_night_is_called_by_its_date() -> None:
    night = {"output": "runs/nightly", "date": "2026-11-21", "timezone": "UTC"}
    assert name_of_night(night) == "nightly runs/nightly 2026-11-21"
    assert name_of_night(night | {"date": ""}).startswith("nightly runs/nightly 20")


@pytest.mark.slow
def test_a_run_that_was_given_a_name_keeps_it_on_a_real_server(on_server: str) -> None:
    assert little() == "runs/x"
    with get_client(sync_client=True) as client:
        made = client.create_flow_run(little, name="anna-trial", parameters={"output": "runs/y"})
        assert run_flow(little, client.read_flow_run(made.id), {"output": "runs/y"}) == "anna-trial"
        assert client.read_flow_run(made.id).name == "anna-trial"


def test_choices_of_the_form_stand_for_parameters_and_the_old_ones_are_still_taken() -> None:
    assert with_choices(None, "", "", "", "") is None and with_choices({"a": 1}, "", "", "", "") == {"a": 1}
    chosen = with_choices({"tune.steps": 3}, "e4e", "centre", "hypernetwork, pti", "cpu")
    tuned = {"tune.enabled": True, "tune.refine": ["hypernetwork", "pti"]}
    named = {"encode.encoder": "e4e", "align.landmarks": "centre", "run.device": "cpu"}
    assert chosen == {"tune.steps": 3, **tuned, **named}
    assert with_choices(None, "", "", "off", "") == {"tune.enabled": False}
    with pytest.raises(ParamsError, match=r"encode\.encoder is given twice"):
        with_choices({"encode.encoder": "psp"}, "e4e", "", "", "")
    with pytest.raises(ParamsError, match=r"encode\.encoder is given twice"):
        with_choices({"encode": {"encoder": "psp"}}, "e4e", "", "", "")
    fields = edit_dataset.parameters.properties
    assert {"", "psp", "champion"} <= set(fields["encoder"]["enum"]) and "centre" in fields["landmarks"]["enum"]
    assert fields["device"]["type"] == "string" and fields["tuning"]["enum"][1] == "off"
    old = {"source": "data/sample", "output": "runs/x", "params_file": "p.yaml", "overrides": {"tune.steps": 1}}
    assert edit_dataset.validate_parameters(old).items() >= old.items()


class Client:
    """Prefect's client of a server that has two automations of every name; it can't create any."""

    def __init__(self, enabled: bool) -> None:
        self.enabled, self.sent, self.deleted = enabled, list[tuple[str, AutomationCore]](), list[str]()

    def read_automations_by_name(self, name: str) -> list[Any]:
        return [SimpleNamespace(id=name, enabled=self.enabled), SimpleNamespace(id=f"second {name}", enabled=True)]

    def update_automation(self, name: str, automation: AutomationCore) -> None:
        self.sent.append((name, automation))

    def delete_automation(self, name: str) -> None:
        self.deleted.append(name)


@pytest.mark.parametrize("enabled", [True, False])
def test_an_automation_is_updated_in_place_and_stays_switched_off(
    enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(enabled)
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setattr(automations, "client_of", lambda _: nullcontext(client))
    monkeypatch.delenv(ADDRESS, raising=False)
    silent, failures = automations.automate()
    assert failures == f"automation: the server no longer posts failures, as {ADDRESS} is not set here"
    assert silent.endswith("becomes Crashed" if enabled else "becomes Crashed (switched off on the server)")
    ((name, sent),) = client.sent
    assert name == automations.SILENT and sent.enabled is enabled
    assert client.deleted == [f"second {automations.SILENT}", POSTING, f"second {POSTING}"]
    told = sent.model_dump(mode="json", exclude_unset=True)
    assert told["trigger"]["type"] == "event" and "owner_resource" not in told


@pytest.mark.slow
def test_automations_are_made_once_and_the_server_posts_instead_of_the_run(
    on_server: str, webhook: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", on_server)
    assert len([*automations.automate(), *automations.automate()]) == 4
    with get_client(sync_client=True) as client:
        made = sorted(client.read_automations(), key=lambda found: found.name)
        assert [found.name for found in made] == [POSTING, automations.SILENT]
        client.pause_automation(made[1].id)
    notify(None, RUN, STATE)
    assert webhook == []
    monkeypatch.delenv(ADDRESS)
    list(automations.automate())
    with get_client(sync_client=True) as client:
        (left,) = client.read_automations()
        assert left.id == made[1].id and not left.enabled
        assert (left.trigger, left.actions) == (made[1].trigger, made[1].actions)
    assert not automations.announce(MADE, "http://127.0.0.1:9/api")


@pytest.mark.slow
def test_a_failure_is_posted_and_an_announced_encoder_starts_a_deployment(
    on_server: str, webhook: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", on_server)
    list(automations.automate())
    with get_client(sync_client=True) as client:
        failing = flow(lambda: Failed(message='a "quoted" <message>'), name="failing")
        deployment = client.create_deployment(client.create_flow(little), "measured")
        client.create_automation(
            AutomationCore(
                name="measure",
                trigger=EventTrigger(
                    match={"prefect.resource.id": "edit-dataset.encoder.*"},
                    expect={automations.REGISTERED},
                    posture="Reactive",  # type: ignore[arg-type]
                    threshold=1,
                ),
                actions=[RunDeployment(deployment_id=deployment)],
            )
        )
        time.sleep(3)  # the server reads its automations
        failing(return_state=True)
        assert automations.announce(MADE, on_server)
        deadline = time.monotonic() + 60
        started: list[Any] = []
        while time.monotonic() < deadline and not (webhook and started):
            time.sleep(0.5)
            started = [run for run in client.read_flow_runs() if run.deployment_id == deployment]
    assert len(started) == 1
    assert webhook[0]["text"].endswith(': Failed: a "quoted" <message>') and json.dumps(webhook[0])


@pytest.mark.slow
def test_a_run_whose_heartbeats_stop_becomes_crashed(on_server: str) -> None:
    with get_client(sync_client=True) as client:
        client.create_automation(automations.crash_silent_runs(10))
        silent, ended = (
            client.create_flow_run(little, parameters={"output": "runs/y"}, state=Running()) for _ in range(2)
        )
        time.sleep(3)
        for run in (silent, ended):
            resource = Resource({"prefect.resource.id": f"prefect.flow-run.{run.id}"})
            beat = Event(event="prefect.flow-run.heartbeat", resource=resource).model_dump(mode="json")
            assert httpx.post(f"{on_server}/events", json=[beat]).is_success
        client.set_flow_run_state(ended.id, Completed())
        deadline, state = time.monotonic() + 90, None
        while time.monotonic() < deadline and (state is None or not state.is_final()):
            time.sleep(1)
            state = client.read_flow_run(silent.id).state
        assert state is not None and state.type == StateType.CRASHED and "no heartbeat" in str(state.message)
        assert client.read_flow_run(ended.id).state.type == StateType.COMPLETED
