"""FCIM with its winners in the order of the links: ours, not the paper's.

    python -m reproduce.FCIM_links

The auction is FCIM's: the same winners, layers and rewards. The paper runs the winners in the order in which they won;
here they stand in the order over which a task's links, from the client and back to it, add up to least. More than 12
winners keep the order in which they won, which the report says: the time to find the least grows as 2^winners.
"""
import sys
from functools import lru_cache

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import common
import FCIM

EXACT = 12  # winners: more keep the order in which they won


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


def by_links(won, delay):
    """The winners in the order in which a task's links add up to least, in whole microseconds, and, as text, whether it
    is that order."""
    if len(won) > EXACT:
        return won, f"as won, as there are more than {EXACT} winners"
    nodes = [*won, len(delay) - 1]
    links = [[round(float(delay[i, j]) * common.US) for j in nodes] for i in nodes]  # by place in `won`, client last
    return [won[i] for i in least_order(links)], "proven least"


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


if __name__ == "__main__":
    common.run_allocator(allocate, FCIM.tasks, __doc__, model=FCIM.MODEL, pool=FCIM.POOL, seed=FCIM.SEED, out=FCIM.OUT,
                         bids=FCIM.bids, links=FCIM.links, weights=FCIM.WEIGHTS, delta=FCIM.DELTA, budget=FCIM.BUDGET,
                         deadline=FCIM.DEADLINE)
