"""Every figure of mixtures in one command: the built-in law and, where the reference data are, the
paper's SlimPajama runs.

    python -m benchmarks.mixture_figures [-o out/figures]

Fits the joint and the additive law to slimpajama.csv, then runs `mixjax explore` and `mixjax
pareto` on both; the base is SlimPajama's own mixture (paper, Table 16). Numbers lie beside the
figures in explore.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.common import data
from mixjax.cli import main as mixjax

# Paper, Table 16: "Base", percent.
BASE = {
    "arxiv": 4.6,
    "book": 4.2,
    "c4": 26.7,
    "github": 5.2,
    "commoncrawl": 52.2,
    "stackexchange": 3.3,
    "wikipedia": 3.8,
}
# The paper's 7B runs, N without embeddings.
SLIMPAJAMA = ["-N", "6.5e9", "-D", "1.5e11"]
DEMO = ["-N", "7e9", "-D", "1.5e11"]
DEMO_BASE = {"web": 0.7, "code": 0.15, "books": 0.05, "wiki": 0.05, "papers": 0.05}


def _run(*words: str) -> None:
    code = mixjax([*words])
    if code:
        sys.exit(code)


def _base(folder: Path, shares: dict[str, float]) -> str:
    path = folder / "base.yaml"
    path.write_text("".join(f"{domain}: {share}\n" for domain, share in shares.items()))
    return str(path)


def _front(fit: str, scale: list[str], folder: Path, between: str) -> None:
    """What code costs text, with the base beside it."""
    _run(
        "pareto",
        fit,
        *scale,
        "--between",
        between,
        "--base",
        str(folder / "base.yaml"),
        "--figure",
        str(folder / "front.png"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", default="out/figures", help="folder")
    parser.add_argument("--demo", action="store_true", help="the built-in law only")
    given = parser.parse_args()
    folder = Path(given.output)
    for name in ("demo", "slimpajama"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _run(
        "explore",
        "builtin:demo",
        *DEMO,
        "-o",
        str(folder / "demo"),
        "--base",
        _base(folder / "demo", DEMO_BASE),
    )
    _front("builtin:demo", DEMO, folder / "demo", "code=code,text=web+books")
    if given.demo:
        return
    runs, place = str(data("slimpajama.csv")), folder / "slimpajama"
    fits = {law: str(place / f"{law}.json") for law in ("joint", "additive")}
    for law, path in fits.items():
        _run("fit", runs, "--law", law, "--where", "split == 'train'", "-o", path)
    words = [
        "--other",
        fits["additive"],
        "--base",
        _base(place, BASE),
        "--runs",
        runs,
        "--domains",
        "arxiv,c4,wikipedia,github",
    ]
    _run("explore", fits["joint"], *SLIMPAJAMA, "-o", str(place), *words)
    _front(fits["joint"], SLIMPAJAMA, place, "code=github+stackexchange,text=c4+book+commoncrawl")


if __name__ == "__main__":
    main()
