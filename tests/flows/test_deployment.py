"""Deployments for real: ``make up``, a run by the worker, ``make down``, and everything still known afterwards."""

import asyncio
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import yaml
from mlflow import MlflowClient
from prefect.blocks.system import Secret
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
    """A Prefect server with one deployment and two automations, as its client shows them."""

    def __init__(self) -> None:
        self.key = uuid4()
        self.active = {"nightly": True, "weekly": False}
        self.enabled = {"on": True, "off": False}

    def read_deployments(self) -> list[Any]:
        schedules = [SimpleNamespace(id=name, slug=name, active=active) for name, active in self.active.items()]
        return [SimpleNamespace(id=self.key, schedules=schedules)]

    def update_deployment_schedule(self, _: object, name: str, active: bool) -> None:
        self.active[name] = active

    def read_automations(self) -> list[Any]:
        return [SimpleNamespace(id=name, name=name, enabled=enabled) for name, enabled in self.enabled.items()]

    def pause_automation(self, name: str) -> None:
        self.enabled[name] = False


@pytest.mark.parametrize("code", [0, 1])
def test_what_is_switched_on_the_server_is_so_after_a_deploy(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()

    def deploy(*arguments: str) -> subprocess.CompletedProcess[str]:
        server.active = {"nightly": False, "weekly": True, "new": False}
        server.enabled = {"on": True, "off": True, "new": True}
        return subprocess.CompletedProcess(arguments, code, "no", "")

    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setattr(deployments, "client_of", lambda _: nullcontext(server))
    monkeypatch.setattr(deployments, "_prefect", deploy)
    with pytest.raises(UserError, match="the flows could not be deployed: no") if code else nullcontext():
        deployments.deploy()
    assert server.active == {"nightly": True, "weekly": False, "new": False}
    assert server.enabled == {"on": True, "off": False, "new": True}


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
    assert [each["active"] for d in deployed for each in d["schedules"]] == [True]


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
