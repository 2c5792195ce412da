"""The map of the house: imports point one way, compilation has few doors, the public names are pinned."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import mixjax

HOUSE = Path(mixjax.__file__).parent
# Each may import from those before it, and from itself.
ORDER = [
    "errors", "numerics", "score", "where", "table", "runs", "splits", "law", "design", "curvature", "objective", "problem", "engine", "search", "simplex",
    "record", "summary", "extrapolated", "starts", "fitting", "limits", "prior",
    "mixture", "mixtures", "plan", "simulate", "choose", "validate", "pipeline", "report", "export",
    "decision", "planning", "config",
    "cli", "__main__",
]  # fmt: skip
FILES = sorted(path for path in HOUSE.rglob("*.py") if path != HOUSE / "__init__.py")
# The doors of compilation, and what batches without being one: a law is written for one mixture, so the
# objective maps it over mixtures and the mixture over targets; the fit draws its starts.
DOORS = {"engine/batch.py", "starts.py", "simplex/mirror.py", "simplex/many.py", "law/evaluate.py"}
ALLOWED = {f"{name}.py": {"vmap"} for name in ("objective", "curvature", "mixture", "mixtures", "fitting", "decision/objectives")}
PUBLIC = {
    "compare", "MixjaxWarning", "UserError", "fit", "Coefficients", "Law", "Parameter", "Units", "laws", "Mixture", "optimal_mixture", "power",
    "Mixtures", "optimal_mixtures", "design_mixtures", "Fit", "load_fit", "Runs", "read_runs", "Score", "demo_runs", "simulate_runs", "__version__",
    "compute_optimal", "compare_mixtures", "Goal", "beside", "marginal_values", "price_limits", "Start", "smallest_move",
    "trust_path", "flat_region", "robust_mixture", "budget_path", "growth_laws", "caps_from_tokens", "corners", "target_map", "export_mixture",
    "resample", "best_mixture", "cross_validate", "extrapolate", "identify", "uncertainty", "refit", "next_runs", "enough_runs", "choose_law",
    "worst_target", "limited_mixture", "pareto_front", "at_most_domains", "Pull",
}  # fmt: skip


def room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: neither bodies of functions nor `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            continue
        yield child
        yield from at_import(child)


def rooms_imported(path: Path) -> set[str]:
    found = set()
    for node in at_import(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "mixjax" else [node.module or ""]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("mixjax.")}
    return found & {room(file) for file in FILES}


def test_every_module_is_on_the_map():
    assert {room(path) for path in FILES} <= set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_point_down(path):
    above = {name for name in rooms_imported(path) if ORDER.index(name) > ORDER.index(room(path))}
    assert not above, f"{path.relative_to(HOUSE)} imports {', '.join(above)}, which stand above it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_compilation_has_few_doors(path):
    name = path.relative_to(HOUSE).as_posix()
    words = {n.attr if isinstance(n, ast.Attribute) else n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute | ast.alias)}
    used = words & {"jit", "vmap", "pmap", "pjit", "shard_map"}
    assert name in DOORS or used <= ALLOWED.get(name, set())


def test_public_names_are_pinned():
    assert set(dir(mixjax)) == PUBLIC


def test_public_names_resolve_whatever_was_imported():
    modules = [module.name for module in pkgutil.walk_packages(mixjax.__path__, "mixjax.") if not module.name.endswith("__main__")]
    for module in modules:
        importlib.import_module(module)
    hidden = {module.split(".")[1] for module in modules} & PUBLIC
    assert not hidden, f"submodules that hide a public name: {hidden}"
    assert all(callable(getattr(mixjax, name)) for name in PUBLIC - {"__version__"})


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        mixjax.fitt  # noqa: B018
