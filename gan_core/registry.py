"""Plug-in registry: looks classes up by name in one package and in entry points.

To add a class, write one file with the class and a ``@REGISTRY.register(...)`` line above it; in another package, name
the class in an entry point (``docs/extending.md``).
"""

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules, resolve_name
from typing import Any, Generic, TypeVar

from gan_core.errors import ParamsError, near_matches

T = TypeVar("T")
Arguments = dict[str, Any]
"""Keyword arguments of a registered class, JSON-able: with them a checkpoint's card rebuilds the module."""
_log = logging.getLogger(__name__)


class Registry(Generic[T]):
    """Map names to classes or functions of one kind.

    ``kind`` is a singular noun that appears in the messages, for instance ``"encoder"``. ``items`` are those that the
    project has in a table instead of registering them one by one. A name that is not registered yet is looked for in
    every module of ``package``, so that a new file in it needs no import elsewhere. After that it is looked for in the
    entry points of ``group``, of which only the one with this name is loaded. With ``base`` (a class, or where it is:
    ``"module:Class"``) an entry point must name a class derived from it, with a value for each ``ClassVar`` that the
    base only declares. ``check`` gets a name and such a class, and says what else is wrong with it.
    """

    def __init__(
        self,
        kind: str,
        package: str | None = None,
        base: type | str | None = None,
        items: Mapping[str, T] | None = None,
        check: Callable[[str, T], str] | None = None,
    ) -> None:
        self.kind = kind
        self.package = package
        self._base = base
        self._check = check
        self._items: dict[str, T] = dict(items or {})
        self._broken: dict[str, str] = {}
        self._imported = False

    @property
    def group(self) -> str:
        """The group of the entry points by which other packages add names, such as ``edit_dataset.edit_kind``."""
        return f"edit_dataset.{self.kind.replace(' ', '_')}"

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that stores its target under ``name``; it raises ``ValueError`` for a name in use."""

        def store(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self.kind} {name!r} is registered already, by {self._items[name]!r}")
            self._items[name] = item
            return item

        return store

    def get(self, name: str) -> T:
        """Return the item ``name``.

        Raises ``ParamsError`` with near matches for an unknown name, and for one that its package doesn't provide as
        its entry point says.
        """
        if not isinstance(name, str):
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise ParamsError(f"{article} {self.kind} is named by text, not by {repr(name)[:40]}")
        if name not in self._items:
            self._import_package()
        if name not in self._items:
            self._items[name] = self._load(name)
        return self._items[name]

    def names(self) -> list[str]:
        """Return all names, sorted, including those of other packages."""
        return [name for name, _ in self]

    def __contains__(self, name: object) -> bool:
        """Tell whether a name is registered or in an entry point, which is not loaded."""
        self._import_package()
        return isinstance(name, str) and (name in self._items or name in self._entries)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Yield all names with their items, sorted; of an entry point that can't be loaded there is only a warning."""
        self._import_package()
        for name in self._entries.keys() - self._items.keys() - self._broken.keys():
            try:
                self.get(name)
            except ParamsError as error:
                _log.warning("%s", error)
        return iter(sorted(self._items.items()))

    @cached_property
    def _entries(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=self.group):
            found.setdefault(entry.name, []).append(entry)
        for name in found.keys() & self._items.keys():
            if getattr(self._items[name], "__module__", "") != found[name][0].module:
                _log.warning("%s %r of %s is ignored: the project has its own", self.kind, name, _origins(found[name]))
        return found

    def _import_package(self) -> None:
        if self.package and not self._imported:
            for module in iter_modules(import_module(self.package).__path__):
                import_module(f"{self.package}.{module.name}")
        self._imported = True  # not earlier: another thread that asks meanwhile waits for the imports

    def _load(self, name: str) -> T:
        if name not in self._entries:
            raise ParamsError(f"unknown {self.kind} {name!r}{near_matches(name, {*self._items, *self._entries})}")
        if name not in self._broken:
            item, fault = self._try(name, self._entries[name])
            if not fault:
                return item
            self._broken[name] = f"{self.kind} {name!r} of {_origins(self._entries[name])}: {fault}"
        raise ParamsError(self._broken[name])

    def _try(self, name: str, entries: list[EntryPoint]) -> tuple[Any, str]:
        """Load an entry point; gives its item, and what is wrong with it (nothing: an empty text)."""
        if len(entries) > 1:
            return None, "more than one package has this name; uninstall all but one of them"
        try:
            item = entries[0].load()
        except Exception as error:  # whatever the code of another package raises
            said = (str(error).splitlines() or [""])[0]
            return None, f"it can't be loaded ({type(error).__name__}: {said}); correct or uninstall the package"
        fault = self._fault(name, item)
        return item, fault and f"{fault}; correct or uninstall the package"

    def _fault(self, name: str, item: Any) -> str:
        """What is wrong with the item of an entry point; an empty text if nothing is."""
        base = resolve_name(self._base) if isinstance(self._base, str) else self._base
        if base is not None and not (inspect.isclass(item) and issubclass(item, base)):
            return f"it is not a class derived from {place_of(base)}"
        unset = [variable for variable in _declared(base) if not hasattr(item, variable)]
        if missing := sorted([*getattr(item, "__abstractmethods__", ()), *unset]):
            return f"the class has no {', '.join(missing)}"
        own = getattr(item, "name", None) or name
        if base is not None and own != name:
            return f"the class calls itself {own!r}"
        return self._check(name, item) if self._check else ""


def place_of(kind: type) -> str:
    """Return where a class is, ``module.Class``, by which messages name those of other packages."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _declared(base: type | None) -> list[str]:
    """Return the class variables of ``base``, whose annotations may be texts."""
    kinds = inspect.get_annotations(base) if base else {}
    return [name for name, kind in kinds.items() if str(kind).removeprefix("typing.").startswith("ClassVar")]


def _origins(entries: list[EntryPoint]) -> str:
    return " and ".join(
        f"the package {entry.dist.name} {entry.dist.version} ({entry.value})" if entry.dist else entry.value
        for entry in entries
    )
