"""Deployments for real: ``make up``, a run by the worker, ``make down``, and everything still known afterwards."""

import asyncio
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
import yaml
from mlflow import MlflowClient
from prefect.blocks.system import Secret
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows import deployments, servers
from gan_core.errors import UserError
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.storage.receipts import Receipt
from tests.faults.test_kill_flow import hashes, written
from tests.flows.deployed import prefect, run_deployment

ROOT = Path(__file__).parents[2]
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["entrypoint"])
def test_each_deployment_has_a_form_that_explains_its_parameters(deployment: dict[str, Any]) -> None:
    flow: Flow[Any, Any] = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    fields = parameter_schema(flow).properties
    assert deployment["description"] and deployment["work_pool"]["name"] in ("local", "shards")
    assert deployment.get("parameters", {}).keys() <= fields.keys()
    assert [name for name, field in fields.items() if not field.get("description")] == []
    for name, value in deployment.get("parameters", {}).items():
        assert flow.validate_parameters({**_required(flow), name: value})[name] is not None


class Server:
    """A Prefect server with one deployment and some automations, as its client shows them: two on a page."""

    def __init__(self) -> None:
        self.key = uuid4()
        self.schedules = [schedule("nightly", True), schedule("weekly", False)]
        self.schedules += [schedule("mine", False, "0 1 * * *"), schedule(None, True, "0 12 * * *")]
        self.automations = [automation("on", True), automation("off", False), automation("twice", True)]
        self.automations.append(automation("twice", False))

    def read_deployments(self, offset: int) -> list[Any]:
        others = [SimpleNamespace(id=uuid4(), schedules=[]) for _ in range(3)]
        return [*others, SimpleNamespace(id=self.key, schedules=list(self.schedules))][offset : offset + 2]

    def update_deployment_schedule(self, _: object, key: UUID, active: bool) -> None:
        next(each for each in self.schedules if each.id == key).active = active

    def create_deployment_schedules(self, key: UUID, made: list[DeploymentScheduleCreate]) -> None:
        assert key == self.key
        self.schedules += [schedule(each.slug, each.active, cast(CronSchedule, each.schedule).cron) for each in made]

    def read_automations(self, offset: int) -> list[Any]:
        return self.automations[offset : offset + 2]

    def pause_automation(self, key: UUID) -> None:
        next(each for each in self.automations if each.id == key).enabled = False

    def switches(self) -> tuple[list[tuple[str | None, bool]], list[tuple[str, bool]]]:
        """What is switched on of the schedules and of the automations."""
        return [(s.slug, s.active) for s in self.schedules], [(a.name, a.enabled) for a in self.automations]


def schedule(slug: str | None, active: bool, cron: str = "0 3 * * *") -> DeploymentSchedule:
    return DeploymentSchedule(id=uuid4(), slug=slug, active=active, schedule=CronSchedule(cron=cron))


def automation(name: str, enabled: bool) -> SimpleNamespace:
    return SimpleNamespace(id=uuid4(), name=name, enabled=enabled)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server that flows are deployed on."""
    server = Server()
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setattr(deployments, "client_of", lambda _: nullcontext(server))
    return server


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (0, nullcontext()),
        (1, pytest.raises(UserError, match="the flows could not be deployed: no")),
        (None, pytest.raises(KeyboardInterrupt)),
    ],
)
def test_what_is_switched_on_the_server_is_so_after_a_deploy(
    ends: int | None, expected: AbstractContextManager[Any], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deploy(*arguments: str) -> subprocess.CompletedProcess[str]:
        server.schedules = [schedule("nightly", False), schedule("weekly", True), schedule("new", False)]
        server.automations[:2] = [automation("on", True), automation("off", True), automation("new", True)]
        if ends is None:
            raise KeyboardInterrupt
        return subprocess.CompletedProcess(arguments, ends, "no", "")

    monkeypatch.setattr(deployments, "_prefect", deploy)
    with expected:
        deployments.deploy()
    schedules, automations = server.switches()
    assert schedules == [("nightly", True), ("weekly", False), ("new", False), ("mine", False), (None, True)]
    assert cast(CronSchedule, server.schedules[-1].schedule).cron == "0 12 * * *"
    assert automations == [("on", True), ("off", False), ("new", True), ("twice", True), ("twice", False)]


def test_schedules_that_the_file_has_without_a_slug_are_those_of_the_file(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deploy(*arguments: str) -> subprocess.CompletedProcess[str]:
        server.schedules = [schedule(None, True, "0 4 * * *")]
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(deployments, "_prefect", deploy)
    deployments.deploy()
    assert len(server.schedules) == 1


@pytest.mark.slow
def test_the_keys_of_a_bucket_come_from_blocks(on_server: str) -> None:
    (page,) = re.findall(r"```yaml\n( +work_pool:.*?)```", (ROOT / "docs/machines.md").read_text(), flags=re.S)
    given = yaml.safe_load(page)["work_pool"]["job_variables"]
    for name in ("bucket-id", "bucket-key"):
        Secret(value=f"the {name}").save(name, overwrite=True)  # type: ignore[arg-type]

    template = ProcessWorker.get_default_base_job_template()
    found = asyncio.run(ProcessJobConfiguration.from_template_and_values(template, given)).env
    assert found["AWS_ACCESS_KEY_ID"] == "the bucket-id" and found["AWS_SECRET_ACCESS_KEY"] == "the bucket-key"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_worker_runs_a_deployment_and_a_restart_forgets_nothing(up: Path, tiny_dataset: str) -> None:
    given = {"source": tiny_dataset, "output": "out", "overrides": '{"tune.enabled": false}'}
    reply = run_deployment("edit-dataset/local", given, "--watch")
    assert reply.returncode == 0, reply.stdout + reply.stderr + (up / ".servers/worker.log").read_text()

    receipts = [Receipt.model_validate_json(path.read_text()) for path in (up / "out").glob("*/*.receipt.json")]
    assert sorted(receipt.stage for receipt in receipts) == sorted(["align", "encode", "edit", "measure"] * 3)
    assert {sum(receipt.rows.values()) for receipt in receipts} == {2, 3}
    assert (up / "out/report.html").is_file() and (up / "out/tracking.json").is_file()

    found = json.loads(prefect("deployment", "schedule", "ls", "reevaluate-nightly/nightly", "-o", "json").stdout)
    assert prefect("deployment", "schedule", "resume", "reevaluate-nightly/nightly", found[0]["id"]).returncode == 0
    own = prefect("deployment", "schedule", "create", "reevaluate-nightly/nightly", "--cron", "0 12 * * *")
    assert own.returncode == 0, own.stdout
    services = {name: servers.find(name) for name in servers.SERVICES}
    assert all(services.values())
    servers.down()
    assert not any(servers.find(name) for name in servers.SERVICES) and not (up / "prefect.toml").exists()
    os.environ.pop("PREFECT_API_URL")
    address = servers.up()
    states = {run["name"]: run["state_type"] for run in _ask(f"{address}/flow_runs/filter")}
    assert states["out"] == "COMPLETED"
    deployed = _ask(f"{address}/deployments/filter")
    assert {d["name"] for d in deployed} == {d["name"] for d in DEPLOYMENTS}
    kept = {each["slug"]: each["active"] for d in deployed for each in d["schedules"]}
    assert kept == {"nightly": True, None: True}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_cancelled_run_goes_on_when_it_is_started_again(up: Path, tiny_dataset: str, mlflow_store: str) -> None:
    overrides = {"tune.steps": 200, "run.workers": 1}
    run_plain(plan_run(tiny_dataset, "whole", overrides=overrides))
    given = {"source": tiny_dataset, "output": "out", "overrides": json.dumps(overrides)}
    assert run_deployment("edit-dataset/local", given).returncode == 0
    _wait_for(lambda: "tune/shard-00000.parquet.receipt.json" in written("out"))
    assert prefect("flow-run", "cancel", _runs("out")[0]["id"]).returncode == 0
    _wait_for(lambda: [run["state_type"] for run in _runs("out")] == ["CANCELLED"])
    early = written("out")
    assert len(early) < 15 and not Path("out/summary.json").exists()

    reply = run_deployment("edit-dataset/local", given, "--watch")
    assert reply.returncode == 0, reply.stdout + reply.stderr + (up / ".servers/worker.log").read_text()
    assert early.items() <= written("out").items() and hashes("out") == hashes("whole")
    assert sorted(run["state_type"] for run in _runs("out")) == ["CANCELLED", "COMPLETED"]
    client = MlflowClient(mlflow_store)
    experiment = client.get_experiment_by_name(up.name)
    assert {run.info.status for run in client.search_runs([experiment.experiment_id])} == {"KILLED", "FINISHED"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_ends_with_its_worker_and_prefect_hears_of_it(up: Path, tiny_dataset: str) -> None:
    overrides = json.dumps({"tune.steps": 20_000, "run.workers": 1})
    given = {"source": tiny_dataset, "output": "out", "overrides": overrides}
    assert run_deployment("edit-dataset/local", given).returncode == 0
    _wait_for(lambda: "encode/shard-00002.parquet.receipt.json" in written("out"))
    said: list[str] = []
    servers.stop("worker", said.append)
    assert said[1:] == ["worker: 1 runs at work have ended with it: start them again to go on"]
    _wait_for(lambda: [run["state_type"] for run in _runs("out")] == ["CRASHED"], 10.0)


def _runs(name: str) -> list[dict[str, Any]]:
    return [run for run in _ask(f"{os.environ['PREFECT_API_URL']}/flow_runs/filter") if run["name"] == name]


def _wait_for(done: Callable[[], bool], patience_s: float = 500.0) -> None:
    deadline = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _required(flow: Flow[Any, Any]) -> dict[str, Any]:
    """Give each parameter without a default the value that a deployment has for it."""
    given = {name: value for d in DEPLOYMENTS for name, value in d.get("parameters", {}).items()}
    return {name: given[name] for name in parameter_schema(flow).required}


def _ask(url: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(url, b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        found: list[dict[str, Any]] = json.loads(reply.read())
    return found
