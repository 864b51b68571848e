"""Plain references: each policy, the uplink and the optimum computed the obvious way, to compare the scripts with.

A case is a list of tasks (arrival, computation, trans, deadline) in whole ticks. Each policy returns its runs
(task, start, end) in order of time; runs of one task that follow on each other count as one.
"""
import math
from fractions import Fraction
from functools import partial
from itertools import combinations, permutations

import numpy as np

import common


def merged(runs):
    out = []
    for j, start, end in runs:
        if out and out[-1][0] == j and out[-1][2] == start:
            start = out.pop()[1]
        out.append((j, start, end))
    return out


def by_decision(case, choose, moments=lambda now, present, remaining, running: ()):
    """Simulates a policy that decides at every arrival and completion, and at further moments. choose(now, present,
    remaining, running): the task that runs; present: those that have arrived and are not done, in order of arrival."""
    coming = sorted(range(len(case)), key=lambda j: (case[j][0], j))
    remaining, present, running, now, runs = [p for _, p, _, _ in case], [], None, 0, []
    while coming or present:
        if not present:
            now = max(now, case[coming[0]][0])
        while coming and case[coming[0]][0] <= now:
            present.append(coming.pop(0))
        running = choose(now, present, remaining, running)
        end = min([now + remaining[running], *(case[j][0] for j in coming[:1]),
                   *moments(now, present, remaining, running)])
        runs.append((running, now, end))
        remaining[running] -= end - now
        now = end
        if remaining[running] == 0:
            present.remove(running)
            running = None
    return merged(runs)


def fcfs(case):
    def choose(now, present, remaining, running):
        return present[0]
    return by_decision(case, choose)


def least(present, key, running):
    """The first of those present whose key is least; who runs goes on, where none is less."""
    best = min(present, key=key)
    return running if running is not None and key(best) >= key(running) else best


def srtf(case):
    def choose(now, present, remaining, running):
        return least(present, lambda j: remaining[j], running)  # of equal ones: the earlier arrival, then row
    return by_decision(case, choose)


def edf(case):
    def choose(now, present, remaining, running):
        return least(present, lambda j: case[j][3], running)
    return by_decision(case, choose)


def adsa(case, alike):
    def choose(now, present, remaining, running):
        trans = [case[j][2] for j in present]
        order = present if max(trans) - min(trans) < alike else sorted(present, key=lambda j: -case[j][2])
        total, slack = 0, {}
        for j in order:
            total += remaining[j]
            completion = total + case[j][2]
            slack[j] = case[j][3] - now - completion
        return min(order, key=lambda j: slack[j]) if min(slack.values()) < 0 else order[0]
    return by_decision(case, choose)


def llf(case, quantum, by_tick=False):
    """One tick at a time; or from one moment to the next at which a task arrives, is done or may take over."""
    since = 0  # when the running task began

    def laxity(j, now, remaining):
        return case[j][3] - case[j][2] - now - remaining[j]

    def choose(now, present, remaining, running):
        nonlocal since
        waiting = [j for j in present if j != running]
        if not waiting:
            return running
        best = min(waiting, key=lambda j: laxity(j, now, remaining))
        if running is not None:
            gain = laxity(running, now, remaining) - laxity(best, now, remaining)
            arrival = any(case[j][0] == now for j in present)
            if gain < 0 or (now - since < quantum and (gain == 0 or not arrival)):
                return running
        since = now
        return best

    def moments(now, present, remaining, running):
        if by_tick:
            return [now + 1]
        level = [now + laxity(j, now, remaining) - laxity(running, now, remaining) for j in present if j != running]
        taking_over = [max(since + quantum, moment) for moment in level]
        return [moment for moment in taking_over if moment > now]
    return by_decision(case, choose, moments)


def uplink(case, end, link, order=None):
    """Completion of each task from the ends of computation, by a plain loop."""
    if link == "dedicated":
        return [e + task[2] for e, task in zip(end, case)]
    free, done = 0, [0] * len(case)
    for j in order or sorted(range(len(case)), key=lambda j: (end[j], case[j][0], j)):
        free = max(free, end[j]) + case[j][2]
        done[j] = free
    return done


def cost(case, done, objective):
    missed = sum(t > task[3] for t, task in zip(done, case))
    return missed, max(done) if objective == "makespan" else sum(done) - sum(task[0] for task in case)


def best_order(case, link, objective):
    """Least cost over all orders, processor and uplink both serving in the order."""
    least = None
    for order in permutations(range(len(case))):
        def choose(now, present, remaining, running):
            return min(present, key=order.index)  # noqa: B023 - the order at hand is meant
        end = [0] * len(case)
        for j, _, t in by_decision(case, choose):
            end[j] = t
        found = cost(case, uplink(case, end, link, order), objective)
        least = found if least is None else min(least, found)
    return least


def peak_memory(case, start, end, kv):
    """Most KV cache held at once, looked at whenever a task starts."""
    return max(sum(kv[j] for j in range(len(case)) if start[j] <= t < end[j]) for t in start.values())


# Pipelines of single devices: times (tasks, devices) in seconds a layer, delay (devices + 1, devices + 1) in seconds


def means(times):
    return [sum(column) / len(column) for column in times.T.tolist()]


def compositions(layers, most):
    """All ways to give each stage a layer at least and its limit at most."""
    if not most:
        return [()] if layers == 0 else []
    return [(n, *rest) for n in range(1, min(most[0], layers) + 1) for rest in compositions(layers - n, most[1:])]


def bottleneck(path, counts, t, delay):
    parts = [n * t[i] for i, n in zip(path, counts)] + [delay[i, j] for i, j in zip(path, path[1:])]
    return max(parts)


def what_is_slowest(path, counts, t, delay):
    """The first stage that takes as long as the bottleneck, or else the first such link, in words."""
    slowest = bottleneck(path, counts, t, delay)
    for i, n in zip(path, counts):
        if n * t[i] == slowest:
            return f"{n} layers on GPU {i}"
    for i, j in zip(path, path[1:]):
        if delay[i, j] == slowest:
            return f"the link from GPU {i} to GPU {j}"


def plain_partition(time, link, most):
    """PipeDream's problem by trying everything: times and link are whole numbers."""
    def cost(counts):
        stages = [sum(time[sum(counts[:s]):sum(counts[:s + 1])]) for s in range(len(counts))]
        return max(stages + [link] * (len(most) > 1)), sum(stage ** 2 for stage in stages), counts
    return min(map(cost, compositions(len(time), most)), default=(None, None, None))[2]


def pipelines(layers, most):
    """All that place the layers: devices in order, and the layers of each."""
    for k in range(1, len(most) + 1):
        for path in permutations(range(len(most)), k):
            for counts in compositions(layers, [most[i] for i in path]):
                yield path, counts


def every_pipeline(layers, most, times, delay):
    """PipeEdge's problem by trying everything: least (bottleneck, devices, their set as a number, path)."""
    t = means(times)
    return min((bottleneck(path, counts, t, delay), len(path), sum(1 << i for i in path), path)
               for path, counts in pipelines(layers, most))


# Pipelines of groups: stages of an allocate, case: a common.allocation_case


def group_passes(stages, tasks, client, seconds, crossing):
    """Whole microseconds of each of so many tasks: (work by task and stage, links by task and link, all-reduces by task
    and stage, which are in the work too). seconds(k, i): of a layer of task k on device i; crossing(k, i, j): of its
    activations from i to j."""
    work, links, reduces = [], [], []
    path = [[client], *(stage["devices"] for stage in stages), [client]]
    for k in range(tasks):
        work.append([])
        reduces.append([])
        for stage in stages:
            group, n = stage["devices"], stage["layers"]
            slowest = max(crossing(k, i, j) for i in group for j in group)
            reduces[k].append(round(4 * (len(group) - 1) / len(group) * slowest * n * 10 ** 6))
            work[k].append(round(max(seconds(k, i) for i in group) / len(group) * n * 10 ** 6) + reduces[k][-1])
        links.append([round(min(crossing(k, i, j) for i in a for j in b) * 10 ** 6) for a, b in zip(path, path[1:])])
    return work, links, reduces


def stage_work(stages, case):
    """Whole microseconds of work (task by stage) and of links (reproduce.whole_system)."""
    delay, times = case["delay"], case["times"]
    work, links, _ = group_passes(stages, len(times), len(delay) - 1, seconds=lambda k, i: times[k, i],
                                  crossing=lambda k, i, j: delay[i, j])
    return work, links[0]


def queue_at_each_stage(policy, stages, case, quantum):
    """Completion of each task: one stage after another is a queue of its own, in which the policy orders the tasks."""
    work, links = stage_work(stages, case)
    ready, deadline = (case["tasks"][key].tolist() for key in ("arrival_time", "deadline"))
    for s in range(len(stages)):
        jobs = []
        for k in range(len(ready)):
            due = deadline[k] - sum(work[k][s + 1:]) - sum(links[s + 1:])
            jobs.append((ready[k] + links[s], work[k][s], 0, due))
        if policy == "LLF":
            runs = llf(jobs, quantum)
        elif policy == "ADSA":
            runs = adsa(jobs, 1)  # all cross the same link: alike
        else:
            runs = {"FCFS": fcfs, "SRTF": srtf, "EDF": edf}[policy](jobs)
        ends = {k: end for k, _, end in runs}
        ready = [ends[k] for k in range(len(ready))]
    return [end + links[-1] for end in ready]


# Token by token (reproduce.tokens)


def token_by_token(arrival, output, prompt, token):
    """When each task's prompt and its last token are back at the client, tick by tick over the whole pipeline. prompt,
    token: (work by task and stage, links by task and link) in ticks."""
    tasks, stages = range(len(arrival)), range(len(prompt[0][0]))
    back = [[] for _ in tasks]
    at = [0] * len(arrival)  # the stage that a task is under way to, or in the queue of; the last: the client
    reach = [arrival[k] + prompt[1][k][0] for k in tasks]  # when; None in a queue, and at the end
    queues, left, now = [[] for _ in stages], [0 for _ in stages], 0  # left: ticks of the first of a queue

    def way(k):
        return token if back[k] else prompt

    while any(len(back[k]) <= output[k] for k in tasks):
        moved = True
        while moved:
            moved = False
            for s in stages:
                while queues[s] and left[s] == 0:
                    k = queues[s].pop(0)
                    at[k], reach[k] = s + 1, now + way(k)[1][k][s + 1]
                    left[s] = way(queues[s][0])[0][queues[s][0]][s] if queues[s] else 0
            here = [k for k in tasks if reach[k] == now]
            if here:  # one after another, as each may set off again at once
                k, moved = here[0], True
                if at[k] == len(stages):
                    back[k].append(now)
                    at[k], reach[k] = 0, now + token[1][k][0] if len(back[k]) <= output[k] else None
                else:
                    queues[at[k]].append(k)
                    reach[k] = None
                    if len(queues[at[k]]) == 1:
                        left[at[k]] = way(k)[0][k][at[k]]
        now += 1
        left = [ticks - 1 if queue else 0 for ticks, queue in zip(left, queues)]
    return [times[0] for times in back], [times[-1] for times in back]


def token_passes(stages, case, latency, bandwidth):
    """group_passes of each task's prompt, and of one of its tokens."""
    model, tasks, client = case["model"], case["tasks"].to_dict("records"), len(latency) - 1
    devices = {device.type: device for device in common.DEVICES}

    def seconds(k, i, kind):
        device = devices[case["bids"]["type"][i]]
        read = model.layer_bytes / (device.bandwidth_share * device.bandwidth * 1e9)
        compute = 2 * model.params / (device.compute_share * device.tflops * 1e12)
        parts = {"prompt": max(read, tasks[k]["prompt_tokens"] * compute), "token": max(read, compute)}
        whole = parts["prompt"] + tasks[k]["output_tokens"] * parts["token"]
        return parts[kind] / whole * case["times"][k][i]

    def crossing(k, i, j, kind):
        size = 2 * model.hidden * (tasks[k]["prompt_tokens"] if kind == "prompt" else 1)
        return 0 if i == j else latency[i][j] + size / bandwidth[i][j]

    return [group_passes(stages, len(tasks), client, partial(seconds, kind=kind), partial(crossing, kind=kind))
            for kind in ("prompt", "token")]


# FCIM -----------------------------------------------------------------------------------------------------------------


def significant(x, digits=9):
    """A fraction rounded to so many significant digits."""
    scale = Fraction(1)
    while x and x * scale < 10 ** (digits - 1):
        scale *= 10
    while x * scale >= 10 ** digits:
        scale /= 10
    return round(x * scale) / scale


def fcim(layers, offers, weights, delta, budget, deadline, tasks=1):
    """The rules of the mechanism one after another, in fractions: [(device, layers, reward)], or None where a round has
    no valid bid. offers: (layers, price, computation time) of each device; budget, deadline: for each of the tasks. All
    are numbers or texts, taken as the decimals that they show, an offer's in twelve digits."""
    offers = [[significant(Fraction(str(value)), 12) for value in offer] for offer in offers]
    alpha, beta, gamma, delta, budget, deadline, within = (
        Fraction(str(value)) for value in (*weights, delta, budget, deadline, "1e-9"))
    budget, deadline = budget * tasks, deadline * tasks
    per_layer = [P / l for l, P, _ in offers]
    criteria = [[significant(layers / l) for l, _, _ in offers], [significant(T / l) for l, _, T in offers],
                [significant(c) for c in per_layer]]
    present, out, missing = list(range(len(offers))), [], layers
    while missing > 0:
        valid = [i for i in present if offers[i][1] <= budget + within and offers[i][2] <= deadline + within]
        if not valid:
            return None
        score = dict.fromkeys(valid, 0)
        for weight, values in zip((alpha, beta, gamma), criteria):
            least, most = min(values[i] for i in valid), max(values[i] for i in valid)
            for i in valid:
                if most > least:
                    score[i] += weight * (values[i] - least) / (most - least)
        ranked = sorted(valid, key=lambda i: (score[i], criteria[2][i], i))
        winner = ranked[0]
        l, P, _ = offers[winner]
        n, c = min(l, missing), per_layer[winner]
        average = sum(per_layer[i] for i in valid) / len(valid)
        if len(valid) == 1:
            paid = c * n
        elif gamma > alpha + beta and n == l:
            paid = P
        elif gamma > alpha + beta or all(criteria[2][winner] <= criteria[2][i] for i in valid):
            paid = per_layer[ranked[1]] * n
        else:
            paid = max(per_layer[ranked[1]], c) * n - delta * n * (c - average)
        paid = max(paid, c * n)
        paid = min(paid, budget)
        out.append((winner, int(n), paid))
        present.remove(winner)
        missing -= n
        budget -= paid
    return out


def way(delay, order):
    """Links of a task, client to client (the last of delay, s), in microseconds, as integers of Python."""
    path = [len(delay) - 1, *order, len(delay) - 1]
    return sum(round(float(delay[i, j]) * 1e6) for i, j in zip(path, path[1:]))


def least_way(delay, won):
    """Of all orders of the winners the one of least links; of equal ones that in which who has won first goes first."""
    best = min(permutations(range(len(won))), key=lambda order: (way(delay, [won[i] for i in order]), order))
    return [won[i] for i in best]


# HexGen ---------------------------------------------------------------------------------------------------------------
# A stage is a group of devices. w (tasks, stages): seconds of a layer; d (stages + 1): of the links, the last one
# to the client; offers: layers a device.


def list_completion(n, w, d, arrivals):
    """When the task list is completed, task after task and stage after stage."""
    free = [0] * len(n)  # when a stage has finished the task before
    now = 0
    for k, arrival in enumerate(arrivals):
        now = arrival
        for s in range(len(n)):
            free[s] = max(free[s], now + d[s]) + n[s] * w[k][s]
            now = free[s]
    return now + d[-1]


def layer_moves(n, most):
    """All layer counts that a move of one layer makes: by the stage that gets it, then by the one that gives it."""
    return [[count + (s == more) - (s == less) for s, count in enumerate(n)] for more in range(len(n))
            for less in range(len(n)) if more != less and n[more] < most[more] and n[less] > 1]


def filled_up(layers, most, w, n):
    """n, within the limits, with layers given to stages that are shortest with one more, or taken from the longest."""
    n, work = [min(count, limit) for count, limit in zip(n, most)], [sum(column) for column in zip(*w)]
    while sum(n) < layers:
        s = min((s for s in range(len(n)) if n[s] < most[s]), key=lambda s: (n[s] + 1) * work[s])
        n[s] += 1
    while sum(n) > layers:
        s = max((s for s in range(len(n)) if n[s] > 1), key=lambda s: n[s] * work[s])
        n[s] -= 1
    return n


def best_moves(layers, most, w, d, arrivals, n, patience=math.inf, cutoff=math.inf):
    """Layer counts after the best move of one layer as long as one helps, and the completion time. It ends above the
    cutoff where so many more moves, each as good as the next, would not bring it below."""
    n = filled_up(layers, most, w, n)
    while True:
        time = list_completion(n, w, d, arrivals)
        moves = layer_moves(n, most)
        times = [list_completion(move, w, d, arrivals) for move in moves]
        least = min(times, default=time)
        if least >= time or time - patience * (time - least) >= cutoff:
            return n, time
        n = moves[times.index(least)]


def groupings(devices):
    """All ordered groupings of the devices, each of them used."""
    if not devices:
        yield ()
    for size in range(1, len(devices) + 1):
        for group in combinations(devices, size):
            for rest in groupings(tuple(i for i in devices if i not in group)):
                yield (group, *rest)


def device_bytes(model, k, cache):
    """Bytes of a layer on each of k devices that split it, of which each has one key-value head at least. cache: bytes
    of a layer's KV cache on a single device."""
    own = max(Fraction(model.kv_heads, k), 1)
    queries = Fraction(2 * model.heads * model.head_dim * model.hidden, k)
    keys = 2 * own * model.head_dim * model.hidden
    feed_forward = Fraction((3 if model.gated else 2) * model.feed_forward * model.hidden, k)
    return (queries + keys + feed_forward) * model.bits / 8 + own * cache / model.kv_heads


def most_layers(offers, model, cache):
    """Most layers of a group of devices that have room for so many each, alone; found by counting up."""
    room = min(offers) * device_bytes(model, 1, cache)
    n = 0
    while (n + 1) * device_bytes(model, len(offers), cache) <= room:
        n += 1
    return n


def stage_values(grouping, offers, delay, times, room=lambda offers: len(offers) * min(offers)):
    """Most layers, w and d of a grouping, from the definitions."""
    most, w, d = [], [], []
    for s, group in enumerate(grouping):
        k = len(group)
        slowest = max((delay[i][j] for i in group for j in group if i != j), default=0)
        most.append(room([offers[i] for i in group]))
        w.append([max(row[i] for i in group) / k + 4 * (k - 1) / k * slowest for row in times])
        before = grouping[s - 1] if s else (len(offers),)
        d.append(min(delay[i][j] for i in before for j in group))
    d.append(min(delay[i][len(offers)] for i in grouping[-1]))
    return most, list(zip(*w)), d


def genetic_search(layers, offers, delay, times, arrivals, sizes, room, first, mutate, rng, *, population, children,
                   tries, stale, patience):
    """The best found (time, grouping, layer counts), generations, number of groupings. first: groupings to begin with;
    mutate: makes another of one."""
    known, survivors, generations, unchanged = set(), [], 0, 0

    def placed(groups, share):
        """Placements of a new grouping, from the layers of the parent and from even stages."""
        grouping = tuple(tuple(sorted(group)) for group in groups)
        most, w, d = stage_values(grouping, offers, delay, times, room)
        if grouping in known or len(grouping) > layers or sum(most) < layers or {*map(len, grouping)} - sizes:
            return []
        known.add(grouping)
        start = [max(1, round(sum(share.get(i, 0) for i in group))) for group in grouping]
        inherited = best_moves(layers, most, w, d, arrivals, start, patience, cutoff())
        even = best_moves(layers, most, w, d, arrivals, [1] * len(grouping))
        return [[(time, grouping, n) for n, time in (inherited, even)]]

    def cutoff():
        return survivors[-1][0] if len(survivors) == population else math.inf

    new = [both for groups in first for both in placed(groups, {})]
    while new and unchanged < stale:
        before, generations = survivors[:1], generations + 1
        limit = cutoff()
        for inherited, even in new:
            if inherited[0] < limit:
                survivors.append(even if even[0] < inherited[0] else inherited)
        survivors = sorted(survivors, key=lambda one: one[0])[:population]
        unchanged = unchanged + 1 if survivors[:1] == before else 0
        new = []
        for k in rng.integers(len(survivors), size=tries * children).tolist():
            _, grouping, n = survivors[k]
            share = {i: count / len(group) for group, count in zip(grouping, n) for i in group}
            new += placed(mutate(grouping, delay, rng), share)
            if len(new) == children:
                break
    return survivors[0], generations, len(known)


def best_grouping(layers, offers, delay, times, arrivals, sizes=range(1, 100)):
    """Least completion time over all subsets of devices, groupings into groups of these sizes, and layer counts."""
    least = math.inf
    for number in range(1, len(offers) + 1):
        for devices in combinations(range(len(offers)), number):
            for grouping in groupings(devices):
                if not all(len(group) in sizes for group in grouping):
                    continue
                most, w, d = stage_values(grouping, offers, delay, times)
                counts = compositions(layers, most)
                if counts:  # list_completion, of all counts at once
                    n, free = np.array(counts), np.zeros((len(grouping), len(counts)))
                    for k, arrival in enumerate(arrivals):
                        now = arrival
                        for s in range(len(grouping)):
                            now = free[s] = np.maximum(free[s], now + d[s]) + n[:, s] * w[k][s]
                    least = min(least, now.min() + d[-1])
    return least


# Bounds of optimal.py: what stands in for the whole problem, solved by trying everything


def fewest_late(jobs):
    """Fewest late jobs (release, due, length) of one machine, all there from the first release on."""
    now = min(release for release, _, _ in jobs)

    def fits(some):
        ends = [now + sum(length for _, length in some[:k + 1]) for k in range(len(some))]
        return all(end <= due for end, (due, _) in zip(ends, some))
    by_due = sorted((due, length) for _, due, length in jobs)  # if some can be on time, then by due date
    most = max(k for k in range(len(jobs) + 1) if any(fits(some) for some in combinations(by_due, k)))
    return len(jobs) - most


def certainly_missed(case, link):
    """Tasks that are late alone; of the others, by arrival, the most that all or parts of halves must miss."""
    def least(tasks):
        if len(tasks) < 2:
            return 0
        bounds = [fewest_late([(a, d - q, p) for a, p, q, d in tasks])]
        if link == "shared":
            bounds.append(fewest_late([(a + p, d, q) for a, p, q, d in tasks]))
        half = len(tasks) // 2
        return max(*bounds, least(tasks[:half]) + least(tasks[half:]))
    hopeful = sorted(task for task in case if task[0] + task[1] + task[2] <= task[3])
    return len(case) - len(hopeful) + least(hopeful)


def sum_of_srpt(release, length):
    return sum({j: end for j, _, end in srtf([(r, p, 0, 0) for r, p in zip(release, length)])}.values())


def lower_bound(case, link, objective):
    a, p, q, _ = zip(*case)
    if objective == "turnaround":
        bounds = [sum_of_srpt(a, p) + sum(q)]
        if link == "shared":
            bounds.append(sum_of_srpt([one + two for one, two in zip(a, p)], q))
        return max(bounds) - sum(a)
    at_ease = [(*task[:3], math.inf) for task in case]
    bounds = [best_order(at_ease, "dedicated", "makespan")[1]]
    if link == "shared":  # what arrives from r on, all of it there at r: a flow shop of two machines
        bounds += [best_order([(r, *task[1:]) for task in at_ease if task[0] >= r], link, "makespan")[1] for r in {*a}]
    return max(bounds)


# Batches of tasks, of which each token is computed together (reproduce.batching): tick by tick


def batches(case, order, token, room, most):
    """End of each task, and the most room taken. case: (arrival, prompt, tokens, room it takes) of each task, in order
    of arrival; order(now, {task: what is left of it alone}): the tasks as the policy would run them; token[b]: ticks of
    a token of a batch of b."""
    left, begun, done = [n for _, _, n, _ in case], set(), {}
    now, batch, busy_until, changed, peak = 0, [], None, False, 0
    while len(done) < len(case):
        if busy_until == now:
            busy_until = None
            for j in batch:
                left[j] -= 1
                if left[j] == 0:
                    done[j] = now
                    changed = True
        changed = changed or any(arrival == now for arrival, _, _, _ in case)
        present = [j for j, (arrival, _, _, _) in enumerate(case) if arrival <= now and j not in done]
        if busy_until is None and present:
            if changed:
                rest = {j: left[j] * token[1] + (0 if j in begun else case[j][1]) for j in present}
                batch = []
                for j in order(now, rest):
                    taken = sum(case[i][3] for i in {*begun, *batch} - set(done))
                    if len(batch) < most and (j in begun or taken + case[j][3] <= room):
                        batch.append(j)
                changed = False
            busy_until = now + token[len(batch)] + sum(case[j][1] for j in batch if j not in begun)
            begun |= set(batch)
            peak = max(peak, sum(case[j][3] for j in begun - set(done)))
        now += 1
    return [done[j] for j in range(len(case))], peak


# Online, by estimates (reproduce/uncertainty.py) ----------------------------------------------------------------------


def online(arrival, length, estimate, rule, cost, rest):
    """Who runs in each tick (a list; None: nobody), tick by tick; lengths of one tick at least.

    rule(j, expected): what the least of decides, of task j with so much expected to be left; ties: the earlier arrival.
    Leaving a task that is not done takes `cost` ticks. rest: what is expected once an estimate is used up.
    """
    left, expected, ticks, held = list(length), list(estimate), [], None
    while any(left):
        present = [j for j in range(len(arrival)) if left[j] and arrival[j] <= len(ticks)]
        if not present:
            ticks.append(None)
            continue
        j = min(present, key=lambda j: (rule(j, expected[j]), arrival[j], j))
        if cost and held not in (None, j):
            ticks += [None] * cost
            held = j
            continue
        ticks.append(j)
        left[j] -= 1
        expected[j] -= 1
        held = j if left[j] else None
        if left[j] and expected[j] <= 0:
            expected[j] = rest
    return ticks
