"""Commands that go the whole way: demo, run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixjax.cli import options
from mixjax.cli.progress import Progress
from mixjax.errors import UserError

if TYPE_CHECKING:
    from mixjax.cli.config import Config
    from mixjax.data.runs import Runs
    from mixjax.report.pipeline import Outcome

# The scale that the demo plans for: more than twice the largest simulated run in N.
_DEMO_SCALE = {"N": 7e9, "D": 1.5e11}
_SIMULATED = (
    "These runs are SIMULATED: losses of a known law plus noise of 0.3 percent. "
    "No model was "
    "trained; the point is to see the known law found again."
)


@click.command(short_help="The whole pipeline as a config describes it.")
@click.argument("config_file", metavar="CONFIG.yaml")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    help="Folder for the results.  [default: ./<name of the config>-out]",
)
@click.option(
    "--data",
    metavar="PATH",
    help="The data file, or the folder of the data files, in place of what the config says.",
)
@options.progress_option
@options.cache_option
@options.json_option
def run(
    config_file: str,
    output: str | None,
    data: str | None,
    progress: bool | None,
    cache: bool,
    as_json: bool,
) -> int:
    """Fit, score, mix and report as CONFIG.yaml says.

    Writes fit.json, scores.json, mixture.json, report.md and figures. Data files are looked for
    where the config says (relative to the config), then in the folder MIXJAX_DATA. Keys: data, on,
    columns, where, eval_where, eval_data, law, targets, starts, hops, delta, residual, seed, mix
    (N, D, weights, caps, floors; or a list of these), compare.

    \b
      mixjax run configs/slimpajama.yaml -o out --data slimpajama.csv
    """
    from mixjax.cli import files
    from mixjax.cli.config import read_config
    from mixjax.cli.runtime import use_cache
    from mixjax.report.pipeline import run_pipeline

    config = read_config(config_file)
    folder = output or f"{Path(config_file).stem}-out"
    files.check_output_folder(folder)
    for name in (config.law, *config.compare):
        if not name.rpartition(":")[0].endswith(".py"):
            _known_law(config, name)
    law, laws = files.read_law(config.law), [files.read_law(name) for name in config.compare]
    runs, eval_runs = _read(config, data)
    use_cache(cache)
    _check_names(config, runs)
    with Progress(progress, 1 + len(laws)) as watch:
        outcome = run_pipeline(runs, law, eval_runs, config.mixes, laws, watch=watch, **config.fit)
    return _finish(outcome, folder, Path(config_file).stem, as_json)


def _known_law(config: Config, name: str) -> None:
    """Refuse the name of a law that is none, by the line of the config."""
    from mixjax.law import find_law

    try:
        find_law(name)
    except UserError as error:
        raise UserError(config.place(name), error.what, error.remedy) from None


def _check_names(config: Config, runs: Runs) -> None:
    """Refuse a name in the mixtures of a config that is none of the table's, by its line."""
    from mixjax.errors import check_names

    targets = tuple(config.fit.get("targets") or runs.targets)
    for mix in config.mixes:
        for key, known, what in (
            ("weights", targets, "target"),
            ("caps", runs.domains, "domain"),
            ("floors", runs.domains, "domain"),
        ):
            for name in mix.get(key) or ():
                check_names([name], known, config.place(name, key), what)


def _read(config: Config, data: str | None) -> tuple[Runs, Runs | None]:
    """The rows to fit, and those to score beside them."""
    from mixjax.cli.config import DEMO, find_data
    from mixjax.data.runs import read_runs
    from mixjax.fitting.simulate import demo_runs

    def read(named: tuple[str, ...], where: str | None, targets: Any) -> Runs:
        if data is None and named == (DEMO,):
            return replace(
                read_runs(demo_runs().table, **{**config.read, "where": where}, targets=targets),
                name="simulated runs",
            )
        files = find_data(named, data)
        return read_runs(
            files[0] if len(files) == 1 else files,
            **{**config.read, "where": where},
            targets=targets,
        )

    if config.eval_data and data is not None and not Path(data).is_dir():
        raise UserError(
            "--data",
            f"{data!r} is one file, the config names data and eval_data",
            "name the folder that holds both",
        )
    runs = read(config.data, config.read.get("where"), config.fit.get("targets"))
    if not config.eval_data and config.eval_where is None:
        return runs, None
    return runs, read(config.eval_data or config.data, config.eval_where, None)


def _finish(
    outcome: Outcome,
    folder: str,
    title: str,
    as_json: bool,
    note: str = "",
    more: Mapping[str, Any] | None = None,
) -> int:
    """Write the report and print what matters of it; of an interrupted fit, the fit alone is
    kept."""
    from mixjax.cli import files
    from mixjax.report.report import write_report

    if outcome.interrupted:
        Path(folder).mkdir(parents=True, exist_ok=True)
        outcome.fit.save(Path(folder) / "fit.json")
        return files.say_interrupted(str(Path(folder) / "fit.json"))
    written = write_report(outcome, folder, title, note)
    if as_json:
        files.print_json({**outcome.to_dict(), **(more or {}), "folder": folder, "files": written})
    else:
        click.echo(_text(outcome))
        click.echo(f"saved in {folder}: {', '.join(written)}", err=True)
    return 0


def _text(outcome: Outcome) -> str:
    from mixjax.fitting.summary import fit_table, scores_table

    parts = [fit_table(outcome.fit, outcome.train)]
    parts += (
        []
        if outcome.eval is None
        else ["Rows that the fit has not seen:\n" + scores_table(outcome.eval)]
    )
    parts += [str(mixture) for mixture in outcome.mixtures]
    parts += [] if outcome.comparison is None else [str(outcome.comparison)]
    return "\n\n".join(parts)


@click.command(short_help="The whole pipeline on simulated runs.")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    help="Folder for the results, the runs and the truth; without it they are only printed.",
)
@options.progress_option
@options.cache_option
@options.json_option
def demo(output: str | None, progress: bool | None, cache: bool, as_json: bool) -> int:
    """Fit, score and mix on a simulated table of runs whose true law is known.

    Fits the joint law to small simulated runs, scores it on a larger size it has not seen, finds
    the best mixture for 7e9 parameters and 150e9 tokens, and compares all with the truth.
    """
    from mixjax.cli import files
    from mixjax.cli.runtime import use_cache
    from mixjax.data.runs import read_runs
    from mixjax.fitting.simulate import demo_runs
    from mixjax.fitting.summary import recovery_table
    from mixjax.report.pipeline import recovery, run_pipeline

    if output is not None:
        files.check_output_folder(output)
    simulated = demo_runs()
    runs, held_out = (
        replace(read_runs(simulated.table, where=f"split == '{part}'"), name="simulated runs")
        for part in ("train", "eval")
    )
    use_cache(cache)
    with Progress(progress) as watch:
        outcome = run_pipeline(runs, simulated.truth.law, held_out, [_DEMO_SCALE], watch=watch)
    if outcome.interrupted:
        return _finish(outcome, output, "demo", as_json) if output else files.say_interrupted(None)
    recovered = recovery(simulated.truth, outcome)
    if not as_json:
        click.echo(_SIMULATED + "\n")
    if output is not None:
        Path(output).mkdir(parents=True, exist_ok=True)
        files.write_table(simulated.table, str(Path(output) / "runs.csv"))
        simulated.truth.save(Path(output) / "truth.json")
        _finish(
            outcome,
            output,
            "Demo: simulated runs",
            as_json,
            _SIMULATED,
            {"truth": recovered, "simulated": True},
        )
    elif as_json:
        files.print_json({**outcome.to_dict(), "truth": recovered, "simulated": True})
    else:
        click.echo(_text(outcome))
    if not as_json:
        click.echo("\n" + recovery_table(recovered))
    return 0
