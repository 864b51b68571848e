"""The paper's comparison as its published scripts make it: their FCIM, "HexGen", "PipeDream" and "PipeEdge".

    python -m reproduce.published
    python -m reproduce.published --model "GPT-3 175B" --pool campus --runs 10

What the authors' published scripts call by these names are not those systems, and each counts its links by a rule of
its own. Here they are written from their description, on our bids and links, with their own counts, and beside them the
FCIM of this project. l: layers offered, T and P: time and price of the offer, L: layers of the model; bids stand in
listing order.

FCIM: in each round the scores are min-max normalized over all bids left, valid or not; price and time of a bid must be
    within the whole BUDGET and DEADLINE, whatever was paid before. Links: between winners, and from the last to the
    client.
HexGen: a genetic algorithm over layer counts, without tensor parallelism. 50 random counts; fitness: computation and,
    of each device used but the first of the listing, its link to the one listed before it, used or not. The better half
    is paired, two children a pair; so the population halves each time and is empty after five of its hundred
    generations, where the script fails: the best of the last that is not empty is taken. Random counts are drawn until
    they add up to L, which never ends where the offers just suffice: after 200 draws they are filled at random here.
    Links: of each device used to the client.
PipeDream: int(L l / sum of l) layers each, and what is left to the last, even beyond its offer. Links: from the client
    to the first, and between devices. Its latency is that of 10 micro-batches.
PipeEdge: by dynamic programming over devices and layers, in listing order, the least maximum of T n / l + the link to
    the first device + the link to the client. Devices of no layers before the first one used cost nothing; later ones
    stay in its list, and count. Links: between those listed, and from the last to the client.
"""
import functools
import sys

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import numpy as np

import common
import FCIM
from reproduce import stats, study

MODELS = ["GPT-Neo 1.3B", "GPT-3 175B", "BLOOM-176B"]  # whose layers are placed: names in common.MODELS
POOLS = ["campus", "cloud", "paper"]  # the devices: names in common.POOLS
SEED = 0  # of the first draw
RUNS = 30  # draws of links and bids for each model and pool
MICRO_BATCHES = 10  # of PipeDream
POPULATION, GENERATIONS, MUTATION, TRIES = 50, 100, 0.1, 200  # of HexGen; TRIES: ours

OURS = "FCIM (ours)"
COMPARED = {"time_on_links": "s", "overhead_ratio": "", "computation_time": "s", "both_times": "s",
            "fairness_layers": "", "fairness_rewards": "", "one_count_links": "s", "one_count_ratio": "",
            "one_count_both": "s"}
METRICS = {**COMPARED, "latency": "s", "devices": "", "beyond_offer": "layers"}
PANELS = {"time_on_links": "links (s)", "both_times": "links + com-\nputation (s)", "overhead_ratio": "overhead\n(0-1)",
          "fairness_layers": "fairness of\nlayers (0-1)"}
ABOUT = """both_times: on links and in computation, the list in one go, as the scripts count them;
overhead_ratio: links / both; one_count: one count of links for all: client to first, between
devices, last to client; beyond_offer: layers of PipeDream's last device beyond its offer."""


# Runs -----------------------------------------------------------------------------------------------------------------
def cases(args):
    settings = study.models_and_pools(args, MODELS, POOLS)
    return [(args.tasks, *setting, args.seed + k) for setting in settings for k in range(args.runs)]


def run_case(tasks, model, pool, seed):
    """Metrics of the published methods, and of our FCIM, on one draw: a list of dicts."""
    case = study.quiet_case(tasks, model, pool, seed)
    bids, delay = case["bids"], case["delay"]
    l, P, T = bids["layers"].tolist(), bids["price"].tolist(), bids["computation_time"].tolist()
    links, client = delay[:-1, :-1], delay[-1, :-1]
    limits = FCIM.BUDGET * len(case["tasks"]), FCIM.DEADLINE * len(case["tasks"])

    placed = {
        "FCIM": fcim(model.layers, l, P, T, *limits),
        "HexGen": hexgen(model.layers, l, T, links, common.draw(seed, "published HexGen")),
        "PipeDream": pipedream(model.layers, l),
        "PipeEdge": pipeedge(model.layers, l, T, links, client),
        OURS: our_fcim(case),
    }
    rows = []
    for name, found in placed.items():
        row = dict(model=model.name, pool=pool, seed=seed, algorithm=name, problem="" if found else "no allocation")
        rows.append(row)
        if found:
            devices, layers, rewards = found
            rewards = rewards or [P[i] / l[i] * n for i, n in zip(devices, layers)]
            row.update(measure(name, devices, layers, rewards, l, T, links, client))
    return rows


# The published methods ------------------------------------------------------------------------------------------------
# Each returns devices (rows of the bids), their layers, and their rewards in cents, or None for the price per layer.


def fcim(L, l, P, T, most_paid, longest):
    decimals = [FCIM.decimal(price) for price in P]
    left = list(range(len(l)))
    missing = L
    devices, layers, rewards = [], [], []
    while missing:
        criteria = np.array([[L / l[i], T[i] / l[i], P[i] / l[i]] for i in left]).T
        least, span = criteria.min(axis=1, keepdims=True), np.ptp(criteria, axis=1, keepdims=True)
        score = dict(zip(left, np.dot(FCIM.WEIGHTS, (criteria - least) / np.where(span > 0, span, 1))))
        valid = [i for i in left if P[i] <= most_paid and T[i] <= longest]
        if not valid:
            return None
        ranked = sorted(valid, key=lambda i: (score[i], i))
        winner = ranked[0]
        n = min(l[winner], missing)
        per_layer = {i: P[i] / l[i] for i in valid}
        is_cheapest = per_layer[winner] == min(per_layer.values())
        paid = FCIM.reward(ranked, n, l, decimals, is_cheapest, FCIM.WEIGHTS, FCIM.DELTA, FCIM.decimal(most_paid))
        devices.append(winner)
        layers.append(n)
        rewards.append(float(paid))
        left.remove(winner)
        missing -= n
    return devices, layers, rewards


def hexgen(L, l, T, links, rng):
    most = np.minimum(l, L)
    number = len(l)
    layer_time = np.array(T) / l
    to_previous = np.array([0, *(links[i - 1, i] for i in range(1, number))])

    def fitness(counts):
        return counts @ layer_time + to_previous[counts > 0].sum()

    population = [random_counts(L, most, rng) for _ in range(POPULATION)]
    for _ in range(GENERATIONS):
        population.sort(key=fitness)
        better = population[:len(population) // 2]
        children = []
        for one, other in zip(better[::2], better[1::2]):
            cut = rng.integers(1, number) if number > 1 else 0
            children += [np.append(one[:cut], other[cut:]), np.append(other[:cut], one[cut:])]
        if not children:  # here the script fails
            break
        population = [mutated(child, L, most, rng) for child in children]
    best = min(population, key=fitness)
    devices = best.nonzero()[0].tolist()
    return devices, best[devices].tolist(), None


def random_counts(L, most, rng):
    """Random layer counts up to `most` that add up to L: drawn until they do, or, after TRIES, filled at random."""
    drawn = rng.integers(0, most, size=(TRIES, len(most)), endpoint=True)
    right = drawn[drawn.sum(axis=1) == L]
    return right[0] if len(right) else rng.multivariate_hypergeometric(most, L)


def mutated(counts, L, most, rng):
    """Each count drawn anew with probability MUTATION; all of them if they do not add up to L then."""
    is_drawn = rng.random(len(counts)) < MUTATION
    counts = np.where(is_drawn, rng.integers(0, most, endpoint=True), counts)
    return counts if counts.sum() == L else random_counts(L, most, rng)


def pipedream(L, l):
    layers = [int(L * n / sum(l)) for n in l]
    layers[-1] = L - sum(layers[:-1])
    return list(range(len(l))), layers, None


def pipeedge(L, l, T, links, client):
    best = [0.0] + [np.inf] * L  # of so many layers on the devices so far: the least maximum, and the counts
    counts = [[] for _ in best]
    for j, offer in enumerate(l):
        way = client[j] + (links[j, 0] if j else 0)
        before, placed = list(best), list(counts)
        for i in range(1, L + 1):
            best[i] = np.inf
            for n in range(min(i, offer) + 1):
                slowest = max(before[i - n], T[j] * n / offer + way)
                if slowest < best[i]:
                    best[i] = slowest
                    counts[i] = [*placed[i - n], (j, n)]
    devices, layers = zip(*counts[L])
    return list(devices), list(layers), None


def our_fcim(case):
    try:
        stages, _ = FCIM.allocate(**case)
    except common.NoAllocation:
        return None
    return tuple(zip(*((stage["devices"][0], stage["layers"], stage["reward"]) for stage in stages)))


# Their counts ---------------------------------------------------------------------------------------------------------
def measure(rule, devices, layers, rewards, l, T, links, client):
    """Metrics of a placement, links counted by the rule of the method of this name, and by one count for all."""
    computing = np.array([T[i] * n / l[i] for i, n in zip(devices, layers)])
    used = [i for i, n in zip(devices, layers) if n]
    own_links = links_counted(rule, devices, links, client)
    one_count = [client[used[0]], *links[used[:-1], used[1:]], client[used[-1]]]
    computation = computing.sum()
    communication = sum(own_links)
    alike = sum(one_count)
    latency = computation + communication
    if rule == "PipeDream":
        latency += (MICRO_BATCHES - 1) * (computing + own_links).max()
    return {key: round(float(value), 6) for key, value in {
        "time_on_links": communication,
        "overhead_ratio": communication / (communication + computation),
        "computation_time": computation,
        "both_times": communication + computation,
        "latency": latency,
        "fairness_layers": common.jain(np.array(layers, float), len(layers)),
        "fairness_rewards": common.jain(np.array(rewards), len(rewards)),
        "devices": len(used),
        "beyond_offer": max(0, layers[-1] - l[devices[-1]]),
        "one_count_links": alike,
        "one_count_ratio": alike / (alike + computation),
        "one_count_both": alike + computation,
    }.items()}


def links_counted(rule, devices, links, client):
    """The links (s) that a published script counts, one for each device of its list."""
    between = links[devices[:-1], devices[1:]].tolist()
    if rule == "HexGen":
        return client[devices].tolist()
    if rule == "PipeDream":
        return [client[devices[0]], *between]
    return [*between, client[devices[-1]]]


# Tables ---------------------------------------------------------------------------------------------------------------
def report(runs):
    keys = ["model", "pool"]
    who = list(runs["algorithm"].unique())
    theirs = [name for name in who if name != OURS]
    shared, failed = study.on_shared_draws(runs, keys)
    table = stats.compare(shared, keys, "seed", who, METRICS)
    number = runs["seed"].nunique()
    parts = [f"reproduce.published: {number} draws for each model and pool, seeds from {runs['seed'].min()}\n"
             f"{study.legend(number)}\n{ABOUT}", *failed]
    figures = {}
    for pool, part in table.groupby("pool", sort=False):
        compared = part[part["metric"].isin(COMPARED)]
        parts.append((f"{pool}_changes", f"Pool {pool}: change of the published FCIM in % against each",
                      study.changes(compared, ["model", "metric"], theirs)))
        parts.append((f"{pool}_means", f"Pool {pool}: means", study.means(part, ["model", "metric"], who, METRICS)))
        figures[f"_{pool}"] = study.draw_bars, PANELS, "model", theirs, part, f"as published, pool {pool}"
    return parts, {"table": table}, figures


if __name__ == "__main__":
    study.run("published", __doc__, cases, run_case, report, RUNS, ["model", "pool", "seed", *METRICS],
              tasks=FCIM.tasks, seed=SEED, out=study.OUT,
              flags=functools.partial(study.add_model_and_pool, models=MODELS, pools=POOLS))
