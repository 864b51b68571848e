"""optimal: nothing is proven that brute force refutes, however far apart the times of a list are."""
import random
import re

import naive
import pytest
from conftest import part_of
from test_optimal import outcome, said
from test_schedules import table

import optimal


def wide_list(rng):
    """Up to 6 tasks whose times are of several orders of magnitude, down to 1 microsecond, up to 1e13; deadlines near
    what some order meets."""
    n, most = rng.randint(2, 6), rng.choice([1, 3, 6, 9, 11, 13])
    few, starts = rng.random() < 0.5, [0, *(int(10 ** rng.uniform(0, most)) for _ in range(3))]

    def length():
        least = rng.choice([0, 0, 1, 3])
        return 0 if rng.random() < 0.08 else int(10 ** rng.uniform(least, rng.choice([least + 1, most])))
    times = [(rng.choice(starts) + rng.randint(0, 10), rng.randint(0, 9), rng.randint(0, 9)) if few else
             (int(10 ** rng.uniform(0, most)), length(), length()) for _ in range(n)]
    ends = optimal.completions(optimal.Case(*zip(*times), times, "shared", ""), rng.sample(range(n), n))
    dues = [(end + rng.randint(-2, 1), sum(task) + rng.randint(-1, 20), sum(task) + length(), end - length())
            for task, end in zip(times, ends)]
    return [(*task, max(task[0], rng.choice(due))) for task, due in zip(times, dues)]


# Lists of which a wrong optimum was once proven.
FALSE = [[(7, 5, 8326028986, 8326028998), (5, 9, 64078725195, 64078725209), (4, 9, 6, 20), (8, 8, 5, 25),
          (5, 9, 6, 28)]]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("link", ["shared", "dedicated"])
@pytest.mark.parametrize("objective", ["makespan", "turnaround"])
def test_no_proof_is_false(exact, link, objective, monkeypatch):
    """Each proof of the search is exact. One of the solver holds to the tolerance that it names."""
    if not exact:
        monkeypatch.setattr(optimal, "WIDTHS", ())
    rng = random.Random(link + objective)
    for case in FALSE + [wide_list(rng) for _ in range(part_of(250 if exact else 80, 16))]:
        intervals = optimal.schedule(table(case, 1), link, objective, time_limit=5)
        found, least = outcome(case, intervals, link, objective, 1), naive.best_order(case, link, objective)
        proof, metrics = intervals.attrs["summary"][0], intervals.attrs["metrics"]
        per = 1e6 if objective == "makespan" else 1e6 * len(case)
        assert metrics["lower_bound"] <= said(least[1], case, objective) / 1e6 + 1e-6 or found[0] > least[0]
        tolerance = re.match(r"optimal(?: to (\S+) s)?: ", proof)
        assert metrics["proven_optimal"] == bool(tolerance)
        if exact:
            assert proof.startswith("optimal: ")
            assert found == least
        elif tolerance:
            assert found[0] == least[0]
            assert found[1] <= least[1] + (float(tolerance.group(1) or 0) + 1e-6) * per
        else:
            assert int(re.search(r"at least (\d+)\)", proof).group(1)) <= least[0]
