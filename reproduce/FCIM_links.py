"""FCIM with its winners in the order of the links: ours, not the paper's.

    python -m reproduce.FCIM_links
    python -m reproduce.FCIM_links --pool paper --seed 3

The auction is FCIM's: the same winners, layers and rewards. The paper runs the winners in the order in which they won;
here they stand in the order over which a task's links, from the client and back to it, add up to least. Up to 12
winners that order is proven least. Beyond, it is found by insertion and exchanges and not proven: for 13 and 14 winners
it was 0.1 % longer than the least in the mean of 120 draws, 5 % at worst.
"""
import pathlib
import sys
from functools import lru_cache

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common
import FCIM

EXACT = 12  # winners: of so many the order is proven least


def allocate(delay, **case):
    """FCIM's stages in the order of the links, and its report with one more line. delay: s, square, the client last;
    the others: see FCIM.allocate, which raises NoAllocation."""
    stages, notes = FCIM.allocate(**case)
    won = [stage["devices"][0] for stage in stages]
    order, proof = by_links(won, delay)
    stages.sort(key=lambda stage: order.index(stage["devices"][0]))
    notes.append(f"order of the links: {seconds_on_links(order, delay):.3f} s of them a task ({proof}), "
                 f"{seconds_on_links(won, delay):.3f} s in the order won")
    return stages, notes


def seconds_on_links(path, delay):
    """Seconds of a task on the links from the client over the devices of the path and back."""
    return delay[[-1, *path], [*path, -1]].sum()


def by_links(won, delay, exact=EXACT):
    """The winners in the order in which a task's links add up to least, and how good it is, as text. Compared in whole
    microseconds."""
    nodes = [*won, len(delay) - 1]
    links = [[round(float(delay[i, j]) * common.US) for j in nodes] for i in nodes]  # by place in `won`, client last
    if len(won) <= exact:
        order, proof = least_order(links), "proven least"
    else:
        order, proof = good_order(links), "insertion and exchanges, not proven least"
    return [won[i] for i in order], proof


def least_order(links):
    """The order of least length; of equal ones that in which who has won first goes first. (The dynamic program over
    sets of M. Held and R. Karp, 1962.)"""
    client = len(links) - 1

    @lru_cache(maxsize=None)
    def rest(at, left):
        """Least length from `at` over all devices in `left` to the client, and their order."""
        if not left:
            return links[at][client], ()
        ways = []
        for i in left:
            length, order = rest(i, left - {i})
            ways.append((links[at][i] + length, (i, *order)))
        return min(ways)

    _, order = rest(client, frozenset(range(client)))
    return order


def good_order(links):
    """The shortest of some orders that no exchange shortens: made from the order won, from that by insertion, and from
    those that begin with any device and always go on to the nearest."""
    client = len(links) - 1

    def length(order):
        return sum(links[i][j] for i, j in zip([client, *order], [*order, client]))

    inserted = []
    for i in range(client):  # each where it adds least
        places = [inserted[:k] + [i] + inserted[k:] for k in range(i + 1)]
        inserted = min(places, key=length)
    starts = [list(range(client)), inserted]
    starts += [nearest(first, links) for first in range(client)]
    found = [exchanged(order, length) for order in starts]
    return min(found, key=length)


def nearest(first, links):
    """The order from this device on always to the nearest that is left."""
    order, left = [first], list(range(len(links) - 1))
    left.remove(first)
    while left:
        last = order[-1]
        order.append(min(left, key=links[last].__getitem__))
        left.remove(order[-1])
    return order


def exchanged(order, length):
    """The order after exchanges, each time the one that shortens it most, until none does."""
    while True:
        best = min(exchanges(order), key=length)
        if length(best) >= length(order):
            return order
        order = best


def exchanges(order):
    """The orders with one part of it turned round (2-opt; G. Croes, 1958), and those with up to three neighbours moved
    elsewhere, turned round or not (or-opt; I. Or, 1976)."""
    n = len(order)
    for first in range(n):
        for end in range(first + 1, n + 1):
            part, rest = order[first:end], order[:first] + order[end:]
            yield order[:first] + part[::-1] + order[end:]
            if len(part) <= 3:
                for k in range(len(rest) + 1):
                    yield rest[:k] + part + rest[k:]
                    yield rest[:k] + part[::-1] + rest[k:]


if __name__ == "__main__":
    common.run_allocator(allocate, FCIM.tasks, __doc__, model=FCIM.MODEL, pool=FCIM.POOL, seed=FCIM.SEED, out=FCIM.OUT,
                         bids=FCIM.bids, links=FCIM.links, weights=FCIM.WEIGHTS, delta=FCIM.DELTA, budget=FCIM.BUDGET,
                         deadline=FCIM.DEADLINE)
