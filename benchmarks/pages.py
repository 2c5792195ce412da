"""What the pages of docs/ say of the results: every number is read from results/*.json here, none
is typed. A page holds

    <!-- = WORDS -->what they stand for<!-- end -->

with WORDS one of

    table: time_to_target                              a table of this file
    evaluation_cost / cases / 64 lanes / evaluation : .1f   one number, by its path and format
    machine: mixtures                                  device, versions and date of a result
    file: benchmarks/results/regmix.md                 a file without its title
    api: mixjax                                        a package's public names, by its stub

and `python -m benchmarks.pages` writes them anew; a test says whether they are up to date. mkdocs
calls the two hooks. Standard library alone, so that a page needs no JAX.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOMAINS = ("arxiv", "book", "c4", "github", "commoncrawl", "stackexchange", "wikipedia")
_MARK = re.compile(r"<!-- (= .+?|end) -->")
_PLACE = re.compile(r"<!-- = (.+?) -->.*?<!-- end -->", re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The hook of mkdocs: a page without the marks of its places, at which a paragraph would end;
    the notes in the place of the page that points to them."""
    notes = (ROOT / "benchmarks" / "NOTES.md").read_text(encoding="utf-8")
    return notes if page.file.src_uri == "notes.md" else _MARK.sub("", markdown)


def on_files(files: Any, config: Any) -> Any:
    """The hook of mkdocs: the figures of the benchmarks, as results/NAME.png."""
    from mkdocs.structure.files import File

    for figure in RESULTS.glob("*.png"):
        path = f"results/{figure.name}"
        files.append(File.generated(config, path, abs_src_path=str(figure)))
    return files


def fill(text: str) -> str:
    """The text with what every place holds written anew.

    Raises:
        KeyError: no such table, result or entry of a result.
    """
    return _PLACE.sub(lambda place: f"<!-- = {place[1]} -->{_filled(place[1])}<!-- end -->", text)


def _filled(words: str) -> str:
    kind, _, name = words.partition(": ")
    if kind in _KINDS:
        content = _KINDS[kind](name)
        return content if kind == "machine" else f"\n\n{content.rstrip()}\n\n"
    path, _, spec = words.rpartition(" : ")
    value = look_up(path)
    return format(float(value), spec)


@cache
def result(name: str) -> dict[str, Any]:
    """The content of results/NAME.json."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def look_up(path: str) -> Any:
    """An entry of a result: its file and keys, joined by " / "."""
    name, *keys = path.split(" / ")
    value: Any = result(name)
    for key in keys:
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def machine(name: str) -> str:
    """Where and when a result was measured, in words."""
    m = result(name)["machine"]
    return f"{m['cores']} {m['platform'].upper()} cores, jax {m['versions']['jax']}, {m['date']}"


def page(path: str) -> str:
    """A Markdown file of the repository without its title."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.sub(r"\A# .*\n+", "", text)


def _public(package: str) -> dict[str, str]:
    """{name: where it is from} of a package's stub, modules left out."""
    stub = ROOT / package.replace(".", "/") / "__init__.pyi"
    pairs = re.findall(r"^from ([\w.]+) import (\w+)", stub.read_text("utf-8"), re.MULTILINE)
    return {name: module for module, name in pairs if module != package}


def api(package: str) -> str:
    """An entry of mkdocstrings for each public name of a package's stub; those at the top stand
    there alone."""
    top = _public("mixjax") if package != "mixjax" else {}
    return "\n\n".join(f"::: {package}.{name}" for name in _public(package) if name not in top)


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(r) + " |" for r in (head, ["---"] * len(head), *rows))


def time_to_target(name: str = "time_to_target") -> str:
    """Seconds to each goal, geometric means over targets of the medians over seeds."""
    measured = result(name)
    limit, goals = measured["limit"], measured["goals"]
    medians = {
        contestant: [
            {
                target: median([limit if s is None else s for s in r["seconds"][i]])
                for target, r in c["targets"].items()
            }
            for i in range(len(goals))
        ]
        for contestant, c in measured["contestants"].items()
    }
    one = goals.index("1 %")
    ours = geometric_mean(medians["mixjax"][one].values())
    rows = []
    for contestant, goal_medians in medians.items():
        missed = [[t for t, s in by.items() if s >= limit] for by in goal_medians]
        means = [geometric_mean(by.values()) for by in goal_medians]
        over = ["> " if m else "" for m in missed]
        cells = [f"{o}{_seconds(s)}" for o, s in zip(over, means, strict=True)]
        ratio = f"{over[one]}{means[one] / ours:.0f}"
        missing = "all" if len(missed[one]) == len(goal_medians[one]) else ", ".join(missed[one])
        rows.append([contestant, *cells, ratio, missing or "none"])
    head = ["", *(f"{g}, s" for g in goals), "times mixjax at 1 %", f"missed 1 % in {limit:.0f} s"]
    return grid(head, rows)


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2g}"


def enough(split: str) -> str:
    """Median error over random choices of so many mixtures, with quartiles."""
    measured = result("enough_runs")[split]
    rows = [
        [
            law,
            *(
                f"{m:.2f} ({low:.2f} to {high:.2f})"
                for m, low, high in zip(e["median"], e["low"], e["high"], strict=True)
            ),
            str(e["enough"] or "not reached"),
        ]
        for law, e in measured["laws"].items()
    ]
    return grid(["mixtures fitted", *map(str, measured["counts"]), "enough from"], rows)


def trust() -> str:
    """Errors beyond a table of every rule, and the coverage of the intervals, by table."""
    rows = []
    for r in result("trust")["scales"]:
        covered = f"{r['covered']:.0f} ({r['median width']:.1f})" if "covered" in r else ""
        errors = [f"{r[name]:.2f}" for name in ("error", "worst target", "worst cell")]
        rows.append([r["table"], r["rule"], *errors, covered])
    head = ["predicted", "rule", "mean error", "worst target", "worst cell", "covered (width)"]
    return grid(head, rows)


def trust_mixtures() -> str:
    """Ranks and regrets of held-out RegMix mixtures by rule."""
    rows = [
        [r["rule"], f"{r['rank']:.4f}", f"{r['regret']:.2f}"] for r in result("trust")["mixtures"]
    ]
    return grid(["rule", "rank", "regret, percent"], rows)


def refits() -> str:
    """Standard errors of predictions by refits from known minima over those by whole searches."""
    targets = result("uncertainty_refits")["targets"]
    rows = [
        [t, f"{r['train']:.2f}", f"{r['3B']:.2f}", f"{r['excess of full, percent']:+.3f}"]
        for t, r in targets.items()
    ]
    head = ["target", "fitted rows", "3B rows", "objective of whole searches above, percent"]
    return grid(head, rows)


def evaluation_cost() -> str:
    """Microseconds of one lane's value and gradient, with curvature, and of a whole tick."""
    parts = ("evaluation", "with curvature", "Gauss-Newton tick", "quasi-Newton tick")
    rows = [
        [name, str(c["lanes"]), str(c["cells"])] + [f"{c[p]:.1f}" if p in c else "" for p in parts]
        for name, c in result("evaluation_cost")["cases"].items()
    ]
    return grid(["case", "lanes", "rows", *parts], rows)


def scaling() -> str:
    """Seconds of whole searches as one axis of the problem grows."""
    rows = [
        [str(c[key]) for key in ("k", "rows", "targets", "starts", "parameters")]
        + [f"{c['seconds']:.2f}", f"{c['microseconds an evaluation']:.0f}"]
        + [f"{c['compile']:.1f}", f"{c['largest memory, MiB'] / 1024:.1f}"]
        for cases in result("scaling")["axes"].values()
        for c in cases
    ]
    head = ["domains", "rows", "targets", "starts", "parameters", "s", "us an evaluation"]
    return grid([*head, "compile, s", "memory, GiB"], rows)


def figure_2() -> str:
    """Median percent above the lowest objective after so many local minimisations."""
    measured = result("figure_2")
    rows = [
        [case, spent, *(f"{m:.2g}" for m in quartiles[1])]
        for case, c in measured["cases"].items()
        for spent, quartiles in c["percent above, quartiles"].items()
    ]
    return grid(["runs, law", "calls spent on", *map(str, measured["calls"])], rows)


def records() -> str:
    """The lowest objectives after a minute, percent above (+) or below (-) those known before."""
    rows, targets = [], [*DOMAINS, "openhermes"]
    for law in ("joint", "full"):
        r = result(f"records_{law}")
        known, reached = r["known before"], r["targets"]
        excess = [100 * (reached[t]["objective"] / known[t] - 1) for t in targets]
        rows.append([law, f"{r['seconds']:.0f}", *(f"{e:+.2f}" for e in excess)])
    return grid(["law", "s", *targets], rows)


def chinchilla_grid() -> str:
    """All published starts: seconds, and how many end at the lowest objective."""
    contestants = result("chinchilla_grid")["contestants"]
    rows = [
        [name, f"{c['seconds']:.1f}", str(c["reached"]), f"{c['lowest']:.9e}"]
        for name, c in contestants.items()
    ]
    return grid(["", "s", "starts at the lowest objective", "sum of Huber losses"], rows)


def mixtures() -> str:
    """Many mixture problems at once, beside SciPy's SLSQP on both cores."""
    r = result("mixtures")
    each = r["per_problem_ms"]
    seconds = [median(r["ours"]["seconds"]), each["slsqp"] * r["problems"] / 1000]
    first = f"{r['ours']['compilation']:.1f}"
    rows = [
        ["mixjax", f"{seconds[0]:.1f}", first, f"{r['gap']['largest']:.1e}"],
        ["SLSQP, JAX gradients (300 problems, scaled)", f"{seconds[1]:.1f}", "", ""],
    ]
    return grid([f"{r['problems']} problems", "s", "compilation, s", "largest gap"], rows)


_TABLES: dict[str, Callable[[], str]] = {
    "time_to_target": time_to_target,
    "as_published": lambda: time_to_target("as_published"),
    "enough, mixtures left out": lambda: enough("mixtures left out"),
    "enough, 3B rows": lambda: enough("3B rows"),
    "trust": trust,
    "trust_mixtures": trust_mixtures,
    "refits": refits,
    "evaluation_cost": evaluation_cost,
    "scaling": scaling,
    "figure_2": figure_2,
    "records": records,
    "chinchilla_grid": chinchilla_grid,
    "mixtures": mixtures,
}
_KINDS: dict[str, Callable[[str], str]] = {
    "table": lambda name: _TABLES[name](),
    "machine": machine,
    "file": page,
    "api": api,
}


def main() -> None:
    """Write the numbers and tables of all pages anew."""
    for path in (ROOT / "docs").rglob("*.md"):
        text = path.read_text(encoding="utf-8")
        if text != (filled := fill(text)):
            path.write_text(filled, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
