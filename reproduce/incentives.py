"""Incentives of FCIM's auction: winners' utilities, the budget, and what bidders gain by asking or offering otherwise.

    python -m reproduce.incentives
    python -m reproduce.incentives --runs 100 --tasks my_tasks.csv

The paper claims that every winner's utility is positive; the thesis speaks of truthful participation (S. Habibi, O.
Ercetin, IEEE Access 13, 2025; S. Habibi, Sabanci University, 2025). In auctions of bids at true cost each device in
turn changes its bid, all else equal, under the paper's payments and under FCIM's PAYMENT "critical", which is ours.
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
RUNS = 30  # auctions of each model, pool and kind of price
OUT = "results"  # where the files go
POOLS = ["campus", "paper", "workstations"]  # the devices: names in common.POOLS. Hosts play no part in an auction
TIMES = [k / 10 for k in range(3, 61)]  # a device asks so many times its price instead
OFFERS = [0.25, 0.5, 0.75]  # or offers so much of its layers, at its price and time a layer

KEYS = ["model", "pool"]
ASKED = ["as drawn", "true cost"]  # the price of every bid: as drawn, or what it costs
PAYMENTS = ["paper", "critical"]
LIES = {"price": "asking another price", "layers": "offering fewer layers"}
LONE, WHOLE, PART, LOSES = "lone bid: as asked", "all it offers: as asked", "a part: second price", "wins nothing"
TOLERANCE = 1e-6  # cents: results are rounded to this
SHOWN = [5, 30]  # tenths of a price between which the figure shows utilities


# One auction ----------------------------------------------------------------------------------------------------------
# case: the arguments of FCIM.auction; cost: true cost of a layer of each device, cents.


def changed(case, i, n, price):
    """The case in which i offers n layers at this price a layer instead, and at the same time a layer."""
    layers, *bids, weights, budget, deadline = case
    l, P, T = (values.copy().astype(float) for values in bids)
    l[i], P[i], T[i] = n, n * price, T[i] * n / l[i]
    return layers, l.astype(int), P, T, weights, budget, deadline


def by_paper(case, cost):
    """What the paper's payments bring: {winner: (cents, utility, rule by which it is paid)}; nothing, if no allocation
    exists."""
    try:
        rounds = FCIM.auction(*case)
    except common.NoAllocation:
        return {}
    return {winner: (paid, paid - cost[winner] * n,
                     LONE if len(order) == 1 else WHOLE if n == case[1][winner] else PART)
            for winner, n, paid, _, _, order, _ in rounds}


def by_critical(case, cost, i, prices):
    """What Myerson's payments bring to i if it asks these prices a layer: (cents, utility) of each; and whether asking
    more never wins it more layers."""
    won = FCIM.layers_won(i, *case)
    found = []
    for price in prices:
        n = next((n for x, n in won if x >= price), 0)
        paid = FCIM.critical(price, n, won) if n else 0.0
        found.append((paid, paid - cost[i] * n))
    return found, all(more <= n for (_, n), (_, more) in zip(won, won[1:]))


def run_case(tasks, model, pool, seed, asked):
    """One auction: a row (dict) for each device; and, at true cost, one for each payment, the devices' mean utility by
    what one asks, over the true cost of its offer."""
    case = tables.quiet_case(tasks, model, pool, seed)
    bids, number = case["bids"], len(case["tasks"])
    l, P, T = (bids[key].to_numpy() for key in ("layers", "price", "computation_time"))
    cost, is_true = bids["true_cost"].to_numpy() / l, asked == "true cost"
    P = cost * l if is_true else P
    case = model.layers, l, P, T, FCIM.WEIGHTS, FCIM.BUDGET * number, FCIM.DEADLINE * number
    draw, found = dict(model=model.name, pool=pool, seed=seed), by_paper(case, cost)
    rows, curves = [], {payment: [] for payment in PAYMENTS}
    for i, device in enumerate(bids["device"]):
        own = P[i] / l[i]
        paid, gained, rule = found.get(i, (0.0, 0.0, LOSES if found else ""))
        row = dict(draw, asked=asked, device=device, type=bids["type"][i], budget=case[5], allocation=bool(found),
                   rule=rule, paid_paper=paid, utility_paper=gained, paid_critical=0.0, utility_critical=0.0)
        rows.append(row)
        if not (found if is_true else i in found):
            continue
        prices = [own * k for k in TIMES] if is_true else []
        (honest, *others), row["monotone"] = by_critical(case, cost, i, [own, *prices])
        row["paid_critical"], row["utility_critical"] = honest
        if is_true:
            tried = [by_paper(changed(case, i, l[i], price), cost).get(i, (0, 0, LOSES)) for price in prices]
            fewer = [changed(case, i, n, own) for n in sorted({max(1, int(l[i] * part)) for part in OFFERS})]
            gains = {"price_paper": [other[1] for other in tried], "price_critical": [other[1] for other in others],
                     "layers_paper": [by_paper(other, cost).get(i, (0, 0))[1] for other in fewer],
                     "layers_critical": [by_critical(other, cost, i, [own])[0][0][1] for other in fewer]}
            for lie, utilities in gains.items():
                row[f"gain_by_{lie}"] = max([0.0, *(other - row[f"utility_{lie.split('_')[1]}"]
                                                    for other in utilities)])
            row["best_rule"] = max(tried, key=lambda other: other[1])[2]
            for payment in PAYMENTS:
                curves[payment].append([utility / (cost[i] * l[i] or 1) for k, utility in zip(
                    TIMES, gains[f"price_{payment}"]) if SHOWN[0] <= 10 * k <= SHOWN[1]])
    rows = [{key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    means = {payment: [sum(values) / len(values) for values in zip(*lines)] for payment, lines in curves.items()}
    return rows, [dict(draw, payment=payment, **{f"asks_{k:g}": round(float(value), 4) for k, value in zip(
        [k for k in TIMES if SHOWN[0] <= 10 * k <= SHOWN[1]], line)}) for payment, line in means.items() if line]


# Tables ---------------------------------------------------------------------------------------------------------------


def by_auction(part, values):
    """Mean of values (a row a device of `part`, runs) in each draw, and over those with its 95 % interval."""
    return stats.mean(values.astype(float).groupby(part["seed"]).mean().to_numpy())


def promises(rows):
    """What the auctions promise, by KEYS and kind of price: numbers, NaN where none has an allocation."""
    lines = []
    for setting, every in rows.groupby([*KEYS, "asked"], sort=False):
        part = every[every["allocation"]]
        total = part.groupby("seed")[["paid_paper", "paid_critical"]].sum()
        budget, line = part.groupby("seed")["budget"].first(), dict(zip([*KEYS, "asked"], setting))
        line.update(auctions=every["seed"].nunique(), with_allocation=len(total))
        for payment in PAYMENTS:
            line[f"within_budget_{payment}"] = (total[f"paid_{payment}"] <= budget + TOLERANCE).mean()
            line[f"least_utility_{payment}"] = part.loc[part["paid_paper"] > 0, f"utility_{payment}"].min()
        for what, values in (("paid_paper", total["paid_paper"]), ("paid_critical", total["paid_critical"]),
                             ("extra", total["paid_critical"] - total["paid_paper"])):
            line.update(zip((what, f"{what}_low", f"{what}_high"), stats.mean(values.to_numpy())))
        lines.append(line)
    return pd.DataFrame(lines).round(6)


def gains(rows):
    """What truthful devices gain by lies, a row for each of KEYS: numbers; NaN where no auction has an allocation."""
    lines = []
    for setting, every in rows[rows["asked"] == "true cost"].groupby(KEYS, sort=False):
        part, line = every[every["allocation"]], dict(zip(KEYS, setting))
        for lie in LIES:
            for payment in PAYMENTS:
                gain, what = part[f"gain_by_{lie}_{payment}"], f"by_{lie}_{payment}"
                line.update(zip((f"share_{what}", f"share_{what}_low", f"share_{what}_high"),
                                by_auction(part, gain > TOLERANCE)))
                line[f"largest_{what}"] = gain.max()
        lines.append(dict(line, not_monotone=(~part["monotone"].astype(bool)).sum()))
    return pd.DataFrame(lines).round(6)


def who_gains(rows):
    """Who of the truthful gains by another price, under the paper's payments: by type, rule by which it is paid when
    truthful, and rule by which its best lie is."""
    true = rows[(rows["asked"] == "true cost") & rows["allocation"]]
    gain = "gain_by_price_paper"
    devices = true.groupby(["pool", "type"], sort=False).size()
    found = true[true[gain] > TOLERANCE].groupby(["pool", "type", "rule", "best_rule"], sort=False)[gain].agg(
        ["size", "mean", "max"]).reset_index()
    found["size"] = [f"{100 * n / devices[pool, kind]:.1f}" for n, pool, kind in zip(
        found["size"], found["pool"], found["type"])]
    return found.rename(columns={"rule": "truthful", "best_rule": "lying", "size": "% of them", "mean": "mean_gain",
                                 "max": "largest_gain"})


def examples(rows):
    """A line for each payment and lie: who gains most."""
    true, lines = rows[(rows["asked"] == "true cost") & rows["allocation"]], []
    for payment in PAYMENTS:
        for lie, how in LIES.items():
            gain = true[f"gain_by_{lie}_{payment}"]
            if gain.empty:
                lines.append(f"PAYMENT {payment}: whether bids at true cost gain by {how} is not tested: none of their "
                             "auctions has an allocation.")
            elif gain.max() > TOLERANCE:
                most = true.loc[gain.idxmax()]
                lines.append(f"PAYMENT {payment}: not truthful: by {how}, {most['device']} gains {gain.max():.3f} "
                             f"cents over its true bid ({most['model']}, pool {most['pool']}, seed {most['seed']}).")
            else:
                lines.append(f"PAYMENT {payment}: of the bids at true cost none gains by {how}.")
    return lines


def draw_curves(curves):
    """Draws what a truthful device gains by what it asks, one journal column wide: a row of panels for each pool (those
    of equal curves together), a panel for each payment, a line a model, with its 95 % interval."""
    from matplotlib.figure import Figure
    columns, alike = [key for key in curves if key.startswith("asks_")], {}
    for pool, part in curves.groupby("pool", sort=False):
        alike.setdefault(part[columns].to_numpy().tobytes(), (part, []))[1].append(common.shorten(pool))
    figure, keys = Figure((3.5, 0.75 + 1.5 * len(alike)), dpi=300), {}
    plots = figure.subplots(len(alike), len(PAYMENTS), sharex=True, squeeze=False)
    at = [float(key[len("asks_"):]) for key in columns]
    for row, (part, pools) in zip(plots, alike.values()):
        part = part[part["pool"] == part["pool"].iloc[0]]
        for axes, payment in zip(row, PAYMENTS):
            for k, (model, lines) in enumerate(part[part["payment"] == payment].groupby("model", sort=False)):
                mean, low, high = zip(*map(stats.mean, lines[columns].to_numpy().T))
                colour = (common.BLUE, common.ORANGE, common.RED, common.SKY, "black")[k % 5]
                axes.fill_between(at, low, high, color=colour, alpha=0.25, linewidth=0)
                keys[common.shorten(model)] = axes.plot(
                    at, mean, color=colour, linewidth=1.1, linestyle=("-", "--", ":", "-.")[k % 4],
                    marker="osv^D"[k % 5], markersize=3, markevery=(k, 5))[0]
            axes.axvline(1, color="0.5", linewidth=0.7)
            axes.axhline(0, color="0.5", linewidth=0.7)
            axes.set_title(f"{', '.join(pools)}:\npayment {payment}", fontsize=7.5)
        row[0].set_ylabel("its utility /\ncost of its offer", fontsize=7)
    for axes in plots[-1]:
        axes.set_xlabel("asks / its true cost", fontsize=8)
    figure.align_ylabels(plots[:, 0])
    return common.finish_figure(figure, keys)


# The script -----------------------------------------------------------------------------------------------------------


def draw_all(args):
    """The runs: a row for each device of each auction, and the curves of the figure."""
    pools = [common.find_name(pool, common.POOLS, "pool") for pool in POOLS]
    settings = [(model, pool) for model in common.MODELS for pool in pools]
    for setting in settings:
        common.allocation_case(args.tasks, *setting, args.seed)  # says what is wrong with the list
    alike = {}  # pools of the same devices: of them only the first is run
    first = {pool: alike.setdefault(tuple(row[:2] for row in common.POOLS[pool]), pool) for pool in pools}
    jobs = [(args.tasks, *setting, args.seed + k, asked)
            for setting in settings for asked in ASKED for k in range(args.runs)]
    todo = [job for job in jobs if first[job[2]] == job[2]]
    found = dict(zip((job[1:] for job in todo), parallel(run_case, todo)))
    parts = [[[dict(row, pool=pool) for row in part] for part in found[(model, first[pool], *more)]]
             for _, model, pool, *more in jobs]
    rows, curves = (pd.DataFrame([row for some in part for row in some]) for part in zip(*parts))
    names = ["monotone", "best_rule", *(f"gain_by_{lie}_{payment}" for lie in LIES for payment in PAYMENTS)]
    rows = rows.reindex(columns=[*(key for key in rows if key not in names), *names])
    return tables.as_written(rows), tables.as_written(curves) if len(curves) else None


def read(folder):
    """What draw_all returned, of an earlier run."""
    numbers = [f"{what}_{payment}" for what in ("paid", "utility", *(f"gain_by_{lie}" for lie in LIES))
               for payment in PAYMENTS]
    rows = tables.read_runs(folder, "incentives_runs.csv", ["seed", "budget", "allocation", *numbers],
                            [*KEYS, "asked", "device", "type", "rule", "best_rule", "monotone"])
    if not rows["allocation"].any():
        return rows, None
    return rows, tables.read_runs(folder, "incentives_curves_runs.csv", ["seed"], [*KEYS, "payment"])


def main(name):
    parser = common.make_parser(name, __doc__, tasks=FCIM.tasks, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS)
    args = parser.parse_args()
    rows, curves = tables.get_runs(parser, args, read, draw_all)
    promised, gained, claim, number = promises(rows), gains(rows), claims.of_incentives(rows), rows["seed"].nunique()

    def readable(table, columns, means):
        """Of a table of numbers these columns, the means with half of their intervals, as text."""
        table = table.assign(**{what: [tables.show_mean(*line) for line in table[
            [what, f"{what}_low", f"{what}_high"]].to_numpy()] for what in means})[columns]
        table = table.astype(object).where(table.notna(), "not tested")
        return table.where(table != "n/a", "not tested")

    paid = ["paid_paper", "paid_critical", "extra"]
    shares = [f"share_by_{lie}_{payment}" for lie in LIES for payment in PAYMENTS]
    parts = [f"reproduce.incentives: {rows['model'].nunique()} models, pools {', '.join(rows['pool'].unique())}, "
             f"{number} seeds from {rows['seed'].min()}, prices as drawn or at true cost.\nPayments: the paper's, and "
             "critical (Myerson's rule, ours).\nGain: the most that a device could add to its utility (cents) over its "
             f"true bid, all else equal, by asking\n{min(TIMES):g} to {max(TIMES):g} times its price, or by offering "
             f"{', '.join(map(str, OFFERS))} of its layers at its price and time a layer.\n{tables.legend(number)}",
             ("What the auction promises; cents; extra: the price of truthfulness", readable(promised, [
                 *KEYS, "asked", "auctions", "with_allocation", *(
                     f"{what}_{payment}" for what in ("within_budget", "least_utility") for payment in PAYMENTS),
                 *paid], paid)),
             ("What a truthful device could gain: share of devices that do, largest gain", readable(gained, [
                 *KEYS, *(f"{what}_by_{lie}_{payment}" for lie in LIES for what in ("share", "largest")
                          for payment in PAYMENTS), "not_monotone"], shares))]
    gaining = who_gains(rows)
    if len(gaining):
        parts.append(("Who gains by asking another price, the paper's payments: by which rule it is paid", gaining))
    parts += ["\n".join(examples(rows)),
              "Pools of the same devices give the same auctions, whatever their hosts. Where the offers only just "
              "suffice, every\ndevice is needed and may ask what the budget allows. not monotone: devices that would "
              "win more layers by asking\nmore; then Myerson's payments are not proven truthful. They promise nothing "
              "about offers of fewer layers.",
              ("The claims of paper and thesis, and what is found here", claims.show(claim)), claims.RULES]
    figures = {} if args.no_plot or curves is None else {"": common.try_figure(draw_curves, curves)}
    tables.publish("incentives", args.out, parts, {
        "runs": rows, **({} if curves is None else {"curves_runs": curves}),
        "table": promised.merge(gained, how="left"), "claims": claim}, figures)


if __name__ == "__main__":
    common.run(main, "reproduce.incentives")
