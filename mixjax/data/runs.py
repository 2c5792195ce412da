"""Table -> RUNS -> design: sizes, tokens, domain weights and losses, checked once and then
trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixjax.data.table import KEYS, Column, Layout, Source, and_more, read_table
from mixjax.data.where import select
from mixjax.errors import UserError, nearest, warn

Floats = NDArray[np.float64]

# Weights of a row sum to 1: silently to rounding, with a warning to the rounding of published
# tables.
SUM_SILENT, SUM_WARNED = 1e-6, 1e-3


@dataclass(frozen=True)
class Runs:
    """Checked rows of a table of runs, one per run and checkpoint.

    Attributes:
        name: of the table, for messages.
        domains, targets: names, in the order of the columns.
        N, D: model parameters and training tokens (rows,), counts; None where the table has none.
        h: domain weights (rows, k), each row sums to 1; k = 0 for Chinchilla-type tables.
        losses: (rows, targets), positive; NaN is a missing loss.
        run: id of the training run of each row (rows,), or None.
        rows: line of each row in the file, header = 1.
    """

    name: str
    domains: tuple[str, ...]
    targets: tuple[str, ...]
    N: Floats | None
    D: Floats | None
    h: Floats
    losses: Floats
    run: NDArray[Any] | None
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __str__(self) -> str:
        """What the table holds, in one line."""
        parts = [f"{len(self)} rows"]
        if self.domains:
            mixtures = len(np.unique(self.h, axis=0))
            parts.append(f"{mixtures} mixtures of {len(self.domains)} domains")
        if self.N is not None:
            parts.append(f"{len(np.unique(self.N))} sizes")
        return f"{self.name}: {', '.join(parts)}, {len(self.targets)} targets"

    def loss(self, target: str) -> Floats:
        """Measured losses of one target (rows,), NaN where missing."""
        _check_target(self.name, target, self.targets)
        return self.losses[:, self.targets.index(target)]

    def select(self, mask: NDArray[np.bool_]) -> Runs:
        """The rows where mask (rows,) holds."""
        n, d, run = (None if x is None else x[mask] for x in (self.N, self.D, self.run))
        h, losses, rows = self.h[mask], self.losses[mask], self.rows[mask]
        return replace(self, N=n, D=d, h=h, losses=losses, run=run, rows=rows)

    def reordered(self, domains: tuple[str, ...]) -> Runs:
        """The same runs with the columns of h in this order.

        Raises:
            UserError: a domain is missing, or a row has weight on a domain that is not named.
        """
        missing = next((d for d in domains if d not in self.domains), None)
        if missing is not None:
            what = f"no weights of domain {missing!r}"
            raise UserError(self.name, what, f"the fit has domains {', '.join(domains)}")
        for i, d in enumerate(self.domains):
            used = np.flatnonzero(self.h[:, i] > 0)
            if d not in domains and len(used):
                place = f"{self.name}, line {self.rows[used[0]]}"
                what = f"weight {self.h[used[0], i]:g} on domain {d!r}, which the fit does not have"
                raise UserError(place, what, "fit again with it")
        h = self.h[:, [self.domains.index(d) for d in domains]]
        return replace(self, domains=tuple(domains), h=h)

    def fingerprint(self) -> str:
        """Short hash of the content, for the record of a fit."""
        digest = hashlib.sha256(repr((self.domains, self.targets)).encode())
        for column in (self.N, self.D, self.h, self.losses):
            numbers = None if column is None else np.ascontiguousarray(column, dtype=np.float64)
            digest.update(b"none" if numbers is None else numbers.tobytes())
        return digest.hexdigest()[:16]


def read_runs(
    source: Source | Sequence[Source] | Runs,
    where: str | None = None,
    columns: Mapping[str, Any] | None = None,
    on: str | Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    require_losses: bool = True,
) -> Runs:
    """Read and check a table of runs.

    Args:
        source: .csv, .csv.gz, .tsv or .parquet file, a DataFrame, or several of them joined on the
            columns `on`.
        where: which rows, e.g. "split == 'train' and N < 1e9"; the others are not even checked.
        columns: other names than N, D, h_<domain>, loss_<target>, run. "h" and "loss" are a pattern
            with one {} for the name, or {name: column}; "N" and "D" are a column, a number for the
            whole table, or {"column": name, "times": factor}. "params_M*1e6" is the column params_M
            times 1e6, wherever a column or a pattern is named.
        targets: which targets to keep; all by default.
        require_losses: whether the table must have losses (points to predict have none).

    Raises:
        UserError: a file, column or cell that cannot be used, named with its line.
    """
    if isinstance(source, Runs):
        if not (where is columns is on is targets is None):
            remedy = "give where, columns, on and targets to the first read_runs"
            raise UserError("runs", "already read", remedy)
        return source
    if columns is not None and not isinstance(columns, Mapping):
        raise UserError("columns", f"{columns!r} is not a mapping", f"keys are {', '.join(KEYS)}")
    name, table, origins = read_table(source, on)
    layout = Layout(name, table, columns or {}, origins)
    if where is not None:
        keep = select(layout.with_canonical_names(), where)
        if not keep.any():
            what = f"no rows left after where {where!r}"
            raise UserError(name, what, "check the expression against the table")
        table = table[keep]
        layout = replace(layout, table=table)
    runs = _checked(layout, [targets] if isinstance(targets, str) else targets, require_losses)
    if number := copies(runs):
        what = f"{number} rows are exact copies of another row of their run but for D"
        warn(runs.name, what, "leave them out with where: they carry no information")
    return runs


def as_runs(source: Runs | Any) -> Runs:
    """`Runs` as they are, anything else as `read_runs` reads it."""
    return source if isinstance(source, Runs) else read_runs(source)


def to_frame(runs: Runs) -> pd.DataFrame:
    """Runs as a DataFrame in the common schema."""
    columns: dict[str, Any] = {} if runs.run is None else {"run": runs.run}
    columns |= {n: x for n, x in (("N", runs.N), ("D", runs.D)) if x is not None}
    columns |= {f"h_{d}": shares for d, shares in zip(runs.domains, runs.h.T, strict=True)}
    columns |= {f"loss_{t}": losses for t, losses in zip(runs.targets, runs.losses.T, strict=True)}
    return pd.DataFrame(columns)


def _check_target(name: str, target: str, targets: Collection[str]) -> None:
    if target not in targets:
        remedy = f"{nearest(target, targets)}targets are {', '.join(targets)}"
        raise UserError(name, f"no target {target!r}", remedy)


def _checked(layout: Layout, targets: Sequence[str] | None, require_losses: bool) -> Runs:
    """Every cell that will be used, checked."""
    domains, losses = layout.many("h"), layout.many("loss")
    if not domains:
        _warn_other_names(layout)
    if require_losses and not losses:
        remedy = (
            f"name the loss columns (columns: loss); columns are {', '.join(layout.table.columns)}"
        )
        raise UserError(layout.name, "no loss_<target> column", remedy)
    for target in targets or ():
        _check_target(layout.name, target, losses)
    named = [c.name for c in (*domains.values(), *(losses.values() if require_losses else ()))]
    if len(set(named)) < len(named):
        what = f"column {next(c for i, c in enumerate(named) if c in named[:i])!r} is named twice"
        raise UserError(layout.name, what, "name each column once under columns")
    kept = {t: losses[t] for t in (targets or losses)} if require_losses else {}
    columns = {t: layout.numbers(c, _loss_fault, missing=True) for t, c in kept.items()}
    empty = [t for t, column in columns.items() if np.isnan(column).all()]
    if empty and (targets or len(empty) == len(columns)):
        what = f"target {empty[0]!r} has no measured loss in the selected rows"
        raise UserError(layout.name, what, "select other rows or leave it out")
    if empty:
        what = f"targets {', '.join(empty)} have no measured loss in the selected rows"
        warn(layout.name, what, "they are left out")
    columns = {t: column for t, column in columns.items() if t not in empty}
    run = layout.one("run")
    if run is not None and (not isinstance(run, Column) or run.times != 1):
        what = f"run is {layout.columns['run']!r}"
        raise UserError("columns", what, "name the column of run ids")
    ids = run and layout.table[run.name].astype("string").fillna("").to_numpy(dtype=object)
    rows = len(layout.table)
    return Runs(
        name=layout.name,
        domains=tuple(domains),
        targets=tuple(columns),
        N=_counts(layout, "N"),
        D=_counts(layout, "D"),
        h=_weights(layout, domains),
        losses=np.stack(list(columns.values()), axis=1) if columns else np.zeros((rows, 0)),
        run=ids,
        rows=layout.table.index.to_numpy(np.int64),
    )


def _counts(layout: Layout, key: str) -> Floats | None:
    """N or D as counts (rows,), None where the table has none."""
    column = layout.one(key)
    if isinstance(column, Column):
        return layout.numbers(column, _count_fault)
    return None if column is None else np.full(len(layout.table), column)


def _warn_other_names(layout: Layout) -> None:
    """Tell of columns that look like domain weights but are named otherwise: w_web, w_code."""
    parts = [c.split("_") for c in layout.table.columns if "_" in c]
    for pattern in dict.fromkeys(p for c in parts for p in (f"{c[0]}_{{}}", f"{{}}_{c[-1]}")):
        columns = [c.name for c in replace(layout, columns={"h": pattern}).many("h").values()]
        numbers = layout.table[columns].apply(pd.to_numeric, errors="coerce")
        total = numbers.sum(axis=1, skipna=False)
        for whole, times in ((1.0, ""), (100.0, "*0.01")):
            near = (total / whole - 1.0).abs() <= SUM_WARNED
            if len(columns) > 1 and numbers.min(axis=None) >= 0 and near.all():
                what = f"{', '.join(columns)} sum to {whole:g} in every row, and are not read"
                remedy = f"if they are domain weights, say so: --columns 'h={pattern}{times}'"
                warn(layout.name, what, remedy)
                return


def _weights(layout: Layout, domains: Mapping[str, Column]) -> Floats:
    """Domain weights (rows, k), summing to 1."""
    if not domains:
        return np.zeros((len(layout.table), 0))
    h = np.stack([layout.numbers(column, _weight_fault) for column in domains.values()], axis=1)
    with np.errstate(over="ignore"):
        total = h.sum(axis=1)
    off = np.abs(total - 1.0)
    worst = int(np.argmax(off > SUM_WARNED))
    if off[worst] > SUM_WARNED:
        names = [column.name for column in domains.values()]
        name, line = layout.line(names[0], worst)
        place = f"{name}, columns {', '.join(names)}, line {line}"
        remedy = "give shares that sum to 1"
        if np.abs(total / 100.0 - 1.0).max() <= 0.01:
            remedy = "they look like percents: divide them by 100, or use --columns 'h=h_{}*0.01'"
        what = f"domain weights sum to {total[worst]:.6g}, not to 1 within {SUM_WARNED:g}"
        raise UserError(place, what + and_more(off > SUM_WARNED), remedy)
    if (rounded := int((off > SUM_SILENT).sum())) > 0:
        what = f"domain weights of {rounded} rows sum to 1 only within {off.max():.1e}"
        warn(layout.name, what, "they were divided by their sum")
    # What sums to 1 but for the rounding of the sum stays as it is: reading is idempotent.
    return np.where((off > len(domains) * np.finfo(float).eps)[:, None], h / total[:, None], h)


def _count_fault(x: Floats) -> tuple[NDArray[np.bool_], str, str]:
    good = np.isfinite(x) & (x > 0)
    return ~good, "is not a positive count", "give N in parameters and D in tokens"


def _weight_fault(x: Floats) -> tuple[NDArray[np.bool_], str, str]:
    return ~(np.isfinite(x) & (x >= 0)), "is not a domain weight", "give shares of at least 0"


def _loss_fault(x: Floats) -> tuple[NDArray[np.bool_], str, str]:
    remedy = "give positive finite losses, or leave the cell empty"
    return np.isinf(x) | (x <= 0), "is not a loss", remedy


def copies(runs: Runs) -> int:
    """Rows that repeat another row of their run in all but D: a checkpoint written twice carries no
    information."""
    if runs.D is None or not runs.targets or (runs.run is None and not runs.domains):
        return 0
    frame = to_frame(runs)[~np.isnan(runs.losses).all(axis=1)]
    return int(frame.drop(columns="D").duplicated().sum() - frame.duplicated().sum())


def warn_repeats(runs: Runs) -> None:
    """Warn of rows that repeat another row in everything that is fitted: they count twice."""
    if not runs.targets:
        return
    twice = to_frame(runs).duplicated().to_numpy()
    if twice.any():
        first = f"the first of them in line {runs.rows[np.argmax(twice)]}"
        what = f"{int(twice.sum())} rows repeat another row exactly, {first}"
        warn(runs.name, what, "remove them, or they count twice")
