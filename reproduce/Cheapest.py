"""Cheapest first: a reference that is not of the paper.

    python -m reproduce.Cheapest

The devices that ask least per layer take all that they offer until the layers are placed. No other allocation costs
less at price per layer; neither time nor links play a part. What FCIM's score adds to it is what FCIM does otherwise.
"""
import sys

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import common
import FCIM


def allocate(layers, bids, **_):
    """Stages, the cheapest per layer first (ties: listing order), and no lines. layers: those of the model; bids: table
    of common.read_bids; **_: the rest of common.allocation_case. Raises NoAllocation if the offers do not suffice."""
    offers = bids["layers"].tolist()
    if sum(offers) < layers:
        raise common.NoAllocation(f"the offers add up to {sum(offers)} of {layers} layers")
    per_layer = bids["price"] / bids["layers"]
    stages = []
    missing = layers
    for i in per_layer.sort_values(kind="stable").index:
        n = min(offers[i], missing)
        if n:
            stages.append({"devices": [i], "layers": n})
        missing -= n
    return stages, []


if __name__ == "__main__":
    common.run_allocator(allocate, FCIM.tasks, __doc__, model=FCIM.MODEL, pool=FCIM.POOL, seed=FCIM.SEED, out=FCIM.OUT,
                         bids=FCIM.bids, links=FCIM.links)
