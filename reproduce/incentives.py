"""Incentives of FCIM's auction: winners' utilities, the budget, and what bidders gain by asking or offering otherwise.

    python -m reproduce.incentives
    python -m reproduce.incentives --model BLOOM-176B --runs 10 --also Mine.py

In auctions of bids at true cost each device in turn changes its bid, all else equal, under the payments of FCIM.py, and
under those of FCIM_critical, which are ours. A device's true cost there is its drawn price: so true costs differ within
a type (equal ones flatter an auction). A script of --also has payments of its own, and runs some 600 times a case.
The paper claims that every winner's utility is positive, the thesis truthful bids (sources: reproduce.claims).
"""
import functools
import itertools
import math
import sys

import pandas as pd

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import common
import FCIM
from reproduce import FCIM_critical, stats, study

SEED = 0  # of the first draw
RUNS = 12  # auctions of each model, pool and kind of price
MODELS = ["GPT-Neo 1.3B", "GPT-3 175B", "BLOOM-176B"]  # whose layers are placed: names in common.MODELS
POOLS = ["campus", "cloud", "paper"]  # the devices: names in common.POOLS. Hosts play no part in an auction
PRICES = [*(k / 10 for k in range(3, 31)), 3.5, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30]  # a device asks so many times its
OFFERS = [0.25, 0.5, 0.75]  # price instead; or offers so much of its layers, at its price and time a layer
TIMES = [0.25, 0.5, 0.75, 1.5]  # or promises so many times its time, at its price

KEYS = ["model", "pool"]
DRAWN, TRUE = "as drawn", "true cost"  # the price of every bid: the drawn one, above its cost, or taken as its cost
CRITICAL = "FCIM_critical"
METHODS = {"FCIM": "FCIM", CRITICAL: "reproduce.FCIM_critical"}  # a rule of payment has the name of its script
TOLERANCE = 1e-6  # cents: results are rounded to this
LOOKS = [(common.BLUE, "-", "o"), (common.ORANGE, "--", "s"), (common.RED, ":", "v"), (common.SKY, "-.", "^"),
         ("black", "-", "D")]  # of the models' curves
SHOWN = (0.5, 3)  # times its price between which the figure shows utilities
REMARKS = """\
FCIM_critical (Myerson's rule, ours) is proven truthful only where no device wins more layers by
asking more, and in the price alone: offers of fewer layers, and promises of other times, can pay
under it as under FCIM. A promised time is taken as it is, kept or not."""


# Runs -----------------------------------------------------------------------------------------------------------------
def cases(args):
    settings = study.models_and_pools(args, MODELS, POOLS)
    own = {name: path for name, path in args.methods.items() if name not in METHODS}
    seeds = range(args.seed, args.seed + args.runs)
    return [(args.tasks, *setting, asked, seed, own) for setting, asked, seed
            in itertools.product(settings, (DRAWN, TRUE), seeds)]


def run_case(tasks, model, pool, asked, seed, own):
    """One auction: a row (dict) for each device and rule of payment; at true cost, what each gains by each kind of lie,
    and the curves of the figure (NaN without an allocation). own: {name: script} of the user's."""
    drawn, case, cost = auction_case(tasks, model, pool, asked, seed)
    draw = dict(model=model.name, pool=pool, seed=seed)
    by_rule = winners_by_rule(drawn, case, own)
    rows, gains, lies = [], [], []
    for i, bid in drawn["bids"].iterrows():
        curve = monotone = None
        if asked == TRUE or i in by_rule["FCIM"]:
            curve = FCIM_critical.layers_won(i, case)
            monotone = FCIM_critical.never_grows(curve)
        honest = outcomes(by_rule, case, cost, i, curve)
        for name, found in honest.items():
            rows.append(dict(draw, asked=asked, device=bid["device"], type=bid["type"], algorithm=name,
                             budget=case["most_paid"], **found, monotone=monotone if name == CRITICAL else None))
        if asked == TRUE:
            tried = try_lies(drawn, case, cost, i, own, curve)
            lies.append(tried)
            most = tried.groupby("lie", sort=False)[list(honest)].max()
            for lie, name in itertools.product(most.index, honest):
                gain = max(most.loc[lie, name] - honest[name]["utility"], 0.0)
                gains.append(dict(draw, device=bid["device"], lie=lie, algorithm=name,
                                  gain=gain if honest[name]["allocation"] else math.nan))
    curves = mean_curves(draw, pd.concat(lies), honest) if lies else []
    return rounded(rows, 6), rounded(gains, 6), rounded(curves, 4)


def rounded(rows, digits):
    return pd.DataFrame(rows).round(digits).to_dict("records")


# One auction ----------------------------------------------------------------------------------------------------------
# drawn: that of common.allocation_case; case: the arguments of FCIM.auction, a dict; cost: true cost of a layer of each
# device, cents; winners: {device: (layers, cents paid)}, empty if no allocation exists.
def auction_case(tasks, model, pool, asked, seed):
    """A drawn auction: all of it, its case, the true costs: what the bids ask, or what running them costs."""
    drawn = study.quiet_case(tasks, model, pool, seed)
    bids = drawn["bids"]
    number = len(drawn["tasks"])
    case = FCIM_critical.auction_case(model.layers, bids, number, FCIM.WEIGHTS, FCIM.DELTA, FCIM.BUDGET, FCIM.DEADLINE)
    price = bids["price"] if asked == TRUE else bids["true_cost"]
    per_layer = price / bids["layers"]
    return drawn, case, per_layer.tolist()


def winners_by_rule(drawn, case, own):
    """{rule: its winners}; of FCIM_critical those of FCIM, whose layers are the same."""
    fcim = by_fcim(case)
    return {"FCIM": fcim, CRITICAL: fcim, **{name: by_script(name, path, drawn, case) for name, path in own.items()}}


def outcomes(by_rule, case, cost, i, curve=None):
    """What bid i brings, a dict, by each rule, given its winners: whether an allocation exists, what is paid, the
    utility (cents). curve: of FCIM_critical.layers_won, if it is known."""
    found = {}
    for name, winners in by_rule.items():
        layers, paid = winners.get(i, (0, 0.0))
        if name == CRITICAL and layers:
            layers, paid = by_critical(case, i, curve or FCIM_critical.layers_won(i, case))
        utility = round(paid - cost[i] * layers, 9) + 0.0  # no minus before a zero
        found[name] = dict(allocation=bool(winners), paid=paid, utility=utility)
    return found


def by_fcim(case):
    """The winners by FCIM's payments."""
    try:
        return {won.winner: (won.layers, won.reward) for won in FCIM.auction(**case)}
    except common.NoAllocation:
        return {}


def by_critical(case, i, curve):
    """Layers and cents of winner i by Myerson's rule."""
    price = case["P"][i] / case["l"][i]
    layers = next((n for x, n in curve if x >= price), 0)
    return layers, FCIM_critical.payment(price, layers, curve) if layers else 0.0


def by_script(name, path, drawn, case):
    """The winners by a script of the user's; without a reward a device is paid its price per layer."""
    bids = drawn["bids"].assign(layers=case["l"], price=case["P"], computation_time=case["T"])
    old, new = (table["computation_time"] / table["layers"] for table in (drawn["bids"], bids))
    times = drawn["times"] * (new / old).fillna(1).to_numpy()  # of no computation
    try:
        with study.errors_of(name):
            stages, _ = study.script(path).allocate(**dict(drawn, bids=bids, times=times))
            common.check_stages(stages, bids, drawn["layers"])
    except common.NoAllocation:
        return {}
    shares = common.device_shares(stages, bids, drawn["memory"])
    used = [i for stage in stages for i in stage["devices"]]
    return dict(zip(used, zip(shares["layers"], shares["rewards"])))


def try_lies(drawn, case, cost, i, own, curve):
    """What other bids would bring to i, all else equal: a table with a row for each lie: its kind and how much it
    differs from the true bid, the utility under each rule, and the true cost of the true offer. curve: the layers won
    by the price, of the true bid."""
    l, P, T = case["l"][i], case["P"][i], case["T"][i]
    bids = [("price", k, dict(P=k * P)) for k in PRICES]
    for part in OFFERS:
        n = max(1, int(l * part))
        bids.append(("layers", part, dict(l=n, P=P * n / l, T=T * n / l)))
    bids += [("time", k, dict(T=k * T)) for k in TIMES]

    rows = []
    for lie, much, bid in bids:
        other = FCIM_critical.with_bid(case, i, **bid)
        its_curve = curve if lie == "price" else None  # alike for all of its prices
        found = outcomes(winners_by_rule(drawn, other, own), other, cost, i, its_curve)
        utilities = {name: outcome["utility"] for name, outcome in found.items()}
        rows.append(dict(utilities, lie=lie, much=much, offer=cost[i] * l))
    return pd.DataFrame(rows)


def mean_curves(draw, tried, honest):
    """A row for each rule and price: the devices' mean utility by what one asks, over the true cost of its offer."""
    prices = tried[(tried["lie"] == "price") & tried["much"].between(*SHOWN)]
    rows = []
    for name, found in honest.items():
        shares = prices[name] / prices["offer"].where(prices["offer"] > 0, 1)  # a device may cost nothing
        for asks, mean in shares.groupby(prices["much"]).mean().items():
            rows.append(dict(draw, algorithm=name, asks=asks, utility=mean if found["allocation"] else math.nan))
    return rows


# Tables ---------------------------------------------------------------------------------------------------------------
def report(runs, gains, curves):
    if not runs["allocation"].any():
        raise common.NoAllocation("none of the auctions has an allocation")
    promised = promises(runs)
    gained = gains_of_devices(gains.dropna(subset=["gain"]))  # of the auctions that have one
    parts = [heading(runs), ("promises", "What the auction promises; utilities and payments in cents",
                             with_text(promised.drop(columns="auctions"), ["paid", "extra"]))]
    for name, part in gained.groupby("algorithm", sort=False):
        parts.append((f"gains_{name}", f"{name}: share of truthful devices that could gain, largest gain",
                      with_text(part.drop(columns="algorithm"), ["share"])))
    wins_more = runs.loc[runs["asked"] == TRUE, "monotone"].isin([False]).sum()
    parts.append(f"Devices that would win more layers by asking more: {wins_more}.\n{REMARKS}")
    return parts, {"promises": promised, "gains": gained}, {"": (draw_curves, curves)}


def heading(runs):
    seeds = runs["seed"].nunique()
    offers, times = (", ".join(map(str, values)) for values in (OFFERS, TIMES))
    return (f"reproduce.incentives: {runs['model'].nunique()} models, pools {', '.join(runs['pool'].unique())}, "
            f"{seeds} seeds from {runs['seed'].min()}\n"
            f"Payments: those of {', '.join(runs['algorithm'].unique())}; extra: over those of FCIM.\n"
            "Gain: the most that a device could add to its utility (cents) over its true bid, all else equal, by\n"
            f"asking {min(PRICES):g} to {max(PRICES):g} times its price, by offering {offers} of its layers at its "
            f"price\nand time a layer, or by promising {times} times its time.\n"
            f"{study.legend(seeds, changes=False)}")


def promises(runs):
    """What the auctions promise, a row for each of KEYS and rule of payment: numbers."""
    lines = []
    for (model, pool), every in runs.groupby(KEYS, sort=False):
        part = every[every["allocation"]]
        truthful = part[part["asked"] == TRUE]  # payments are the same, whatever the true cost
        payments = truthful.groupby(["algorithm", "seed"])["paid"].sum()
        for name, of_rule in part.groupby("algorithm", sort=False):
            least = of_rule[of_rule["paid"] > 0].groupby("asked")["utility"].min()
            paid = payments[name]
            is_within = paid <= part["budget"].iloc[0] + TOLERANCE
            extra = (paid - payments.get("FCIM", math.nan)).dropna()
            lines.append({
                "model": model, "pool": pool, "algorithm": name, "auctions": every["seed"].nunique(),
                "with_allocation": len(paid), "within_budget": is_within.mean(),
                "least_utility_as_drawn": least.get(DRAWN), "least_utility_at_true_cost": least.get(TRUE),
                **with_interval("paid", paid), **with_interval("extra", extra)})
    return pd.DataFrame(lines).round(6)


def gains_of_devices(gains):
    """What truthful devices gain, a row for each of KEYS, lie and rule of payment: numbers."""
    lines = []
    for (model, pool, lie, name), part in gains.groupby([*KEYS, "lie", "algorithm"], sort=False):
        shares = (part["gain"] > TOLERANCE).groupby(part["seed"]).mean()
        lines.append(dict(model=model, pool=pool, lie=lie, algorithm=name, **with_interval("share", shares),
                          largest=part["gain"].max()))
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
    table.attrs["keys"] = len(KEYS) + 1  # and the rule of payment, or the lie
    return table


# Figure ---------------------------------------------------------------------------------------------------------------
def draw_curves(curves):
    """Draws what a truthful device gains by what it asks, one journal column wide: a row of panels for each pool, a
    panel for each rule of payment, a line a model, with its 95 % interval."""
    pools, rules = curves["pool"].nunique(), curves["algorithm"].nunique()
    figure = common.new_figure(0.85 + 1.3 * pools)
    plots = figure.subplots(pools, rules, sharex=True, squeeze=False)
    keys = {}
    for axes, ((pool, name), part) in zip(plots.flat, curves.groupby(["pool", "algorithm"], sort=False)):
        keys.update(draw_models(axes, part))
        axes.set_title(f"{common.shorten(pool)}:\n{common.shorten(name)}", fontsize=7.5)
    for axes in plots[:, 0]:
        axes.set_ylabel("its utility /\ncost of its offer", fontsize=7)
    for axes in plots[-1]:
        axes.set_xlabel("asks /\nits true cost")
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
    study.run("incentives", __doc__, cases, run_case, report, RUNS,
              [*KEYS, "seed", "asked", "algorithm", "allocation", "paid", "utility", "monotone"], METHODS,
              more=["gains_runs", "curves_runs"], tasks=FCIM.tasks, seed=SEED, out=study.OUT,
              flags=functools.partial(study.add_model_and_pool, models=MODELS, pools=POOLS))
