"""Token by token: every prompt and every token crosses every link, beside the paper's one crossing a task.

    python -m reproduce.tokens
    python -m reproduce.tokens --pool paper --runs 10 --also Mine.py
    python -m reproduce.tokens --pool campus --network links.csv

In the paper's model a stage computes all tokens of a task and passes it on once. Here the client embeds a prompt, sends
it over all stages and gets it back, applies the output head, and so knows the first token; then each of the output
tokens goes the same way, the next one once it is back (the way of the last one says that the output ends). A stage
serves prompts and tokens of all tasks first come, first served, one at a time (ties: the task that arrived first).

A link has a latency and a bandwidth, drawn for each pair of devices in three kinds of network. Each token, of a prompt
too, crosses it as hidden x 2 bytes, on every link, and within a group in all-reduces (common.stage_times).

The methods plan with the seconds that all crossings of a link take a task, in the mean over the list, as --links would
hand them over. "paper_": the same allocations under the paper's model, by common.evaluate, with these links.

--network takes measured links in place of drawn ones: a CSV or JSON file with the fields from, to (devices of the pool,
or client), latency_ms (one way) and mbit_s, each pair once (those within a host, HOST, may be left out). The seconds
that the methods plan with are written to tokens_links.csv then, for --links of the nine.
"""
import heapq
import os
import sys

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import numpy as np
import pandas as pd

import common
import FCIM
from reproduce import stats, study

MODELS = ["BLOOM-176B"]  # whose layers are placed: names in common.MODELS
POOLS = ["campus", "cloud", "paper"]  # the devices, owned and rented: names in common.POOLS
SEED = 0  # of the first draw
RUNS = 20  # draws of links and bids in each network
NETWORKS = {  # between hosts: latency (s), bandwidth (bytes/s)
    "local network": (0.5e-3, 1e9 / 8),
    "Wi-Fi": (5e-3, 100e6 / 8),
    "wide area": (40e-3, 20e6 / 8),
}
FACTOR = (0.5, 2)  # of each link: latency x, bandwidth / a number between the two
HOST = (20e-6, 12e9)  # latency and bandwidth within a host
VALUE_BYTES = 2  # of an activation
LINK = {"from": str, "to": str, "latency_ms": float, "mbit_s": float}  # a measured one

KEYS = ["model", "pool", "network"]
METRICS = ["completion_time", "mean_turnaround_time", "time_to_first_token", "time_per_token", "communication_overhead",
           "paper_completion_time", "paper_mean_turnaround_time"]
SHOWN = {"completion_time": "Completion of the list, token by token (s)",
         "paper_completion_time": "Completion of the list, the paper's model (s)",
         "time_to_first_token": "Time to the first token (s)",
         "time_per_token": "Time per token (s)"}
PANELS = {"completion_time": "completion (s)\ntoken by token", "paper_completion_time": "completion (s)\npaper's model",
          "time_to_first_token": "first\ntoken (s)", "time_per_token": "time per\ntoken (s)"}


# Runs -----------------------------------------------------------------------------------------------------------------
def add_flags(parser):
    study.add_model_and_pool(parser, MODELS, POOLS)
    parser.add_argument("--network", metavar="FILE", help="measured links of a pool, in place of drawn ones")


def cases(args):
    """A case is a draw of links and bids in a network, or, of a file of links, of bids alone."""
    settings = study.models_and_pools(args, MODELS, POOLS)
    networks = NETWORKS
    if args.network is not None:
        networks = [args.network]
        common.require(len(settings) == 1, f"--network {args.network}: these are links of one pool, for one model: "
                       "choose them by --pool and --model")
        write_links(args, *settings[0])
    return [(args.tasks, *setting, network, args.seed + k, args.methods)
            for setting in settings for network in networks for k in range(args.runs)]


def write_links(args, model, pool):
    case = study.quiet_case(args.tasks, model, pool, args.seed)
    case = plan_with(case, *measured_links(case["bids"], args.network, pool))
    prompt, output = case["tasks"][["prompt_tokens", "output_tokens"]].mean()
    path, = common.write_files(args.out, {"tokens_links.csv": case["links"].rename_axis("").reset_index()})
    print(f"written: {path}, for --links: the seconds that all crossings of a link take\na task of {prompt:.1f} prompt "
          f"and {output:.1f} output tokens, the mean of the list, by {model.name}\n")


def run_case(tasks, model, pool, network, seed, methods):
    """Metrics of the methods ({name: script})."""
    case = study.quiet_case(tasks, model, pool, seed)
    if network in NETWORKS:
        links = draw_links(case["bids"], *NETWORKS[network], seed)
    else:
        links = measured_links(case["bids"], network, pool)
    case = plan_with(case, *links)
    rows = []
    for name, path in methods.items():
        row = dict(model=model.name, pool=pool, network=os.path.basename(network), seed=seed,
                   tasks_file=tasks if isinstance(tasks, str) else "", algorithm=name, problem="")
        rows.append(row)
        try:
            with study.errors_of(name):
                stages, _ = study.script(path).allocate(**case)
                _, _, _, paper = common.evaluate(stages, **case)
        except common.NoAllocation as none:
            row["problem"] = str(none)
            continue
        row.update(run_tokens(stages, case, *links))
        row["paper_completion_time"] = paper["completion_time"]
        row["paper_mean_turnaround_time"] = paper["mean_turnaround_time"]
    return rows


# Links ----------------------------------------------------------------------------------------------------------------
def draw_links(bids, latency, bandwidth, seed):
    """Latency (s) and bandwidth (bytes/s) of each link: two square arrays over the bidders and, last, the client. A
    link's draw depends on the seed and on the names at its ends alone, and is the same in each network."""
    def link(pair, is_host):
        if is_host:
            return HOST
        slow, thin = common.draw(seed, "tokens", *pair).uniform(*FACTOR, 2)
        return latency * slow, bandwidth / thin
    return in_squares(bids, link)


def measured_links(bids, path, pool):
    """The same of a file of links between devices of the pool. Raises UserError."""
    table = common.read_table(study.PLACES.get(path, path), "link", LINK, {})
    known = [*(line[0] for line in common.POOLS[pool]), "client"]
    for end in ("from", "to"):
        common.check_rows(table[end].isin(known), table[end], path, f"is not in pool {pool}: {', '.join(known)}")
    pairs = [tuple(sorted(pair)) for pair in zip(table["from"], table["to"])]
    common.check_rows(~pd.Series(pairs).duplicated(), table["to"], path, "ends a pair that is there already")
    common.check_rows(table["mbit_s"] > 0, table["mbit_s"], path, "is not above 0")
    measured = dict(zip(pairs, zip(table["latency_ms"] / 1e3, table["mbit_s"] * 1e6 / 8)))

    def link(pair, is_host):
        common.require(is_host or pair in measured, f"{path}, {' to '.join(pair)}: missing")
        return measured.get(pair, HOST)
    return in_squares(bids, link)


def in_squares(bids, link):
    """The latencies and bandwidths that link(pair of names, whether both are on a host) gives, in two squares."""
    names = [*bids["device"], "client"]
    hosts = [*bids["host"], None]
    latencies = np.zeros((len(names), len(names)))
    bandwidths = np.full_like(latencies, np.inf)
    for i in range(len(names)):
        for j in range(i):
            pair = tuple(sorted((names[i], names[j])))
            latencies[[i, j], [j, i]], bandwidths[[i, j], [j, i]] = link(pair, hosts[i] == hosts[j])
    return latencies, bandwidths


def plan_with(case, latency, bandwidth):
    """The case with links that say what all crossings take a task, in the mean over the list."""
    tasks = case["tasks"]
    prompt, output = tasks["prompt_tokens"].mean(), tasks["output_tokens"].mean()
    crossings = 1 + output
    size = (prompt + output) * case["model"].hidden * VALUE_BYTES
    delay = (crossings * latency + size / bandwidth).round(6)
    links = pd.DataFrame(delay, case["links"].index, case["links"].columns)
    return dict(case, links=links, delay=delay)


# Token by token -------------------------------------------------------------------------------------------------------
def run_tokens(stages, case, latency, bandwidth):
    """Metrics, in seconds, of an allocation through which the tasks go token by token."""
    tasks = case["tasks"]
    arrival = tasks["arrival_time"].to_numpy()
    output = tasks["output_tokens"].to_numpy()
    prompt_times, token_times = split_times(case)
    prompt = pass_times(stages, case, latency, bandwidth, tasks["prompt_tokens"], prompt_times)
    token = pass_times(stages, case, latency, bandwidth, np.ones(len(tasks)), token_times)
    first, last = pass_tokens(arrival, output, prompt, token)

    def total(key):  # over all passes of all tasks
        return (prompt[key].sum(axis=1) + output * token[key].sum(axis=1)).sum()
    communicating = total("links") + total("allreduce")
    both = total("compute") + communicating
    answers = output > 0
    per_token = (last - first)[answers] / output[answers]
    return {
        "completion_time": common.rounded_seconds(last.max() - arrival.min()),
        "mean_turnaround_time": common.rounded_seconds((last - arrival).mean()),
        "time_to_first_token": common.rounded_seconds((first - arrival).mean()),
        "time_per_token": common.rounded_seconds(per_token.mean()) if answers.any() else np.nan,
        "communication_overhead": round(float(communicating / (both or 1)), 6),
    }


def split_times(case):
    """Seconds a layer that each task's prompt takes on each bidding device, and that one of its tokens takes: two
    arrays (tasks, devices). prompt + output tokens x token is what the bid promises; the two are as the roofline's, max
    (computing, reading the weights)."""
    tasks = case["tasks"].assign(given_time=np.nan)  # the estimates count
    devices = [common.get_device(name) for name in case["bids"]["type"]]
    prompt = common.layer_times(tasks.assign(output_tokens=0), case["model"], devices)
    token = common.layer_times(tasks.assign(output_tokens=0, prompt_tokens=1), case["model"], devices)
    scale = case["times"] / (prompt + tasks[["output_tokens"]].to_numpy() * token)
    return prompt * scale, token * scale


def pass_times(stages, case, latency, bandwidth, tokens, times):
    """What one pass of each task through the pipeline takes, in microseconds: compute and allreduce (tasks, stages),
    links (tasks, stages + 1). tokens: that each task sends; times: seconds a layer (tasks, devices)."""
    groups = [stage["devices"] for stage in stages]
    layers = np.array([stage["layers"] for stage in stages])
    passes = []
    for k, size in enumerate(tokens * case["model"].hidden * VALUE_BYTES):
        crossing = latency + size / bandwidth
        passes.append(common.stage_times(groups, layers, crossing, times[k:k + 1]))
    compute, allreduce, links = (np.array(part) for part in zip(*passes))
    return {"compute": compute[:, 0], "allreduce": allreduce, "links": links}


def pass_tokens(arrival, output, prompt, token):
    """When each task's prompt and when its last token is back at the client: two arrays, in microseconds.

    arrival: of the tasks, ascending; output: tokens of each; prompt, token: pass_times of its prompt, of one token.
    Exact: what reaches a stage is taken in order of time, so that each stage serves first come, first served.
    """
    work = [(way["compute"] + way["allreduce"]).tolist() for way in (prompt, token)]  # by kind, task, stage
    links = [way["links"].tolist() for way in (prompt, token)]
    stages = len(work[0][0])
    free = [0] * stages  # when each stage has served all that has reached it
    first, last = [None] * len(arrival), [None] * len(arrival)
    left = output.tolist()  # tokens that have not been sent
    coming = []  # heap of time, task and the stage that it reaches then
    for k, start in enumerate(arrival.tolist()):
        heapq.heappush(coming, (start + links[0][k][0], k, 0))
    while coming:
        now, k, s = heapq.heappop(coming)
        kind = 0 if first[k] is None else 1
        free[s] = max(free[s], now) + work[kind][k][s]
        now = free[s] + links[kind][k][s + 1]
        if s + 1 < stages:
            heapq.heappush(coming, (now, k, s + 1))
            continue

        # Back at the client, which sends the next token.
        if first[k] is None:
            first[k] = now
        last[k] = now
        if left[k]:
            left[k] -= 1
            heapq.heappush(coming, (now + links[1][k][0], k, 0))
    return np.array(first), np.array(last)


# Report ---------------------------------------------------------------------------------------------------------------
def report(runs):
    who = list(runs["algorithm"].unique())
    shared, failures = study.on_shared_draws(runs, KEYS)
    table = stats.compare(shared, KEYS, "seed", who, METRICS)
    rows = [key for key in KEYS if runs[key].nunique() > 1] or ["network"]
    completion = table[table["metric"] == "completion_time"]
    parts = [heading(runs), *failures, *study.means_of(table, rows, who, SHOWN),
             ("changes", f"Completion of the list, token by token: change of {who[0]} in % against each",
              study.changes(completion, rows, who)),
             *study.own_changes(shared, rows, "seed", who, SHOWN)]
    figures = {}
    for (model, pool), part in table.groupby(["model", "pool"], sort=False):
        end = f"_{model}_{pool}".replace(" ", "-") if "model" in rows else f"_{pool}"
        figures[end] = study.draw_bars, PANELS, "network", who, part, f"{model}, {pool}"
    return parts, {"table": table}, figures


def heading(runs):
    number = runs["seed"].nunique()
    tasks = os.path.basename(runs["tasks_file"][0]) or "the list of FCIM.py"
    models, pools = (", ".join(runs[key].unique()) for key in ("model", "pool"))
    text = (f"reproduce.tokens: {models}, pools {pools}, {tasks}\n"
            f"{number} draws of bids and links in each network, seeds from {runs['seed'].min()}\n")
    for network in runs["network"].unique():
        what = "links as measured"
        if network in NETWORKS:
            latency, bandwidth = NETWORKS[network]
            what = f"{1e3 * latency:g} ms x, {8e-6 * bandwidth:g} Mb/s / {FACTOR[0]}..{FACTOR[1]}, drawn for each link"
        text += f"{network}: {what}\n"
    return (f"{text}the paper's model: a task crosses each link once, for as long as all its crossings take\n"
            f"{study.legend(number)}")


if __name__ == "__main__":
    study.run("tokens", __doc__, cases, run_case, report, RUNS, [*KEYS, "tasks_file", "seed", "problem", *METRICS],
              {**study.ALLOCATORS, **study.REFERENCES}, flags=add_flags, tasks=FCIM.tasks, seed=SEED, out=study.OUT)
