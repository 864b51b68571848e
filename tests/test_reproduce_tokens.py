"""reproduce/tokens.py: token by token against a plain simulation tick by tick, the links, and a run."""
import itertools
import json
import pathlib

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import part_of, refused

import common
import FCIM
from reproduce import tokens

BLOOM = common.get_model("BLOOM-176B")


def passes(found):
    """What pass_tokens takes, of naive's (work, links)."""
    work, links = (np.array(part) for part in found[:2])
    return {"compute": work, "allreduce": np.zeros_like(work), "links": links}


def test_small_cases_are_as_tick_by_tick():
    rng = np.random.default_rng(0)
    waited = 0
    for _ in range(part_of(300)):
        count, stages, most = rng.integers(1, 7), rng.integers(1, 5), rng.integers(2, 6)
        arrival = np.sort(rng.integers(0, 12, count))
        output = rng.integers(0, 6, count)
        prompt, token = ((rng.integers(0, top, (count, stages)).tolist(),
                          rng.integers(0, most, (count, stages + 1)).tolist()) for top in (2 * most, most))
        first, last = tokens.pass_tokens(arrival, output, passes(prompt), passes(token))
        assert (first.tolist(), last.tolist()) == naive.token_by_token(arrival.tolist(), output.tolist(), prompt, token)
        alone = [sum(map(sum, (row[k] for row in prompt))) + output[k] * sum(map(sum, (row[k] for row in token)))
                 for k in range(count)]
        waited += (last - arrival > alone).sum()
    assert waited > part_of(300)


def random_case(rng, count, **fields):
    """A case of some tasks on campus, links of a network, and stages of one or two devices drawn at random."""
    rows = [{"label": f"Task {k}", "prompt": "", "arrival_time": int(rng.integers(20)), "output_words": 0,
             "prompt_tokens": int(rng.integers(1, 1000)), "output_tokens": int(rng.integers(0, 300)), "trans_time": 0,
             "deadline": 99, **fields} for k in range(count)]
    seed = int(rng.integers(1000))
    case = common.allocation_case(rows, BLOOM, "campus", seed)
    network = list(tokens.NETWORKS.values())[rng.integers(3)]
    latency, bandwidth = tokens.draw_links(case["bids"], *network, seed)
    left, stages, free = BLOOM.layers, [], rng.permutation(len(case["bids"])).tolist()
    while left:
        group = [free.pop() for _ in range(min(len(free), int(rng.integers(1, 3))))]
        n = min(left, len(group) * int(case["bids"]["layers"][group].min()))
        stages.append({"devices": group, "layers": n})
        left -= n
    return stages, tokens.plan_with(case, latency, bandwidth), latency, bandwidth


@pytest.mark.parametrize("given", [{}, {"computation_time": 12.5}])
def test_the_metrics_are_those_of_plain_loops(given):
    rng = np.random.default_rng(2)
    for _ in range(5):
        stages, case, latency, bandwidth = random_case(rng, 4, **given)
        prompt, token = naive.token_passes(stages, case, latency, bandwidth)
        arrival, output = (case["tasks"][key].to_numpy() for key in ("arrival_time", "output_tokens"))
        first, last = tokens.pass_tokens(arrival, output, passes(prompt), passes(token))
        metrics = tokens.run_tokens(stages, case, latency, bandwidth)
        assert metrics["completion_time"] == (max(last) - min(arrival)) / 1e6
        assert metrics["mean_turnaround_time"] == pytest.approx(sum(last - arrival) / 4e6, abs=1e-6)
        assert metrics["time_to_first_token"] == pytest.approx(sum(first - arrival) / 4e6, abs=1e-6)
        each = [(b - a) / n for a, b, n in zip(first, last, output) if n]
        assert metrics["time_per_token"] == pytest.approx(sum(each) / len(each) / 1e6, abs=1e-6)
        moved = whole = 0
        for k, n in enumerate(output):
            for (work, links, reduces), times in ((prompt, 1), (token, n)):
                moved += times * (sum(links[k]) + sum(reduces[k]))
                whole += times * (sum(links[k]) + sum(work[k]))
        assert metrics["communication_overhead"] == pytest.approx(moved / whole, abs=1e-6)


def test_one_more_device_changes_no_other_link_and_a_network_scales_them_all():
    bids = pd.DataFrame({"device": ["GPU 1", "GPU 2", "GPU 3"], "host": ["a", "a", "b"]})
    links = latency, bandwidth = tokens.draw_links(bids, 0.01, 1e6, seed=5)
    for fewer, all_of_them in zip(tokens.draw_links(bids.iloc[[0, 2]], 0.01, 1e6, seed=5), links):
        assert (fewer == all_of_them[np.ix_([0, 2, 3], [0, 2, 3])]).all()
        assert (all_of_them == all_of_them.T).all()
    assert (latency.diagonal() == 0).all()
    assert (latency[0, 1], bandwidth[0, 1]) == (20e-6, 12e9)  # within a host
    apart = [0, 0, 1, 1, 2], [2, 3, 2, 3, 3]
    slower, wider = tokens.draw_links(bids, 0.02, 3e6, seed=5)
    assert slower[apart] == pytest.approx(2 * latency[apart])
    assert wider[apart] == pytest.approx(3 * bandwidth[apart])
    assert (latency[apart] >= 0.005).all() and (latency[apart] <= 0.02).all()
    assert (bandwidth[apart] >= 5e5).all() and (bandwidth[apart] <= 2e6).all()
    assert len(set(latency[apart])) == 5


# Measured links -------------------------------------------------------------------------------------------------------
def measured(pool="workstations"):
    """A row for each pair of the pool and the client, some one way round, some the other; without a host's own links
    but one. Latencies of 1, 2, .. ms, bandwidths of 10, 20, .. Mb/s."""
    hosts = {**{device: host for device, _, host in common.POOLS[pool]}, "client": None}
    pairs = [pair for pair in itertools.combinations(hosts, 2)
             if hosts[pair[0]] != hosts[pair[1]] or pair == ("GPU 3", "GPU 4")]
    return [{"from": pair[k % 2], "to": pair[1 - k % 2], "latency_ms": k + 1, "mbit_s": 10 * (k + 1)}
            for k, pair in enumerate(pairs)]


@pytest.mark.parametrize("file", ["links.csv", "links.json"])
def test_links_are_as_measured(file):
    rows = measured()
    pathlib.Path("links.json").write_text(json.dumps(rows))
    pd.DataFrame(rows).to_csv("links.csv", index=False)
    bids = common.allocation_case(FCIM.tasks, BLOOM, "workstations", 0)["bids"]
    latency, bandwidth = tokens.measured_links(bids, file, "workstations")
    names = [*bids["device"], "client"]
    for k, row in enumerate(rows, 1):
        i, j = names.index(row["from"]), names.index(row["to"])
        assert latency[i, j] == latency[j, i] == pytest.approx(k / 1000)
        assert bandwidth[i, j] == bandwidth[j, i] == 1.25e6 * k
    for i in (0, 4):  # two on a host
        assert (latency[i, i + 1], bandwidth[i + 1, i]) == tokens.HOST
    assert (latency > 0).sum() == 42 == (bandwidth < np.inf).sum()


@pytest.mark.usefixtures("little_search")
def test_the_nine_take_what_a_study_of_measured_links_writes(run):
    pd.DataFrame(measured()).to_csv("links.csv", index=False)
    status, out, _ = run("reproduce/tokens", "--network", "links.csv", "--pool", "workstations", "--runs", 2,
                         "--no-plot")
    assert status == 0
    assert "take\na task of 22.2 prompt and 266.4 output tokens, the mean of the list, by BLOOM-176B\n" in out
    assert "\nlinks.csv: links as measured\n" in out
    assert run("PipeDream", "--pool", "workstations", "--links", "results/tokens_links.csv", "--no-plot")[0] == 0
    links = pd.read_csv("results/PipeDream_links.csv", index_col=0)
    expected = (1 + 266.4) * 0.001 + (22.2 + 266.4) * 14336 * 16 / 10e6  # the first pair: 1 ms, 10 Mb/s
    assert links.loc["GPU 1", "GPU 3"] == pytest.approx(expected, abs=1e-6)
    runs = pd.read_csv("results/tokens_runs.csv").query("algorithm == 'PipeDream'")
    plan = pd.read_csv("results/PipeDream_metrics.csv")
    assert runs["paper_completion_time"].iloc[0] == pytest.approx(plan["completion_time"][0], abs=1e-6)


@pytest.mark.parametrize("k, change, message", [
    (1, {"to": "GPU 9"}, "row 2, to: 'GPU 9' is not in pool workstations: GPU 1, GPU 2, GPU 3"),
    (0, {"mbit_s": 0}, "row 1, mbit_s: 0.0 is not above 0"),
    (3, {"latency_ms": "2 ms"}, "row 4, latency_ms: '2 ms' is not a number"),
    (3, {"latency_ms": None}, "row 4, latency_ms: missing; the fields of a link are from, to, latency_ms, mbit_s"),
    (4, {"from": "GPU 3", "to": "GPU 1"}, "row 5, to: 'GPU 1' ends a pair that is there already"),
    (0, None, "GPU 1 to GPU 3: missing")])
def test_a_wrong_row_of_measured_links_is_named(k, change, message, run):
    rows = measured()
    rows[k:k + 1] = [] if change is None else [dict(rows[k], **change)]
    pd.DataFrame(rows).to_csv("links.csv", index=False)
    flags = "--network", "links.csv", "--pool", "workstations"
    refused(run("reproduce/tokens", *flags), f"reproduce.tokens: links.csv, {message}")


def test_measured_links_are_those_of_one_pool(run):
    refused(run("reproduce/tokens", "--network", "links.csv"), "one pool, for one model: choose them by --pool")
