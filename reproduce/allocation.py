"""FCIM against HexGen, PipeDream and PipeEdge on the same draws of links and bids: models x pools x seeds.

    python -m reproduce.allocation
    python -m reproduce.allocation --runs 10 --tasks my_tasks.csv --also Mine.py

The paper claims that FCIM lowers communication overhead by 54.7 % and completion time by 36.9 % (S. Habibi, O. Ercetin,
IEEE Access 13, 2025): the last table sets that beside what is found here. --also takes an allocation script of your
own.
"""
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common
import FCIM
from reproduce import tables

SEED = 0  # of the first draw
RUNS = 30  # draws of links and bids for each model and pool
OUT = "results"  # where the files go
PRIORITIES = {  # FCIM's weights: alpha, beta, gamma, of device count, time and price
    "cost first": (0.1, 0.3, 0.6),
    "time first": (0.1, 0.6, 0.3),
    "devices first": (0.6, 0.3, 0.1),
}
CLAIMS = {"communication_overhead": -54.7, "completion_time": -36.9}  # %: the change that the paper's abstract claims

METHODS = ["FCIM", "HexGen", "PipeDream", "PipeEdge"]
METRICS = {  # with their units
    "completion_time": "s", "communication_time": "s", "communication_overhead": "", "total_cost": "cents",
    "memory_utilization": "", "fairness_layers": "", "fairness_rewards": "", "devices": "",
    "cost_efficiency": "layers/cent", "deadlines_met": "", "utility": "cents"}
PANELS = [("completion_time", "completion\n(s)"), ("communication_time", "communica-\ntion (s)"),
          ("total_cost", "cost\n(cents)"), ("memory_utilization", "memory used\n(share)"),
          ("fairness_rewards", "fairness of\nrewards (0-1)"), ("devices", "devices\n(count)")]
KEYS = ["model", "pool"]
WHY = """The published scripts count links by another rule for each method; here every link that a task crosses counts
once for all, on the same draws. PipeDream is the static baseline; PipeEdge and HexGen, the performance-driven ones,
look at devices and links, while FCIM orders its pipeline by the bids alone."""


def check_settings():
    """UserError unless the settings are as they must be."""
    def check_weights(weights, where):
        common.require(isinstance(weights, (tuple, list)) and len(weights) == 3,
                       f"{where}: {common.shown(weights)} is not three numbers, alpha, beta and gamma")
        for weight in weights:
            common.check_number(weight, where)

    tables.check_count(RUNS, "RUNS")
    tables.check_settings(PRIORITIES, "PRIORITIES", check_weights)


def judge(tasks, methods, model, pool, seed):
    """Metrics of the methods (load_scripts), and of FCIM by other priorities, on one draw: a list of dicts."""
    case = tables.quiet_case(tasks, model, pool, seed)
    candidates = [(name, tables.script(methods[name]).allocate, {}) for name in methods]
    candidates += [(name, FCIM.allocate, {"weights": weights}) for name, weights in PRIORITIES.items()]
    rows = []
    for name, allocate, settings in candidates:
        row = dict(model=model.name, pool=pool, seed=seed, algorithm=name)
        try:
            stages, _ = allocate(**case, **settings)
            table, _, _, metrics = common.evaluate(stages, **case)
        except common.NoAllocation as none:
            rows.append(dict(row, problem=str(none)))
        except common.UserError as error:
            raise common.UserError(f"{name}: {error}") from error
        else:
            rows.append(dict(row, problem="", **metrics, utility=round(table["utility"].sum(), 6)))
    return rows


def claims(table, methods):
    """FCIM's change (%) of what is claimed, over models and pools: against each method, and against all."""
    import pandas as pd
    rows, others = [], list(methods)[1:]
    for metric, claimed in CLAIMS.items():
        for against in (*([name] for name in others), others):
            change = table.loc[(table["metric"] == metric) & table["algorithm"].isin(against), "change"]
            rows.append({"claim": f"{metric} against {' or '.join(against)}", "paper": claimed,
                         "ours": round(change.mean(), 1), "least": round(change.min(), 1),
                         "most": round(change.max(), 1)})
    return pd.DataFrame(rows)


def main(name):
    import pandas as pd
    check_settings()
    parser = common.make_parser(name, __doc__, tasks=FCIM.tasks, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS, also=True)
    args = parser.parse_args()
    number = tables.check_count(args.runs, "--runs")
    seed = int(common.check_number(args.seed, "--seed", whole=True))
    methods = tables.load_scripts(METHODS, args.also, "allocate")
    common.check_writable(args.out)
    settings = [(model, pool) for model in common.MODELS for pool in common.POOLS]
    for setting in settings:
        common.allocation_case(args.tasks, *setting, seed)  # says what is wrong with the list

    jobs = [(args.tasks, methods, *setting, seed + k) for setting in settings for k in range(number)]
    runs = pd.DataFrame([row for rows in tables.parallel(judge, jobs) for row in rows])
    shared = tables.shared_draws(runs, [*KEYS, "seed"])
    if shared.empty:
        raise common.NoAllocation(f"no draw on which every method finds an allocation: {runs['problem'].max()}")
    table, priorities = (tables.compare(shared, KEYS, "seed", list(who), METRICS) for who in (methods, PRIORITIES))
    claim, failed = claims(table, methods), tables.failures(runs, KEYS)

    parts = [f"reproduce.allocation: {len(common.MODELS)} models x {len(common.POOLS)} pools x {number} draws, seeds "
             f"from {seed}\n{tables.legend(number)}\nOnly the draws on which all methods find an allocation count: "
             + ("here all do." if failed.empty else "who found none, and how often, stands first.")]
    if len(failed):
        parts.append(("Draws without an allocation", failed))
    for model, pool in settings:
        caption, of_setting = f"{model.name}, pool {pool}", (shared["model"] == model.name) & (shared["pool"] == pool)
        draws = shared[of_setting]["seed"].nunique()
        if not draws:
            parts.append(f"{caption}: no draw on which all methods find an allocation")
            continue
        for what, of_all, who in (("", table, list(methods)),
                                  (", what FCIM's weights put first", priorities, list(PRIORITIES))):
            part = of_all[(of_all["model"] == model.name) & (of_all["pool"] == pool)]
            parts.append((f"{caption}{what}: means of {draws} draws", tables.means(part, who, METRICS)))
            parts.append((f"{caption}{what}: change of {who[0]} in % against each", tables.changes(part, who, METRICS)))
    parts += [("FCIM's change in %: the paper's claim; ours, mean, least and most over models and pools", claim), WHY]
    figures = {} if args.no_plot else {
        "": lambda path: tables.draw_bars(path, PANELS, "model", list(methods), table, "pool")}
    tables.publish("allocation", args.out, parts, {"runs": runs, "table": table, "priorities": priorities,
                                                   "claims": claim, "failures": failed}, figures)


if __name__ == "__main__":
    common.run(main, "reproduce.allocation")
