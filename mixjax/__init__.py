"""mixjax: choose the data mixture of a large training run from small runs.

The public names load on first use, so that `import mixjax` and `mixjax --help` are immediate.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixjax.data.design import design_mixtures as design_mixtures
    from mixjax.data.runs import Runs as Runs
    from mixjax.data.runs import read_runs as read_runs
    from mixjax.data.splits import resample as resample
    from mixjax.errors import MixjaxWarning as MixjaxWarning
    from mixjax.errors import UserError as UserError
    from mixjax.fitting.fit import fit as fit
    from mixjax.fitting.record import Fit as Fit
    from mixjax.fitting.record import load_fit as load_fit
    from mixjax.fitting.score import Score as Score
    from mixjax.fitting.simulate import demo_runs as demo_runs
    from mixjax.fitting.simulate import simulate_runs as simulate_runs
    from mixjax.law import Coefficients as Coefficients
    from mixjax.law import Law as Law
    from mixjax.law import Parameter as Parameter
    from mixjax.law import Units as Units
    from mixjax.law import laws as laws
    from mixjax.mixture.balance import limited_mixture as limited_mixture
    from mixjax.mixture.balance import worst_target as worst_target
    from mixjax.mixture.beside import beside as beside
    from mixjax.mixture.budget import compute_optimal as compute_optimal
    from mixjax.mixture.few import at_most_domains as at_most_domains
    from mixjax.mixture.flat import flat_region as flat_region
    from mixjax.mixture.front import pareto_front as pareto_front
    from mixjax.mixture.judge import compare_mixtures as compare_mixtures
    from mixjax.mixture.margin import marginal_values as marginal_values
    from mixjax.mixture.margin import price_limits as price_limits
    from mixjax.mixture.move import Start as Start
    from mixjax.mixture.move import trust_path as trust_path
    from mixjax.mixture.optima import Mixtures as Mixtures
    from mixjax.mixture.optima import optimal_mixtures as optimal_mixtures
    from mixjax.mixture.optimum import Mixture as Mixture
    from mixjax.mixture.optimum import optimal_mixture as optimal_mixture
    from mixjax.mixture.paths import budget_path as budget_path
    from mixjax.mixture.paths import growth_laws as growth_laws
    from mixjax.mixture.prior import Pull as Pull
    from mixjax.mixture.question import Goal as Goal
    from mixjax.mixture.reach import smallest_move as smallest_move
    from mixjax.mixture.robust import robust_mixture as robust_mixture
    from mixjax.mixture.supply import caps_from_tokens as caps_from_tokens
    from mixjax.mixture.targets import corners as corners
    from mixjax.mixture.targets import target_map as target_map
    from mixjax.numerics import power as power
    from mixjax.plan.next_runs import next_runs as next_runs
    from mixjax.report.export import export_mixture as export_mixture
    from mixjax.trust.best import best_mixture as best_mixture
    from mixjax.trust.choice import choose_law as choose_law
    from mixjax.trust.compare import compare as compare
    from mixjax.trust.enough import enough_runs as enough_runs
    from mixjax.trust.extrapolate import extrapolate as extrapolate
    from mixjax.trust.held_out import cross_validate as cross_validate
    from mixjax.trust.identify import identify as identify
    from mixjax.trust.intervals import uncertainty as uncertainty
    from mixjax.trust.refit import refit as refit

__version__ = "0.1.0"

_HOMES = {
    "compare": "trust.compare",
    "limited_mixture": "mixture.balance",
    "worst_target": "mixture.balance",
    "compute_optimal": "mixture.budget",
    "compare_mixtures": "mixture.judge",
    "pareto_front": "mixture.front",
    "Goal": "mixture.question",
    "beside": "mixture.beside",
    "marginal_values": "mixture.margin",
    "price_limits": "mixture.margin",
    "Start": "mixture.move",
    "smallest_move": "mixture.reach",
    "trust_path": "mixture.move",
    "flat_region": "mixture.flat",
    "robust_mixture": "mixture.robust",
    "budget_path": "mixture.paths",
    "growth_laws": "mixture.paths",
    "caps_from_tokens": "mixture.supply",
    "at_most_domains": "mixture.few",
    "corners": "mixture.targets",
    "target_map": "mixture.targets",
    "export_mixture": "report.export",
    "MixjaxWarning": "errors",
    "UserError": "errors",
    "fit": "fitting.fit",
    "Coefficients": "law",
    "Law": "law",
    "Parameter": "law",
    "Units": "law",
    "laws": "law",
    "Mixture": "mixture.optimum",
    "optimal_mixture": "mixture.optimum",
    "Mixtures": "mixture.optima",
    "optimal_mixtures": "mixture.optima",
    "power": "numerics",
    "design_mixtures": "data.design",
    "next_runs": "plan.next_runs",
    "Pull": "mixture.prior",
    "Fit": "fitting.record",
    "load_fit": "fitting.record",
    "Runs": "data.runs",
    "read_runs": "data.runs",
    "Score": "fitting.score",
    "demo_runs": "fitting.simulate",
    "simulate_runs": "fitting.simulate",
    "resample": "data.splits",
    "best_mixture": "trust.best",
    "cross_validate": "trust.held_out",
    "choose_law": "trust.choice",
    "enough_runs": "trust.enough",
    "extrapolate": "trust.extrapolate",
    "identify": "trust.identify",
    "uncertainty": "trust.intervals",
    "refit": "trust.refit",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mixjax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mixjax.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])
