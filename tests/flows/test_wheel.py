"""What users of the joined tools do first, in a project that was made from the wheel alone: no clone, other folders."""

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

from flows.servers import free_port
from gan_core.storage.images import encode_png
from tests.flows.from_wheel import OUTSIDE, ROOT, call, environment_of, make_quick, needs_models

pytestmark = [pytest.mark.slow, needs_models]

LATENTS = """
import io, sys
import mlflow, numpy as np, pandas as pd
from gan_core.storage.shards import read_rows
store, run = sys.argv[1:]
mlflow.set_tracking_uri(store)
rows = [row for part in read_rows(f"{run}/align/shard-00000.parquet") for row in part][:4]
encoded = [row for part in read_rows(f"{run}/encode/shard-00000.parquet") for row in part][:4]
fine = [i for i, row in enumerate(rows) if row["status"] == "ok"]
model = mlflow.pyfunc.load_model("models:/psp@champion")
found = model.predict(pd.DataFrame({"image": [rows[i]["image"]["bytes"] for i in fine]}))
wanted = np.array([encoded[i]["latent"] for i in fine], np.float32).reshape(found.shape)
print("the same latents:", bool(np.array_equal(found, wanted)), len(fine))
"""
FOLDERS = """
import sys
from datasets import load_dataset
for folder in sys.argv[1:]:
    rows = load_dataset(folder, split="train")
    first = next(iter(load_dataset(folder, split="train", streaming=True)))
    assert set(first) == set(rows.column_names)
    print(len(rows), "rows of", folder)
"""


@pytest.fixture(scope="module")
def project(installed: Path, tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Iterator[Path]:
    """A project with a finished run over the sample in ``runs/a``, kept by git."""
    folder = tmp_path_factory.mktemp("users") / "faces"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OUTSIDE, "PREFECT_API_URL", prefect_server)
        folder.mkdir()
        subprocess.run(["git", "init", "-q", folder], check=True)
        call(installed, folder, "edit-dataset", "init", ".", "--sample")
        make_quick(folder)
        said = call(installed, folder, "edit-dataset", "run", "data/sample", "runs/a")
        assert "generator, encoder: trained on the toy portraits of this project" in said
        yield folder


def test_its_folders_are_datasets_for_hugging_face(installed: Path, project: Path, tmp_path: Path) -> None:
    said = call(installed, project, "edit-dataset", "publish", "runs/a", "data/edited")
    assert "keep it: git add data/edited.dvc data/.gitignore && git commit" in said
    call(installed, project, "edit-dataset", "export", "runs/a", "data/pairs", "--format", "pairs")
    folders = [str(project / name) for name in ("data/sample", "runs/a/edit", "data/edited", "data/pairs")]
    said = call(installed, tmp_path, "env", f"HF_HOME={tmp_path}", "python", "-c", FOLDERS, *folders)
    assert said.count("128 rows of") == 3 and said.count("rows of") == 4


def test_a_registered_encoder_is_loaded_and_served_from_another_folder(
    installed: Path, project: Path, tmp_path: Path
) -> None:
    call(installed, project, "edit-dataset", "register", "data/models/psp.safetensors", "--alias", "champion")
    store = f"sqlite:///{project}/mlflow.db"
    said = call(installed, tmp_path, "python", "-c", LATENTS, store, str(project / "runs/a"))
    assert "the same latents: True" in said
    port = free_port(5100)
    serve = f"mlflow models serve -m models:/psp@champion --env-manager local -h 127.0.0.1 -p {port}".split()
    with running(installed, tmp_path, *serve, MLFLOW_TRACKING_URI=store):
        picture = base64.b64encode(encode_png(np.full((64, 64, 3), 127, np.uint8))).decode()
        body = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[picture]]}}).encode()
        answer = ask(f"http://127.0.0.1:{port}/invocations", body)
    assert len(answer["predictions"]) == 1 and len(answer["predictions"][0]) == 10


def test_its_rows_are_looked_at_in_a_page(installed: Path, project: Path) -> None:
    port = free_port(8300)
    with running(installed, project, "edit-dataset", "view", "runs/a", "--port", str(port)):
        found = ask(f"http://127.0.0.1:{port}/api/rows?status=ok&size=5")
    assert found["found"] > 100 and len(found["rows"]) == 5


def test_pictures_of_ones_own_with_json_beside_them_are_run_as_they_are(installed: Path, project: Path) -> None:
    (project / "photos").mkdir()
    extract = (
        "from gan_core.storage.shards import read_rows; import json, numpy as np; from pathlib import Path\n"
        "for i, row in enumerate(list(next(iter(read_rows('data/sample/shard-00000.parquet'))))[:3]):\n"
        "    Path(f'photos/{i}.png').write_bytes(row['image']['bytes'])\n"
        "    Path(f'photos/{i}.json').write_text(json.dumps({'landmarks': np.asarray(row['landmarks']).tolist()}))\n"
    )
    call(installed, project, "python", "-c", extract)
    said = call(installed, project, "edit-dataset", "import", "photos", "data/mine")
    assert "before `git add`: `dvc add data/mine`" in said
    call(installed, project, "dvc", "add", "-q", "data/mine")
    call(installed, project, "edit-dataset", "run", "data/mine", "runs/mine")
    assert "3 rows, 3 ok" in call(installed, project, "edit-dataset", "inspect", "runs/mine")
    tracked = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard", "data"], cwd=project, capture_output=True, text=True
    ).stdout.split()
    assert "data/mine.dvc" in tracked and not [name for name in tracked if name.startswith("data/mine/")]


def test_what_the_project_has_no_network_for_says_what_to_do(installed: Path, project: Path) -> None:
    said = call(installed, project, "edit-dataset", "translate", "data/sample", "runs/t", code=2)
    assert said.count("\n") == 1 and "translat" in said and "dvc pull" not in said


def test_a_worker_elsewhere_clones_the_project_and_runs_it(
    installed: Path, tmp_path: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, worker = tmp_path / "project", tmp_path / "worker"
    worker.mkdir()
    _make_repository(installed, project, tmp_path)
    monkeypatch.setitem(OUTSIDE, "PREFECT_API_URL", prefect_server)
    call(installed, project, "prefect", "work-pool", "create", "clones", "--type", "process", "--overwrite")
    call(installed, project, "prefect", "deploy", "--prefect-file", "cloning.yaml", "--all")
    start = ["prefect", "worker", "start", "--pool", "clones", "--type", "process"]
    with running(installed, worker, *start, PREFECT_WORKER_QUERY_SECONDS="1"):
        given = ["-p", f"output={tmp_path}/out", "-p", f"source={tmp_path}/few"]
        call(installed, worker, "prefect", "deployment", "run", "edit-dataset/local", "--watch", *given)
    assert "32 rows, 30 ok" in call(installed, worker, "edit-dataset", "inspect", str(tmp_path / "out"))
    assert list(worker.iterdir()) == []


def _make_repository(installed: Path, project: Path, beside: Path) -> None:
    """A project with the pull steps of the page about containers, in a bare repository with its DVC remote."""
    call(installed, beside, "git", "init", "-q", "-b", "main", project.name)
    call(installed, project, "edit-dataset", "init", ".", "--sample")
    make_quick(project)
    (page,) = re.findall(r"```yaml\n(pull:.*?)```", (ROOT / "docs/containers.md").read_text(), flags=re.S)
    steps = yaml.safe_load(page.replace("https://git.example.org/team/edit-dataset.git", f"file://{beside}/bare.git"))
    described = yaml.safe_load((project / "prefect.yaml").read_text())
    deployment = next(each for each in described["deployments"] if each["name"] == "local")
    deployment["work_pool"]["name"] = "clones"
    (project / "cloning.yaml").write_text(yaml.safe_dump(described | steps | {"deployments": [deployment]}))
    call(installed, project, "dvc", "remote", "add", "-q", "-d", "store", str(beside / "store"))
    call(installed, project, "dvc", "push", "-q")
    for command in (
        "add .",
        "-c user.name=t -c user.email=t@t commit -qm start",
        f"clone -q --bare . {beside}/bare.git",
    ):
        call(installed, project, "git", *command.split())
    shutil.copytree(project / "data/sample", beside / "few", ignore=shutil.ignore_patterns("*-0000[1-9]*"))
    shutil.rmtree(project / "data")


@contextmanager
def running(programs: Path, folder: Path, *words: str, **variables: str) -> Iterator[None]:
    """A program that goes on until the end of the block."""
    process = subprocess.Popen(words, cwd=folder, env=environment_of(programs) | variables)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:  # Prefect's workers were seen to wait for longer on a busy machine
            process.kill()
            process.wait()


def ask(url: str, body: bytes | None = None) -> dict[str, object]:
    """Ask a server, as soon as it listens, and read its JSON."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return dict(json.load(reply))
        except (ConnectionError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
