"""What FCIM's advantage over HexGen, PipeDream and PipeEdge hangs on: one setting at a time is swept.

    python -m reproduce.sensitivity
    python -m reproduce.sensitivity --set BUDGET=0.1,0.2,2 --set gamma=0.1,0.6

devices: a pool of so many, half of them RTX 4090, half T4, each a host of its own, with the same links and bids in all
sizes but the smallest: there the offers are too few for the model, and are raised until they suffice. The other sweeps
are of campus. T4_COST: what an hour of a T4 costs, in multiples of its electricity. MARGIN: the largest margin; the
smallest is 1.1, or this if it is less. Marks: what the paper claims (S. Habibi, O. Ercetin, IEEE Access 13, 2025).
"""
import functools
import sys
import textwrap
from unittest import mock

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import common
import FCIM
import PipeEdge
from reproduce import allocation, claims, stats, study

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS
POOL = "campus"  # of all sweeps but that of its size: a name in common.POOLS
TYPES = ["RTX 4090", "T4"]  # of the pools of any size: as many of each
SIZES = [6, 8, 10, 12, 16, 24]  # devices
T4_COSTS = [0.33, 1, 1.5, 2, 4, 10]  # of an hour, in multiples of its electricity
MARGINS = [1, 1.3, 1.6, 2.5, 4]  # the largest
LINK_SCALES = [0.1, 0.3, 1, 3, 10]  # s
SEED = 0  # of the first draw
RUNS = 15  # draws of links and bids for each value

SWEEPS = {"devices": SIZES, "T4_COST": T4_COSTS, "MARGIN": MARGINS, "LINK_SCALE": LINK_SCALES}
# What --set sweeps beside these: keywords of FCIM.allocate, one of its weights, and settings of common.
OF_FCIM = ["BUDGET", "DELTA", "DEADLINE"]
WEIGHTS = ["alpha", "beta", "gamma"]
OF_COMMON = ["LINK_SCALE", "HOST_LINK", "ELECTRICITY", "MEMORY_SHARE", "TOKENS_PER_WORD"]
NAMES = list(dict.fromkeys([*SWEEPS, *OF_FCIM, *WEIGHTS, *OF_COMMON]))

METHODS = ["FCIM", "HexGen", "PipeDream", "PipeEdge"]
METRICS = {  # and what they are called in the text
    "communication_time": "time on links", "communication_overhead": "overhead ratio",
    "completion_time": "completion", "total_cost": "cost", "fairness_layers": "fairness (used)",
    "fairness_layers_all": "fairness (all)"}
PANELS = {metric: f"FCIM's change in {name} (%)" for metric, name in METRICS.items() if metric != "fairness_layers"}
KEYS = ["sweep", "value"]
AXES = {"devices": "devices in the pool", "T4_COST": "cost of a T4's hour / its electricity",
        "MARGIN": "largest margin (price / cost)", "LINK_SCALE": "scale of the links (s)"}
CLAIM = "the paper's claim"
CLAIMED = {"communication_time": (claims.OVERHEAD, CLAIM), "communication_overhead": (claims.OVERHEAD, CLAIM),
           "completion_time": (claims.COMPLETION, CLAIM)}  # %

ABOUT = f"""\
One setting is swept at a time; all others are as they are. fairness: Jain's index of layers, over
the devices used or over all that bid. An advantage: the whole interval lies on FCIM's side, against
each of those named. Beyond {PipeEdge.EXACT} devices PipeEdge is a beam search."""


def add_flags(parser):
    parser.add_argument("--set", metavar="NAME=VALUE[,VALUE...]", action="append", default=[],
                        help="sweep this instead (may be given again): "
                        f"{', '.join(NAMES)}; alpha, beta, gamma are FCIM's WEIGHTS, of which the other two stay")


def cases(args):
    model = common.get_model(MODEL)
    common.read_tasks(args.tasks, model, [common.get_device(name) for name in TYPES])  # says what is wrong
    sweeps = dict(map(read_sweep, args.set)) or SWEEPS
    return [(args.tasks, model, name, values, args.seed + k) for name, values in sweeps.items()
            for k in range(args.runs)]


def read_sweep(text):
    """(name, values in rising order) of a --set; UserError says what is wrong with it."""
    name, equals, values = text.partition("=")
    common.require(equals, f"--set {text}: is not NAME=VALUE[,VALUE...]")
    name = common.find_name(name, NAMES, "setting")
    whole = name == "devices"
    values = {common.check_number(value, f"--set {name}", whole, int(whole)) for value in values.split(",")}
    return name, sorted(values)


# One draw -------------------------------------------------------------------------------------------------------------
def run_case(tasks, model, sweep, values, seed):
    """Metrics of the methods at each value of a sweep, on one draw: a list of dicts."""
    others = {name: functools.partial(place_once, name, {}) for name in METHODS[1:]}
    rows = []
    for value in values:
        candidates = {"FCIM": functools.partial(FCIM.allocate, **fcim_settings(sweep, value)), **others}
        draw = dict(model=model.name, sweep=sweep, value=float(value), seed=seed)
        pool, settings = of_common(sweep, value)
        with mock.patch.multiple(common, POOLS={POOL: pool}, **settings):  # which ends with it
            try:
                case = study.quiet_case(tasks, model, POOL, seed)
            except common.NoAllocation as none:  # no device holds a layer
                rows += [dict(draw, algorithm=name, problem=str(none)) for name in METHODS]
                continue
            rows += allocation.measure_all(candidates, case, **draw)
    return rows


def place_once(name, known, **case):
    """What a method finds, remembered in `known` by all that its placement depends on: prices are not of that."""
    key = tuple(case["bids"]["layers"]), case["times"].tobytes(), case["delay"].tobytes()
    if key not in known:
        known[key] = study.script(name).allocate(**case)
    return known[key]


def fcim_settings(sweep, value):
    """Keywords of FCIM.allocate at a value of a sweep."""
    if sweep in OF_FCIM:
        return {sweep.lower(): value}
    return {"weights": [value if name == sweep else usual for name, usual in zip(WEIGHTS, FCIM.WEIGHTS)]}


def of_common(sweep, value):
    """Lines of the pool at a value of a sweep, and what of common's other settings is changed: {name: value}."""
    pool = common.POOLS[POOL]
    if sweep == "devices":
        counts = zip(TYPES, (value - value // 2, value // 2))
        return [(f"{kind} {k + 1}", kind, f"host of {kind} {k + 1}") for kind, count in counts
                for k in range(int(count))], {}
    if sweep == "T4_COST":
        electricity = common.get_device("T4").watts / 1000 * common.ELECTRICITY  # USD/h
        return [(*line[:3], value * electricity) if line[1] == "T4" else line for line in pool], {}
    if sweep == "MARGIN":
        return pool, {"MARGIN": (min(common.MARGIN[0], value), value)}
    return pool, {sweep: value} if sweep in OF_COMMON else {}


# Tables ---------------------------------------------------------------------------------------------------------------
def report(runs):
    shared, failed = study.on_shared_draws(runs, KEYS)
    table = stats.compare(shared, KEYS, "seed", METHODS, METRICS)
    number = runs["seed"].nunique()
    parts = [f"reproduce.sensitivity: {runs['model'][0]}, {number} draws of each value, seeds from {runs['seed'].min()}"
             f"\n{study.legend(number, means=False)}\n{ABOUT}", *failed]
    tried = runs.groupby("sweep")["value"].unique()  # without an allocation there is no advantage either
    for others in (METHODS[1:], ["PipeDream"]):
        parts.append(textwrap.fill(needs(table, others, tried), common.TEXT_WIDTH))
    figures = {}
    for sweep, part in table.groupby("sweep", sort=False):
        text = study.changes(part.assign(metric=part["metric"].map(METRICS)), ["value", "metric"], METHODS)
        parts.append((sweep, f"{sweep}: change of FCIM in % against each", text))
        axis = AXES.get(sweep, sweep)
        log = [axis] if 0 < 8 * part["value"].min() < part["value"].max() else []
        draw = functools.partial(study.draw_lines, log=log, marks=CLAIMED)
        lines = part.drop(columns=study.MEAN).rename(columns={"value": axis, **dict(zip(study.CHANGE, study.MEAN))})
        figures[f"_{sweep}"] = draw, PANELS, axis, METHODS[1:], lines
    return parts, {"table": table}, figures


def needs(table, others, tried):
    """A sentence: at which of the values tried, {sweep: values}, FCIM has an advantage over all the others (names)."""
    rivals = table[table["algorithm"].isin(others)]
    is_fairness = rivals["metric"].str.startswith("fairness")
    is_ahead = (rivals["change_high"] < 0).mask(is_fairness, rivals["change_low"] > 0)
    ahead = is_ahead.groupby([rivals["metric"], rivals["sweep"], rivals["value"]]).all()
    found, nowhere = [], []
    for metric, name in METRICS.items():
        where = [where_ahead(sweep, ahead[metric, sweep].reindex(sorted(tried[sweep]), fill_value=False))
                 for sweep in table["sweep"].unique()]
        if any(where):
            found.append(f"in {name} {', '.join(filter(None, where))}")
        else:
            nowhere.append(name)
    if nowhere:
        found.append(f"in {', '.join(nowhere)} there is none")
    return f"What an advantage of FCIM over {', '.join(others)} needs: {'; '.join(found)}."


def where_ahead(sweep, ahead):
    """Text of the values at which it is so, of a series of truth values by value, in rising order; "" of none."""
    values = ahead.index[ahead]
    if not len(values):
        return ""
    if ahead.all():
        return f"any {sweep}"
    if len(values) > 1 and ahead.loc[values[0]:values[-1]].all():
        return f"{sweep} {values[0]:g} to {values[-1]:g}"
    return f"{sweep} {' or '.join(map(study.show_setting, values))}"


if __name__ == "__main__":
    study.run("sensitivity", __doc__, cases, run_case, report, RUNS, ["model", *KEYS, "seed", "problem", *METRICS],
              flags=add_flags, tasks=FCIM.tasks, seed=SEED, out=study.OUT)
