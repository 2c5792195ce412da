"""mixjax: choose the data mixture of a large training run from small runs.

The public names load on first use, so that `import mixjax` and `mixjax --help` are immediate.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixjax.choose import compare as compare
    from mixjax.decision.balance import limited_mixture as limited_mixture
    from mixjax.decision.balance import worst_target as worst_target
    from mixjax.decision.budget import compute_optimal as compute_optimal
    from mixjax.decision.compare import compare_mixtures as compare_mixtures
    from mixjax.decision.front import pareto_front as pareto_front
    from mixjax.decision.goal import Goal as Goal
    from mixjax.decision.laws import beside as beside
    from mixjax.decision.margin import marginal_values as marginal_values
    from mixjax.decision.margin import price_limits as price_limits
    from mixjax.decision.moves import Start as Start
    from mixjax.decision.moves import trust_path as trust_path
    from mixjax.decision.reach import smallest_move as smallest_move
    from mixjax.decision.region import flat_region as flat_region
    from mixjax.decision.robust import robust_mixture as robust_mixture
    from mixjax.decision.scaling import budget_path as budget_path
    from mixjax.decision.scaling import growth_laws as growth_laws
    from mixjax.decision.supply import caps_from_tokens as caps_from_tokens
    from mixjax.decision.support import at_most_domains as at_most_domains
    from mixjax.decision.targets import corners as corners
    from mixjax.decision.targets import target_map as target_map
    from mixjax.errors import MixjaxWarning as MixjaxWarning
    from mixjax.errors import UserError as UserError
    from mixjax.export import export_mixture as export_mixture
    from mixjax.fitting import fit as fit
    from mixjax.law import Coefficients as Coefficients
    from mixjax.law import Law as Law
    from mixjax.law import Parameter as Parameter
    from mixjax.law import Units as Units
    from mixjax.law import laws as laws
    from mixjax.mixture import Mixture as Mixture
    from mixjax.mixture import optimal_mixture as optimal_mixture
    from mixjax.mixtures import Mixtures as Mixtures
    from mixjax.mixtures import optimal_mixtures as optimal_mixtures
    from mixjax.numerics import power as power
    from mixjax.plan import design_mixtures as design_mixtures
    from mixjax.planning.next_runs import next_runs as next_runs
    from mixjax.prior import Pull as Pull
    from mixjax.record import Fit as Fit
    from mixjax.record import load_fit as load_fit
    from mixjax.runs import Runs as Runs
    from mixjax.runs import read_runs as read_runs
    from mixjax.score import Score as Score
    from mixjax.simulate import demo_runs as demo_runs
    from mixjax.simulate import simulate_runs as simulate_runs
    from mixjax.splits import resample as resample
    from mixjax.validate.best import best_mixture as best_mixture
    from mixjax.validate.choice import choose_law as choose_law
    from mixjax.validate.enough import enough_runs as enough_runs
    from mixjax.validate.extrapolate import extrapolate as extrapolate
    from mixjax.validate.held_out import cross_validate as cross_validate
    from mixjax.validate.identify import identify as identify
    from mixjax.validate.intervals import uncertainty as uncertainty
    from mixjax.validate.refit import refit as refit

__version__ = "0.1.0"

_HOMES = {
    "compare": "choose",
    "limited_mixture": "decision.balance",
    "worst_target": "decision.balance",
    "compute_optimal": "decision.budget",
    "compare_mixtures": "decision.compare",
    "pareto_front": "decision.front",
    "Goal": "decision.goal",
    "beside": "decision.laws",
    "marginal_values": "decision.margin",
    "price_limits": "decision.margin",
    "Start": "decision.moves",
    "smallest_move": "decision.reach",
    "trust_path": "decision.moves",
    "flat_region": "decision.region",
    "robust_mixture": "decision.robust",
    "budget_path": "decision.scaling",
    "growth_laws": "decision.scaling",
    "caps_from_tokens": "decision.supply",
    "at_most_domains": "decision.support",
    "corners": "decision.targets",
    "target_map": "decision.targets",
    "export_mixture": "export",
    "MixjaxWarning": "errors",
    "UserError": "errors",
    "fit": "fitting",
    "Coefficients": "law",
    "Law": "law",
    "Parameter": "law",
    "Units": "law",
    "laws": "law",
    "Mixture": "mixture",
    "optimal_mixture": "mixture",
    "Mixtures": "mixtures",
    "optimal_mixtures": "mixtures",
    "power": "numerics",
    "design_mixtures": "plan",
    "next_runs": "planning.next_runs",
    "Pull": "prior",
    "Fit": "record",
    "load_fit": "record",
    "Runs": "runs",
    "read_runs": "runs",
    "Score": "score",
    "demo_runs": "simulate",
    "simulate_runs": "simulate",
    "resample": "splits",
    "best_mixture": "validate.best",
    "cross_validate": "validate.held_out",
    "choose_law": "validate.choice",
    "enough_runs": "validate.enough",
    "extrapolate": "validate.extrapolate",
    "identify": "validate.identify",
    "uncertainty": "validate.intervals",
    "refit": "validate.refit",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mixjax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mixjax.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])
