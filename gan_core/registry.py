"""Plug-in registry: looks classes up by name in one package and in entry points.

To add a class, write one file with the class and a ``@REGISTRY.register(...)`` line above it.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from gan_core.errors import ParamsError, near_matches

T = TypeVar("T")
Arguments = dict[str, Any]
"""Keyword arguments of a registered class, JSON-able: with them a checkpoint's card rebuilds the module."""


class Registry(Generic[T]):
    """Map names to classes or functions of one kind.

    ``kind`` is a singular noun that appears in the messages, for instance ``"encoder"``. Names are discovered once,
    when a name is unknown or all names are asked for: every module of ``package`` is imported, and the entry points of
    the group ``edit_dataset.<kind>`` are loaded. A new file in ``package`` therefore needs no import elsewhere.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind = kind
        self.package = package
        self._items: dict[str, T] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that stores its target under ``name``; it raises ``ValueError`` for a name in use."""

        def store(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self.kind} {name!r} is registered already, by {self._items[name]!r}")
            self._items[name] = item
            return item

        return store

    def get(self, name: str) -> T:
        """Return the item ``name``; raises ``ParamsError`` with near matches for an unknown name."""
        if name not in self._items:
            self._discover()
        if name not in self._items:
            raise ParamsError(f"unknown {self.kind} {name!r}{near_matches(name, self._items)}")
        return self._items[name]

    def names(self) -> list[str]:
        """Return all names, sorted, including those of other packages."""
        self._discover()
        return sorted(self._items)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter([(name, self._items[name]) for name in self.names()])

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        if self.package:
            for module in iter_modules(import_module(self.package).__path__):
                import_module(f"{self.package}.{module.name}")
        for entry in entry_points(group=f"edit_dataset.{self.kind}"):
            if entry.name not in self._items:
                self.register(entry.name)(entry.load())
