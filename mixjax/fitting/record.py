"""A finished fit as a frozen record and one JSON file (engine -> FIT -> scores, mixture); loads
without JAX."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixjax.drawing import charts
from mixjax.errors import UserError, check_names
from mixjax.fitting.loss import Huber
from mixjax.fitting.score import Score, score
from mixjax.text import plain, table, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mixjax.data.runs import Runs
    from mixjax.law import Law

SCHEMA = 1
FORMAT = "mixjax fit"


class Status(StrEnum):
    """How a search ended, with a sentence and what to do about it."""

    CONVERGED = "converged"
    OUT_OF_BUDGET = "out of budget"
    INTERRUPTED = "interrupted"
    KNOWN = "known"

    @property
    def sentence(self) -> str:
        """What it means."""
        return _MEANING[self][0]

    @property
    def remedy(self) -> str:
        """What to do about it; empty where nothing need be done."""
        return _MEANING[self][1]


_MEANING = {
    Status.CONVERGED: ("the last local minimisation ended by itself", ""),
    Status.OUT_OF_BUDGET: (
        "the last local minimisation stopped on its limit of steps",
        "fit again with more hops",
    ),
    Status.INTERRUPTED: ("the search was interrupted, this is the best so far", "fit again"),
    Status.KNOWN: ("the parameters were not fitted but given", ""),
}


@dataclass(frozen=True)
class Search:
    """How one target's search ended and how far to trust it.

    Attributes:
        status: how it ended.
        rows: rows with a measured loss that were fitted.
        evaluations: values and gradients computed.
        gradient: largest |d log objective / dz| at the answer, dimensionless.
        agreeing: how many of the starts ended within 0.1 percent of the best objective.
        starts: how many starts there were.
        dropped: lanes that became non-finite and were left out.
        at_limit: names of parameters that ran off (beyond e^+-20 or an exponent beyond 100), not to
            be trusted as numbers.
        minima: how many of those within 1 percent of the best objective differ by over 0.1 percent
            in a prediction, at the fitted rows or at ten times their N and D.
    """

    status: Status
    rows: int = 0
    evaluations: int = 0
    gradient: float = 0.0
    agreeing: int = 0
    starts: int = 0
    dropped: int = 0
    at_limit: tuple[str, ...] = ()
    minima: int = 1


@dataclass(frozen=True, eq=False)
class Fit:
    """Fitted laws, one per target, in the paper's form for N and D as counts.

    Attributes:
        law: name of the law.
        domains, targets: names, in the order of the table.
        params: {target: {parameter: float or array (k,)}}, see `laws()[law].parameters` for units.
        objective: {target: mean Huber loss of the fitted rows}.
        search: {target: how the search ended}.
        huber: the loss of a row that was minimised.
        units: N and D enter the law divided by these counts: (1, 1) for laws in counts.
        ranges: {"N": (low, high), "D": (low, high)} of the fitted rows, counts; absent where the
            law does not read them.
        made: how: versions, device, seed, starts, hops, seconds, data fingerprint.
        share_ranges: {domain: (low, high)} of the fitted rows; empty where not known, as in files
            of before.
        others: {target: parameters of up to three more minima within 1 percent of the best
            objective}, those whose predictions lie farthest apart; see `spread`.
        place: what messages call it: the file that it was loaded from.
    """

    law: str
    domains: tuple[str, ...]
    targets: tuple[str, ...]
    params: Mapping[str, Mapping[str, Any]]
    objective: Mapping[str, float]
    search: Mapping[str, Search]
    huber: Huber = field(default_factory=Huber)
    units: tuple[float, float] = (1.0, 1.0)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)
    own_law: Any = field(default=None, repr=False, compare=False)
    share_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    others: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict, repr=False)
    place: str = field(default="fit", repr=False, compare=False)

    def __str__(self) -> str:
        """One line a target: objective and how its search ended."""
        wide = max(map(len, ("target", *self.targets)))
        lines = [_head(self), f"{'target':<{wide}}  rows   objective  search"]
        for t in self.targets:
            s = self.search[t]
            limits = f"; at a limit: {', '.join(s.at_limit)}" if s.at_limit else ""
            lines.append(
                f"{t:<{wide}}  {s.rows:>4}  {self.objective[t]:.4e}  {s.status}, "
                f"{s.agreeing} of {s.starts} starts agree{limits}"
            )
        return "\n".join(lines)

    def __eq__(self, other: object) -> bool:
        """Whether both would write the same file."""
        return isinstance(other, Fit) and self.to_dict() == other.to_dict()

    @property
    def mixtures_vary(self) -> bool:
        """Whether the fitted rows are known to have more than one mixture."""
        return any(low < high for low, high in self.share_ranges.values())

    @property
    def interrupted(self) -> bool:
        """Whether the searches were, so that this is the best of a part of them."""
        return any(search.status is Status.INTERRUPTED for search in self.search.values())

    @cached_property
    def scaling_law(self) -> Law:
        """The `Law`, from the registry or as handed to `fit` or `load_fit`.

        Raises:
            UserError: a user's law that was not handed to `load_fit`, or parameters that are not
                those of the law.
        """
        from mixjax.law import find_law, is_built_in

        if self.own_law is None and not is_built_in(self.law):
            what = f"made with {self.law!r}, which is not a built-in law"
            remedy = "hand it over: load_fit(path, law=...) or --law FILE.py:NAME"
            raise UserError(self.place, what, remedy)
        law = find_law(self.own_law or self.law)
        k = law.k(self.domains)
        wanted = {p.name: (k,) * len(p.shape) for p in law.parameters}
        for target in self.targets:
            shapes = {name: np.shape(value) for name, value in self.params[target].items()}
            if shapes != wanted:
                departure = f"not those of the {self.law} law: it {_departure(shapes, wanted)}"
                what = f"the parameters of target {target!r} are {departure}"
                raise UserError(self.place, what, "fit again")
        return law

    @property
    def parts(self) -> tuple[tuple[float, Fit], ...]:
        """(weight, fit) of each law of an average; of any other law itself, with weight 1."""
        averaged = self.scaling_law.averaged
        if not averaged:
            return ((1.0, self),)
        return tuple((weight, self._part(law)) for law, weight in averaged)

    def _part(self, law: Law) -> Fit:
        params = {
            t: {p.name: own[f"{law.name}.{p.name}"] for p in law.parameters}
            for t, own in self.params.items()
        }
        own = _own(law)
        return replace(self, law=law.name, params=params, units=law.units, own_law=own, others={})

    def spread(
        self,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        h: ArrayLike | Mapping[str, ArrayLike] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """How far apart the minima that are nearly as low as the best one predict, as a part of
        the predicted loss: {target: (rows,)}, or numbers; 0 of targets without others.

        Args:
            N, D, h: as in `predict`.

        Raises:
            UserError: as `predict`.
        """
        own, ends = self.predict(N, D, h), {}
        for t in self.targets:
            low = high = own[t]
            for params in self.others.get(t, ()):
                losses = replace(self, targets=(t,), params={t: params}).predict(N, D, h)[t]
                low, high = np.fmin(low, losses), np.fmax(high, losses)
            ends[t] = (high - low) / own[t]
        return ends

    def predict(
        self,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        h: ArrayLike | Mapping[str, ArrayLike] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Predicted losses {target: (rows,)}, or {target: number} when N, D and h are all of one
        row.

        Args:
            N, D: counts, () or (rows,); may be left out for laws that do not read them.
            h: domain weights (k,) or (rows, k) in the order of `domains`, or {domain: weight}.

        Raises:
            UserError: N, D or h missing or of another shape, or a domain unknown.
        """
        from mixjax.law.base import predict

        law = self.scaling_law
        columns = list(zip("ND", (N, D), law.reads, strict=True))
        for name, counts, needed in columns:
            if needed and counts is None:
                remedy = f"law {self.law!r} reads it: give a count"
                raise UserError("predict", f"{name} is missing", remedy)
        lag = law.least_tokens
        if lag and law.reads.D and (np.asarray(D, dtype=np.float64) <= lag).any():
            what = f"D is not beyond the {lag:.4g} tokens that law {self.law!r} leaves out"
            raise UserError("predict", what, "give more tokens")
        weights = self._weights(h)
        n, d = (_count(name, x) if needed else np.ones(()) for name, x, needed in columns)
        try:
            shape = np.broadcast_shapes(weights.shape[:-1], n.shape, d.shape)
        except ValueError:
            what = f"N {n.shape}, D {d.shape} and h {weights.shape} do not go together"
            raise UserError("predict", what, "give one row or equally many rows") from None
        rows, k = math.prod(shape), weights.shape[-1]
        n, d = (np.broadcast_to(x, shape).reshape(rows) for x in (n, d))
        weights = np.broadcast_to(weights, (*shape, k)).reshape(rows, k)
        out = predict(law, self.domains, {t: self.params[t] for t in self.targets}, n, d, weights)
        return {t: losses.reshape(shape)[()] for t, losses in out.items()}

    def _weights(self, h: ArrayLike | Mapping[str, ArrayLike] | None) -> NDArray[np.float64]:
        """h as an array (..., k) in the order of the domains."""
        names = ", ".join(self.domains)
        if h is None:
            if self.domains:
                raise UserError("predict", "h is missing", f"give the weights of {names}")
            return np.empty((0,))
        if isinstance(h, Mapping):
            check_names(h, self.domains, "predict", "domain")
            columns = [np.asarray(h.get(d, 0.0), dtype=np.float64) for d in self.domains]
            h = np.stack(np.broadcast_arrays(*columns), axis=-1)
        weights = _floats("h", h)
        if weights.shape[-1:] != (len(self.domains),):
            remedy = f"its last axis holds the {len(self.domains)} domains {names}"
            raise UserError("predict", f"h has shape {weights.shape}", remedy)
        shares = np.isfinite(weights).all() and (weights >= 0).all()
        one = shares and np.allclose(weights.sum(axis=-1), 1.0, rtol=0, atol=1e-3)
        if self.domains and not one:
            what = "h has a row that is negative, missing or does not sum to 1 (to 1e-3)"
            raise UserError("predict", what, "give shares of one mixture per row")
        return weights

    def score(self, runs: Runs) -> dict[str, Score]:
        """Scores of the targets that the table has, {target: Score}.

        Raises:
            UserError: the table lacks a domain of the fit, or all of its targets.
        """
        rows = runs.reordered(self.domains)
        shared = [t for t in self.targets if t in rows.targets]
        if not shared:
            what = f"none of the fit's targets ({', '.join(self.targets)}) has a loss column"
            raise UserError(rows.name, what, "score a table with these targets")
        predicted = self.predict(rows.N, rows.D, rows.h)
        scores = {t: score(predicted[t], rows.loss(t), self.huber) for t in shared}
        return {t: s for t, s in scores.items() if s is not None}

    def figure(self, **tables: Runs) -> Figure:
        """Predicted against measured losses, a panel a target: `fit.figure(train=runs)`."""
        panels: dict[str, dict[str, tuple[ArrayLike, ArrayLike]]] = {t: {} for t in self.targets}
        for name, runs in tables.items():
            rows = runs.reordered(self.domains)
            predicted = self.predict(rows.N, rows.D, rows.h)
            for target in self.targets:
                if target in rows.targets:
                    panels[target][name] = rows.loss(target), predicted[target]
        return charts.predicted_measured(panels)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON file, whole or not at all."""
        write_whole(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """The content of the JSON file: plain lists, numbers and strings."""
        shares = {d: list(ends) for d, ends in self.share_ranges.items()}
        return {
            "format": FORMAT,
            "schema": SCHEMA,
            "law": self.law,
            "domains": list(self.domains),
            "targets": list(self.targets),
            **asdict(self.huber),
            "units": {"N": self.units[0], "D": self.units[1]},
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            **({"share_ranges": shares} if shares else {}),
            "fits": {
                t: {
                    "objective": self.objective[t],
                    "params": {name: np.asarray(x).tolist() for name, x in self.params[t].items()},
                    "search": asdict(self.search[t]) | {"at_limit": list(self.search[t].at_limit)},
                    **({"others": plain(self.others[t])} if self.others.get(t) else {}),
                }
                for t in self.targets
            },
            "made": dict(self.made),
        }


def _floats(name: str, values: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError("predict", f"{name} is not numeric", "give numbers") from None


def _count(name: str, values: Any) -> NDArray[np.float64]:
    """N or D as positive finite counts."""
    counts = _floats(name, values)
    if not (np.isfinite(counts) & (counts > 0)).all():
        what = f"{name} has a value that is not a positive number"
        raise UserError("predict", what, "give counts, e.g. 7e9")
    return counts


def _departure(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """How the parameters of a target are not those of the law, {name: shape}."""
    missing = [name for name in wanted if name not in shapes]
    odd = [name for name in shapes if name not in wanted]
    what = [f"lacks {', '.join(missing)}"] if missing else []
    what += [f"has {', '.join(odd)} beyond them"] if odd else []
    what += [
        f"has {name} of {_size(shapes[name])}, not of {_size(shape)}"
        for name, shape in wanted.items()
        if name in shapes and shapes[name] != shape
    ]
    return " and ".join(what)


def _size(shape: tuple[int, ...]) -> str:
    if not shape:
        return "one number"
    return f"{shape[0] if len(shape) == 1 else shape} numbers"


# --- In a few lines -------------------------------------------------------------------------------


def _head(fit: Fit) -> str:
    return f"law {fit.law}, {len(fit.domains)} domains, {len(fit.targets)} targets"


def fit_table(fit: Fit, scores: Mapping[str, Score]) -> str:
    """How the fit of every target went; scores: of the fitted rows."""
    rows = []
    for target in fit.targets:
        search = fit.search[target]
        doubts = [search.status] if search.status is not Status.CONVERGED else []
        doubts += [f"at limit: {', '.join(search.at_limit)}"] if search.at_limit else []
        mre = f"{scores[target].mre:.3f}" if target in scores else None
        agreeing, ended = f"{search.agreeing}/{search.starts}", "; ".join(doubts) or "converged"
        numbers = [search.rows, f"{fit.objective[target]:.5g}", mre, agreeing, search.minima]
        rows.append([target, *numbers, ended])
    seconds = fit.made.get("seconds")
    took = f", {seconds:.1f} s" if isinstance(seconds, int | float) else ""
    head = ["target", "rows", "objective", "mre %", "starts agreeing", "minima", "search"]
    return f"{_head(fit)}{took}\n{table(head, rows)}"


def fit_to_dict(fit: Fit, scores: Mapping[str, Score]) -> dict[str, Any]:
    """What `fit --json` prints."""
    content = fit.to_dict()
    return {
        "law": fit.law,
        "domains": content["domains"],
        "objective": dict(fit.objective),
        "mre": {t: s.mre for t, s in scores.items()},
        "params": {t: content["fits"][t]["params"] for t in fit.targets},
        "search": {t: content["fits"][t]["search"] for t in fit.targets},
        "seconds": fit.made.get("seconds"),
    }


def average_fits(weights: Sequence[tuple[Fit, float]], runs: Runs) -> Fit:
    """The mean of the losses that fits of the same runs predict, (fit, weight), as one fit.

    Its searches say what the worst of them say; its objective is that of the mean.
    """
    from mixjax.law import average

    fits = [fit for fit, _ in weights]
    first, law = fits[0], average({fit.scaling_law: weight for fit, weight in weights})
    params = {
        t: {f"{fit.law}.{name}": x for fit in fits for name, x in fit.params[t].items()}
        for t in first.targets
    }
    mean = replace(first, law=law.name, params=params, units=law.units, own_law=_own(law))
    return replace(
        mean,
        others={},
        objective={t: s.huber for t, s in mean.score(runs).items()},
        search={t: _worst([fit.search[t] for fit in fits]) for t in first.targets},
    )


def _own(law: Law) -> Law | None:
    """A law that a fit has to carry along: none that the registry can tell by its name."""
    from mixjax.law import is_built_in

    return None if is_built_in(law.name) else law


def _worst(searches: Sequence[Search]) -> Search:
    """What is said of several searches together."""
    worst = max(searches, key=lambda search: list(Status).index(search.status))
    return replace(
        worst,
        evaluations=sum(search.evaluations for search in searches),
        gradient=max(search.gradient for search in searches),
        agreeing=min(search.agreeing for search in searches),
        dropped=sum(search.dropped for search in searches),
        at_limit=(),
        minima=max(search.minima for search in searches),
    )
