"""The map of the house: imports point one way, compilation has few doors, public names resolve."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mixjax

HOUSE = Path(mixjax.__file__).parent
FILES = sorted(path for path in HOUSE.rglob("*.py") if path != HOUSE / "__init__.py")
# What a fit is made of knows nothing of its neighbours: a table of no law, a solver of neither.
STRANGERS = {"data", "law", "engine"}
# The doors of compilation, and what batches without being one: a law is written for one mixture, so
# the objective maps it over mixtures and the mixture over targets; the fit draws its starts.
DOORS = {
    "engine/batch.py",
    "fitting/search.py",
    "mixture/lanes.py",
    "law/base.py",
}
BATCHING = {
    f"{name}.py": {"vmap"}
    for name in (
        "fitting/objective",
        "mixture/mirror",
        "mixture/question",
        "mixture/robust",
    )
}


def module(path: Path) -> str:
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


# Where the package's public names come from, {name: module}; a room's is its own.
HOMES = {
    alias.name: f"mixjax.{alias.name}" if node.module == "mixjax" else str(node.module)
    for node in ast.parse((HOUSE / "__init__.pyi").read_text()).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}


def imported(path: Path) -> Iterator[str]:
    """Modules of the package that a module imports anywhere: also inside functions, also for types
    alone, also by a public name of `mj`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "mj":
            names = [HOMES[node.attr]]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            inner = name.removeprefix("mixjax.")
            if name.startswith("mixjax."):
                yield inner if inner in MODULES else inner.rpartition(".")[0]


def room(name: str) -> str:
    return name.partition(".")[0]


IMPORTS = {name: set(imported(path)) - {"", name} for name, path in MODULES.items()}


def test_rooms_stand_in_an_order():
    graph = {room(name): set() for name in MODULES}
    for name, others in IMPORTS.items():
        graph[room(name)] |= {room(other) for other in others} - {room(name)}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"rooms import each other in a circle: {' <- '.join(error.args[1])}")
    assert order.index("cli") >= len(order) - 2


def test_modules_import_in_no_circle():
    try:
        list(TopologicalSorter(IMPORTS).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("name", sorted(n for n in MODULES if room(n) in STRANGERS))
def test_data_law_and_engine_are_strangers(name):
    assert not {room(other) for other in IMPORTS[name]} & STRANGERS - {room(name)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_compilation_has_few_doors(path):
    name = path.relative_to(HOUSE).as_posix()
    words = {
        n.attr if isinstance(n, ast.Attribute) else n.name
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.Attribute | ast.alias)
    }
    used = words & {"jit", "vmap", "pmap", "pjit", "shard_map"}
    assert name in DOORS or used <= BATCHING.get(name, set())


PACKAGES = ["mixjax", *(f"mixjax.{stub.parent.name}" for stub in HOUSE.glob("*/__init__.pyi"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_resolve_whatever_was_imported(package):
    for found in pkgutil.walk_packages(mixjax.__path__, "mixjax."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    home = importlib.import_module(package)
    names = {
        alias.name
        for node in ast.parse(Path(str(home.__file__)).with_suffix(".pyi").read_text()).body
        if isinstance(node, ast.ImportFrom) and node.module != package
        for alias in node.names
    }
    assert names <= set(dir(home))
    # A module that bears the name of a function would take its place once it is imported.
    assert all(callable(getattr(home, name)) for name in names)


def test_few_names_stand_at_the_top():
    assert len([n for n in dir(mixjax) if not n.startswith("_") and n not in MODULES]) <= 25


def test_rooms_are_reached_without_importing_them():
    script = "import mixjax, sys; assert 'jax' not in sys.modules; mixjax.trust.cross_validate"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        mixjax.fitt  # noqa: B018
