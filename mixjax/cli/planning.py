"""Commands before any run is trained: design."""

from __future__ import annotations

import click

from mixjax.cli import options


@click.command(short_help="Mixtures to train.")
@click.option("--domains", type=options.Names(), required=True, help="Training domains, a,b,c.")
@click.option("--n", "n", type=int, required=True, help="Number of mixtures.")
@click.option("--min", "minimum", type=float, default=0.0, show_default=True, help="Smallest weight of any domain.")
@options.pairs_option("--prior", help="Shares or token counts that the design is tilted to; even by default.")
@click.option("--seed", type=click.IntRange(min=0), metavar="I", default=0, help="Same seed, same design.  [default: 0]")
@click.option("-o", "--output", metavar="OUT.csv", help="Where to write the table; stdout without it.")
@options.json_option
def design(domains: tuple[str, ...], n: int, minimum: float, prior: dict[str, float] | None, seed: int, output: str | None, as_json: bool) -> None:
    """Mixtures that fill the simplex of the domains evenly: one row of h_<domain> each.

    The first rows are a good smaller design, for fewer mixtures at larger sizes.

    \b
      mixjax design --domains web,code,books --n 20 --min 0.02 -o mixtures.csv
    """
    from mixjax.cli import files
    from mixjax.plan import design_mixtures

    files.check_output(output)
    table = design_mixtures(domains, n, minimum, prior, seed)
    if as_json:
        files.print_json({"domains": domains, "mixtures": [dict(zip(domains, row, strict=True)) for row in table.to_numpy().tolist()]})
    files.write_table(table, output, to_stdout=not as_json)
