"""The DVC pipeline: it names what exists, makes what the parameters point to, and is up to date in every commit."""

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from gan_core.params import Params, load_params
from gan_core.plain import headline
from gan_core.published.sources import SOURCES
from gan_core.toy.params import ToyParams, load_toy_params
from gan_core.toy.trainings import TRAININGS

ROOT = Path(__file__).parents[1]
SHIPPED = [name for name, training in TRAININGS.items() if training.shipped]


@cache
def stages() -> dict[str, dict[str, Any]]:
    """Return the stages of ``dvc.yaml`` by name, ``foreach`` expanded."""
    found: dict[str, dict[str, Any]] = {}
    params = load_params(ROOT / "params.yaml")
    chosen = {"encode.encoder": params.encode.encoder}
    chosen |= {f"models.{name}": path for name, path in params.models.model_dump().items()}
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        if "foreach" not in stage:
            found[name] = json.loads(expand(json.dumps(stage), **chosen))
        each = stage.get("foreach", {})
        for key, item in each.items() if isinstance(each, dict) else zip(each, each, strict=True):
            found[f"{name}@{key}"] = json.loads(expand(json.dumps(stage["do"]), key=key, item=item))
    return found


@cache
def outputs() -> set[str]:
    """Return the paths that the stages make; one with settings is a dictionary of one key."""
    return {
        path
        for stage in stages().values()
        for out in stage.get("outs", [])
        for path in ([out] if isinstance(out, str) else out)
    }


def expand(text: str, **values: str) -> str:
    """Put values where DVC puts them."""
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return text


@pytest.mark.parametrize("name", stages())
def test_a_stage_names_what_exists(name: str) -> None:
    stage = stages()[name]
    assert [dep for dep in stage["deps"] if dep not in outputs() and not (ROOT / dep).exists()] == []
    for given in stage.get("params", []):
        for file, names in ({"params.yaml": [given]} if isinstance(given, str) else given).items():
            known = {"params.yaml": Params, "toy.yaml": ToyParams}[file].model_fields
            assert {name.partition(".")[0] for name in names} <= set(known)
    commands = [stage["cmd"]] if isinstance(stage["cmd"], str) else stage["cmd"]
    for command in commands:
        python, minus_m, module = command.split()[:3]
        assert (python, minus_m) == ("python", "-m")
        assert find_spec(module), module


def test_the_demo_is_made_again_after_any_change_of_its_parameters() -> None:
    read = {name.partition(".")[0] for name in stages()["demo"]["params"]}
    assert read == set(Params.model_fields) - {"compose", "translate", "track", "extensions"}


def test_the_trainings_are_those_of_the_pipeline() -> None:
    commands = {name: stage["cmd"] for name, stage in stages().items()}
    last = {name: cmd if isinstance(cmd, str) else cmd[-1] for name, cmd in commands.items()}
    trained = {name: cmd.split()[-1] for name, cmd in last.items() if "tasks.train" in cmd}
    assert trained == {name: name for name in SHIPPED}
    assert {name for name in last if name.startswith(("train-", "fit-"))} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_training_reads_and_writes_what_its_stage_says(name: str) -> None:
    stage, toy = stages()[name], load_toy_params(ROOT / "toy.yaml")
    (read,) = (given["toy.yaml"] for given in stage["params"])
    section: Any = toy
    for part in read[-1].split("."):
        section = section[part] if isinstance(section, dict) else getattr(section, part)
    assert TRAININGS[name].section(toy) is section
    assert {f"data/metrics/{TRAININGS[name].name}.json": {"cache": False}} in stage["outs"]


def test_every_checkpoint_of_a_run_has_a_stage_or_is_fetched() -> None:
    models = load_params(ROOT / "params.yaml").models.model_dump(exclude={*SOURCES, "hypernetwork", "inversion"})
    assert set(models.values()) <= outputs()


def test_dvc_finds_nothing_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    changed = json.loads(done.stdout)
    assert changed == {}, "after a change that alters no output: `dvc commit`, else `dvc repro`"
    assert "WARNING" not in done.stderr


def test_the_files_that_the_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text()
    named = re.findall(r"`(tests/[^`]*|gan_core/[^`]*\.py|params\.yaml|constraints\.txt)`", text)
    assert len(named) > 10
    assert [name for name in named if not list(ROOT.glob(name))] == []


def test_what_dvc_shows_fits_on_a_screen_and_no_stage_is_frozen() -> None:
    assert not [name for name, stage in stages().items() if stage.get("frozen")]
    shown = [next(iter(entry)) for stage in stages().values() for entry in stage.get("metrics", [])]
    assert shown == ["data/metrics/demo-headline.json"]
    names = list(json.loads((ROOT / shown[0]).read_text()))
    assert sum(len(name) + 4 for name in [shown[0], *names]) <= 132
    numbers = json.loads((ROOT / "data/metrics/demo.json").read_text())
    assert headline(numbers) == json.loads((ROOT / shown[0]).read_text())
    untuned = {name: value for name, value in numbers.items() if not name.endswith("/tuned")}
    others = [f"{name}/encoded" for name in ("identity/toy", "lpips/toy", "fid/toy-attr")]
    assert list(headline(untuned)) == ["psnr/encoded", *others]


def test_every_artifact_is_an_output() -> None:
    artifacts = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]
    assert {artifact["path"] for artifact in artifacts.values()} <= outputs()


@pytest.mark.slow
def test_the_python_of_the_page_about_dvc_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/dvc.md").read_text(), flags=re.S)
    found: dict[str, Any] = {}
    exec(code.replace("https://git.example.org/team/edit-dataset", str(ROOT)), found)
    assert found["network"] == (ROOT / "data/models/psp.safetensors").read_bytes()
    assert found["numbers"]["psnr/tuned"] > 30 and found["steps"] > 0


@pytest.mark.slow
def test_plots_are_drawn_without_a_network(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    pytest.importorskip("vl_convert", reason="pip install vl-convert-python")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    (code,) = re.findall(r"python -c '(.*?)' > \.dvc/tmp/offline\.html", (ROOT / "docs/dvc.md").read_text())
    with (tmp_path / "offline.html").open("w") as template:
        subprocess.run([sys.executable, "-c", code], stdout=template, check=True)
    plots = [sys.executable, "-m", "dvc", "plots", "show", "-q", "-o", str(tmp_path / "plots")]
    subprocess.run([*plots, "--html-template", str(tmp_path / "offline.html")], cwd=ROOT, check=True)
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        page.goto(f"file://{tmp_path}/plots/index.html")
        page.get_by_text("Cosine of the identity embeddings with the aligned face").first.wait_for()
        assert page.locator("svg, canvas").count() >= 2
        browser.close()
