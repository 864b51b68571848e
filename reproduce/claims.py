"""The paper's claims, each in every reading, beside what is found here, with a verdict by stated rules: one table.

    python -m reproduce.claims
    python -m reproduce.claims --from results

Of the runs that reproduce.allocation, pool_size, scheduling and incentives have written: those in reproduce/figures,
or in the folder of --from. (S. Habibi, O. Ercetin, IEEE Access 13, 2025; S. Habibi, Sabanci University, 2025.)
"""
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common
from reproduce import allocation, incentives, pool_size, scheduling, tables

FIGURES = str(pathlib.Path(__file__).resolve().parent / "figures")  # the runs that are shown in README.md
OUT = "results"  # where the files go


def collect(folder):
    """The tables of claims of all scripts, one below the other."""
    import pandas as pd
    return pd.concat([allocation.claims(allocation.read(folder)), pool_size.claims(pool_size.read(folder)),
                      scheduling.claims(scheduling.read(folder)[0]), incentives.claims(incentives.read(folder)[0])],
                     ignore_index=True)


def main(name):
    parser = common.make_parser(name, __doc__, plot=False, out=OUT)
    parser.add_argument("--from", metavar="DIR", dest="source", default=FIGURES, help="the folder of the runs")
    args = parser.parse_args()
    common.check_writable(args.out)
    claim = collect(args.source)
    tables.publish("claims", args.out, [("What the paper claims, and what is found here", tables.show_claims(claim)),
                                        tables.RULES], {"table": claim}, {})


if __name__ == "__main__":
    common.run(main, "reproduce.claims")
