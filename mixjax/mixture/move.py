"""Moves away from the mixture in use (question, base -> MOVES): what each step towards the optimum
buys and risks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixjax.drawing import charts
from mixjax.errors import UserError, check_names
from mixjax.law.base import Law
from mixjax.mixture.balance import MET, own_best
from mixjax.mixture.box import Box
from mixjax.mixture.lanes import Problems
from mixjax.mixture.limits import epochs_of
from mixjax.mixture.many import Vary, optima
from mixjax.mixture.multipliers import keep_within
from mixjax.mixture.optimum import ROUGH, best_of, warn_minimum
from mixjax.mixture.question import Case, Floats, Pull, Question, WeightedLoss, case_of, kl, nonzero
from mixjax.mixture.solve import solve
from mixjax.numerics import distance_to_hull
from mixjax.text import Record, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Strengths of the pull that are searched, relative to the size of the objective, and the exactness
# of their logarithm.
_STRENGTHS, _EXACT = (1e-9, 1e4), 1e-6


@dataclass(frozen=True)
class Move(Record):
    """One mixture on the way from the base.

    Attributes:
        weights: {domain: share}.
        kl: KL(h | base), nats; moved: share of the tokens that changes domain, half the L1
            distance.
        objective: and gain, by how much it is below the base's, relatively.
        losses: {target: predicted loss}.
        epochs: the largest number of passes over a domain of known supply; None without any.
        outside: share of it that would have to move to reach the hull of the training mixtures, 0
            inside; None where they are not known.
        gap: first-order optimality gap of the step's own problem.
    """

    weights: dict[str, float]
    kl: float
    moved: float
    objective: float
    gain: float
    losses: dict[str, float]
    epochs: float | None
    outside: float | None
    gap: float

    def __str__(self) -> str:
        """Shares and losses, and how far it is from the base."""
        known = [
            ("largest number of epochs", self.epochs),
            ("share outside the trained mixtures", self.outside),
        ]
        rows = [
            ["share moved %", f"{100 * self.moved:.2f}"],
            ["KL from the base", f"{self.kl:.5f}"],
            ["gain of the objective %", f"{100 * self.gain:.3f}"],
        ]
        rows += [[name, f"{x:.3g}"] for name, x in known if x is not None]
        shares = [[d, f"{100 * w:.3f}"] for d, w in self.weights.items()]
        losses = [[t, f"{x:.5f}"] for t, x in self.losses.items()]
        parts = {("move", ""): rows, ("domain", "share %"): shares, ("target", "loss"): losses}
        return "\n\n".join(table(head, cells) for head, cells in parts.items())


@dataclass(frozen=True)
class Moves(Record):
    """From the base (first) to the optimum (last), with the knee: the step after which more moving
    buys clearly less."""

    steps: tuple[Move, ...]
    knee: int

    def __str__(self) -> str:
        """One line a step."""
        full = self.steps[-1].gain
        rows = []
        for i, s in enumerate(self.steps):
            part = "-" if full <= 0 else f"{100 * s.gain / full:.0f}"
            epochs, outside = ("-" if x is None else f"{x:.3g}" for x in (s.epochs, s.outside))
            name = {0: "base", len(self.steps) - 1: "optimum"}.get(i, "")
            name = f"{name} knee".strip() if i == self.knee else name
            cells = [name, f"{s.kl:.4f}", f"{100 * s.moved:.1f}", f"{s.objective:.5f}"]
            shares = [f"{100 * w:.1f}" for w in s.weights.values()]
            rows.append([*cells, f"{100 * s.gain:.3f}", part, epochs, outside, *shares])
        head = ["step", "KL", "moved %", "objective", "gain %", "of all %", "epochs", "outside"]
        return table([*head, *self.steps[0].weights], rows)

    def figure(self) -> Figure:
        """Predicted gain with its knee, shares, and what the steps risk where that is known."""
        steps = self.steps
        risks = {
            "largest number of epochs": [step.epochs for step in steps],
            "share outside the trained mixtures": [step.outside for step in steps],
        }
        return charts.moves(
            np.array([step.moved for step in steps]),
            np.array([step.gain for step in steps]),
            self.knee,
            [list(step.weights.values()) for step in steps],
            list(steps[0].weights),
            {name: np.array(x, float) for name, x in risks.items() if x[0] is not None},
        )


@dataclass(frozen=True, eq=False)
class Start:
    """Where a move begins and what its steps are measured by.

    Attributes:
        base: {domain: share} of the mixture in use, scaled to sum to 1.
        tokens: {domain: tokens available}, for epochs.
        trained: mixtures of the runs (runs, k) in the order of the fit's domains, for the distance
            to their hull.
    """

    base: Mapping[str, float]
    tokens: Mapping[str, float] | None = None
    trained: Floats | None = None


def trust_path(
    question: Question, start: Start, steps: int = 10, region: Literal["kl", "l1"] = "kl"
) -> Moves:
    """The best mixtures within growing trust regions around a base.

        min f(h)   over mixtures within the limits,   distance(h, base) <= r,   r from 0 to that of
        the optimum

    with KL(h | base), or half of |h - base|_1, the share of tokens that changes domain, as the
    distance. Each step is found as the minimum of f(h) + strength * distance, with the strength
    (the multiplier of the region) searched until the distance is r. The radii are even in sqrt(KL),
    which is near to even in share moved, or in L1. Where f is not convex the path may jump: the
    step then ends on the near side of the jump.

    Args:
        question: without a pull, which the base has in its place.
        steps: number of regions, the optimum's the last.
        region: "kl" spreads a move over all domains, "l1" lets those be that matter least.

    Raises:
        UserError: a base that is no mixture of these domains or not within the limits, or what
            `optimal_mixture` refuses.
    """
    from scipy.optimize import elementwise

    if steps < 1:
        raise UserError("steps", f"{steps} is below 1", "give the number of trust regions, e.g. 10")
    if region not in ("kl", "l1"):
        raise UserError("region", f"no distance {region!r}", "choose kl or l1")
    question = question.but(pull=None)
    base = question.array(start.base)
    question.check_within(base, "base")
    optimum = best_of(question)
    best = question.array(optimum.weights)
    pulled = (_kl_step if region == "kl" else _l1_step)(question, base, best)
    first = measure(question, start, base, base, 0.0)
    last = measure(question, start, base, best, optimum.gap)
    farthest = float(pulled.distance(best[None])[0])
    radii = farthest * np.linspace(0.0, 1.0, steps + 1)[1:-1]
    if farthest < 1e-6 or not len(radii):
        return Moves((first, last), 1)

    def beyond(log_strengths: Floats, which: Floats) -> Floats:
        h, _ = pulled.to(np.exp(log_strengths))
        return pulled.distance(h) - radii[which.astype(int)]

    sides = (np.full(len(radii), math.log(end)) for end in _STRENGTHS)
    args, exact = (np.arange(len(radii), dtype=np.float64),), {"xatol": _EXACT, "xrtol": 0.0}
    search = elementwise.find_root(beyond, tuple(sides), args=args, tolerances=exact)
    ends = zip(*pulled.to(np.exp(search.bracket[1])), strict=True)
    moves = [first, *(measure(question, start, base, h, float(gap)) for h, gap in ends), last]
    return Moves(tuple(moves), _knee(moves))


class Pulled(NamedTuple):
    """The distance (n,) of mixtures (n, k) from the base, root of KL or half of L1; and strengths
    of the pull (n,) -> the mixtures (n, k) and their gaps (n,)."""

    distance: Callable[[Floats], Floats]
    to: Callable[[Floats], tuple[Floats, Floats]]


def _kl_step(question: Question, base: Floats, best: Floats) -> Pulled:
    prior, size = nonzero(base), abs(float(question.value(best)))
    asked = question.but(pull=Pull(question.named(base), 0.0))

    def to(strengths: Floats) -> tuple[Floats, Floats]:
        answers = optima(asked, Vary(strength=size * strengths), np.array([prior, best]))
        return answers.h, answers.gap

    return Pulled(lambda h: np.sqrt(kl(h, prior)), to)


def _l1_step(question: Question, base: Floats, best: Floats) -> Pulled:
    """A domain gets something added only once all of its base is kept, so a cap on h_i is one of
    cap_i - base_i on added_i, and a floor on h_i one on kept_i: nothing is lost by it."""
    box, size = question.box, abs(float(question.value(best)))
    floors = np.concatenate([np.minimum(box.floors, base), np.zeros(len(base))])
    caps = np.concatenate([base, np.maximum(np.asarray(box.caps) - base, 0.0)])
    groups = box.groups
    if groups is not None:
        groups = groups._replace(member=np.tile(groups.member, 2))
    lifted = Box(floors, caps, groups)
    near = np.array([base, best, 0.5 * (base + best)])
    starts = np.hstack([np.minimum(near, base), np.maximum(near - base, 0.0)])
    objective, case, convex = LiftedLoss(question.law), case_of(question), question.is_convex()

    def to(strengths: Floats) -> tuple[Floats, Floats]:
        strengths = size * strengths
        boxes = jax.tree.map(
            lambda x: np.repeat(np.asarray(x)[None], len(strengths), axis=0), lifted
        )
        problems = Problems(objective, case, lambda rows: strengths[rows], boxes)
        ends = solve(problems, np.full(len(strengths), convex), starts, alone=True)
        kept, added = np.split(ends.h, 2, axis=1)
        return kept + added, np.maximum(ends.gap, 0.0)

    return Pulled(lambda h: 0.5 * np.abs(h - base).sum(axis=1), to)


def smallest_move(question: Question, start: Start, improve: Mapping[str, float]) -> Move:
    """The mixture nearest to the base that improves targets by stated amounts.

        min KL(h | base)   over mixtures within the limits,   L_t(h) <= (1 - improve_t) L_t(base)

    By an augmented Lagrangian whose inner problems go to the solver; limits are met to 1e-7,
    relatively.

    Args:
        improve: {target: relative improvement}, e.g. {"code": 0.02}; 0 asks for no loss, a negative
            number allows one.

    Raises:
        UserError: an unknown target, or improvements that no mixture reaches; the message says how
            far each could go alone.

    Warns:
        MixjaxWarning: the answer is not a proved minimum, see `optimal_mixture`.
    """
    check_names(improve, question.fit.targets, "improve", "target")
    if not improve or not all(math.isfinite(x) and x < 1 for x in improve.values()):
        what = f"{dict(improve)} are not improvements below 1"
        raise UserError("improve", what, "write target: part of its loss, e.g. code: 0.02")
    question = question.but(pull=None)
    base = question.array(start.base)
    before = question.losses(base)
    names = [t for t in question.fit.targets if t in improve]
    limits = {t: (1.0 - improve[t]) * float(before[t]) for t in names}
    for t, reached in own_best(question, names).items():
        if reached > limits[t] * (1 + MET):
            most = 100 * (1 - reached / float(before[t]))
            what = (
                f"{t!r} by {100 * improve[t]:.3g} percent cannot be reached: {most:.3g} is the "
                f"most that any mixture gives"
            )
            raise UserError("improve", what, "ask for less")
    prior = nonzero(base)
    kept = keep_within(question, limits, near=prior, also=(prior,))
    if kept.violation > MET:
        what = "no mixture within the limits reaches these improvements together"
        raise UserError("improve", what, "ask for less of some, or for fewer")
    warn_minimum(question, kept.end, ROUGH)
    return measure(question, start, base, kept.end.h, kept.end.gap)


def measure(question: Question, start: Start, base: Floats, h: Floats, gap: float) -> Move:
    """What there is to say of one mixture h (k,) beside the base (k,)."""
    before, after = float(question.value(base)), float(question.value(h))
    passes = epochs_of(question.named(h), start.tokens, question.D)
    return Move(
        weights=question.named(h),
        kl=float(kl(h, nonzero(base))),
        moved=0.5 * float(np.abs(h - base).sum()),
        objective=after,
        gain=(before - after) / abs(before),
        losses={t: float(x) for t, x in question.losses(h).items()},
        epochs=max(passes.values()) if passes else None,
        outside=None if start.trained is None else distance_to_hull(h, start.trained),
        gap=max(gap, 0.0),
    )


def _knee(moves: list[Move]) -> int:
    """The step farthest above the chord from the base to the optimum, in gain against share
    moved."""
    moved, gain = np.array([m.moved for m in moves]), np.array([m.gain for m in moves])
    if gain[-1] <= 0 or moved[-1] <= 0:
        return len(moves) - 1
    return int(np.argmax(gain / gain[-1] - moved / moved[-1]))


@dataclass(frozen=True)
class LiftedLoss:
    """f(kept + added) + strength * sum_i added_i, over x = (kept, added) (2 k,): smooth, where
    |h - base| is not.

    With kept_i <= base_i every mixture is such a sum, and the least sum of added is half its L1
    distance to the base. data: (case, strength ()).
    """

    law: Law

    def __call__(self, x: jax.Array, data: tuple[Case, jax.Array]) -> jax.Array:
        """The objective () at x (2 k,)."""
        case, strength = data
        kept, added = jnp.split(x, 2)
        return WeightedLoss(self.law)(kept + added, case) + strength * jnp.sum(added)
