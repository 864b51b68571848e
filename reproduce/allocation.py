"""FCIM against HexGen, PipeDream and PipeEdge on the same draws of links and bids: models x pools x seeds.

    python -m reproduce.allocation
    python -m reproduce.allocation --runs 10 --tasks my_tasks.csv --also Mine.py

The paper claims that FCIM lowers communication overhead by 54.7 % and completion time by 36.9 %, and is consistently
fairer (S. Habibi, O. Ercetin, IEEE Access 13, 2025): the last table sets that beside what is found here. "FCIM, links"
is FCIM with ORDER "links", ours. --also takes an allocation script of your own.
"""
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import pandas as pd

import common
import FCIM
from reproduce import claims, stats, tables
from reproduce.parallel import parallel

SEED = 0  # of the first draw
RUNS = 30  # draws of links and bids for each model and pool
OUT = "results"  # where the files go
PRIORITIES = {  # FCIM's weights: alpha, beta, gamma, of device count, time and price
    "cost first": (0.1, 0.3, 0.6),
    "time first": (0.1, 0.6, 0.3),
    "devices first": (0.6, 0.3, 0.1),
}

LINKS = "FCIM, links"  # FCIM with ORDER "links"
METHODS = ["FCIM", LINKS, "HexGen", "PipeDream", "PipeEdge"]
METRICS = {  # with their units
    "completion_time": "s", "computation_time": "s", "communication_time": "s", "communication_overhead": "",
    "total_cost": "cents", "memory_utilization": "", "fairness_layers": "", "fairness_rewards": "", "devices": "",
    "cost_efficiency": "layers/cent", "deadlines_met": "", "utility": "cents"}
PANELS = [("completion_time", "completion\n(s)"), ("communication_time", "communica-\ntion (s)"),
          ("total_cost", "cost\n(cents)"), ("fairness_layers", "fairness of\nlayers (0-1)"),
          ("fairness_rewards", "fairness of\nrewards (0-1)"), ("devices", "devices\n(count)")]
KEYS = ["model", "pool"]
WHY = """ratio: communication / (communication + computation), as in the published scripts; time: of all tasks on links.
completion: until the last task is back; computation (processing): of all tasks in all stages.
The published scripts count links by another rule for each method; here every link that a task crosses counts once for
all, on the same draws. PipeDream is the static baseline; PipeEdge and HexGen, the performance-driven ones, look at
devices and links, while FCIM orders its pipeline by the bids alone."""


def measure_all(candidates, case, **draw):
    """Metrics of each candidate, {name: (its allocate, settings for it)}, on one draw (common.allocation_case): a list
    of dicts, each with what names the draw; "problem" says why a candidate has found no allocation, or nothing."""
    rows = []
    for name, (allocate, settings) in candidates.items():
        try:
            stages, _ = allocate(**case, **settings)
            table, _, _, metrics = common.evaluate(stages, **case)
        except common.NoAllocation as none:
            rows.append(dict(draw, algorithm=name, problem=str(none)))
        except common.UserError as error:
            raise common.UserError(f"{name}: {error}") from error
        else:
            rows.append(dict(draw, algorithm=name, problem="", **metrics, utility=round(table["utility"].sum(), 6)))
    return rows


def run_case(tasks, methods, model, pool, seed):
    """Metrics of the methods (load_scripts), and of FCIM by other settings, on one draw."""
    candidates = {name: (tables.script(path).allocate, {}) for name, path in methods.items()}
    candidates[LINKS] = FCIM.allocate, {"order": "links"}
    candidates.update({name: (FCIM.allocate, {"weights": weights}) for name, weights in PRIORITIES.items()})
    return measure_all(candidates, tables.quiet_case(tasks, model, pool, seed), model=model.name, pool=pool, seed=seed)


def over_all(runs, who):
    """Changes in % over all settings, of FCIM and of FCIM, links against each other method: a table of text."""
    rows = []
    for metric in METRICS:
        for first in METHODS[:2]:
            cells = {name: tables.show_change(*stats.mean_change(stats.in_settings(
                runs, KEYS, "seed", metric, first, [name]).values())) for name in who[2:]}
            rows.append({"metric": metric, "change of": first, **cells})
    return pd.DataFrame(rows)


def draw_all(args):
    """The runs: a row for each method and draw."""
    methods = tables.load_scripts([name for name in METHODS if name != LINKS], args.also, "allocate")
    settings = [(model, pool) for model in common.MODELS for pool in common.POOLS]
    for setting in settings:
        common.allocation_case(args.tasks, *setting, args.seed)  # says what is wrong with the list
    jobs = [(args.tasks, methods, *setting, args.seed + k) for setting in settings for k in range(args.runs)]
    return tables.as_written(pd.DataFrame([row for rows in parallel(run_case, jobs) for row in rows]))


def read(folder):
    """The runs of an earlier run."""
    return tables.read_runs(folder, "allocation_runs.csv", ["seed", *METRICS], [*KEYS, "problem"],
                            [*METHODS, *PRIORITIES])


def main(name):
    parser = common.make_parser(name, __doc__, tasks=FCIM.tasks, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS, also=True)
    args = parser.parse_args()
    runs = tables.get_runs(parser, args, read, draw_all)
    who = METHODS + [name for name in runs["algorithm"].unique() if name not in (*METHODS, *PRIORITIES)]
    number, settings = runs["seed"].nunique(), list(runs.groupby(KEYS, sort=False).groups)
    shared = stats.shared_draws(runs, [*KEYS, "seed"])
    if shared.empty:
        raise common.NoAllocation(f"no draw on which every method finds an allocation: {runs['problem'].max()}")
    table, priorities = (stats.compare(shared, KEYS, "seed", list(names), METRICS) for names in (who, PRIORITIES))
    claim, failed = claims.of_allocation(runs), stats.failures(runs, KEYS)

    models, pools = (runs[key].nunique() for key in KEYS)
    parts = [f"reproduce.allocation: {models} models x {pools} pools x {number} draws, seeds from "
             f"{runs['seed'].min()}\n{tables.legend(number)}\n{tables.shared_line(failed)}"]
    if len(failed):
        parts.append(("Draws without an allocation", failed))
    for model, pool in settings:
        caption, of_setting = f"{model}, pool {pool}", (shared["model"] == model) & (shared["pool"] == pool)
        draws = shared[of_setting]["seed"].nunique()
        if not draws:
            parts.append(f"{caption}: no draw on which all methods find an allocation")
            continue
        for what, of_all, group in (("", table, who),
                                    (", what FCIM's weights put first", priorities, list(PRIORITIES))):
            part = of_all[(of_all["model"] == model) & (of_all["pool"] == pool)]
            parts.append((f"{caption}{what}: means of {draws} draws", tables.means(part, group, METRICS)))
            parts.append((f"{caption}{what}: change of {group[0]} in % against each",
                          tables.changes(part, group, METRICS)))
    parts += [(f"All settings: change in % against each, mean over {len(settings)} models and pools",
               over_all(shared, who)),
              ("The paper's claims and what is found here", claims.show(claim)), claims.RULES, WHY]
    figures = {} if args.no_plot else {"": common.try_figure(tables.draw_bars, PANELS, "model", who, table, "pool")}
    tables.publish("allocation", args.out, parts, {"runs": runs, "table": table, "priorities": priorities,
                                                   "claims": claim, "failures": failed}, figures)


if __name__ == "__main__":
    common.run(main, "reproduce.allocation")
