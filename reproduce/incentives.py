"""Incentives of FCIM's auction: winners' utilities, the budget, and what bidders gain by asking or offering otherwise.

    python -m reproduce.incentives
    python -m reproduce.incentives --runs 100 --tasks my_tasks.csv

In auctions of drawn bids and of bids at true cost, each device in turn changes its bid, all else equal. The paper
claims that every winner's utility is positive; the thesis speaks of truthful participation (S. Habibi, O. Ercetin, IEEE
Access 13, 2025; S. Habibi, Sabanci University, 2025).
"""
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common
import FCIM
from reproduce import tables

SEED = 0  # of the first draw
RUNS = 30  # auctions of each model, pool and kind of price
OUT = "results"  # where the files go
POOLS = ["paper"]  # the devices: names in common.POOLS. Hosts play no part in an auction
TIMES = [k / 10 for k in range(5, 31)]  # a device asks so many times its price instead

KEYS = ["model", "pool", "asked"]
ASKED = ["as drawn", "true cost"]  # the price of every bid: as drawn, or what it costs
LIES = {"price": "asking another price", "layers": "offering fewer layers"}
TOLERANCE = 1e-6  # cents: results are rounded to this


def check_settings():
    """UserError unless the settings are as they must be."""
    tables.check_count(RUNS, "RUNS")
    for name, values in (("POOLS", POOLS), ("TIMES", TIMES)):
        common.require(isinstance(values, (tuple, list)) and values,
                       f"{name}: {common.shown(values)} is not a list of settings")
    for pool in POOLS:
        common.find_name(pool, common.POOLS, "POOLS, pool")
    for value in TIMES:
        common.check_number(value, "TIMES")


def outcome(layers, l, P, T, cost, tasks):
    """Payments and utilities (cents) of all devices, 0 for those without a part; None if no allocation exists. l, P, T:
    layers, price and time of each bid; cost: true cost of a layer; tasks: their number."""
    import numpy as np
    paid, gained = np.zeros(len(l)), np.zeros(len(l))
    try:
        rounds = FCIM.auction(layers, l, P, T, FCIM.WEIGHTS, FCIM.BUDGET * tasks, FCIM.DEADLINE * tasks)
    except common.NoAllocation:
        return None
    for winner, n, reward, *_ in rounds:
        paid[winner], gained[winner] = reward, reward - cost[winner] * n
    return paid, gained


def audit(tasks, model, pool, seed, asked):
    """One auction: a row (dict) for each device. curve: its utility by each of TIMES, over the true cost of its bid."""
    case = tables.quiet_case(tasks, model, pool, seed)
    bids, number = case["bids"], len(case["tasks"])
    l, P, T = (bids[key].to_numpy() for key in ("layers", "price", "computation_time"))
    cost = bids["true_cost"].to_numpy() / l
    if asked == "true cost":
        P = cost * l
    found, rows = outcome(model.layers, l, P, T, cost, number), []

    def utility(i, n, price):
        """What i gets if it offers n layers at this price instead, and at the same time a layer."""
        changed = [values.astype(float) for values in (l, P, T)]
        for values, value in zip(changed, (n, price, T[i] * n / l[i])):
            values[i] = value
        other = outcome(model.layers, *changed, cost, number)
        return other[1][i] if other else 0

    for i, device in enumerate(bids["device"]):
        by_price = [utility(i, l[i], P[i] * k) for k in TIMES]
        by_layers = [utility(i, n, P[i] * n / l[i]) for n in range(1, l[i])]
        paid, gained = (values[i] for values in found) if found else (0.0, 0.0)
        row = dict(model=model.name, pool=pool, asked=asked, seed=seed, device=device, allocation=found is not None,
                   budget=FCIM.BUDGET * number, paid=paid, utility=gained,
                   gain_by_price=max([0.0, *(other - gained for other in by_price)]),
                   gain_by_layers=max([0.0, *(other - gained for other in by_layers)]))
        rows.append({key: round(float(value), 6) if isinstance(value, float) else value for key, value in row.items()})
        rows[-1]["curve"] = [other / (cost[i] * l[i]) if cost[i] else 0 for other in by_price]
    return rows


def summarise(rows):
    """A row for each of KEYS: what holds in its auctions that have an allocation (NaN: none has), and mean gains with
    their 95 % intervals over auctions."""
    import pandas as pd
    lines = []
    for setting, every in rows.groupby(KEYS, sort=False):
        part = every[every["allocation"]]
        paid = part.groupby("seed")["paid"].sum()
        line = dict(zip(KEYS, setting), auctions=every["seed"].nunique(), with_allocation=len(paid),
                    within_budget=(paid <= part.groupby("seed")["budget"].first() + TOLERANCE).mean(),
                    least_winner_utility=part.loc[part["paid"] > 0, "utility"].min())
        for lie in LIES:
            gain = part[f"gain_by_{lie}"]
            for what, values in (("share_that_gains", (gain > 0).astype(float)), ("mean_gain", gain)):
                what = f"{what}_by_{lie}"
                found = tables.mean(values.groupby(part["seed"]).mean().to_numpy())
                line.update(zip((what, f"{what}_low", f"{what}_high"), found))
            line[f"largest_gain_by_{lie}"] = gain.max()
        lines.append(line)
    return pd.DataFrame(lines).round(6)


def verdicts(rows, table):
    """Lines that say which properties hold. Of no auction with an allocation none is tested."""
    if not table["with_allocation"].any():
        return ["No auction has an allocation: whether winners lose, payments stay within BUDGET and bids at true cost "
                "are best, is not tested."]
    held = [("No winner loses", table["least_winner_utility"].min() >= -TOLERANCE),
            ("Payments stay within BUDGET", table["within_budget"].min() == 1)]
    lines = [f"{what}: {'yes, in all auctions' if yes else 'NO'}." for what, yes in held]
    honest = rows[(rows["asked"] == "true cost") & rows["allocation"]]
    for lie, how in LIES.items():
        if honest.empty:
            lines.append(f"Whether bids at true cost gain by {how} is not tested: none of their auctions has an "
                         "allocation.")
            continue
        most = honest.loc[honest[f"gain_by_{lie}"].idxmax()]
        if most[f"gain_by_{lie}"] > 0:
            lines.append(f"Not truthful: by {how}, {most['device']} gains {most[f'gain_by_{lie}']:.3f} cents over "
                         f"asking its true cost ({most['model']}, pool {most['pool']}, seed {most['seed']}).")
        else:
            lines.append(f"Truthful here: of the bids at true cost none gains by {how}.")
    return lines


def draw_curves(path, curves):
    """Draws what a device gains by what it asks, one journal column wide: a panel for each of ASKED and pool, a line a
    model, with its 95 % interval."""
    from matplotlib.figure import Figure
    settings = list(curves.groupby(["asked", "pool"], sort=False))
    figure, keys = Figure((3.5, 0.7 + 1.35 * len(settings)), dpi=300), {}
    plots = figure.subplots(len(settings), 1, sharex=True, squeeze=False)[:, 0]
    for axes, ((asked, pool), part) in zip(plots, settings):
        for k, (model, line) in enumerate(part.groupby("model", sort=False)):
            colour = (common.BLUE, common.ORANGE, common.RED, common.SKY, "black")[k % 5]
            axes.fill_between(line["times"], line["low"], line["high"], color=colour, alpha=0.25, linewidth=0)
            keys[common.shorten(model)] = axes.plot(line["times"], line["mean"], color=colour, linewidth=1.1,
                                                    linestyle=("-", "--", ":", "-.")[k % 4], marker="osv^D"[k % 5],
                                                    markersize=3,
                                                    markevery=(k, 5))[0]
        title = {"as drawn": "prices as drawn", "true cost": "prices at true cost"}[asked]
        axes.axvline(1, color="0.5", linewidth=0.7)
        axes.axhline(0, color="0.5", linewidth=0.7)
        axes.set_title(f"{title}, pool {common.shorten(pool)}", fontsize=8)
        axes.set_ylabel("its utility /\ncost of its offer", fontsize=7)
    plots[-1].set_xlabel("price that one device asks / price above", fontsize=8)
    figure.align_ylabels(plots)
    common.finish(figure, path, keys)


def main(name):
    import pandas as pd
    check_settings()
    parser = common.make_parser(name, __doc__, tasks=FCIM.tasks, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS)
    args = parser.parse_args()
    number = tables.check_count(args.runs, "--runs")
    seed = int(common.check_number(args.seed, "--seed", whole=True))
    common.check_writable(args.out)
    pools = [common.find_name(pool, common.POOLS, "pool") for pool in POOLS]
    settings = [(model, pool) for model in common.MODELS for pool in pools]
    for setting in settings:
        common.allocation_case(args.tasks, *setting, seed)  # says what is wrong with the list
    jobs = [(args.tasks, *setting, seed + k, asked) for setting in settings for asked in ASKED for k in range(number)]
    rows = pd.DataFrame([row for rows in tables.parallel(audit, jobs) for row in rows])

    curves = rows[rows["allocation"]].groupby(KEYS, sort=False)["curve"]
    curves = pd.DataFrame([
        dict(zip(KEYS, setting), times=times, **dict(zip(("mean", "low", "high"), tables.mean(values))))
        for setting, part in curves for times, values in zip(TIMES, pd.DataFrame(part.tolist()).to_numpy().T)])
    rows = rows.drop(columns="curve")
    table = summarise(rows)
    gains = table[KEYS].copy()
    for lie in LIES:
        for what in (f"share_that_gains_by_{lie}", f"mean_gain_by_{lie}"):
            gains[what] = [tables.show_mean(*line) for line in table[[what, f"{what}_low", f"{what}_high"]].to_numpy()]
        gains[f"largest_gain_by_{lie}"] = table[f"largest_gain_by_{lie}"]
    rules = table[[*KEYS, "auctions", "with_allocation", "within_budget", "least_winner_utility"]]
    parts = [f"reproduce.incentives: {len(common.MODELS)} models, pool {', '.join(pools)}, {number} seeds from {seed}, "
             "prices as drawn or at true cost.\nGain: the most that a device could add to its utility (cents), all "
             f"else equal, by asking {min(TIMES):g} to {max(TIMES):g} times\nits price, or by offering fewer layers at "
             f"its price and time per layer.\n{tables.legend(number)}",
             ("What the auction promises", rules.astype(object).where(rules.notna(), "not tested")),
             ("What a device could gain", gains.astype(object).where(gains.notna(), "n/a")),
             "\n".join(verdicts(rows, table)),
             "Where the offers only just suffice, every device is needed and may ask what the budget allows."]
    figures = {} if args.no_plot or curves.empty else {"": lambda path: draw_curves(path, curves)}
    tables.publish("incentives", args.out, parts, {"runs": rows, "table": table, "curves": curves.round(6)}, figures)


if __name__ == "__main__":
    common.run(main, "reproduce.incentives")
