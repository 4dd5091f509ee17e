"""Names: unique, found with help when mistyped, and open to other packages."""

from importlib.metadata import EntryPoint

import pytest

from gan_core import registry
from gan_core.errors import ParamsError
from gan_core.registry import Registry


@pytest.fixture
def animals() -> Registry[type]:
    animals: Registry[type] = Registry("animal")
    animals.register("heron")(int)
    animals.register("badger")(float)
    return animals


def test_register_returns_the_class_itself(animals: Registry[type]) -> None:
    @animals.register("otter")
    class Otter:
        pass

    assert animals.get("otter") is Otter
    assert isinstance(Otter(), Otter)


def test_a_name_in_use_is_refused_and_stays_as_it_was(animals: Registry[type]) -> None:
    with pytest.raises(ValueError, match="animal 'heron' is registered already"):
        animals.register("heron")(str)
    assert animals.get("heron") is int


def test_an_unknown_name_suggests_near_ones(animals: Registry[type]) -> None:
    with pytest.raises(ParamsError, match=r"unknown animal 'heorn'; did you mean 'heron'\?$"):
        animals.get("heorn")


def test_an_unknown_name_lists_all_when_none_is_near(animals: Registry[type]) -> None:
    with pytest.raises(ParamsError, match=r"unknown animal 'xyz'; known: badger, heron$"):
        animals.get("xyz")


def test_names_are_sorted_and_iteration_follows_them(animals: Registry[type]) -> None:
    assert animals.names() == ["badger", "heron"]
    assert list(animals) == [("badger", float), ("heron", int)]


def test_other_packages_add_names_by_entry_point(animals: Registry[type], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _fake_entry_points(monkeypatch, [EntryPoint("newt", "collections:OrderedDict", "edit_dataset.animal")])
    assert animals.get("newt").__name__ == "OrderedDict"
    assert "newt" in animals.names()
    assert asked == ["edit_dataset.animal"], "entry points are looked up once"


def test_an_entry_point_never_replaces_a_built_in(animals: Registry[type], monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_entry_points(monkeypatch, [EntryPoint("heron", "builtins:str", "edit_dataset.animal")])
    assert dict(animals)["heron"] is int


def test_a_known_name_needs_no_discovery(animals: Registry[type], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _fake_entry_points(monkeypatch, [])
    animals.get("heron")
    assert asked == []


def _fake_entry_points(monkeypatch: pytest.MonkeyPatch, entries: list[EntryPoint]) -> list[str]:
    asked: list[str] = []

    def entry_points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return entries

    monkeypatch.setattr(registry, "entry_points", entry_points)
    return asked
