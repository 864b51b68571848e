"""Fair Cost-Efficient Incentive Mechanism (FCIM): an auction that hands a model's layers to edge devices.

    python FCIM.py
    python FCIM.py --pool paper --seed 3

In every round, each bid within the deadline and the remaining budget is scored by a weighted sum of L/l, T/l and P/l
(device count, time and price), each min-max normalized over the round. The bid with the lowest score wins, is paid at
least what it asks per layer (individual rationality), and leaves the auction. Rounds repeat until all layers are
placed; the winners run the layers in the order in which they won. (S. Habibi, O. Ercetin, "Edge-LLM Inference With
Cost-Aware Layer Allocation and Adaptive Scheduling", IEEE Access 13, 2025.)
"""
from dataclasses import dataclass
from decimal import Context, Decimal

import common

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the links and bids that are drawn
OUT = "results"  # where the files go
WEIGHTS = (0.1, 0.3, 0.6)  # alpha, beta, gamma: of device count, time and price in the score
DELTA = 0.1  # penalty on a price per layer above the round's mean; unused where cost comes first (gamma > alpha + beta)
BUDGET = 2  # P_jm, cents per task: for a list of 5 tasks at most 10 cents are paid in all
DEADLINE = 60  # T_jm, s per task: for a list of 5 tasks a bid of more than 300 s of computation is not valid

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


def allocate(layers, bids, times, weights=WEIGHTS, delta=DELTA, budget=BUDGET, deadline=DEADLINE, **_):
    """Stages in the order in which their devices won, as common.evaluate takes them, and lines about the rounds.

    layers: those of the model; bids: a table of common.read_bids; times: array with a row for each task of the list;
    budget and deadline: cents and seconds for each of them; **_: the rest of common.allocation_case. Raises
    NoAllocation if a round has no valid bid, or no bid is left. (The paper's FCIM.)
    """
    n_tasks = len(times)
    l, P, T = bids["layers"].tolist(), bids["price"].tolist(), bids["computation_time"].tolist()
    rounds = auction(layers, l, P, T, weights, delta, budget * n_tasks, deadline * n_tasks)
    stages = [{"devices": [won.winner], "layers": won.layers, "reward": won.reward} for won in rounds]
    return stages, round_lines(rounds, bids)


# Min-max stretches the differences of a round to 0..1: one that is rounding noise would count as a whole weight.
TWELVE_DIGITS = Context(prec=12)  # all numbers are rounded to these first: what a program computed has noise beyond
NINE_DIGITS = Context(prec=9)  # values per layer are rounded to these before they are compared
SURE_DIGITS = Context(prec=20)  # scores, computed in the 28 of Decimal, are rounded to these, so that equal ones tie
WITHIN = Decimal("1e-9")  # of budget and deadline: what is still within them


@dataclass
class Round:
    """A round of the auction. Bids are named by their place in the list of bids."""
    missing: int  # layers that no device had before it
    left: float  # cents of the budget before it
    dear: list  # bids that are not valid: they ask more than is left
    late: list  # bids that are not valid: they take longer than the deadline
    scores: dict  # {valid bid: score}
    ranked: list  # valid bids, the best first
    layers: int  # that the winner runs
    reward: float  # cents

    @property
    def winner(self):
        return self.ranked[0]


def auction(layers, l, P, T, weights, delta, most_paid, longest):
    """The rounds until all layers are placed: a list of Round.

    l, P, T: layers, price (cents) and computation time (s) of each bid; most_paid (cents) and longest (s): budget and
    deadline for the whole list of tasks. Numbers are computed with as the decimals that they show in twelve digits, so
    that 0.3 / 3 equals 0.5 / 5. Raises NoAllocation if a round has no valid bid, or no bid is left.
    """
    l = [int(n) for n in l]
    P = [decimal(cents) for cents in P]
    T = [decimal(seconds) for seconds in T]
    left = decimal(most_paid)
    longest = decimal(longest)

    # What bids are compared by: L/l, T/l and P/l.
    devices_needed = [a_layer(layers, n) for n in l]  # how many like this one the model would take
    layer_time = [a_layer(seconds, n) for seconds, n in zip(T, l)]
    layer_price = [a_layer(cents, n) for cents, n in zip(P, l)]

    rounds, missing, waiting = [], layers, list(range(len(l)))
    while missing:
        if not waiting:
            raise common.NoAllocation(f"the offers add up to {sum(l)} of {layers} layers")

        # A bid is valid within what is left of the budget and within the deadline.
        dear = [i for i in waiting if P[i] - left > WITHIN]
        late = [i for i in waiting if T[i] - longest > WITHIN]
        valid = [i for i in waiting if i not in dear and i not in late]
        if not valid:
            raise common.NoAllocation(
                f"no valid bid in round {len(rounds) + 1}, {missing} of {layers} layers left: of {len(waiting)} bids "
                f"{len(dear)} ask more than the {left:.3f} cents left of BUDGET, {len(late)} take longer than DEADLINE")

        # The least score wins. Ties: the cheaper per layer, then the order of the list.
        score = scores(valid, (devices_needed, layer_time, layer_price), weights)
        ranked = sorted(valid, key=lambda i: (score[i], layer_price[i], i))
        winner = ranked[0]

        # It runs what it offers, or what is left, for its reward.
        n = min(l[winner], missing)
        is_cheapest = layer_price[winner] == min(layer_price[i] for i in valid)
        paid = reward(ranked, n, l, P, is_cheapest, weights, delta, left)

        rounds.append(Round(missing=missing, left=float(left), dear=dear, late=late, scores=score, ranked=ranked,
                            layers=n, reward=float(paid)))
        waiting.remove(winner)
        missing -= n
        left -= paid
    return rounds


def scores(valid, criteria, weights):
    """{valid bid: alpha N(L/l) + beta N(T/l) + gamma N(P/l)}. criteria: L/l, T/l and P/l, each a list over the bids."""
    score = dict.fromkeys(valid, Decimal(0))
    for weight, values in zip(map(decimal, weights), criteria):
        of_round = [values[i] for i in valid]
        least = min(of_round)
        span = max(of_round) - least
        if span:  # N: min-max over the round, 0 where all are equal
            for i in valid:
                score[i] += weight * (values[i] - least) / span
    return {i: SURE_DIGITS.plus(score[i]) for i in valid}  # plus: rounds


def reward(ranked, n, l, P, is_cheapest, weights, delta, left):
    """Cents for the first of the ranked bids (by score, the best first), which wins n layers; left: of the budget.

    c: what the winner asks per layer; c2: the same of the bid with the second-best score, which may be cheaper; c_avg:
    the mean of the round's bids.
    """
    alpha, beta, gamma = map(decimal, weights)
    winner = ranked[0]
    c = P[winner] / l[winner]
    if len(ranked) == 1:
        paid = c * n
    else:
        c2 = P[ranked[1]] / l[ranked[1]]
        c_avg = sum(P[i] / l[i] for i in ranked) / len(ranked)
        if gamma > alpha + beta:  # cost comes first
            paid = P[winner] if n == l[winner] else c2 * n
        elif is_cheapest:
            paid = c2 * n
        else:
            paid = max(c2, c) * n - decimal(delta) * n * (c - c_avg)
    paid = max(paid, c * n)  # no winner loses
    return min(paid, left)  # and the budget holds


def decimal(number):
    """The number as the decimal that it shows in twelve digits: 0.1 is a tenth."""
    return TWELVE_DIGITS.create_decimal(str(number))


def a_layer(total, layers):
    """total / layers, rounded to nine significant digits."""
    return NINE_DIGITS.divide(decimal(total), layers)


def round_lines(rounds, bids):
    """Lines of text: the valid bids of each round and their scores, which bids were not valid and why, who won."""
    device = bids["device"].tolist()
    lines = []
    for k, won in enumerate(rounds, 1):
        lines.append(f"round {k}: {won.missing} layers and {won.left:.3f} cents left; "
                     f"valid bids: {len(won.ranked)}; scores")
        lines.append("    " + listed(f"{device[i]} {won.scores[i]:.3f}" for i in won.ranked))
        if won.dear:
            lines.append(f"    not valid, more than is left of BUDGET: {listed(device[i] for i in won.dear)}")
        if won.late:
            lines.append(f"    not valid, longer than DEADLINE: {listed(device[i] for i in won.late)}")
        offer = bids.loc[won.winner]
        lines.append(f"    {offer['device']} wins {won.layers} of the {offer['layers']} layers it offered at "
                     f"{offer['price']:.3f} cents, for {won.reward:.3f} cents")
    return lines


def listed(texts):
    """The texts, separated by commas; of many the first TABLE_ROWS."""
    texts = list(texts)
    more = ["..."] if len(texts) > common.TABLE_ROWS else []
    return ", ".join(texts[:common.TABLE_ROWS] + more)


if __name__ == "__main__":
    common.run_allocator(allocate, tasks, __doc__, model=MODEL, pool=POOL, seed=SEED, out=OUT, bids=bids, links=links,
                         weights=WEIGHTS, delta=DELTA, budget=BUDGET, deadline=DEADLINE)
