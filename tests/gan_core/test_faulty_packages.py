"""Classes of other packages that lack something: the message names them and what is missing, before a run begins."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pytest
import torch

from gan_core.edits.base import LatentEdit
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.errors import ParamsError
from gan_core.metrics.base import METRICS, RowMetric
from gan_core.params import EDIT_KINDS, EditSpec, Params, check_params
from gan_core.recipes.base import RECIPES, Recipe
from gan_core.registry import Registry
from gan_core.rows import Row
from gan_core.runs.stage import STAGES, Stage, identity_of

HERE = "tests.gan_core.test_faulty_packages"


class Bare(LatentEdit):
    """An edit without a spec."""

    __init__ = plan = describe = edit = lambda *_: None  # type: ignore[assignment]


class OtherSpec(EditSpec):
    """A section for entries of another kind."""

    kind: Literal["other"] = "other"


class Misnamed(Bare):
    """An edit whose spec is one of another kind."""

    spec = OtherSpec


class Unchecked(Bare):
    """An edit whose spec is no section."""

    spec = dict  # type: ignore[assignment]


class Nameless(RowMetric):
    """A metric without a name."""


class Spaceless(Encoder):
    """An encoder that has no space and no forward."""

    name = "mine"


class Unpublished(Recipe):
    """A recipe that does not say which stage is published."""

    name = "mine"

    def stages(self, params: Params) -> tuple[str, ...]:
        return ("mine",)


class Unnamed(Stage):
    """A stage without a name."""

    identity = process = lambda *_: {}


FAULTS: list[tuple[Registry[Any], str, str]] = [
    (EDIT_KINDS, "Bare", "the class has no spec"),
    (EDIT_KINDS, "Misnamed", "its spec is one for kind 'other'"),
    (EDIT_KINDS, "Unchecked", r"its spec is not a class derived from gan_core\.params\.EditSpec"),
    (METRICS, "Nameless", "the class has no name"),
    (ENCODERS, "Spaceless", "the class has no forward, space"),
    (RECIPES, "Unpublished", "the class has no published"),
    (STAGES, "Unnamed", "the class has no name"),
]


@pytest.mark.parametrize(("registry", "cls", "said"), FAULTS)
def test_a_class_without_what_its_base_only_declares_is_refused(
    registry: Registry[Any], cls: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(registry, cls, monkeypatch)
    with pytest.raises(ParamsError, match=rf"{registry.kind} 'mine' of {HERE}:{cls}: {said}; correct or uninstall"):
        registry.get("mine")


def test_an_entry_of_a_faulty_kind_is_not_blamed_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(EDIT_KINDS, "Misnamed", monkeypatch)
    with pytest.raises(ParamsError, match=r"^edit kind 'mine' of .*:Misnamed: its spec is one for kind 'other'"):
        check_params({"edits": [{"kind": "mine"}]})


def offer(registry: Registry[Any], cls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``mine`` be an entry point of a package, beside what the project has."""
    monkeypatch.setitem(vars(registry), "_entries", {"mine": [EntryPoint("mine", f"{HERE}:{cls}", registry.group)]})
    monkeypatch.setattr(registry, "_broken", {})


class Fine(Stage):
    """A stage of another package that lacks nothing."""

    name: ClassVar[str] = "fine"
    inputs = ("align",)
    fields: Sequence[pa.Field] = (pa.field("x", pa.float32()),)
    batch_size = 8

    def identity(self) -> dict[str, Any]:
        return {"weights": (1, 2)}

    def process(self, rows: Sequence[Row]) -> list[Row]:
        return [{"x": 1.0} for _ in rows]


class First(Fine):
    """The stage before it, which reads the source."""

    name: ClassVar[str] = "align"
    inputs = ("source",)

    def __init__(self, source: str) -> None:
        self.source = source


class Running(Recipe):
    """The stages ``align`` and ``fine``, of which a test says what the second is."""

    name: ClassVar[str] = "running"
    published: ClassVar[str] = "align"

    def __init__(self, second: Stage) -> None:
        self.second = second

    def stages(self, params: Params) -> tuple[str, ...]:
        return ("align", "fine")

    def build_stage(self, name: str, params: Params, source: str) -> Stage:
        return self.second if name == "fine" else First(source)


def planned(second: Stage, dataset: str) -> dict[str, Any]:
    return Running(second).plan(Params(), dataset, "memory://run").run.identities


def without(name: str) -> type[Stage]:
    """Return ``Fine`` as if its class did not give ``name``."""
    kept = {key: value for key, value in vars(Fine).items() if key not in (name, "__dict__", "__weakref__")}
    return type("Fine", (Stage,), kept)


def test_a_complete_stage_is_planned_and_its_identity_is_as_it_will_be_stored(tiny_dataset: str) -> None:
    assert planned(Fine(), tiny_dataset)["fine"] == identity_of(Fine()) == {"weights": [1, 2]}


@pytest.mark.parametrize("name", ["inputs", "fields", "batch_size"])
def test_a_stage_that_lacks_something_is_refused_when_a_run_is_planned(name: str, tiny_dataset: str) -> None:
    with pytest.raises(ParamsError, match=rf"^stage 'fine' \({HERE}.Fine\): it has no {name}: give it in the class"):
        planned(without(name)(), tiny_dataset)


FIELD = pa.field("x", pa.float32())
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "mistyped": ({"inputs": ("algin",)}, "its inputs name 'algin', .* before it in the run; did you mean 'align'?"),
    "itself": (
        {"inputs": ("fine",)},
        "its inputs name 'fine', .* before it in the run; known: align, source",
    ),
    "nothing": ({"inputs": ()}, "its inputs are empty: name what it reads"),
    "source": ({"inputs": ("source",)}, "its inputs name the source, .*: set its `source` in `build`"),
    "taken": ({"fields": (pa.field("key", pa.string()),)}, "its fields make no shard .*'key' is there twice: .*status"),
    "twice": ({"fields": (FIELD, FIELD)}, "its fields make no shard .*'x' is there twice"),
    "no column": ({"fields": ("x",)}, "its fields make no shard"),
    "no JSON": (
        {"identity": lambda: {"fine": 1, "weights": torch.zeros(2)}},
        "its identity has 'weights', which is not JSON .*Tensor",
    ),
    "no text": ({"identity": lambda: {1: 2}}, "its identity has the key 1, which is no text"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_stage_that_does_not_fit_is_refused_when_a_run_is_planned(case: str, tiny_dataset: str) -> None:
    changed, said = WRONG[case]
    stage = Fine()
    vars(stage).update(changed)
    with pytest.raises(ParamsError, match=rf"^stage 'fine' \({HERE}.Fine\): {said}") as error:
        planned(stage, tiny_dataset)
    assert "\n" not in str(error.value)


def test_declarations_may_be_texts() -> None:
    base = type("Base", (), {"__annotations__": {"legs": "ClassVar[int]", "wings": ClassVar[int], "age": int}})
    animals: Registry[type] = Registry("animal", base=base)
    vars(animals)["_entries"] = {"newt": [SimpleNamespace(load=lambda: base, dist=None, value="pond:Newt")]}
    with pytest.raises(ParamsError, match=r"animal 'newt' of pond:Newt: the class has no legs, wings;"):
        animals.get("newt")
