"""Parameters: one file for DVC, the flows and the library, and no typo goes unnoticed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from gan_core.errors import ParamsError
from gan_core.params import MOVED, Params, check_params, check_stored_params, load_params
from gan_core.toy.params import ToyParams, load_toy_params

ROOT = Path(__file__).parents[2]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text("tune: {steps: 7}\nedits:\n  - {direction: smile, strengths: [1, -1]}\n")
    return path


def test_the_file_sets_and_the_model_fills_in(written: Path) -> None:
    params = load_params(written)
    assert params.tune.steps == 7
    assert params.tune.lr == Params().tune.lr
    assert params.edits[0].strengths == [1.0, -1.0]


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    assert load_params(tmp_path / "params.yaml") == Params()


def test_an_encoders_file_goes_by_its_name(written: Path) -> None:
    assert load_params(written).models.encoder == "data/models/psp.safetensors"
    assert load_params(written, {"encode.encoder": "e4e"}).models.encoder == "data/models/e4e.safetensors"
    assert load_params(written, {"encode.encoder": "e4e", "models.encoder": "own.pt"}).models.encoder == "own.pt"


WORK = {"edits", "compose.plan", "translate.variants"}
"""What runs are asked to do: the files list the demo's, and without a list nothing is done."""


def leaves(section: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return every key of a section with its value, by dotted name."""
    found: dict[str, Any] = {}
    for name, value in section:
        sections = value if isinstance(value, dict) else {}
        if isinstance(value, BaseModel):
            found |= leaves(value, f"{prefix}{name}.")
        elif any(isinstance(inner, BaseModel) for inner in sections.values()):
            for key, inner in sections.items():
                found |= leaves(inner, f"{prefix}{name}.{key}.")
        else:
            found[prefix + name] = value
    return found


@pytest.mark.parametrize(
    ("file", "code"), [(load_params(ROOT / "params.yaml"), Params()), (load_toy_params(ROOT / "toy.yaml"), ToyParams())]
)
def test_the_defaults_in_code_are_those_of_the_file(file: BaseModel, code: BaseModel) -> None:
    stated, defaults = leaves(file), leaves(code)
    assert list(stated) == list(defaults)
    assert {name for name in stated if stated[name] != defaults[name]} == WORK & set(stated)
    assert all(defaults[name] == [] for name in WORK & set(stated))


@pytest.mark.parametrize(("file", "model"), [("params.yaml", Params), ("toy.yaml", ToyParams)])
def test_the_projects_own_files_state_every_key(file: str, model: type[BaseModel]) -> None:
    values, stated = yaml.safe_load((ROOT / file).read_text()), leaves(model.model_validate({}))
    unstated = []
    for name in stated:
        inner: Any = values
        for part in name.split("."):
            inner = inner.get(part, ...) if isinstance(inner, dict) else ...
        unstated += [name] if inner is ... else []
    assert list(values) == list(model.model_fields)
    assert [name for name in unstated if not name.endswith(".rendered")] == [], "only some have pictures of their own"


def test_the_users_file_is_short() -> None:
    assert len(leaves(load_params(ROOT / "params.yaml"))) <= 86


@pytest.mark.parametrize(
    ("overrides", "steps", "lr"),
    [
        ({"tune.steps": 3}, 3, 5e-3),
        ({"tune": {"steps": 3}}, 3, 5e-3),
        ({"tune.steps": 3, "tune": {"lr": 0.5}}, 3, 0.5),
    ],
)
def test_overrides_lie_over_the_file(written: Path, overrides: dict[str, Any], steps: int, lr: float) -> None:
    params = load_params(written, overrides)
    assert (params.tune.steps, params.tune.lr) == (steps, lr)
    assert len(params.edits) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tun": {}}, r"unknown key tun; did you mean 'tune'"),
        ({"tune": {"step": 3}}, r"unknown key tune.step; did you mean 'steps'"),
        (
            {"edits": [{"direction": "smile", "strength": [1], "strengths": [1]}]},
            r"unknown key edits.0.strength; did",
        ),
        ({"tune": {"steps": 0}}, r"tune.steps: .*greater than or equal to 1 \(got 0\)"),
        ({"tune": {"lr": "fast"}}, r"tune.lr: .*\(got 'fast'\)"),
        ({"run": {"precision": "double"}}, r"run.precision: .*'exact' or 'fast'"),
        ({"edits": [{"direction": "smile", "strengths": []}]}, r"edits.0.strengths: .*at least 1 item"),
        ({"train_paths": {"steps": 5}}, r"train_paths is a section of toy.yaml now .*directions.* takes --set"),
    ],
)
def test_a_mistake_is_named_with_its_path(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message) as caught:
        check_params(values, "params.yaml")
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)


def test_several_mistakes_are_told_together() -> None:
    with pytest.raises(ParamsError, match=r"tune.steps.*; unknown key trak"):
        check_params({"tune": {"steps": -1}, "trak": {}})


def test_a_mistyped_override_is_named_too(written: Path) -> None:
    with pytest.raises(ParamsError, match=r"^--set, overrides or variables: unknown key tune.lrr; did you mean 'lr'"):
        load_params(written, {"tune.lrr": 1.0})
    with pytest.raises(ParamsError, match=r"^--set, overrides or variables: tune.steps: "):
        load_params(written, {"tune": {"steps": -1}})


def test_a_mistake_in_the_file_is_not_laid_to_what_was_set(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("tune: {lrr: 1}")
    for overrides in (None, {"tune.steps": 3}, {"tune.steps": -1}):
        with pytest.raises(ParamsError, match=rf"^{tmp_path}/p\.yaml: .*unknown key tune.lrr"):
            load_params(tmp_path / "p.yaml", overrides)


@pytest.mark.parametrize(
    ("section", "limit"),
    [
        ({"device_limit": "gpu"}, "gpu"),
        ({"concurrency_limit": "", "device_limit": "gpu"}, "gpu"),
        ({"concurrency_limit": "new", "device_limit": "gpu"}, "new"),
    ],
)
def test_the_former_name_of_the_concurrency_limit_is_read(section: dict[str, str], limit: str) -> None:
    params = check_params({"run": section})
    assert params.run.concurrency_limit == limit
    assert "device_limit" not in params.model_dump()["run"]


@pytest.mark.parametrize("dotted", ["edits.0.strengths", "tune.steps.first"])
def test_an_override_inside_a_list_or_a_number_is_refused(written: Path, dotted: str) -> None:
    with pytest.raises(ParamsError, match="only sections have keys"):
        load_params(written, {dotted: [1.0]})


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("- tune\n- edits\n")
    with pytest.raises(ParamsError, match="sections and their keys are expected, not a list"):
        load_params(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"no parameter file at .*nowhere\.yaml"):
        load_params(tmp_path / "nowhere.yaml")


def test_broken_yaml_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("tune: {steps: 3\nedits: ]")
    with pytest.raises(ParamsError, match="not valid YAML") as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


def test_a_section_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("run: {workers: 2}\ntune: {steps: 3}\ntune: {lr: 0.1}\n")
    with pytest.raises(ParamsError, match=r"params\.yaml is not valid YAML: tune is there twice"):
        load_params(path)


def test_params_do_not_change_under_a_run() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Params().tune.steps = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train_encoder": {"psp": {"imges": 5}}}, r"unknown key train_encoder.psp.imges; did you mean 'images'"),
        ({"train_encoder": {"psp": {"losses": {"lpips": 1}}}}, r"train_encoder.psp.losses.lpips.*'perceptual'"),
        ({"train_generator": {"mixing": 1.5}}, r"train_generator.mixing: .*less than or equal to 1"),
        ({"study_encoders": {"further": {"pps": [9]}}}, r"further: pps is not among encoders: psp, e4e,"),
        ({"tune": {"steps": 1}}, r"toy.yaml: unknown key tune;"),
    ],
)
def test_a_mistake_in_the_toy_worlds_file_is_named_too(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError, match=message):
        load_toy_params(path)


def test_a_section_stated_in_part_has_its_own_defaults_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text("train_segmenter: {seed: 1}\ntrain_encoder: {e4e: {seed: 2}}\ntrain_digit_paths: {steps: 3}\n")
    toy, whole = load_toy_params(path), ToyParams()
    assert toy.train_segmenter == whole.train_segmenter.model_copy(update={"seed": 1})
    assert toy.train_encoder == {"e4e": whole.train_encoder["e4e"].model_copy(update={"seed": 2})}
    assert toy.train_digit_paths == whole.train_digit_paths.model_copy(update={"steps": 3})


def test_a_run_of_before_the_toy_world_had_a_file_is_still_read() -> None:
    former = load_params(ROOT / "params.yaml").model_dump() | load_toy_params(ROOT / "toy.yaml").model_dump()
    assert set(ToyParams.model_fields) == MOVED
    assert check_stored_params(former, "run.json") == load_params(ROOT / "params.yaml")
    with pytest.raises(ParamsError, match="unknown key other"):
        check_stored_params(former | {"other": {}}, "run.json")


def test_variables_come_between_the_file_and_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.yaml").write_text("run: {workers: 1, batch_size: 7}\ntune: {steps: 3}\n")
    for name, value in {"RUN__WORKERS": "4", "TUNE__STEPS": "5", "MEASURE__METRICS": "[mse]"}.items():
        monkeypatch.setenv(f"EDIT_DATASET__{name}", value)
    params = load_params(tmp_path / "p.yaml", {"tune.steps": 6})
    assert (params.run.workers, params.run.batch_size, params.tune.steps) == (4, 7, 6)
    assert list(params.measure.metrics) == ["mse"]
    monkeypatch.setenv("EDIT_DATASET__RUN__WOKERS", "4")
    with pytest.raises(ParamsError, match=r"unknown key run\.wokers; did you mean .*workers"):
        load_params(tmp_path / "p.yaml")
    monkeypatch.setenv("EDIT_DATASET__RUN__WOKERS", "[")
    with pytest.raises(ParamsError, match="EDIT_DATASET__RUN__WOKERS in the environment is not valid YAML"):
        load_params(tmp_path / "p.yaml")


def test_a_project_without_a_file_of_the_toy_world_has_its_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_toy_params() == load_toy_params(ROOT / "toy.yaml")
    assert load_toy_params(overrides={"sample.seed": 3}).sample.seed == 3
    with pytest.raises(ParamsError, match=r"no parameter file at other\.yaml"):
        load_toy_params("other.yaml")


@pytest.mark.parametrize("folder", ["data/models/", "s3://bucket/models/", ""])
def test_another_encoder_lies_beside_the_one_that_is_named(folder: str) -> None:
    params = check_params({"models": {"encoder": f"{folder}{{encoder}}.safetensors"}, "encode": {"encoder": "psp"}})
    assert params.encoder_path("psp") == f"{folder}psp.safetensors"
    assert params.encoder_path("e4e") == params.models.beside_encoder("e4e") == f"{folder}e4e.safetensors"
