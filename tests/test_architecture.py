"""The cut of the project, kept by tests: who imports whom, and how long, typed and documented things are."""

import ast
import importlib
import inspect
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
PACKAGES = ("gan_core", "tasks", "flows")
SOURCES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ALL_FILES = [
    *SOURCES,
    *sorted(p.relative_to(ROOT) for f in ("tests", "benchmarks", "documentation") for p in (ROOT / f).rglob("*.py")),
]
FACE = Path("gan_core/__init__.py")
CORE = [path for path in SOURCES if path.parts[0] == "gan_core"]

ORCHESTRATION = {"prefect", "mlflow", "dvc"}
CORE_MAY_IMPORT = set(sys.stdlib_module_names) | {
    *("gan_core", "torch", "torchvision", "numpy", "scipy", "pyarrow", "pandas", "PIL", "pydantic", "yaml"),
    *("safetensors", "fsspec", "sklearn", "lpips", "jinja2", "markupsafe", "matplotlib", "dlib", "h5py"),
    *("onnxruntime", "ai_edge_litert", "gdown", "huggingface_hub"),
}
ONLY_IN = {"mlflow": Path("tasks/tracking"), "dvc": Path("tasks/versions.py")}
MAY_UNPICKLE = Path("gan_core/checkpoints")
MAX_FILE, MAX_FUNCTION = 400, 60

LAYERS: dict[str, tuple[str, ...]] = {
    "basics": (
        *(
            "errors",
            "wording",
            "meaning",
            "secrets",
            "registry",
            "sections",
            "execution",
            "params",
            "described",
            "rows",
            "geometry",
        ),
        *("gates", "budgets", "stage_params", "background", "stopping", "device", "precision", "batching", "capture"),
    ),
    "storage": ("storage", "importers", "checkpoints"),
    "networks": ("generators", "encoders", "judges", "loading"),
    "methods": ("align", "inversion", "editing", "paths", "compose", "singan", "translation", "metrics"),
    "combinations of methods, and files of others": ("edits", "published"),
    "runs": ("runs",),
    "stages": ("stages",),
    "training": ("training",),
    "pages": ("pages",),
    "recipes": ("recipes",),
    "report": ("report", "nightly", "browse"),
    "commands": ("plain", "probe", "inversion_trials"),
    "the toy world": ("toy",),
}
"""Packages and modules of ``gan_core``, lowest layer first: none imports from a layer above its own."""
RANKS = {unit: rank for rank, units in enumerate(LAYERS.values()) for unit in units}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    """Return the parsed file."""
    return ast.parse((ROOT / path).read_text(), str(path))


def imports(path: Path) -> set[str]:
    """Return the top-level names of everything that a file imports, at whatever depth of its code."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0] if node.level == 0 else path.parts[0])
    return found


def functions(path: Path) -> list[Function]:
    """Return every function and method of a file, nested ones too."""
    return [node for node in ast.walk(tree(path)) if isinstance(node, Function)]


def breaches(paths: list[Path], found: Callable[[Path], Iterable[object]]) -> dict[str, list[object]]:
    """Return what a rule finds in each file that breaks it."""
    return {str(path): listed for path in paths if (listed := list(found(path)))}


def lines(path: Path, *names: str) -> list[int]:
    """Return the lines of a file that call something of these names, as written."""
    return [node.lineno for called, node in calls(path) if called in names]


def test_the_library_knows_nothing_of_what_runs_it() -> None:
    assert breaches(CORE, lambda path: imports(path) - CORE_MAY_IMPORT) == {}


def unit(module: str) -> str:
    """Return the package or module of ``gan_core`` that a dotted name lies in."""
    return module.split(".")[1]


def core_imports(path: Path) -> set[str]:
    """Return the units of ``gan_core`` that a file imports, its own left out."""
    nodes = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom)]
    whole = {f"gan_core.{alias.name}" for node in nodes if node.module == "gan_core" for alias in node.names}
    parts = {node.module for node in nodes if (node.module or "").startswith("gan_core.")}
    return {unit(str(module)) for module in whole | parts} - {unit(module_name(path))}


def test_no_layer_imports_from_above() -> None:
    below_the_face = [path for path in CORE if path != FACE]
    rank = {path: RANKS[unit(module_name(path))] for path in below_the_face}
    assert breaches(below_the_face, lambda path: [n for n in core_imports(path) if RANKS[n] > rank[path]]) == {}


def test_no_packages_import_each_other_in_a_ring() -> None:
    graph: dict[str, set[str]] = {}
    for path in CORE:
        if module_name(path) != "gan_core":
            graph.setdefault(unit(module_name(path)), set()).update(core_imports(path))
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(graph)


def test_only_registries_and_the_face_import_by_name() -> None:
    others = [path for path in CORE if path.name != "registry.py" and path != FACE]
    assert breaches(others, lambda path: lines(path, "import_module", "importlib.import_module")) == {}


def test_tasks_never_import_flows() -> None:
    assert (
        breaches([path for path in SOURCES if path.parts[0] == "tasks"], lambda path: imports(path) & {"flows"}) == {}
    )


def test_one_place_each_knows_mlflow_and_dvc() -> None:
    def elsewhere(path: Path) -> list[str]:
        return [name for name in imports(path) & set(ONLY_IN) if not path.is_relative_to(ONLY_IN[name])]

    assert breaches(SOURCES, elsewhere) == {}


def test_importing_the_whole_library_loads_no_orchestration() -> None:
    names = [module_name(path) for path in CORE if path.name != "__main__.py"]
    code = f"import importlib, sys; [importlib.import_module(n) for n in {names!r}]; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in ast.literal_eval(done.stdout)}
    assert "torch" in loaded
    assert loaded & (ORCHESTRATION | {"tasks", "flows"}) == set()


def test_files_stay_short() -> None:
    length = {path: len((ROOT / path).read_text().splitlines()) for path in ALL_FILES}
    assert {str(path): n for path, n in length.items() if n > MAX_FILE} == {}


def test_functions_stay_short() -> None:
    def long(path: Path) -> list[tuple[str, int]]:
        lengths = [(f.name, (f.end_lineno or 0) - f.lineno + 1) for f in functions(path)]
        return [(name, length) for name, length in lengths if length > MAX_FUNCTION]

    assert breaches(ALL_FILES, long) == {}


def test_everything_is_typed() -> None:
    assert (
        breaches(SOURCES, lambda path: [f"{f.name}, line {f.lineno}" for f in functions(path) if not is_typed(f)]) == {}
    )


def test_everything_public_is_documented() -> None:
    def bare(path: Path) -> list[str]:
        module = importlib.import_module(module_name(path))
        return [name for name, item in [("the module", module), *public_items(module)] if not inspect.getdoc(item)]

    assert breaches(SOURCES, bare) == {}


def test_names_say_what_is_inside() -> None:
    assert [str(p) for p in SOURCES if p.stem in {"utils", "util", "helpers", "misc", "common"}] == []

    def vague(path: Path) -> list[str]:
        classes = [node.name for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
        return [name for name in classes if name.endswith(("Manager", "Helper", "Util", "Utils"))]

    assert breaches(SOURCES, vague) == {}


def test_only_the_command_line_prints() -> None:
    assert breaches([path for path in SOURCES if path.parts[0] != "flows"], lambda path: lines(path, "print")) == {}


def test_no_code_comes_from_data() -> None:
    unsafe = ("eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load")
    assert breaches(SOURCES, lambda path: lines(path, *unsafe)) == {}
    elsewhere = [path for path in SOURCES if not path.is_relative_to(MAY_UNPICKLE)]
    assert breaches(elsewhere, lambda path: imports(path) & {"pickle"}) == {}


def test_only_weights_are_loaded() -> None:
    def unsafe(path: Path) -> list[int]:
        loads = [node for called, node in calls(path) if called == "torch.load"]
        return [
            n.lineno for n in loads if {k.arg: ast.unparse(k.value) for k in n.keywords}.get("weights_only") != "True"
        ]

    assert breaches(SOURCES, unsafe) == {}


def test_importing_a_module_sets_no_state() -> None:
    """Modules define things; only the command line is put together from its parts when it is imported."""
    acts = ast.For | ast.While | ast.With | ast.AugAssign | ast.Expr

    def state(path: Path) -> list[str]:
        found = [node for node in tree(path).body if isinstance(node, acts)]
        return [ast.unparse(n) for n in found if not isinstance(getattr(n, "value", None), ast.Constant)]

    assert breaches([path for path in SOURCES if path != Path("flows/cli.py")], state) == {}


def test_test_files_have_names_of_their_own() -> None:
    counts = Counter(path.name for path in ALL_FILES if path.name.startswith("test_"))
    assert [name for name, count in counts.items() if count > 1] == []


def module_name(path: Path) -> str:
    """Return the dotted name under which a file is imported."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def public_items(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the module's own public functions and classes, and the public methods of these classes."""
    for name, item in vars(module).items():
        if name.startswith("_") or getattr(item, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(inspect.unwrap(item)):
            yield name, item
        elif inspect.isclass(item):
            yield name, item
            own = (key for key, value in vars(item).items() if inspect.isroutine(value) and not key.startswith("_"))
            yield from ((f"{name}.{key}", getattr(item, key)) for key in own)


def is_typed(function: Function) -> bool:
    """Tell whether every argument and the result are annotated."""
    arguments = function.args
    positional = [a for a in [*arguments.posonlyargs, *arguments.args] if a.arg not in {"self", "cls"}]
    rest = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return function.returns is not None and all(a.annotation for a in [*positional, *arguments.kwonlyargs, *rest])


@cache
def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Return every call in a file, with what is called as it is written: ``print``, ``torch.load``."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
