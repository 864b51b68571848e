"""Incentives of FCIM's auction: winners' utilities, the budget, and what bidders gain by asking or offering otherwise.

    python -m reproduce.incentives
    python -m reproduce.incentives --runs 100 --tasks my_tasks.csv

The paper claims that every winner's utility is positive; the thesis speaks of truthful participation (S. Habibi, O.
Ercetin, IEEE Access 13, 2025; S. Habibi, Sabanci University, 2025). In auctions of bids at true cost each device in
turn changes its bid, all else equal, under the paper's payments and under those of FCIM_critical, which are ours. What
a device's true cost is there is its drawn price: so true costs differ within a type (equal ones flatter an auction).
"""
import itertools
import math
import pathlib
import sys

import pandas as pd

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common
import FCIM
from reproduce import FCIM_critical, stats, study

SEED = 0  # of the first draw
RUNS = 30  # auctions of each model, pool and kind of price
OUT = "results"  # where the files go
MODELS = ["GPT-Neo 1.3B", "GPT-3 175B", "BLOOM-176B"]  # whose layers are placed: names in common.MODELS
POOLS = ["campus", "cloud", "paper"]  # the devices: names in common.POOLS. Hosts play no part in an auction
PRICES = [*(k / 10 for k in range(3, 31)), 3.5, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30]  # a device asks so many times its
OFFERS = [0.25, 0.5, 0.75]  # price instead; or offers so much of its layers, at its price and time a layer
TIMES = [0.25, 0.5, 0.75, 1.5]  # or promises so many times its time, at its price

KEYS = ["model", "pool"]
DRAWN, TRUE = "as drawn", "true cost"  # the price of every bid: the drawn one, above its cost, or taken as its cost
PAYMENTS = ["paper", "critical"]
LIES = ["price", "layers", "time"]  # asking another price, offering fewer layers, promising another time
NOTHING = dict(layers=0, paid=0.0, utility=0.0)  # the outcome for who wins no layers
TOLERANCE = 1e-6  # cents: results are rounded to this
LOOKS = [(common.BLUE, "-", "o"), (common.ORANGE, "--", "s"), (common.RED, ":", "v"), (common.SKY, "-.", "^"),
         ("black", "-", "D")]  # of the models' curves
SHOWN = (0.5, 3)  # times its price between which the figure shows utilities
REMARKS = """\
Critical payments are proven truthful only where no device wins more layers by asking more, and in
the price alone: offers of fewer layers, and promises of other times, can pay under them as under
the paper's. A promised time is taken as it is, kept or not. Where the offers only just suffice,
every device is needed and may ask what the budget allows."""


# Runs -----------------------------------------------------------------------------------------------------------------
def cases(args):
    models = [common.get_model(name) for name in MODELS]
    for model, pool in itertools.product(models, POOLS):
        common.allocation_case(args.tasks, model, pool, args.seed)  # says what is wrong with the list
    seeds = range(args.seed, args.seed + args.runs)
    return [(args.tasks, *case) for case in itertools.product(models, POOLS, (DRAWN, TRUE), seeds)]


def run_case(tasks, model, pool, asked, seed):
    """One auction: a row (dict) for each device; and, at true cost, what each gains by each kind of lie under each
    payment, and the curves of the figure. Without an allocation these are NaN."""
    case, bids, cost = auction_case(tasks, model, pool, asked, seed)
    draw = dict(model=model.name, pool=pool, seed=seed)
    honest = by_paper(case, cost)
    rows, gains, lies = [], [], []
    for i, (device, kind) in enumerate(zip(bids["device"], bids["type"])):
        own = honest.get(i, NOTHING)
        row = dict(draw, asked=asked, device=device, type=kind, budget=case["most_paid"], allocation=bool(honest))
        row.update(paid_paper=own["paid"], utility_paper=own["utility"], paid_critical=0.0, utility_critical=0.0,
                   monotone=None)
        rows.append(row)
        if asked == TRUE or i in honest:
            curve = FCIM_critical.layers_won(i, case)
            row["paid_critical"], row["utility_critical"] = by_critical(case, cost, i, curve)
            row["monotone"] = FCIM_critical.never_grows(curve)
        if asked == TRUE:
            tried = try_lies(case, cost, i, curve)
            lies.append(tried)
            for lie, payment in itertools.product(LIES, PAYMENTS):
                most = tried.loc[tried["lie"] == lie, payment].max()
                gain = max(most - row[f"utility_{payment}"], 0.0) if honest else math.nan
                gains.append(dict(draw, device=device, lie=lie, payment=payment, gain=gain))
    curves = mean_curves(draw, pd.concat(lies), bool(honest)) if lies else []
    return rounded(rows, 6), rounded(gains, 6), rounded(curves, 4)


def rounded(rows, digits):
    return pd.DataFrame(rows).round(digits).to_dict("records")


# One auction ----------------------------------------------------------------------------------------------------------
# case: the arguments of FCIM.auction, a dict; cost: true cost of a layer of each device, cents. An outcome: the layers
# that a device wins, what it is paid and its utility (cents).
def auction_case(tasks, model, pool, asked, seed):
    """A drawn auction: its case, its bids (table), the true costs: what the bids ask, or what running them costs."""
    drawn = study.quiet_case(tasks, model, pool, seed)
    bids = drawn["bids"]
    number = len(drawn["tasks"])
    case = FCIM_critical.auction_case(model.layers, bids, number, FCIM.WEIGHTS, FCIM.DELTA, FCIM.BUDGET, FCIM.DEADLINE)
    cost = bids["price"] if asked == TRUE else bids["true_cost"]
    per_layer = cost / bids["layers"]
    return case, bids, per_layer.tolist()


def by_paper(case, cost):
    """{winner: its outcome by the paper's payments}; empty if no allocation exists."""
    try:
        rounds = FCIM.auction(**case)
    except common.NoAllocation:
        return {}
    outcomes = {}
    for won in rounds:
        utility = round(won.reward - cost[won.winner] * won.layers, 9) + 0.0  # no minus before a zero
        outcomes[won.winner] = dict(layers=won.layers, paid=won.reward, utility=utility)
    return outcomes


def by_critical(case, cost, i, curve):
    """What i is paid by Myerson's rule, and its utility. curve: of FCIM_critical.layers_won."""
    price = FCIM_critical.price_of(case, i)
    from_price = [n for x, n in curve if x >= price]
    if not from_price or from_price[0] == 0:
        return 0.0, 0.0
    paid = FCIM_critical.payment(price, from_price[0], curve)
    return paid, paid - cost[i] * from_price[0]


def try_lies(case, cost, i, curve):
    """What other bids would bring to i, all else equal: a table with a row for each lie: its kind and how much it
    differs from the true bid, the utility under both payments, and the true cost of the true offer. curve: the layers
    won by the price, of the true bid."""
    l, P, T = case["l"][i], case["P"][i], case["T"][i]
    bids = [("price", k, dict(P=k * P)) for k in PRICES]
    for part in OFFERS:
        n = max(1, int(l * part))
        bids.append(("layers", part, dict(l=n, P=P * n / l, T=T * n / l)))
    bids += [("time", k, dict(T=k * T)) for k in TIMES]

    rows = []
    for lie, much, bid in bids:
        other = FCIM_critical.with_bid(case, i, **bid)
        paper = by_paper(other, cost).get(i, NOTHING)
        critical = 0.0
        if paper["layers"]:  # the layers won are the same under both payments
            its_curve = curve if lie == "price" else FCIM_critical.layers_won(i, other)  # alike for all of its prices
            _, critical = by_critical(other, cost, i, its_curve)
        rows.append(dict(lie=lie, much=much, paper=paper["utility"], critical=critical, offer=cost[i] * l))
    return pd.DataFrame(rows)


def mean_curves(draw, tried, has_allocation):
    """A row for each payment and price: the devices' mean utility by what one asks, over the true cost of its offer."""
    prices = tried[(tried["lie"] == "price") & tried["much"].between(*SHOWN)]
    rows = []
    for payment in PAYMENTS:
        shares = prices[payment] / prices["offer"].where(prices["offer"] > 0, 1)
        for asks, mean in shares.groupby(prices["much"]).mean().items():
            rows.append(dict(draw, payment=payment, asks=asks, utility=mean if has_allocation else math.nan))
    return rows


# Tables ---------------------------------------------------------------------------------------------------------------
def report(runs, gains, curves):
    if not runs["allocation"].any():
        raise common.NoAllocation("none of the auctions has an allocation")
    gains = gains.dropna(subset=["gain"])  # of the auctions that have one
    promised = promises(runs)
    gained = gains_of_devices(gains)
    parts = [heading(runs), ("promises", "What the auction promises; utilities and payments in cents",
                             with_text(promised, ["paid", "extra"]).drop(columns="auctions"))]
    for payment, part in gained.groupby("payment", sort=False):
        parts.append((f"gains_{payment}", f"Payment {payment}: share of truthful devices that could gain, largest gain",
                      with_text(part, ["share"]).drop(columns="payment")))
    wins_more = runs.loc[runs["asked"] == TRUE, "monotone"].isin([False]).sum()
    parts.append(f"Devices that would win more layers by asking more: {wins_more}.\n{REMARKS}")
    most = gains.loc[gains.groupby(["payment", "lie"], sort=False)["gain"].idxmax()]
    most = most[most["gain"] > TOLERANCE]
    if len(most):
        parts.append(("most", "Who gains most by each kind of lie", most))
    return parts, {"promises": promised, "gains": gained}, {"": (draw_curves, curves)}


def heading(runs):
    seeds = runs["seed"].nunique()
    offers, times = (", ".join(map(str, values)) for values in (OFFERS, TIMES))
    return (f"reproduce.incentives: {runs['model'].nunique()} models, pools {', '.join(runs['pool'].unique())}, "
            f"{seeds} seeds from {runs['seed'].min()}\n"
            "Payments: the paper's, and critical (Myerson's rule, ours); extra: over the paper's.\n"
            "Gain: the most that a device could add to its utility (cents) over its true bid, all else equal, by\n"
            f"asking {min(PRICES):g} to {max(PRICES):g} times its price, by offering {offers} of its layers at its "
            f"price\nand time a layer, or by promising {times} times its time.\n{study.legend(seeds)}")


def promises(runs):
    """What the auctions promise, a row for each of KEYS and payment: numbers, NaN where none has an allocation."""
    lines = []
    for setting, every in runs.groupby(KEYS, sort=False):
        part = every[every["allocation"]]
        won = part[part["paid_paper"] > 0].groupby("asked")
        auctions = part[part["asked"] == TRUE].groupby("seed")  # payments are the same, whatever the true cost
        budget = auctions["budget"].first()
        for payment in PAYMENTS:
            least = won[f"utility_{payment}"].min()
            paid = auctions[f"paid_{payment}"].sum()
            extra = paid - auctions["paid_paper"].sum()
            lines.append({
                **dict(zip(KEYS, setting)), "payment": payment, "auctions": every["seed"].nunique(),
                "with_allocation": len(paid), "within_budget": (paid <= budget + TOLERANCE).mean(),
                "least_utility_as_drawn": least.get(DRAWN), "least_utility_at_true_cost": least.get(TRUE),
                **with_interval("paid", paid), **with_interval("extra", extra)})
    return pd.DataFrame(lines).round(6)


def gains_of_devices(gains):
    """What truthful devices gain, a row for each of KEYS, lie and payment: numbers."""
    lines = []
    for setting, part in gains.groupby([*KEYS, "lie", "payment"], sort=False):
        shares = (part["gain"] > TOLERANCE).groupby(part["seed"]).mean()
        lines.append({**dict(zip([*KEYS, "lie", "payment"], setting)), **with_interval("share", shares),
                      "largest": part["gain"].max()})
    return pd.DataFrame(lines).round(6)


def with_interval(what, values):
    """Cells of a table: the mean of the values, a value an auction, and its 95 % interval."""
    mean, low, high = stats.mean(values.to_numpy())
    return {what: mean, f"{what}_low": low, f"{what}_high": high}


def with_text(table, means):
    """The table with these means as text, half of their intervals beside them."""
    for what in means:
        ends = [f"{what}_low", f"{what}_high"]
        cells = [study.show_mean(*values) for values in table[[what, *ends]].to_numpy()]
        table = table.assign(**{what: cells}).drop(columns=ends)
    return table


# Figure ---------------------------------------------------------------------------------------------------------------
def draw_curves(curves):
    """Draws what a truthful device gains by what it asks, one journal column wide: a row of panels for each pool, a
    panel for each payment, a line a model, with its 95 % interval."""
    pools = curves["pool"].unique()
    figure = common.new_figure(0.75 + 1.5 * len(pools))
    keys = {}
    plots = figure.subplots(len(pools), len(PAYMENTS), sharex=True, squeeze=False)
    for row, pool in zip(plots, pools):
        for axes, payment in zip(row, PAYMENTS):
            part = curves[(curves["pool"] == pool) & (curves["payment"] == payment)]
            keys.update(draw_models(axes, part))
            axes.set_title(f"{common.shorten(pool)}:\npayment {payment}", fontsize=7.5)
        row[0].set_ylabel("its utility /\ncost of its offer", fontsize=7)
    for axes in plots[-1]:
        axes.set_xlabel("asks / its true cost")
    figure.align_ylabels(plots[:, 0])
    return common.finish_figure(figure, keys)


def draw_models(axes, curves):
    """Draws a line a model, with its 95 % interval. Returns its legend."""
    keys = {}
    for k, (model, part) in enumerate(curves.groupby("model", sort=False)):
        colour, style, marker = LOOKS[k % len(LOOKS)]
        by_price = part.groupby("asks")["utility"]
        asks = list(by_price.groups)
        mean, low, high = zip(*(stats.mean(values.dropna().to_numpy()) for _, values in by_price))
        axes.fill_between(asks, low, high, color=colour, alpha=0.25, linewidth=0)
        keys[common.shorten(model)], = axes.plot(asks, mean, color=colour, linestyle=style, marker=marker,
                                                 linewidth=1.1, markersize=3, markevery=(k, 5))
    axes.axvline(1, color="0.5", linewidth=0.7)
    axes.axhline(0, color="0.5", linewidth=0.7)
    return keys


if __name__ == "__main__":
    study.run("incentives", __doc__, cases, run_case, report, RUNS, [*KEYS, "seed", "allocation", "monotone"],
              more=["gains_runs", "curves_runs"], tasks=FCIM.tasks, seed=SEED, out=OUT)
