"""Incentives of FCIM's auction: winners' utilities, the budget, and what bidders gain by asking or offering otherwise.

    python -m reproduce.incentives
    python -m reproduce.incentives --runs 100 --tasks my_tasks.csv

The paper claims that every winner's utility is positive; the thesis speaks of truthful participation (S. Habibi, O.
Ercetin, IEEE Access 13, 2025; S. Habibi, Sabanci University, 2025). In auctions of bids at true cost each device in
turn changes its bid, all else equal, under the paper's payments and under those of FCIM_critical, which are ours. What
a device's true cost is there is its drawn price: so true costs differ within a type (equal ones flatter an auction).
"""
import itertools
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import pandas as pd

import common
import FCIM
from reproduce import FCIM_critical, claims, stats, tables
from reproduce.parallel import parallel

SEED = 0  # of the first draw
RUNS = 30  # auctions of each model, pool and kind of price
OUT = "results"  # where the files go
MODELS = ["GPT-Neo 1.3B", "GPT-3 175B", "BLOOM-176B"]  # whose layers are placed: names in common.MODELS, or folders
POOLS = ["campus", "paper"]  # the devices: names in common.POOLS. Hosts play no part in an auction
PRICES = [*(k / 10 for k in range(3, 31)), 3.5, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30]  # a device asks so many times its
OFFERS = [0.25, 0.5, 0.75]  # price instead; or offers so much of its layers, at its price and time a layer
TIMES = [0.25, 0.5, 0.75, 1.5]  # or promises so many times its time, at its price

KEYS = ["model", "pool"]
DRAWN, TRUE = "as drawn", "true cost"  # the price of every bid: the drawn one, above its cost, or taken as its cost
PAYMENTS = ["paper", "critical"]
LIES = {"price": "asking another price", "layers": "offering fewer layers", "time": "promising another time"}
LONE, WHOLE, PART, LOSES = "lone bid: as asked", "all it offers: as asked", "a part: second price", "wins nothing"
NOTHING = dict(layers=0, paid=0.0, utility=0.0, rule=LOSES)  # the outcome for who wins no layers
TOLERANCE = 1e-6  # cents: results are rounded to this
LOOKS = [dict(color=common.BLUE, linestyle="-", marker="o"), dict(color=common.ORANGE, linestyle="--", marker="s"),
         dict(color=common.RED, linestyle=":", marker="v"), dict(color=common.SKY, linestyle="-.", marker="^"),
         dict(color="black", linestyle="-", marker="D")]  # of the models' curves
SHOWN = (0.5, 3)  # times its price between which the figure shows utilities
GAINS = [f"gain_by_{lie}_{payment}" for lie in LIES for payment in PAYMENTS]
OUTCOMES = ["paid_paper", "utility_paper", "paid_critical", "utility_critical"]
COLUMNS = [*KEYS, "seed", "asked", "device", "type", "budget", "allocation", "rule", *OUTCOMES, "monotone", "best_rule",
           *GAINS]


def main(name):
    parser = common.make_parser(name, __doc__, tasks=FCIM.tasks, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS)
    args = parser.parse_args()

    rows, curves = tables.get_runs(parser, args, read, draw_all)
    promised = promises(rows)
    gained = gains(rows)
    gaining = who_gains(rows)
    claimed = claims.of_incentives(rows)

    parts = [heading(rows),
             ("What the auction promises; cents; extra: the price of truthfulness", show_promises(promised)),
             ("What a truthful device could gain: share of devices that do, largest gain", show_gains(gained))]
    if len(gaining):
        parts.append(("Who gains by asking another price, the paper's payments: by which rule it is paid", gaining))
    parts += ["\n".join(examples(rows)), REMARKS,
              ("The claims of paper and thesis, and what is found here", claims.show(claimed)), claims.RULES]

    files = {"runs": rows, "table": promised.merge(gained, how="left"), "claims": claimed}
    figures = {}
    if curves is not None:
        files["curves_runs"] = curves
        if not args.no_plot:
            figures[""] = common.try_figure(draw_curves, curves)
    tables.publish("incentives", args.out, parts, files, figures)


# Runs -----------------------------------------------------------------------------------------------------------------


def draw_all(args):
    """The runs: a row for each device of each auction, and the curves of the figure."""
    models = [common.get_model(name) for name in MODELS]
    pools = [common.find_name(pool, common.POOLS, "pool") for pool in POOLS]
    for model, pool in itertools.product(models, pools):
        common.allocation_case(args.tasks, model, pool, args.seed)  # says what is wrong with the list

    seeds = range(args.seed, args.seed + args.runs)
    jobs = [(args.tasks, *case) for case in itertools.product(models, pools, (DRAWN, TRUE), seeds)]
    rows, curves = [], []
    for its_rows, its_curves in parallel(run_case, jobs):
        rows += its_rows
        curves += its_curves
    return as_tables(rows, curves)


def as_tables(rows, curves):
    """Rows of run_case as tables; without an allocation there are no curves."""
    rows = tables.as_written(pd.DataFrame(rows, columns=COLUMNS).round(6))
    if not curves:
        return rows, None
    return rows, tables.as_written(pd.DataFrame(curves).round(4))


def read(folder):
    """What draw_all returned, of an earlier run."""
    numbers = ["seed", "budget", "allocation", *OUTCOMES, *GAINS]
    texts = [*KEYS, "asked", "device", "type", "rule", "best_rule", "monotone"]
    rows = tables.read_runs(folder, "incentives_runs.csv", numbers, texts)
    if not rows["allocation"].any():
        return rows, None
    return rows, tables.read_runs(folder, "incentives_curves_runs.csv", ["seed"], [*KEYS, "payment"])


# One auction ----------------------------------------------------------------------------------------------------------
# case: the arguments of FCIM.auction, a dict; cost: true cost of a layer of each device, cents. An outcome: the layers
# that a device wins, what it is paid and its utility (cents), and the rule by which it is paid.


def run_case(tasks, model, pool, asked, seed):
    """One auction: a row (dict) for each device; and, at true cost, one for each payment: what a device's utility is in
    the mean by what it asks, over the true cost of its offer."""
    case, bids, cost = auction_case(tasks, model, pool, asked, seed)
    draw = dict(model=model.name, pool=pool, seed=seed)
    honest = by_paper(case, cost)
    rows, lies = [], []
    for i, (device, kind) in enumerate(zip(bids["device"], bids["type"])):
        row = dict(draw, asked=asked, device=device, type=kind, budget=case["most_paid"], allocation=bool(honest))
        rows.append(row)

        own = honest.get(i, NOTHING)
        row["rule"] = own["rule"] if honest else ""
        row["paid_paper"] = own["paid"]
        row["utility_paper"] = own["utility"]
        row["paid_critical"] = row["utility_critical"] = 0.0
        is_tested = bool(honest) and asked == TRUE
        if is_tested or i in honest:
            curve = FCIM_critical.layers_won(i, case)
            row["paid_critical"], row["utility_critical"] = by_critical(case, cost, i, curve)
            row["monotone"] = FCIM_critical.never_grows(curve)
        if is_tested:
            lies += [dict(lie, device=device) for lie in try_lies(case, cost, i, curve)]
    if not lies:
        return rows, []
    lies = pd.DataFrame(lies)
    return with_gains(rows, lies), mean_curves(draw, lies)


def auction_case(tasks, model, pool, asked, seed):
    """A drawn auction: its case, its bids (table), the true costs: what the bids ask, or what running them costs."""
    drawn = tables.quiet_case(tasks, model, pool, seed)
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
        if len(won.ranked) == 1:
            rule = LONE
        elif won.layers == case["l"][won.winner]:
            rule = WHOLE
        else:
            rule = PART
        utility = round(won.reward - cost[won.winner] * won.layers, 9) + 0.0  # no minus before a zero
        outcomes[won.winner] = dict(layers=won.layers, paid=won.reward, utility=utility, rule=rule)
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
    """What other bids would bring to i, all else equal: a row (dict) a lie: its kind and how much it differs from the
    true bid, the utility under both payments, the rule of the paper's, and the true cost of the true offer. curve: the
    layers won by the price, of the true bid."""
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
        rows.append(dict(lie=lie, much=much, paper=paper["utility"], critical=critical, rule=paper["rule"],
                         offer=cost[i] * l))
    return rows


def with_gains(rows, lies):
    """The rows of truthful devices with the most that each would gain by each kind of lie, and the rule by which its
    best price is paid. lies: table of the rows of try_lies, with their devices."""
    rows = pd.DataFrame(rows).set_index("device")
    for lie, payment in itertools.product(LIES, PAYMENTS):
        of_lie = lies[lies["lie"] == lie]
        gain = of_lie.groupby("device")[payment].max() - rows[f"utility_{payment}"]
        rows[f"gain_by_{lie}_{payment}"] = gain.clip(lower=0)
    prices = lies[lies["lie"] == "price"]
    best = prices.groupby("device")["paper"].idxmax()  # the first of equal ones
    rows["best_rule"] = prices.loc[best].set_index("device")["rule"]
    return rows.reset_index().to_dict("records")


def mean_curves(draw, lies):
    """A row for each payment: the devices' mean utility by the price that one asks, over the true cost of its offer."""
    prices = lies[(lies["lie"] == "price") & lies["much"].between(*SHOWN)]
    rows = []
    for payment in PAYMENTS:
        shares = prices[payment] / prices["offer"].where(prices["offer"] > 0, 1)
        means = shares.groupby(prices["much"]).mean()
        row = dict(draw, payment=payment)
        row.update({f"asks_{much:g}": mean for much, mean in means.items()})
        rows.append(row)
    return rows


# Tables ---------------------------------------------------------------------------------------------------------------


def promises(rows):
    """What the auctions promise, by KEYS and kind of price: numbers, NaN where none has an allocation."""
    lines = []
    for setting, every in rows.groupby([*KEYS, "asked"], sort=False):
        part = every[every["allocation"]]
        won = part[part["paid_paper"] > 0]
        auctions = part.groupby("seed")
        paid = auctions[["paid_paper", "paid_critical"]].sum()
        budget = auctions["budget"].first()
        line = dict(zip([*KEYS, "asked"], setting))
        line["auctions"] = every["seed"].nunique()
        line["with_allocation"] = len(paid)
        for payment in PAYMENTS:
            line[f"within_budget_{payment}"] = (paid[f"paid_{payment}"] <= budget + TOLERANCE).mean()
            line[f"least_utility_{payment}"] = won[f"utility_{payment}"].min()
        line.update(with_interval("paid_paper", paid["paid_paper"]))
        line.update(with_interval("paid_critical", paid["paid_critical"]))
        line.update(with_interval("extra", paid["paid_critical"] - paid["paid_paper"]))
        lines.append(line)
    return pd.DataFrame(lines).round(6)


def with_interval(what, values):
    """Cells of a table: the mean of the values, a value an auction, and its 95 % interval."""
    mean, low, high = stats.mean(values.to_numpy())
    return {what: mean, f"{what}_low": low, f"{what}_high": high}


def truthful(rows):
    """The rows of the auctions in which lies are tried."""
    return rows[(rows["asked"] == TRUE) & rows["allocation"]]


def gains(rows):
    """What truthful devices gain by lies, a row for each of KEYS: numbers; NaN where no auction has an allocation."""
    lines = []
    for setting, every in rows[rows["asked"] == TRUE].groupby(KEYS, sort=False):
        part = truthful(every)
        line = dict(zip(KEYS, setting))
        for lie, payment in itertools.product(LIES, PAYMENTS):
            gain = part[f"gain_by_{lie}_{payment}"]
            is_gain = gain > TOLERANCE
            line.update(with_interval(f"share_by_{lie}_{payment}", is_gain.groupby(part["seed"]).mean()))
            line[f"largest_by_{lie}_{payment}"] = gain.max()
        line["not_monotone"] = (~part["monotone"].astype(bool)).sum()
        lines.append(line)
    return pd.DataFrame(lines).round(6)


def who_gains(rows):
    """Who of the truthful gains by another price, under the paper's payments: by type, rule by which it is paid when
    truthful, and rule by which its best lie is."""
    true = truthful(rows)
    gain = "gain_by_price_paper"
    devices = true.groupby(["pool", "type"]).size()
    gaining = true[true[gain] > TOLERANCE]
    lines = []
    for setting, part in gaining.groupby(["pool", "type", "rule", "best_rule"], sort=False):
        line = dict(zip(["pool", "type", "truthful", "lying"], setting))
        share = len(part) / devices[line["pool"], line["type"]]
        line["% of them"] = f"{100 * share:.1f}"
        line["mean_gain"] = part[gain].mean()
        line["largest_gain"] = part[gain].max()
        lines.append(line)
    return pd.DataFrame(lines)


# Text and figure ------------------------------------------------------------------------------------------------------

REMARKS = """\
Where the offers only just suffice, every device is needed and may ask what the budget allows. not monotone: devices
that would win more layers by asking more; then Myerson's payments are not proven truthful. They make the price alone
truthful: offers of fewer layers, and promises of other times, can pay under them as under the paper's. A promised time
is taken as it is, kept or not."""


def heading(rows):
    seeds = rows["seed"].nunique()
    offers, times = (", ".join(map(str, values)) for values in (OFFERS, TIMES))
    return (f"reproduce.incentives: {rows['model'].nunique()} models, pools {', '.join(rows['pool'].unique())}, "
            f"{seeds} seeds from {rows['seed'].min()}, prices as drawn, or taken as the true costs.\n"
            "Payments: the paper's, and critical (Myerson's rule, ours).\n"
            "Gain: the most that a device could add to its utility (cents) over its true bid, all else equal, by "
            f"asking\n{min(PRICES):g} to {max(PRICES):g} times its price, by offering {offers} of its layers at its "
            f"price and time a layer,\nor by promising {times} times its time.\n{tables.legend(seeds)}")


def show_promises(table):
    numbers = ["within_budget_paper", "within_budget_critical", "least_utility_paper", "least_utility_critical"]
    means = ["paid_paper", "paid_critical", "extra"]
    return show(table, [*KEYS, "asked", "auctions", "with_allocation", *numbers, *means], means)


def show_gains(table):
    columns, shares = [*KEYS], []
    for lie in LIES:
        of_lie = [f"share_by_{lie}_{payment}" for payment in PAYMENTS]
        shares += of_lie
        columns += [*of_lie, *(f"largest_by_{lie}_{payment}" for payment in PAYMENTS)]
    return show(table, [*columns, "not_monotone"], shares)


def show(table, columns, means):
    """Of a table of numbers these columns as text, the means with half of their intervals."""
    texts = table[columns].astype(object)
    for what in means:
        cells = zip(table[what], table[f"{what}_low"], table[f"{what}_high"])
        texts[what] = [tables.show_mean(*cell) for cell in cells]
    return texts.where(table[columns].notna(), "not tested")


def examples(rows):
    """A line for each payment and lie: who gains most."""
    true = truthful(rows)
    lines = []
    for payment, lie in itertools.product(PAYMENTS, LIES):
        gain = true[f"gain_by_{lie}_{payment}"]
        if gain.empty:
            lines.append(f"Payment {payment}: whether bids at true cost gain by {LIES[lie]} is not tested: none of "
                         "their auctions has an allocation.")
        elif gain.max() > TOLERANCE:
            most = true.loc[gain.idxmax()]
            lines.append(f"Payment {payment}: not truthful: by {LIES[lie]}, {most['device']} gains {gain.max():.3f} "
                         f"cents over its true bid ({most['model']}, pool {most['pool']}, seed {most['seed']}).")
        else:
            lines.append(f"Payment {payment}: of the bids at true cost none gains by {LIES[lie]}.")
    return lines


def draw_curves(curves):
    """Draws what a truthful device gains by what it asks, one journal column wide: a row of panels for each pool, a
    panel for each payment, a line a model, with its 95 % interval."""
    from matplotlib.figure import Figure
    pools = curves["pool"].unique()
    figure = Figure((3.5, 0.75 + 1.5 * len(pools)), dpi=300)
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
    columns = [key for key in curves if key.startswith("asks_")]
    at = [float(key[len("asks_"):]) for key in columns]
    keys = {}
    for k, (model, lines) in enumerate(curves.groupby("model", sort=False)):
        look = LOOKS[k % len(LOOKS)]
        intervals = [stats.mean(lines[key].to_numpy()) for key in columns]
        mean, low, high = zip(*intervals)
        axes.fill_between(at, low, high, color=look["color"], alpha=0.25, linewidth=0)
        keys[common.shorten(model)], = axes.plot(at, mean, **look, linewidth=1.1, markersize=3, markevery=(k, 5))
    axes.axvline(1, color="0.5", linewidth=0.7)
    axes.axhline(0, color="0.5", linewidth=0.7)
    return keys


if __name__ == "__main__":
    common.run(main, "reproduce.incentives")
