"""Names: unique, found with help when mistyped, and open to other packages, whose faults stay their own."""

import logging
import sys
from collections import UserDict
from importlib.metadata import EntryPoint
from pathlib import Path

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


def test_a_table_of_items_can_be_added_to_but_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_entry_points(monkeypatch, [_entry("ants", "collections:OrderedDict")])
    table = {"bee": dict}
    animals: Registry[type] = Registry("animal", items=table)
    animals.register("cat")(list)
    assert animals.names() == ["ants", "bee", "cat"] and animals.get("bee") is dict
    assert table == {"bee": dict}


def test_a_group_is_named_as_packaging_tools_take_it() -> None:
    assert Registry("edit kind").group == "edit_dataset.edit_kind"


def test_only_the_entry_point_that_is_asked_for_is_loaded(
    animals: Registry[type], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "never_imported.py").write_text("class Newt: ...")
    monkeypatch.syspath_prepend(tmp_path)
    entries = [_entry("newt", "collections:OrderedDict"), _entry("toad", "never_imported:Newt")]
    _fake_entry_points(monkeypatch, entries)
    assert "toad" in animals and "frog" not in animals
    assert animals.get("newt").__name__ == "OrderedDict"
    assert "never_imported" not in sys.modules


FAULTS = {
    "not_there:Newt": r"it can't be loaded \(ModuleNotFoundError: No module named 'not_there'\)",
    "spoiled:Newt": r"it can't be loaded \(RuntimeError: the file is spoiled\)",
    "collections:Newt": r"it can't be loaded \(AttributeError: .*'Newt'\)",
    "builtins:str": r"it is not a class derived from collections\.UserDict",
    "spoiled": r"it can't be loaded",
    "unfinished:Newt": r"the class has no legs",
    "misnamed:Newt": r"the class calls itself 'toad'",
}


@pytest.mark.parametrize("value", FAULTS)
def test_a_fault_of_another_package_is_one_line_and_the_others_stay_usable(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write_modules(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    animals: Registry[type] = Registry("animal", base=UserDict)
    _fake_entry_points(monkeypatch, [_entry("newt", value), _entry("toad", "collections:UserDict")])
    told = rf"^animal 'newt' of {value}: {FAULTS[value]}.*; correct or uninstall the package$"
    for _ in range(2):
        with pytest.raises(ParamsError, match=told) as error:
            animals.get("newt")
        assert "\n" not in str(error.value)
    assert animals.get("toad") is UserDict
    again: Registry[type] = Registry("animal", base=UserDict)
    with caplog.at_level(logging.WARNING):
        assert [again.names(), again.names()] == [["toad"], ["toad"]]
    assert [record.getMessage() for record in caplog.records] == [str(error.value)]


def test_two_packages_with_one_name_are_told_apart(animals: Registry[type], monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_entry_points(monkeypatch, [_entry("newt", "pond:Newt"), _entry("newt", "brook:Newt")])
    with pytest.raises(ParamsError, match="animal 'newt' of pond:Newt and brook:Newt: more than one package has this"):
        animals.get("newt")
    assert animals.names() == ["badger", "heron"]


def test_a_name_that_the_project_has_itself_is_told(
    animals: Registry[type], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _fake_entry_points(monkeypatch, [_entry("heron", "pond:Heron")])
    with caplog.at_level(logging.WARNING):
        assert animals.names() == ["badger", "heron"]
    assert caplog.messages == ["animal 'heron' of pond:Heron is ignored: the project has its own"]


def _entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "edit_dataset.animal")


def _write_modules(folder: Path) -> None:
    base = "from collections import UserDict\nfrom abc import ABC, abstractmethod\n"
    (folder / "spoiled.py").write_text("raise RuntimeError('the file is spoiled\\nin two lines')")
    (folder / "misnamed.py").write_text(f"{base}class Newt(UserDict):\n    name = 'toad'\n")
    legs = "    @abstractmethod\n    def legs(self) -> int: ...\n"
    (folder / "unfinished.py").write_text(f"{base}class Newt(UserDict, ABC):\n{legs}")


def _fake_entry_points(monkeypatch: pytest.MonkeyPatch, entries: list[EntryPoint]) -> list[str]:
    asked: list[str] = []

    def entry_points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return entries

    monkeypatch.setattr(registry, "entry_points", entry_points)
    return asked
