"""Commands that go the whole way: decide, demo, run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mixjax as mj
from mixjax.cli import files, options
from mixjax.cli.config import DEMO, Config, find_data, read_config
from mixjax.cli.options import Limits, Scale, Search, Table, Watch
from mixjax.cli.run import Shown, argument, check_output_folder, command, option, show
from mixjax.errors import UserError

# The scale that the demo plans for: more than twice the largest simulated run in N.
_DEMO_SCALE = {"N": 7e9, "D": 1.5e11}
_SIMULATED = (
    "These runs are SIMULATED: losses of a known law plus noise of 0.3 percent. "
    "No model was trained; the point is to see the known law found again."
)


@command("From a table of runs to a mixture, in plain words.")
def decide(
    table: Table,
    scale: Scale,
    limits: Limits,
    search: Search,
    watch: Watch,
    base: str | None = options.base("The mixture in use, to be set beside the best one."),
    output: str | None = options.output(
        "FIT.json", "Where to write the fit, for further questions."
    ),
) -> Shown:
    """Choose a law by what it predicts of the largest scales of RUNS, fit it, and find the best
    mixture for -N and -D within limits, supply and the shares that were trained, with intervals,
    beside equal shares and the mixture in use.

    The same as extrapolate, mix, intervals and judge, one after another: minutes for a thousand
    rows and eight targets on two cores (--progress shows how far it is).

    \b
      mixjax decide runs.csv -N 7B -D 150B --base base.yaml -o fit.json
      mixjax decide runs.csv -N 7B -D 150B --tokens wiki=4B --epochs 4 --where "split == 'train'"
    """
    runs = table.read(search.targets)
    mixture = None if base is None else files.read_mixture(base, runs.domains)
    asked = limits.asked(runs.domains, runs.targets, scale)
    with watch.over() as progress:
        decision = mj.decide(runs, asked, mixture, watch=progress, **search.given())
    if output is not None:
        decision.fit.save(output)
    return show(decision, output)


@command("The whole pipeline on simulated runs.")
def demo(
    watch: Watch,
    output: str | None = options.folder(
        "Folder for the results, the runs and the truth; without it they are only printed."
    ),
) -> Shown:
    """Fit, score and mix on a simulated table of runs whose true law is known.

    Fits the joint law to small simulated runs, scores it on a larger size it has not seen, finds
    the best mixture for 7e9 parameters and 150e9 tokens, and compares all with the truth.

    \b
      mixjax demo -o demo-out
    """
    simulated = mj.demo_runs()
    runs, held_out = (_simulated(f"split == '{part}'") for part in ("train", "eval"))
    law = simulated.truth.law
    with watch.over() as progress:
        outcome = mj.report.run_pipeline(runs, law, held_out, [_DEMO_SCALE], watch=progress)
    if outcome.interrupted:
        return _finish(outcome, output, "demo")
    recovered = mj.report.recovery(simulated.truth, outcome)
    if output is not None:
        Path(output).mkdir(parents=True, exist_ok=True)
        files.write_table(simulated.table, str(Path(output) / "runs.csv"))
        simulated.truth.save(Path(output) / "truth.json")
    shown = _finish(outcome, output, "Demo: simulated runs", _SIMULATED)
    content = {**shown.content, "truth": recovered, "simulated": True}
    table = mj.fitting.recovery_table(recovered)
    return replace(shown, content=content, text=f"{_SIMULATED}\n\n{shown.text}\n{table}\n")


@command("The whole pipeline as a config describes it.")
def run(
    watch: Watch,
    config_file: str = argument("CONFIG.yaml"),
    data: str | None = option(
        "The data file, or the folder of the data files, in place of what the config says.",
        metavar="PATH",
    ),
    output: str | None = options.folder(
        "Folder for the results.  [default: ./<name of the config>-out]"
    ),
) -> Shown:
    """Fit, score, mix and report as CONFIG.yaml says.

    Writes fit.json, scores.json, mixture.json, report.md and figures. Data files are looked for
    where the config says (relative to the config), then in the folder MIXJAX_DATA. Keys: data, on,
    columns, where, eval_where, eval_data, law, targets, starts, hops, delta, residual, prior,
    precision, seed, compare; mix (N, D, weights, tokens, epochs, caps, floors, groups, fixed,
    extrapolate; or a list of these) and supply, a file or the keys tokens, epochs, caps, floors,
    groups for any mix.

    \b
      mixjax run configs/slimpajama.yaml -o out --data slimpajama.csv
    """
    config, title = read_config(config_file), Path(config_file).stem
    folder = output or f"{title}-out"
    check_output_folder(folder)
    law = _law(config, "law", config.law)
    laws = [_law(config, "compare", name) for name in config.compare]
    runs, eval_runs = _read(config, data)
    config.check_names(runs.domains, config.targets or runs.targets)
    with watch.over(1 + len(laws)) as progress:
        how = {"watch": progress, **config.fit}
        outcome = mj.report.run_pipeline(runs, law, eval_runs, config.questions, laws, **how)
    return _finish(outcome, folder, title)


def _law(config: Config, key: str, name: str) -> str | mj.Law:
    """A law that a config names; one that there is not is refused by its line."""
    law = files.read_law(name)
    try:
        mj.law.find_law(law)
    except UserError as error:
        raise UserError(config.lines.place(key), error.what, error.remedy) from None
    return law


def _simulated(where: str | None, **read: Any) -> mj.Runs:
    runs = mj.read_runs(mj.demo_runs().table, where=where, **read)
    return replace(runs, name="simulated runs")


def _read(config: Config, data: str | None) -> tuple[mj.Runs, mj.Runs | None]:
    """The rows to fit, and those to score beside them."""

    def read(named: Sequence[str], where: str | None, targets: Any) -> mj.Runs:
        how = {**config.read, "where": where, "targets": targets}
        if data is None and named == (DEMO,):
            return _simulated(**how)
        found = find_data(named, data)
        return mj.read_runs(found[0] if len(found) == 1 else found, **how)

    if config.eval_data and data is not None and not Path(data).is_dir():
        what = f"{data!r} is one file, the config names data and eval_data"
        raise UserError("--data", what, "name the folder that holds both")
    runs = read(config.data, config.where, config.targets)
    both = config.eval_data or config.eval_where is not None
    return runs, read(config.eval_data or config.data, config.eval_where, None) if both else None


def _finish(outcome: mj.report.Outcome, folder: str | None, title: str, note: str = "") -> Shown:
    """Write the report, if to a folder, and show what matters of it; of an interrupted fit the fit
    alone is kept."""
    if outcome.interrupted:
        if folder is None:
            return Shown({}, "", interrupted=True)
        kept = Path(folder) / "fit.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        outcome.fit.save(kept)
        return Shown({}, "", saved=str(kept), interrupted=True)
    content, saved = outcome.to_dict(), None
    if folder is not None:
        written = mj.report.write_report(outcome, folder, title, note)
        content |= {"folder": folder, "files": written}
        saved = f"{folder}: {', '.join(written)}"
    return Shown(content, _text(outcome), saved=saved)


def _text(outcome: mj.report.Outcome) -> str:
    parts = [mj.fitting.fit_table(outcome.fit, outcome.scores["train"])]
    if "eval" in outcome.scores:
        scores = mj.fitting.scores_table(outcome.scores["eval"])
        parts.append(f"Rows that the fit has not seen:\n{scores}")
    parts += [str(mixture) for mixture in outcome.optima]
    parts += [] if outcome.comparison is None else [str(outcome.comparison)]
    return "\n\n".join(parts) + "\n"
