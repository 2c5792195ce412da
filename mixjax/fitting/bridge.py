"""Problem -> OBJECTIVE -> other people's minimisers: what `fit` minimises for one target, as a
function of a vector that optax, jaxopt, optimistix and SciPy can minimise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.data.runs import Runs, as_runs
from mixjax.engine import batch
from mixjax.fitting.loss import Huber, HuberOptions, Settings
from mixjax.fitting.objective import Observations
from mixjax.fitting.problem import Problem, from_paper, make_problem, to_paper
from mixjax.fitting.search import draw_starts
from mixjax.law import Law, find_law
from mixjax.law.base import parameter_names

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Objective:
    """The mean Huber loss of one target (paper eq. 6) as a function of a flat vector z (q,).

    z has the coordinates in which `fit` searches: unconstrained, about 1 in size, well conditioned.
    Functions of a NumPy z compute in float64 and give NumPy; of a JAX z they are pure, may be
    differentiated, jitted and vmapped, and compute in its precision (float64 under
    `jax.enable_x64(True)`).

    Attributes:
        problem: what is fitted, of this target alone.
    """

    problem: Problem

    @property
    def target(self) -> str:
        """Its name."""
        return self.problem.targets[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the entries of z (q,), in the coordinates of the search."""
        own = self.problem.law.own_domain
        domains = (self.target,) if own else self.problem.domains
        return tuple(parameter_names(self.problem.coordinates, domains))

    @overload
    def value(self, z: Floats) -> float: ...
    @overload
    def value(self, z: jax.Array) -> jax.Array: ...
    def value(self, z: Any) -> Any:
        """The objective () at z (q,)."""
        if isinstance(z, np.ndarray):
            return self.value_and_grad(z)[0]
        return self.problem.objective.value(z, self._data(z))

    @overload
    def value_and_grad(self, z: Floats) -> tuple[float, Floats]: ...
    @overload
    def value_and_grad(self, z: jax.Array) -> tuple[jax.Array, jax.Array]: ...
    def value_and_grad(self, z: Any) -> Any:
        """The objective () and its gradient (q,) at z (q,), for the price of one evaluation."""
        if isinstance(z, np.ndarray):
            return batch.evaluate(self.problem.objective, self._in_double, z)
        return self.problem.objective(z, self._data(z))

    def starts(self, n: int = Settings.starts, seed: int = 0) -> Floats:
        """The starts (n, q) that `fit` draws with this seed."""
        return np.array(draw_starts(self.problem, Settings(n, seed=seed)).z[0])

    def params(self, z: ArrayLike) -> dict[str, Any]:
        """The law's own parameters at z (q,), {name: number or (k,)}, as in `Fit.params`."""
        return to_paper(self.problem, 0, np.asarray(z, dtype=np.float64))

    def at(self, params: Mapping[str, Any]) -> Floats:
        """The z (q,) of the law's own parameters, the inverse of `params`."""
        return from_paper(self.problem, 0, params)

    def _data(self, z: jax.Array) -> Observations:
        """The target's data in the precision of z."""
        return Observations(*(jnp.asarray(leaf, z.dtype) for leaf in self.problem.data.of(0)))

    @cached_property
    def _in_double(self) -> Observations:
        """The target's data on the device."""
        with jax.enable_x64(True):
            return Observations(*map(jnp.asarray, self.problem.data.of(0)))


def objective(
    runs: Runs | pd.DataFrame | str,
    law: str | Law = "joint",
    target: str | None = None,
    *,
    weights: ArrayLike | None = None,
    **options: Unpack[HuberOptions],
) -> Objective:
    """What `fit` minimises for one target, for minimisers of your own.

        objective = mj.objective(runs, "joint", "web")
        scipy.optimize.minimize(objective.value_and_grad, objective.starts(1)[0], jac=True)

    Args:
        runs: `Runs`, or what `read_runs` reads.
        law: name or `Law`.
        target: name; the first by default.
        weights: of the rows (rows,), non-negative.
        options: delta (1e-3) and residual ("loss") of the Huber loss, see `Huber`.

    Raises:
        UserError: the table lacks what the law reads, or an option is out of range.
    """
    table, record, huber = as_runs(runs), find_law(law), Huber(**options)
    problem = make_problem(table, record, None if target is None else [target], huber, weights)
    if target is None and len(problem.targets) > 1:
        problem = make_problem(table, record, problem.targets[:1], huber, weights)
    return Objective(problem)
