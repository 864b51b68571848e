"""reproduce.published: the methods of the published scripts, by brute force and by hand."""
import itertools

import numpy as np
import pytest
from conftest import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

from reproduce import published

SECONDS = st.sampled_from([0.0, 0.1, 0.3, 1.0, 2.5, 7.25])


@st.composite
def cases(draw):
    """L, l, T, links and client of up to four devices that suffice for L."""
    number = draw(st.integers(1, 4))
    l = draw(st.lists(st.integers(1, 4), min_size=number, max_size=number))
    T = draw(st.lists(SECONDS, min_size=number, max_size=number))
    links = np.zeros((number, number))
    for i, j in itertools.combinations(range(number), 2):
        links[i, j] = links[j, i] = draw(SECONDS)
    client = np.array(draw(st.lists(SECONDS, min_size=number, max_size=number)))
    return draw(st.integers(1, sum(l))), l, T, links, client


def slowest(counts, l, T, links, client):
    """PipeEdge's objective of layer counts in listing order: devices before the first one used cost nothing."""
    first = next(j for j, n in enumerate(counts) if n)
    return max(T[j] * counts[j] / l[j] + (links[j, 0] if j else 0) + client[j] for j in range(first, len(l)))


@settings(max_examples=part_of(500))
@given(cases())
def test_pipeedge_is_the_least_of_all_counts(case):
    L, l, T, links, client = case
    best = min(slowest(counts, l, T, links, client)
               for counts in itertools.product(*(range(n + 1) for n in l)) if sum(counts) == L)
    devices, layers, _ = published.pipeedge(*case)
    counts = [0] * len(l)
    for j, n in zip(devices, layers):
        counts[j] = n
    assert devices == list(range(devices[0], len(l))) and layers[0] > 0 and sum(layers) == L
    assert slowest(counts, l, T, links, client) == best


@settings(max_examples=part_of(200))
@given(cases(), st.integers(0, 5))
def test_hexgen_places_all_layers_within_the_offers(case, seed):
    L, l, T, links, _ = case
    devices, layers, _ = published.hexgen(L, l, T, links, np.random.default_rng(seed))
    assert sum(layers) == L and all(0 < n <= l[i] for i, n in zip(devices, layers))
    assert published.hexgen(L, l, T, links, np.random.default_rng(seed))[:2] == (devices, layers)


def test_pipedream_gives_the_last_device_what_is_left_beyond_its_offer():
    assert published.pipedream(10, [4, 4, 4, 1]) == ([0, 1, 2, 3], [3, 3, 3, 1], None)
    assert published.pipedream(11, [5, 5, 1]) == ([0, 1, 2], [5, 5, 1], None)
    assert published.pipedream(23, [8, 8, 8, 1]) == ([0, 1, 2, 3], [7, 7, 7, 2], None)


def test_fcim_scores_bids_that_cannot_win():
    """The third bid asks more than the budget; over all three the first wins by time, over the first two by price."""
    devices, layers, _ = published.fcim(4, [4, 4, 4], [2, 1, 9], [1, 3, 3], most_paid=8, longest=10)
    assert (devices, layers) == ([0], [4])
    devices, _, _ = published.fcim(4, [4, 4], [2, 1], [1, 3], most_paid=8, longest=10)
    assert devices == [1]
    assert published.fcim(4, [4], [9], [1], most_paid=8, longest=10) is None


@pytest.mark.parametrize("rule, seconds", [
    ("FCIM", [1, 2, 30]), ("PipeEdge", [1, 2, 30]), ("PipeDream", [10, 1, 2]), ("HexGen", [10, 20, 30])])
def test_links_are_counted_by_the_rule_of_each_script(rule, seconds):
    links = np.array([[0, 1, 5], [1, 0, 2], [5, 2, 0]])
    assert published.links_counted(rule, [0, 1, 2], links, np.array([10, 20, 30])) == seconds
    found = published.measure(rule, [0, 1, 2], [2, 1, 1], [1, 1, 2], [2, 2, 2], [4, 2, 6], links,
                              np.array([10, 20, 30]))
    assert found["time_on_links"] == sum(seconds) and found["computation_time"] == 8
    assert found["one_count_links"] == 10 + 1 + 2 + 30
    slowest_stage = max(time + link for time, link in zip((4, 1, 3), seconds))
    assert found["latency"] == 8 + sum(seconds) + (9 * slowest_stage if rule == "PipeDream" else 0)
