"""Fair Cost-Efficient Incentive Mechanism (FCIM): an auction that hands a model's layers to edge devices.

    python FCIM.py
    python FCIM.py --pool workstations --seed 3
    python FCIM.py --compare
    python FCIM.py --audit

In every round the bids within the budget left and the deadline are scored: what they would mean for the number of
devices, for the time and for the cost, each on a scale from 0 (best of the round) to 1 (worst). The least score wins,
is rewarded by a rule that no winner loses under, and leaves the auction; so until all layers are placed. Winners run
the layers in the order in which they won. (S. Habibi, O. Ercetin, "Edge-LLM Inference With Cost-Aware Layer Allocation
and Adaptive Scheduling", IEEE Access 13, 2025.)
"""
import math

import common

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS, a folder or owner/model
POOL = "paper"  # the devices: a name in common.POOLS
SEED = 0  # of the links and bids that are drawn
OUT = "results"  # where the files go
WEIGHTS = (0.1, 0.3, 0.6)  # alpha, beta, gamma: of device count, time and price in the score
DELTA = 0.1  # penalty on a winner's price per layer above the round's average
BUDGET = 5  # P: cents, the most that may be paid in all
DEADLINE = 120  # T: s, the longest computation time of a bid that is admitted
RUNS = 30  # of --compare and --audit: seeds

bids = None  # drawn; or your own: [{"device": "GPU 1", "layers": 14, "price": 0.8, "computation_time": 40.0}, ...]
links = None  # drawn; or your own: {"GPU 1": {"GPU 2": 3.1, ..., "client": 2.0}, ...}, seconds

tasks = [
    {"label": "Task 1", "prompt": "Write a one-page guide to starting a community garden: the site, the soil, the "
     "beds, and how to share the work over the year.",
     "arrival_time": 0, "output_words": 300, "trans_time": 5, "deadline": 150},
    {"label": "Task 2", "prompt": "Explain the causes of the 2008 financial crisis to a reader without economics.",
     "arrival_time": 3, "output_words": 150, "trans_time": 2, "deadline": 130},
    {"label": "Task 3", "prompt": "Plan one lesson on renewable energy for a secondary school, with an experiment.",
     "arrival_time": 10, "output_words": 250, "trans_time": 3, "deadline": 170},
    {"label": "Task 4", "prompt": "Summarise in a short paragraph what a river delta is and how it forms.",
     "arrival_time": 14, "output_words": 80, "trans_time": 1, "deadline": 140},
    {"label": "Task 5", "prompt": "Compare three ways to keep patient records in a rural clinic whose network often "
     "fails, and recommend one.",
     "arrival_time": 19, "output_words": 220, "trans_time": 4, "deadline": 200},
]


def scores(weights, layers, l, T, P):
    """Score of each valid bid of a round (arrays l, T, P): alpha N(L/l) + beta N(T/l) + gamma N(P/l)."""
    import numpy as np

    def N(x):  # min-max over the round
        return (x - x.min()) / (x.max() - x.min() or 1)

    alpha, beta, gamma = weights
    return np.round(alpha * N(layers / l) + beta * N(T / l) + gamma * N(P / l), 12)  # equal ones must be found equal


def reward(weights, n, l, P, c, c2, c_avg, cheapest, left):
    """Cents for n of the winner's l layers, asked at P. c = P/l; c2: that of the second-best score (None: a lone bid);
    c_avg: mean of the round's; cheapest: nobody asks less per layer; left: of the budget."""
    alpha, beta, gamma = weights
    if c2 is None:
        paid = c * n
    elif gamma - alpha - beta > 1e-9:  # cost comes first
        paid = P if n == l else c2 * n
    elif cheapest:
        paid = c2 * n
    else:
        paid = max(c2, c) * n - DELTA * n * (c - c_avg)
    return min(max(paid, c * n), left)  # no winner loses, and the budget holds


def auction(layers, l, P, T, weights):
    """Rounds until all layers are placed, each a tuple: winner, layers it runs, cents it is paid, layers and cents
    that were left before, valid bids from best to worst, their scores. l, P, T: arrays over the bids. Raises
    NoAllocation if a round has no valid bid."""
    import numpy as np
    c = P / l
    waiting = np.ones(len(l), dtype=bool)
    rounds, missing, left = [], layers, BUDGET
    while missing:
        valid = np.flatnonzero(waiting & (P <= left) & (T <= DEADLINE))
        if not len(valid):
            dear, late = ((waiting & rule).sum() for rule in (P > left, T > DEADLINE))
            raise common.NoAllocation(
                f"no valid bid in round {len(rounds) + 1}, {missing} of {layers} layers left: of {waiting.sum()} bids "
                f"{dear} ask more than the {left:.3f} cents left of BUDGET, {late} take longer than DEADLINE")
        score = scores(weights, layers, l[valid], T[valid], P[valid])
        rank = np.lexsort((valid, c[valid], score))  # ties: the cheaper per layer, then the listing
        order = valid[rank]
        winner, n = order[0], min(int(l[order[0]]), missing)
        paid = reward(weights, n, l[winner], P[winner], c[winner], c[order[1]] if len(order) > 1 else None,
                      math.fsum(c[valid]) / len(valid), c[winner] == c[valid].min(), left)
        rounds.append((int(winner), n, float(paid), missing, left, order, score[rank]))
        missing, left = missing - n, left - paid
        waiting[winner] = False
    return rounds


def allocate(layers, bids, weights=None, **_):
    """Stages in the order of winning, and a report of the rounds. Raises NoAllocation if a round has no valid bid."""
    for name, value in ("BUDGET", BUDGET), ("DEADLINE", DEADLINE), ("DELTA", DELTA):
        common.check_number(value, name)
    weights = WEIGHTS if weights is None else weights
    if not isinstance(weights, (tuple, list)) or len(weights) != 3:
        raise common.UserError("WEIGHTS: must be three numbers, alpha, beta and gamma")
    for weight in weights:
        common.check_number(weight, "WEIGHTS")
    rounds = auction(layers, *(bids[key].to_numpy() for key in ("layers", "price", "computation_time")), weights)
    names, report = bids["device"], []
    for k, (winner, n, paid, missing, left, order, score) in enumerate(rounds, 1):
        shown = [f"{names[i]} {s:.3f}" for i, s in zip(order[:common.TABLE_ROWS], score)]
        report += [f"round {k}: {missing} layers and {left:.3f} cents left; valid bids: {len(order)}; scores",
                   "    " + ", ".join(shown + ["..."] * (len(order) > len(shown))),
                   f"    {names[winner]} wins {n} of the {bids['layers'][winner]} layers it offered at "
                   f"{bids['price'][winner]:.3f} cents, for {paid:.3f} cents"]
    return [{"devices": [winner], "layers": n, "reward": paid} for winner, n, paid, *_ in rounds], report


# Comparison with the other three --------------------------------------------------------------------------------------


METRICS = {  # of the tables, with their units
    "completion_time": "s", "communication_time": "s", "communication_overhead": "", "total_cost": "cents",
    "memory_utilization": "", "fairness_layers": "", "fairness_rewards": "", "devices": "",
    "cost_efficiency": "layers/cent", "deadlines_met": "", "utility": "cents"}
PRIORITIES = {"cost first": (0.1, 0.3, 0.6), "time first": (0.1, 0.6, 0.3), "devices first": (0.6, 0.3, 0.1)}
PANELS = [("completion_time", "completion\n(s)"), ("communication_time", "communica-\ntion (s)"),
          ("total_cost", "cost\n(cents)"), ("memory_utilization", "memory used\n(share)"),
          ("fairness_rewards", "fairness of\nrewards (0-1)"), ("devices", "devices\n(count)")]
CLAIMS = (("communication_overhead", -54.7), ("completion_time", -36.9))  # metric, the paper's change of it (%)
WHY = """The published scripts count links by another rule for each method; here every link that a task crosses counts
once for all four, on the same draws. PipeDream is the static baseline; PipeEdge and HexGen, the performance-driven
ones, look at devices and links, while FCIM orders its pipeline by the bids alone."""


def judge(model, pool, tasks, estimates, seed):
    """Metrics of the four algorithms, and of FCIM by other priorities, on one draw: a list of dicts."""
    import HexGen
    import PipeDream
    import PipeEdge
    bids, links, times, memory = common.allocation_case(model, pool, tasks, estimates, seed)
    problem = dict(layers=model.layers, bids=bids, delay=links.to_numpy(), times=times, seed=seed,
                   arrivals=tasks["arrival_time"].to_numpy() / common.US)
    methods = [("FCIM", allocate, None)] + [(script.__name__, script.allocate, None)
                                            for script in (HexGen, PipeDream, PipeEdge)]
    methods += [(name, allocate, weights) for name, weights in PRIORITIES.items()]
    rows = []
    for name, method, weights in methods:
        row = dict(model=model.name, pool=pool, seed=seed, algorithm=name)
        try:
            stages, _ = method(**problem, weights=weights)
        except common.NoAllocation as none:
            rows.append(dict(row, problem=str(none)))
            continue
        table, _, _, metrics = common.evaluate(stages, tasks, bids, links.to_numpy(), times, model, memory)
        rows.append(dict(row, problem="", **metrics, utility=round(table["utility"].sum(), 6)))
    return rows


def compare(args, seed):
    """Runs the four on the same draws, three models x two pools x args.runs seeds, and prints and writes the tables."""
    import pandas as pd
    jobs, keys, four = [], ["model", "pool"], ["FCIM", "HexGen", "PipeDream", "PipeEdge"]
    for model in map(common.get_model, common.MODELS):
        for pool in common.POOLS:
            estimates = common.allocation_tasks(args.tasks, model, pool)
            jobs += [(model, pool, *estimates, seed + k) for k in range(args.runs)]
    runs = pd.DataFrame([row for rows in common.in_parallel(judge, jobs) for row in rows])
    draw = runs.groupby([*keys, "seed"])["problem"]
    paired = runs[draw.transform(lambda problems: (problems == "").all())]
    if paired.empty:
        raise common.NoAllocation(f"no draw on which every method finds an allocation: {runs['problem'].max()}")
    print(f"FCIM --compare: {len(common.MODELS)} models x {len(common.POOLS)} pools x {args.runs} seeds from {seed}; "
          f"{len(jobs) - paired.groupby([*keys, 'seed']).ngroups} draws left out, where not every method found an "
          "allocation.\nMean ± half of the 95 % confidence interval. to X: change of the first mean against X's.")
    tables = {"": common.compare(paired, keys, four, METRICS),
              ", what FCIM's weights put first": common.compare(paired, keys, list(PRIORITIES), METRICS)}
    parts = [(f"{model}, pool {pool}{what}", common.side_by_side(part, part["algorithm"].unique(), METRICS))
             for what, table in tables.items() for (model, pool), part in table.groupby(keys, sort=False)]
    table, priorities = tables.values()
    claims = []
    for metric, claimed in CLAIMS:
        for names in (*([name] for name in four[1:]), four[1:]):
            change = table.loc[(table["metric"] == metric) & table["algorithm"].isin(names), "change"]
            claims.append(dict(claim=f"{metric} against {' or '.join(names)}", paper=claimed,
                               ours=change.mean().round(1), least=change.min().round(1), most=change.max().round(1)))
    claims = pd.DataFrame(claims)
    parts.append(("FCIM's change in %: the paper's claim; ours, mean, least and most over models and pools", claims))
    for caption, part in parts:
        print(f"\n{caption}")
        common.print_table(part)
    print(f"\n{WHY}")
    files = {"FCIM_compare_runs.csv": runs, "FCIM_compare_table.csv": table, "FCIM_compare_priorities.csv": priorities,
             "FCIM_compare_claims.csv": claims}
    files = {name: common.csv_writer(content) for name, content in files.items()}
    files["FCIM_compare.tex"] = common.latex_writer(parts)
    if not args.no_plot:
        files["compare_allocation.png"] = lambda path: common.draw_bars(path, PANELS, "model", four, table, "pool")
    print(f"\nwritten: {', '.join(common.write_files(args.out, files))}")


# Audit of the incentives ----------------------------------------------------------------------------------------------


def outcome(layers, l, P, T, cost):
    """Payments and utilities (cents) of all devices, 0 for those without a part; None if no allocation exists. cost:
    true cost of a layer."""
    import numpy as np
    paid, gained = np.zeros(len(l)), np.zeros(len(l))
    try:
        for winner, n, reward, *_ in auction(layers, l, P, T, WEIGHTS):
            paid[winner], gained[winner] = reward, reward - cost[winner] * n
    except common.NoAllocation:
        return None
    return paid, gained


def audit_one(model, pool, tasks, estimates, seed, asked):
    """One auction: a row (dict) for each device. asked: "as drawn", or "true cost": every price is the true cost."""
    bids, _, _, _ = common.allocation_case(model, pool, tasks, estimates, seed)
    l, P, T = (bids[key].to_numpy() for key in ("layers", "price", "computation_time"))
    cost = bids["true_cost"].to_numpy() / l
    if asked == "true cost":
        P = cost * l
    found = outcome(model.layers, l, P, T, cost)
    rows = []
    for i, device in enumerate(bids["device"]):
        row = dict(model=model.name, asked=asked, seed=seed, device=device, allocation=found is not None,
                   paid=found[0][i] if found else 0, utility=found[1][i] if found else 0)

        def best(others):  # the most that i gains by one of the others, (layers, price) at its time per layer
            gain = 0.0
            for n, price in others:
                changed = [values.copy() for values in (l, P, T)]
                for values, value in zip(changed, (n, price, T[i] * n / l[i])):  # noqa: B023 - this i is meant
                    values[i] = value  # noqa: B023
                other = outcome(model.layers, *changed, cost)
                gain = max(gain, (other[1][i] if other else 0) - row["utility"])  # noqa: B023
            return gain

        row["gain_by_price"] = best([(l[i], P[i] * k / 10) for k in range(5, 31)])
        row["gain_by_layers"] = best([(n, P[i] * n / l[i]) for n in range(1, l[i])])
        rows.append({key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()})
    return rows


def audit(args, pool, seed):
    """Incentive properties over args.runs auctions of each model's layers: prints and writes them."""
    import pandas as pd
    jobs = []
    for model in map(common.get_model, common.MODELS):
        estimates = common.allocation_tasks(args.tasks, model, pool)
        jobs += [(model, pool, *estimates, seed + k, asked) for asked in ("as drawn", "true cost")
                 for k in range(args.runs)]
    rows = pd.DataFrame([row for rows in common.in_parallel(audit_one, jobs) for row in rows])
    lines = []
    for (model, asked), part in rows.groupby(["model", "asked"], sort=False):
        paid = part[part["allocation"]].groupby("seed")["paid"].sum()
        line = dict(model=model, price=asked, auctions=args.runs, with_allocation=len(paid),
                    within_budget=(paid <= BUDGET + 1e-6).mean(),
                    least_winner_utility=part.loc[part["paid"] > 0, "utility"].min())
        for what in ("price", "layers"):
            gain = part[f"gain_by_{what}"]
            line.update({f"share_that_gains_by_{what}": (gain > 0).mean(), f"mean_gain_by_{what}": gain.mean(),
                         f"largest_gain_by_{what}": gain.max()})
        lines.append(line)
    table = pd.DataFrame(lines).round(6)
    print(f"FCIM --audit: three models, pool {pool}, {args.runs} seeds from {seed}; prices as drawn or at true cost.\n"
          "Gain: the most that a device could add to its utility (cents), all else equal, by asking 0.5 to 3 times\n"
          "its price (steps of 0.1), or by offering fewer layers at its price and time per layer.\n")
    common.print_table(table)
    held = (table["least_winner_utility"] >= -1e-6).all() and (table["within_budget"] == 1).all()
    print(f"\nNo winner loses, and payments stay within BUDGET: {'yes, in all auctions' if held else 'NO'}.")
    for what, how in (("price", "asking another price"), ("layers", "offering fewer layers")):
        lie = rows.loc[rows[rows["asked"] == "true cost"][f"gain_by_{what}"].idxmax()]
        if lie[f"gain_by_{what}"] > 0:
            print(f"Not truthful: by {how}, {lie['device']} gains {lie[f'gain_by_{what}']:.3f} cents over asking its "
                  f"true cost ({lie['model']}, seed {lie['seed']}).")
        else:
            print(f"Truthful here: of the bids at true cost none gains by {how}.")
    print("Where the offers only just suffice, every device is needed and may ask what the budget allows.")
    files = {"FCIM_audit.csv": rows, "FCIM_audit_table.csv": table}
    paths = common.write_files(args.out, {name: common.csv_writer(content) for name, content in files.items()})
    print(f"\nwritten: {', '.join(paths)}")


if __name__ == "__main__":
    common.run_allocator("FCIM", allocate, tasks, __doc__, model=MODEL, pool=POOL, seed=SEED, out=OUT, bids=bids,
                         links=links, compare=compare, audit=audit, runs=RUNS)
