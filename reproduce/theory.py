"""What is true of FCIM and ADSA in general: statements searched over small cases, not argued.

    python -m reproduce.theory

Each statement is tried on all small cases of a kind, or on many drawn ones. It has no exception there, or the first one
is printed as a list to paste into FCIM.py or ADSA.py. No exception is no proof.

Of T_end, deadlines are far and ALIKE is 0; deadlines are met, or not, on an uplink for each task.
FCIM: bids (l, P, T) for L layers, in the lists scaled to the layers of MODEL, which changes no score. ADSA: tasks
(arrival, computation, transmission, deadline) in whole seconds. EDF: the task with the least deadline - transmission,
preemptive, meets all deadlines on a dedicated link where any schedule does. Jackson's rule: the longest transmission
first, preemptive, ends the last transmission earliest on a dedicated link (J. Jackson, 1955; W. Horn, 1974).
"""
import itertools
import sys

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import numpy as np
import pandas as pd

import ADSA
import common
import FCIM
from reproduce import EDF, study

MODEL = "GPT-Neo 1.3B"  # of the lists to paste: its layers are a multiple of all L below
DRAWN = 5000  # cases of a statement that is tried on drawn ones
SEED = 0

LAYERS = (2, 3, 4, 6)  # L
BIDS = list(itertools.product((1, 2, 3, 4), (1, 2, 3, 4, 6, 8), (1, 2, 4)))  # (l, P, T)
PRICES = (1, 2, 3, 4, 5, 6, 8, 10, 14, 20)
FAR = 10 ** 6  # a deadline that is always met
UNLIMITED = 10.0 ** 6  # cents, seconds


def main(name):
    args = common.make_parser(name, __doc__, plot=False, out=study.OUT, no_plot=True).parse_args()
    study.check_writable(args.out, "--out")
    rows, lists = [], []
    for who, statement, tried, show in STATEMENTS:
        results = list(tried())
        exceptions = [case for case, holds in results if not holds]
        rows.append({"of": who, "statement": statement, "cases": f"{len(results):,}",
                     "exceptions": f"{len(exceptions):,}"})
        if exceptions:
            lists.append(f"{who}, {statement}: not so of\n{show(*exceptions[0])}")
    table = pd.DataFrame(rows)
    table.attrs["keys"] = 2
    study.publish("theory", args, [("statements", "Statements and their exceptions", table), *lists],
                  {"table": table}, {})


# FCIM -----------------------------------------------------------------------------------------------------------------
# A case: L, the bids (l, P, T), and the budget (cents).


def auction(L, bids, budget=UNLIMITED):
    """{winner: layers} and the cents paid; None if FCIM finds no allocation."""
    try:
        rounds = FCIM.auction(L, *zip(*bids), FCIM.WEIGHTS, FCIM.DELTA, budget, UNLIMITED)
    except common.NoAllocation:
        return None
    return {won.winner: won.layers for won in rounds}, sum(won.reward for won in rounds)


def drawn_bids():
    """L and four bids that suffice for it, drawn again and again."""
    rng = np.random.default_rng(SEED)
    for _ in range(DRAWN):
        L = int(rng.choice(LAYERS))
        bids = [BIDS[k] for k in rng.integers(len(BIDS), size=4)]
        if sum(l for l, _, _ in bids) >= L:
            yield L, bids


def layers_by_price():
    """A bid that asks more wins no more layers."""
    for L, bids in drawn_bids():
        (l, _, T), *others = bids
        won = [auction(L, [(l, P, T), *others])[0].get(0, 0) for P in PRICES]
        grows = [price for price, before, now in zip(PRICES[1:], won, won[1:]) if now > before]
        yield (L, [(l, grows[0] if grows else 1, T), *others]), not grows


def losing_bids():
    """A bid that wins nothing changes nothing: neither who wins nor how many layers."""
    for L, bids in drawn_bids():
        won, _ = auction(L, bids)
        if 3 not in won and sum(l for l, _, _ in bids[:3]) >= L:
            yield (L, bids), auction(L, bids[:3])[0] == won


def constant_cost():
    """What FCIM pays is at most 10 times the least cost; these bids refute any other factor too, by a larger X."""
    for X in (1, 2, 4, 8, 16, 32, 64):
        bids = [(2, 2, 8), (2, 2, 8), (4, 2.64 * X, 4), (4, 4 * X, 4)]
        yield (4, bids), auction(4, bids)[1] <= 10 * cheapest(4, bids)


def budget_suffices():
    """Where cheapest first stays within a budget, every bid within what is left of it, FCIM finds an allocation."""
    rng = np.random.default_rng(SEED)
    for L, bids in drawn_bids():
        budget = cheapest(L, bids) * float(rng.choice((1, 1.25, 1.5, 2)))
        if cheapest(L, bids, budget) is not None:
            yield (L, bids, budget), auction(L, bids, budget) is not None


def cheapest(L, bids, budget=UNLIMITED):
    """Cents of the cheapest bids first; None if one of them asks more than what is then left of the budget."""
    cents = 0
    for l, P, _ in sorted(bids, key=lambda bid: bid[1] / bid[0]):
        if L and P > budget - cents + 1e-9:
            return None
        cents += P / l * min(l, L)
        L -= min(l, L)
    return cents


def show_bids(L, bids, budget=UNLIMITED):
    """The bids as a list for FCIM.py, scaled to the layers of MODEL."""
    scale = common.get_model(MODEL).layers // L
    rows = [dict(device=f"GPU {k}", layers=l * scale, price=P, computation_time=T)
            for k, (l, P, T) in enumerate(bids, 1)]
    a_task = budget / len(FCIM.tasks)
    return f"MODEL = {MODEL!r}\nBUDGET = {a_task:g}\nDEADLINE = {UNLIMITED:g}\n{as_list('bids', rows)}"


def as_list(name, rows):
    return "\n".join([f"{name} = [", *(f"    {row}," for row in rows), "]"])


# ADSA -----------------------------------------------------------------------------------------------------------------
# A case: lists a, p, q, d (arrival, computation, transmission, deadline) in order of arrival.
CLOSE = (0, 1, 2), (1, 2, 3), (0, 1, 3), (0, 1, 3)  # a, p, q and slack of tasks with close deadlines


def all_tasks(n, arrivals, computations, transmissions, slacks):
    """All cases of n tasks of these values; deadline: arrival + computation + transmission + slack."""
    kinds = list(itertools.product(arrivals, computations, transmissions, slacks))
    for tasks in itertools.combinations_with_replacement(kinds, n):
        yield [list(column) for column in zip(*((a, p, q, min(a + p + q + x, FAR)) for a, p, q, x in tasks))]


def adsa(a, p, q, d, alike=ADSA.ALIKE):
    """When each task is computed."""
    end = {}
    for first, after in ADSA.busy_periods(a, p):
        columns = [column[first:after] for column in (a, p, q, d)]
        end.update({first + task: till for task, _, till in ADSA.simulate_period(*columns, alike)})
    return [end[task] for task in range(len(a))]


def by_rank(a, p, rank):
    """When each task is computed, if always the one of least rank runs, preemptive."""
    end = {task: till for task, _, till in EDF.runs_by_rank(a, p, rank)}
    return [end[task] for task in range(len(a))]


def met_by_both(a, p, q, d):
    """How many deadlines ADSA meets, and how many EDF."""
    start = [due - trans for due, trans in zip(d, q)]  # by which a result must start to be sent
    by_adsa, by_edf = adsa(a, p, q, d), by_rank(a, p, start)
    return [sum(end <= latest for end, latest in zip(ends, start)) for ends in (by_adsa, by_edf)]


def meets_all(n):
    for case in all_tasks(n, *CLOSE):
        by_adsa, by_edf = met_by_both(*case)
        if by_edf == n:
            yield case, by_adsa == n


def never_more_than_edf():
    for case in all_tasks(3, *CLOSE):
        by_adsa, by_edf = met_by_both(*case)
        yield case, by_adsa <= by_edf


def last_end(end, q, shared):
    """T_end: results leave first computed, first sent, over one uplink or each over its own."""
    free = 0
    for e, trans in sorted(zip(end, q), key=lambda job: job[0]):
        free = max(e, free) + trans if shared else max(free, e + trans)
    return free


def least_end(shared, arrivals, computations, transmissions):
    """T_end of ADSA is the least by any fixed order of the tasks, preemptive; Jackson's rule is one of these."""
    for case in all_tasks(3, arrivals, computations, transmissions, (FAR,)):
        a, p, q, _ = case
        best = min(last_end(by_rank(a, p, rank), q, shared) for rank in itertools.permutations(range(3)))
        yield case, last_end(adsa(*case, alike=0), q, shared) == best


def show_tasks(a, p, q, d):
    """The tasks as a list for ADSA.py."""
    rows = [dict(label=f"Task {k}", prompt="", arrival_time=arrival, output_words=0, trans_time=trans, deadline=due,
                 computation_time=computation)
            for k, (arrival, computation, trans, due) in enumerate(zip(a, p, q, d), 1)]
    return as_list("tasks", rows)


STATEMENTS = [  # of 40 letters at most, as tables have it
    ("FCIM", "a dearer bid wins no more layers", layers_by_price, show_bids),
    ("FCIM", "a bid that wins nothing changes nothing", losing_bids, show_bids),
    ("FCIM", "pays at most ten times the least cost", constant_cost, show_bids),
    ("FCIM", "finds one if cheapest first does", budget_suffices, show_bids),
    ("ADSA", "meets all where EDF does, 2 tasks", lambda: meets_all(2), show_tasks),
    ("ADSA", "meets all where EDF does, 3 tasks", lambda: meets_all(3), show_tasks),
    ("ADSA", "never meets more than EDF, 3 tasks", never_more_than_edf, show_tasks),
    ("ADSA", "T_end is least, an uplink for each",
     lambda: least_end(False, (0, 1, 3), (1, 2, 4), (0, 1, 2, 5)), show_tasks),
    ("ADSA", "T_end is least, one shared uplink",
     lambda: least_end(True, (0, 1), (1, 2, 16), (1, 2, 9)), show_tasks),
]

if __name__ == "__main__":
    common.run(main, "reproduce.theory")
