"""reproduce/device_loss.py: the repair and the allocation made anew, against plain loops; where no repair exists."""
import functools

import numpy as np
import pandas as pd
import pytest
from conftest import figure_of, part_of

import ADSA
import common
import FCFS
import FCIM
from reproduce import device_loss, study, whole_system

METRICS = list(device_loss.METRICS)
BLOOM = common.get_model("BLOOM-176B")


@functools.lru_cache(None)
def losses(schedule):
    """Case, stages, their work, when each has computed and passed on the tasks (microseconds, tasks by stages) before
    the loss, lost stage and time of some losses on campus."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(part_of(40, 10)):
        case = whole_system.one_case(BLOOM, "campus", seed, 0.9)
        stages, _ = FCIM.allocate(**case)
        work, _ = study.work_and_links(stages, case)
        results, _ = whole_system.feed_forward(stages, case, schedule)
        computed, passed = (np.array([result[key] for result in results]).T
                            for key in ("end_computation", "completion_time"))
        s = seed % len(stages)
        found.append((case, stages, work, computed, passed, s, int(rng.integers(passed[:, s].max()))))
    return found


def queue(work, links, arrival):
    """When tasks reach the end of stages that serve them in order; arrival: at the first. By plain loops."""
    for mine, link in zip(work, links):
        now, done = 0, []
        for length, ready in zip(mine, arrival):
            now = max(now, ready) + length
            done.append(now + link)
        arrival = done
    return arrival


def test_a_repair_places_every_layer_once_and_nobody_is_paid_less_than_it_asks():
    for case, stages, work, computed, passed, s, t in losses(ADSA.schedule):
        after, cents, _ = device_loss.repair(case, stages, computed, passed, s, t)
        bids, new = case["bids"], after[s:len(after) - len(stages) + s + 1]
        assert after[:s] + after[len(after) - len(stages) + s + 1:] == stages[:s] + stages[s + 1:]
        assert sum(stage["layers"] for stage in new) == stages[s]["layers"]
        before = {i for stage in stages for i in stage["devices"]}
        assert len({i for stage in [*stages, *new] for i in stage["devices"]}) == len(before) + len(new)
        todo = passed[:, s] > t
        for stage in new:
            (i,) = stage["devices"]
            assert stage["layers"] <= bids["layers"][i]
            share = case["times"][todo, i].sum() / case["times"][:, i].sum()
            assert stage["reward"] >= bids["price"][i] / bids["layers"][i] * stage["layers"] * share - 1e-9
        kept = work[~todo, s].sum() / work[:, s].sum() * stages[s]["reward"]
        others = sum(stage["reward"] for k, stage in enumerate(stages) if k != s)
        assert cents == pytest.approx(others + kept + sum(stage["reward"] for stage in new))
        assert cents <= FCIM.BUDGET * len(todo)


def test_tasks_of_a_repair_start_the_lost_stage_again_and_no_other(monkeypatch):
    """First come, first served in place of ADSA, by plain loops."""
    monkeypatch.setattr(device_loss, "ADSA", FCFS)
    for case, stages, _, computed, passed, s, t in losses(FCFS.schedule):
        after, _, completion = device_loss.repair(case, stages, computed, passed, s, t)
        new_work, links = (found.tolist() for found in study.work_and_links(after, case))
        columns, m = list(zip(*new_work)), len(after) - len(stages) + 1
        reached = passed[:, s].tolist()
        sent = (computed[:, s - 1] if s else case["tasks"]["arrival_time"]).tolist()
        again = [k for k, end in enumerate(reached) if end > t]
        reach = [max(sent[k], t + 10 * 10 ** 6) + links[s] for k in again]
        done = queue([[column[k] for k in again] for column in columns[s:s + m]], links[s + 1:], reach)
        for k, end in zip(again, done):
            reached[k] = end
        assert queue(columns[s + m:], links[s + m + 1:], reached) == list(completion)


def test_all_that_is_not_computed_starts_again_on_a_new_allocation(monkeypatch):
    monkeypatch.setattr(device_loss, "ADSA", FCFS)
    for case, stages, work, computed, passed, s, t in losses(FCFS.schedule):
        after, cents, completion = device_loss.anew(case, stages, computed, passed, s, t)
        new_work, links = (found.tolist() for found in study.work_and_links(after, case))
        (lost,), arrival = stages[s]["devices"], case["tasks"]["arrival_time"].tolist()
        assert lost not in [i for stage in after for i in stage["devices"]]
        assert sum(stage["layers"] for stage in after) == BLOOM.layers
        end = (passed if s == len(stages) - 1 else computed)[:, -1].tolist()
        again = [k for k in range(len(arrival)) if end[k] > t]
        expected = passed[:, -1].tolist()
        reach = [max(arrival[k], t + 10 * 10 ** 6) + links[0] for k in again]
        for k, done in zip(again, queue(list(zip(*(new_work[k] for k in again))), links[1:], reach)):
            expected[k] = done
        assert list(completion) == expected
        paid = 0
        for k, stage in enumerate(stages):
            ends = (passed if k == s else computed)[:, k].tolist()
            mine = work[:, k].tolist()
            paid += stage["reward"] * sum(x for x, when in zip(mine, ends) if when <= t) / sum(mine)
        assert cents == pytest.approx(paid + sum(stage["reward"] for stage in after))


def test_a_loss_before_anything_is_computed_costs_anew_what_an_auction_without_the_device_costs():
    case, stages, _, computed, passed, s, _ = losses(ADSA.schedule)[0]
    (lost,) = stages[s]["devices"]
    others = [i for i in range(len(case["bids"])) if i != lost]
    expected, _ = FCIM.allocate(BLOOM.layers, case["bids"].iloc[others].reset_index(drop=True),
                                case["times"][:, others])
    after, cents, _ = device_loss.anew(case, stages, computed, passed, s, -1)
    assert [(stage["devices"][0], stage["layers"]) for stage in after] == [
        (others[stage["devices"][0]], stage["layers"]) for stage in expected]
    assert cents == pytest.approx(sum(stage["reward"] for stage in expected))


def test_means_and_figure_are_those_of_the_losses(monkeypatch):
    """Of campus; on the paper's pool all six devices run nearly all that they offer, so that none can be missed."""
    monkeypatch.setattr(whole_system, "TASKS", 12)
    draws = ("campus", 0), ("campus", 1), ("campus", 2), ("paper", 0)
    runs = pd.DataFrame([row for draw in draws for row in device_loss.run_case("", BLOOM, *draw)])
    (_, _, (_, _, failures), _), tables, figures = device_loss.report(runs)
    assert failures["algorithm"].tolist() == ["repair", "anew"]
    assert failures["failed"].tolist() == failures["draws"].tolist() == [1, 1]
    assert set(failures["pool"]) == {"paper"} and failures["first_reason"].str.startswith("the offers add up to").all()
    table = tables["table"].set_index(["pool", "metric", "algorithm"])
    assert len(table) == 9
    for metric in METRICS:
        values = runs[runs["pool"] == "campus"].pivot(index="seed", columns="algorithm", values=metric)
        values["repair - anew"] = values["repair"] - values["anew"]
        for name in values:
            found = table.loc[("campus", metric, name), ["runs", "mean"]].tolist()
            assert found == pytest.approx([3, values[name].mean()], abs=1e-6)
    figure = figure_of(*figures[""])
    assert len(figure.axes) == 3
    for line, name in zip(figure.axes[0].lines[:2], ("repair", "anew")):
        shown = runs[(runs["pool"] == "campus") & (runs["algorithm"] == name)]
        means = shown.groupby(shown["lost_at_share"] // 0.25 + 1)["extra_seconds"].mean()
        assert line.get_xdata().tolist() == means.index.tolist()
        assert line.get_ydata().tolist() == pytest.approx(means.tolist(), abs=1e-6)
