"""The whole suite, or the named parts: python -m benchmarks [time_to_target figure_2
evaluation_cost scaling chinchilla_grid ...]

Every part prints a table, writes results/NAME.json with versions, device and date, and most a
figure. What a part needs beyond mixjax's own packages (SciPy, jaxopt, optimistix, the reference
data) is left out with a word where it is absent.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

PARTS = (
    "evaluation_cost",
    "scaling",
    "chinchilla_grid",
    "figure_2",
    "time_to_target",
    "long_run",
    "mixtures",
    "nonconvex",
    "paper_tables",
    "trust",
    "uncertainty",
    "enough_runs",
    "regmix",
    "designs",
    "mixture_figures",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument(
        "--limit",
        type=float,
        default=60.0,
        help="seconds for one contestant, target and seed of time_to_target",
    )
    args = parser.parse_args()
    failed = []
    for part in args.parts or PARTS:
        print(f"\n== {part}", flush=True)
        extra = ["--limit", str(args.limit)] if part == "time_to_target" else []
        if subprocess.run(
            [sys.executable, "-m", f"benchmarks.{part}", *extra], check=False
        ).returncode:
            failed.append(part)
    if failed:
        print(f"not finished: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
