"""Fit + an answer of it -> EXTRAPOLATED: what lies so far from the fitted rows that a user should
know, one warning each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from mixjax.errors import warn

if TYPE_CHECKING:
    from mixjax.fitting.record import Fit

# N or D may lie beyond the fitted ones by this factor: small runs are for that. Wrong units miss by
# more.
FAR = 30.0
# A share may lie beyond the fitted ones by this much.
OUTSIDE = 0.005


class Doubt(NamedTuple):
    """A warning in the shape of `UserError`: the place, what is doubtful there, what to do."""

    where: str
    what: str
    remedy: str


def warn_scale(fit: Fit, N: float | None, D: float | None, targets: Mapping[str, float]) -> None:
    """Warn of a scale far from the fitted rows, and of fits that say little; once per question, of
    a fit's targets with these weights."""
    for doubt in (
        *_scales(fit, N, D),
        *_fits(fit, [t for t in fit.targets if targets.get(t, 0.0) > 0]),
    ):
        warn(*doubt)


def warn_shares(fit: Fit, weights: Mapping[str, float]) -> None:
    """Warn of shares {domain: share} of a mixture outside those of the fitted rows; silent where
    these are not known."""
    for doubt in _shares(fit, weights):
        warn(*doubt)


def _scales(fit: Fit, N: float | None, D: float | None) -> Iterator[Doubt]:
    for name, what, value in (("N", "parameters", N), ("D", "tokens", D)):
        low, high = fit.ranges.get(name, (0.0, 0.0))
        if value is None or low <= 0 or low / FAR <= value <= high * FAR:
            continue
        times = value / high if value > high else low / value
        side = (
            f"{times:.2g} times {'above' if value > high else 'below'} the {low:.4g} to "
            f"{high:.4g} of the fitted rows"
        )
        yield Doubt(
            "mixture",
            f"{name} = {value:.4g} is {side}",
            f"are all in {what}, not in millions or billions? See mixjax fit --columns",
        )


def _fits(fit: Fit, targets: list[str]) -> Iterator[Doubt]:
    if fit.share_ranges:  # else it was not made by `mixjax.fit`, or long ago
        if all(low == high for low, high in fit.share_ranges.values()):
            yield Doubt(
                "mixture",
                "all fitted rows have one mixture, the fit knows nothing of others",
                "fit runs of several mixtures (mixjax design)",
            )
        law = fit.scaling_law
        count = law.count(law.k(fit.domains))
        few = [t for t in targets if fit.search[t].rows < count]
        if few:
            rows = min(fit.search[t].rows for t in few)
            yield Doubt(
                "mixture",
                (
                    f"{', '.join(few)}: fitted to {rows} rows, the {fit.law} law has {count} "
                    f"parameters"
                ),
                "add runs or take a smaller law",
            )
    ran_off = [
        f"{t} ({', '.join(fit.search[t].at_limit)})" for t in targets if fit.search[t].at_limit
    ]
    if ran_off:
        remedy = "mixjax intervals says how far to trust the mixture"
        yield Doubt(
            "mixture",
            f"parameters that the runs do not pin down ran off to a limit: {', '.join(ran_off)}",
            remedy,
        )


def _shares(fit: Fit, weights: Mapping[str, float]) -> Iterator[Doubt]:
    if all(low == high for low, high in fit.share_ranges.values()):
        return  # not known, or told of already
    for domain, share in weights.items():
        low, high = fit.share_ranges.get(domain, (0.0, 1.0))
        if low - OUTSIDE <= share <= high + OUTSIDE:
            continue
        limit = f"--cap {domain}={high:.3g}" if share > high else f"--floor {domain}={low:.3g}"
        trained = (
            f"trained between {low:.3g} and {high:.3g}"
            if high > 0
            else "no fitted row has any of it"
        )
        remedy = f"{limit}, or mixjax intervals says how far to trust it"
        yield Doubt(
            "mixture",
            f"share of {domain!r} is {share:.3g}, {trained}: the law is extrapolated there",
            remedy,
        )


def warn_unused(name: str, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Warn of domains that no fitted row of a table uses."""
    unused = [domain for domain, (_, high) in ranges.items() if high == 0]
    if unused:
        columns = (
            f"columns of {', '.join(map(repr, unused))}: the weight is"
            if len(unused) > 1
            else f"column of {unused[0]!r} (h_{unused[0]}): the weight is"
        )
        warn(
            name,
            f"{columns} 0 in every fitted row, so that the fit knows nothing of the domain",
            "leave it out, or cap it at 0 in mixjax mix",
        )
