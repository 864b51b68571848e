"""Adaptive Dynamic Scheduling Algorithm (ADSA): the longest transmission first, until a deadline is in danger.

    python ADSA.py
    python ADSA.py --tasks my_tasks.csv --link dedicated
    python ADSA.py --compare --runs 30 --seed 0

At every arrival and completion the unfinished tasks that have arrived are put in order: by arrival if their
transmission times are alike, else the longest transmission first. If every task would meet its deadline in that
order, its first task runs; else the task with the least slack does. (S. Habibi, O. Ercetin, "Edge-LLM Inference With
Cost-Aware Layer Allocation and Adaptive Scheduling", IEEE Access 13, 2025.)

A decision costs O(log n): the slacks of a whole order are kept in a segment tree. --compare sets ADSA beside FCFS,
SRTF, LLF and the optimum, on the list below and on random lists.
"""
import heapq
import math

import common

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS, a folder or owner/model
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
OUT = "results"  # where the files go
ALIKE = 0.1  # s: transmission times that differ by less than this, at most, are alike
RUNS = 30  # of --compare: random lists in each regime
LIMIT = 20  # s, of --compare: for each exact program
TASKS, WORDS, PROMPT, TRANS = 12, (40, 1200), (10, 200), (0.5, 5)  # of a random list: output and prompt words, s
REGIMES = {"loose": (0.6, (4, 8)), "strict": (0.9, (1.5, 3)), "overload": (1.3, (1.5, 3))}  # load, deadline factor

tasks = [
    {"label": "Task 1", "prompt": "Write a complete guide to starting a community garden: the site, the soil, the "
     "beds, the watering, and how to share the work over the year.",
     "arrival_time": 0, "output_words": 1200, "trans_time": 5, "deadline": 100},
    {"label": "Task 2", "prompt": "Explain the causes of the 2008 financial crisis to a reader without economics.",
     "arrival_time": 3, "output_words": 300, "trans_time": 2, "deadline": 20},
    {"label": "Task 3", "prompt": "Plan four one-hour lessons on renewable energy for a secondary school, with one "
     "experiment for each.",
     "arrival_time": 10, "output_words": 1000, "trans_time": 3, "deadline": 35},
    {"label": "Task 4", "prompt": "Describe the attached aerial photograph of a river delta and return it annotated.",
     "arrival_time": 14, "output_words": 100, "trans_time": 8, "deadline": 45},
    {"label": "Task 5", "prompt": "Compare three ways to keep patient records in a rural clinic whose network often "
     "fails, and recommend one.",
     "arrival_time": 19, "output_words": 800, "trans_time": 4, "deadline": 55},
]


# An order of tasks as a segment tree (S, B) over static ranks. With S_i the remaining time of the task at rank i and
# B_i = deadline - trans - S_i, a node holds S = Sl + Sr and B = min(Bl, Br - Sl): the least of deadline - trans -
# (remaining times up to and including the task) over its tasks. The root's B - now is the least slack of the order.


def new_tree(n):
    """Tree over n ranks, all empty (S = 0, B = infinity)."""
    size = 1 << max(0, n - 1).bit_length()
    return [0] * (2 * size), [math.inf] * (2 * size)


def set_leaf(tree, rank, s, b):
    """Puts a leaf (s, b) and brings its ancestors up to date."""
    S, B = tree
    i = rank + len(S) // 2
    if S[i] == s and B[i] == b:
        return
    S[i], B[i] = s, b
    while i > 1:  # s and b: of the child i, then of its parent
        if i & 1:
            left = S[i - 1]
            s += left
            b -= left
            if B[i - 1] <= b:
                b = B[i - 1]
        else:
            right = B[i + 1] - s
            s += S[i + 1]
            if right < b:
                b = right
        i >>= 1
        S[i] = s
        B[i] = b


def least_slack(tree):
    """Rank of the task with the least slack, the first in order of equal ones."""
    S, B = tree
    i, leaves = 1, len(S) // 2
    while i < leaves:
        i *= 2
        if B[i + 1] - S[i] < B[i]:
            i += 1
    return i - leaves


def busy_periods(a, p):
    """Ranges [lo, hi) of tasks by arrival between which the processor, whatever the policy, stands idle."""
    lo, end = 0, a[0]
    for i in range(len(a)):
        if a[i] > end:
            yield lo, i
            lo = i
        end = max(end, a[i]) + p[i]
    yield lo, len(a)


def busy_period(a, p, q, d, alike):
    """Runs (task, start, end) of one busy period; arrival, computation, trans and deadline by order of arrival."""
    n = len(a)
    by_trans = sorted(range(n), key=lambda j: -q[j])  # stable: equal ones stay in order of arrival
    rank = [0] * n
    for r, j in enumerate(by_trans):
        rank[j] = r
    remaining, done = list(p), [False] * n
    trees = new_tree(n), new_tree(n)  # by arrival, by trans
    changed = [], []  # tasks that a tree does not show as they are: it is brought up to date when it is consulted
    longest, shortest = [], []  # heaps of the ranks by trans of the tasks present, and of their negatives
    oldest = i = 0  # first unfinished task; next to arrive
    now, runs = a[0], []
    while i < n or oldest < n:
        while i < n and a[i] <= now:
            heapq.heappush(longest, rank[i])
            heapq.heappush(shortest, -rank[i])
            changed[0].append(i)
            changed[1].append(i)
            i += 1
        while done[by_trans[longest[0]]]:
            heapq.heappop(longest)
        while done[by_trans[-shortest[0]]]:
            heapq.heappop(shortest)
        if longest[0] == -shortest[0]:  # alone
            j = oldest
        else:
            trans_order = q[by_trans[longest[0]]] - q[by_trans[-shortest[0]]] >= alike
            tree, j = trees[trans_order], by_trans[longest[0]] if trans_order else oldest
            for c in changed[trans_order]:
                r = rank[c] if trans_order else c
                if done[c]:
                    set_leaf(tree, r, 0, math.inf)
                else:
                    set_leaf(tree, r, remaining[c], d[c] - q[c] - remaining[c])
            changed[trans_order].clear()
            if tree[1][1] < now:  # some slack is negative
                j = least_slack(tree)
                j = by_trans[j] if trans_order else j
        end = now + remaining[j]
        if i < n and a[i] < end:
            end = a[i]
        remaining[j] -= end - now
        done[j] = remaining[j] == 0
        changed[0].append(j)
        changed[1].append(j)
        runs.append((j, now, end))
        now = end
        while oldest < i and done[oldest]:
            oldest += 1
    return runs


def schedule(tasks):
    """Compute intervals (label, start, end; microseconds) of a task table, in order of time."""
    queue = tasks.sort_values("arrival_time", kind="stable")  # ties: the earlier arrival, then the earlier row
    a, p, q, d = (queue[key].tolist() for key in ("arrival_time", "computation_time", "trans_time", "deadline"))
    alike = round(common.check_number(ALIKE, "ALIKE") * common.US)
    runs = []
    for lo, hi in busy_periods(a, p):
        period = busy_period(a[lo:hi], p[lo:hi], q[lo:hi], d[lo:hi], alike)
        runs += [(lo + j, start, end) for j, start, end in period]
    return common.interval_table(queue, runs)


# Comparison -----------------------------------------------------------------------------------------------------------

METHODS = ["ADSA", "FCFS", "SRTF", "LLF", "optimal (makespan)", "optimal (turnaround)"]
UNITS = {"mean_waiting_time": "s", "mean_response_time": "s", "mean_turnaround_time": "s", "deadlines_met": "",
         "T_end": "s", "preemptions": "", "peak_memory_gb": ""}
ABOVE = {"deadlines_behind": "", "T_end_above": "%", "mean_turnaround_time_above": "%"}  # from the proven optimum
PANELS = [("mean_waiting_time", "waiting (s)"), ("mean_response_time", "response (s)"),
          ("mean_turnaround_time", "turnaround (s)"), ("deadlines_met", "deadlines\nmet (count)"),
          ("T_end", "T_end (s)"), ("preemptions", "preemptions\n(count)")]
LEGEND = """mean \u00b1 95 % interval (Student's t); ADSA's change: of its mean against this method's
deadlines_behind: fewer than the proven optimum meets; above: its T_end or turnaround, if as many deadlines are met"""
PAPER = -39  # %: the change of queueing delay under strict deadlines that the paper's abstract claims for ADSA
WHY = """The claim names neither its baseline nor what it counts as queueing delay: here that is waiting_time, ready and
not running, in which no schedule is on average below SRTF (Schrage 1968) and which ADSA, that looks at transmissions
and deadlines, does not aim at; nearest to the claim comes"""


def random_tasks(regime, seed, run, model, device):
    """Task table of a random list. The tasks of a run are those of all regimes, but for arrivals and deadlines."""
    import numpy as np
    draw, (load, factors) = np.random.default_rng((seed, run)), REGIMES[regime]
    prompt, output = (draw.integers(*words, TASKS, endpoint=True) for words in (PROMPT, WORDS))
    output = np.minimum(output, int(model.context / common.TOKENS_PER_WORD) - max(PROMPT) - 2)  # none runs capped
    trans, factor = draw.uniform(*TRANS, TASKS), draw.uniform(*factors, TASKS)
    arrival = np.sort(draw.uniform(0, 1, TASKS))
    table = common.read_tasks([
        {"label": f"Task {k + 1}", "prompt": "word " * int(prompt[k]), "arrival_time": float(arrival[k] - arrival[0]),
         "output_words": int(output[k]), "trans_time": float(trans[k]), "deadline": float(arrival[k])}
        for k in range(TASKS)], model, device, load=load)
    due = factor * (table["computation_time"] + table["trans_time"])  # known only now
    return table.assign(deadline=table["arrival_time"] + np.rint(due).astype("int64"))


def measure(tasks, model, device, link):
    """What each of METHODS makes of a task table, or of the random list (regime, seed, run): the metrics of each and,
    of a table, (tasks, intervals, lines about what is proven) of each."""
    import FCFS
    import LLF
    import optimal
    import SRTF
    drawn = isinstance(tasks, tuple)
    if drawn:
        tasks = random_tasks(*tasks, model, device)
    schedules = [policy(tasks) for policy in (schedule, FCFS.schedule, SRTF.schedule, LLF.schedule)]
    schedules += [optimal.schedule(tasks, link, objective, LIMIT) for objective in ("makespan", "turnaround")]
    rows, details = [], []
    for name, intervals in zip(METHODS, schedules):
        result, everything = common.simulate(tasks, intervals, link)
        metrics = common.scheduling_metrics(name, tasks, result, model, device)
        rows.append({"algorithm": metrics.pop("scheduler"), **metrics, **intervals.attrs.get("metrics", {})})
        details.append((result, everything, intervals.attrs.get("summary", [])))
    for metrics in rows:
        for key, best in zip(("T_end", "mean_turnaround_time"), rows[-2:]):
            behind = best["deadlines_met"] - metrics["deadlines_met"] if best["proven_optimal"] else math.nan
            as_many = behind == 0 and best[key] > 0  # with fewer deadlines met, less time would prove nothing
            metrics[f"{key}_above"] = round(100 * (metrics[key] / best[key] - 1), 4) + 0 if as_many else math.nan
            metrics["deadlines_behind"] = behind
    return rows, [] if drawn else details  # nobody looks at those of random lists


def readable(table, runs):
    """Tables of common.compare and of its runs as one: means, ADSA's change, distance from the optimum, counts."""
    import pandas as pd
    side = common.side_by_side(table, METHODS, {**UNITS, **ABOVE, "deadlines_met": f"of {runs['tasks'].iloc[0]}"})
    means, change = side[["metric"] + METHODS], side.drop(columns=METHODS)[:len(UNITS)]
    change = change.rename(columns={f"to {name}": name for name in METHODS})
    change["metric"] = [f"ADSA's change: {key}" for key in UNITS]
    compared = table[table["metric"] == "T_end_above"].set_index("algorithm")["runs"]
    proven = runs.dropna(subset=["proven_optimal"]).groupby("algorithm")["proven_optimal"].sum()
    counts = [{"metric": what, **count.astype(int).astype(str)} for what, count in (
        ("as many deadlines met (lists)", compared), ("proven optimal (lists)", proven))]
    return pd.concat([means[:len(UNITS)], change, means[len(UNITS):], pd.DataFrame(counts)]).fillna("")


def compare(tasks, model, device, link, args):
    """--compare: METHODS on `tasks` and on random lists in REGIMES; tables, figures, the paper's claim (for strict)."""
    import pandas as pd
    number, seed = (int(common.check_number(getattr(args, key), f"--{key}", whole=True)) for key in ("runs", "seed"))
    if number == 0:
        raise common.UserError("--runs: 0 is not a number of runs")
    cases = [(regime, seed, run) for regime in REGIMES for run in range(number)]
    (own, details), *drawn = common.in_parallel(measure, [(case, model, device, link) for case in [tasks, *cases]])
    one = pd.DataFrame(own)
    if one["memory_utilization"].max() > 1:
        common.warn(f"weights and KV caches reach {one['peak_memory_gb'].max():.1f} GB, the {device.type} has "
                    f"{device.memory} GB: these are the times of one that could hold them")
    runs = pd.DataFrame([dict(zip(("regime", "seed", "run"), case), **metrics)
                         for case, (rows, _) in zip(cases, drawn) for metrics in rows])
    of_one, table = (common.compare(rows, [key], METHODS, [*UNITS, *ABOVE])
                     for rows, key in ((one, "tasks"), (runs, "regime")))
    for some in of_one, table:
        some.loc[some["metric"].isin(ABOVE), "change"] = math.nan  # of a distance it would mislead
    change = of_one.pivot(index="algorithm", columns="metric", values="change")[list(UNITS)]
    one = one.join(change.add_prefix("change_"), on="algorithm")

    means = table[table["regime"] == "strict"].pivot(index="metric", columns="algorithm", values="mean")
    baselines = {**means[METHODS[1:4]], "their mean": means[METHODS[1:4]].mean(axis=1)}
    change = {(name, key): 100 * (means["ADSA"] / mean - 1)[key] for name, mean in baselines.items()
              for key in list(UNITS)[:3]}
    claims = pd.DataFrame([{"ADSA against": name, "paper (%)": PAPER, **{
        f"{key} (%)": f"{change[name, key]:+.1f}" for key in list(UNITS)[:3]}} for name in baselines])
    name, key = min(change, key=lambda pair: abs(change[pair] - PAPER))
    why = f"{WHY} {key} against {name} ({change[name, key]:+.1f} %)."

    parts = [(f"The list: {len(tasks):,} tasks", readable(of_one, one).replace(r"(\.0+)? \u00b1 n/a$", "", regex=True))]
    parts += [(f"{regime}: load {load} (computation / span of arrivals), deadline = arrival + {low}..{high} x "
               f"(computation + transmission), {number} lists", readable(*(
                   rows[rows["regime"] == regime] for rows in (table, runs))))
              for regime, (load, (low, high)) in REGIMES.items()]
    parts += [(f"The paper: ADSA lowers queueing delay by {-PAPER} % under strict deadlines; ours in regime strict",
               claims)]
    files = {f"ADSA_compare_{name}.csv": common.csv_writer(content) for name, content in (
        ("runs", runs), ("list", one), ("regimes", table), ("claims", claims))}
    files["ADSA_compare.tex"] = common.latex_writer(parts)
    if not args.no_plot:
        charts = [(f"{metrics['algorithm']}: {metrics['deadlines_met']} of {len(tasks)} deadlines met",
                   *map(common.in_seconds, tables)) for metrics, (*tables, _) in zip(own, details)]
        files["compare_scheduling.png"] = lambda path: common.draw_bars(path, PANELS, "regime", METHODS, table)
        files["compare_gantt.png"] = lambda path: common.draw_gantt(path, charts)
    paths = common.write_files(args.out, files)

    print(f"--compare: {model.name} ({model.layers} layers, {model.bits} bits) on {device.type}, {link} uplink\n"
          f"random lists: {TASKS} tasks, {WORDS[0]}..{WORDS[1]} words of output, {PROMPT[0]}..{PROMPT[1]} of prompt, "
          f"{TRANS[0]}..{TRANS[1]} s of transmission, seed {seed}\n{LEGEND}\n")
    for caption, part in parts:
        print(caption)
        common.print_table(part.rename(columns=lambda name: name.replace(" ", "_")))
        print("")
    print(*(f"the list, {name}: {line}" for name, found in zip(METHODS, details) for line in found[-1]), "", why,
          sep="\n")
    print(f"\nwritten: {', '.join(paths)}")


if __name__ == "__main__":
    common.run_scheduler("ADSA", schedule, tasks, __doc__, model=MODEL, device=DEVICE, link=LINK, out=OUT,
                         compare=compare, runs=RUNS)
