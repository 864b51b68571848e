"""How many equal devices a list of tasks needs for 95 % of its deadlines: random lists, or one of your own.

    python -m reproduce.devices
    python -m reproduce.devices --tasks mine.csv --most 20 --also mine.py

Tasks are dealt in order of arrival, each to the device that would be the first to have computed and sent all that it
was dealt, first come, first served (ties: the first). Each device orders its own tasks by the policy and has an uplink
of its own.
"""
import functools
import sys

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import numpy as np
import pandas as pd

import common
from reproduce import stats, study

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS
DEVICE = "T4"  # the type of all devices: a name in common.DEVICES
LINK = "shared"  # the uplink of each device: "shared" (one result at a time) or "dedicated" (no contention)
SEED = 0  # of the random lists
RUNS = 20  # random lists
MOST = 8  # devices: 1, 2, ... so many
GOAL = 95  # % of the deadlines
TASKS = 300  # of a random list
LOAD = 4  # of a random list: computation / span of arrivals
PROMPT = (10, 250)  # tokens of a prompt: the least and the most
OUTPUT = (50, 1600)  # tokens of output
TRANS = (0.5, 5)  # s of transmission
FACTOR = (1.5, 3)  # deadline: arrival + this x (computation + transmission)

MET = "deadlines_met_percent"


def add_flags(parser):
    parser.add_argument("--most", metavar="N", type=int, default=MOST, help="devices: 1, 2, ... so many")


def cases(args):
    most = int(common.check_number(args.most, "--most", whole=True, least=1))
    lists = study.task_lists(args, TASKS, PROMPT, OUTPUT, TRANS, FACTOR, LOAD)
    about = dict(model=args.model, device=args.device, link=args.link, seed=args.seed, tasks_file=args.tasks or "")
    return [(tasks, args.methods, dict(about, tasks=len(tasks), run=run, devices=devices))
            for run, tasks in enumerate(lists) for devices in range(1, most + 1)]


def run_case(tasks, methods, about):
    """The deadlines that the policies ({name: script}) meet; about: columns that say what was set."""
    shares = [share.reset_index(drop=True) for _, share in tasks.groupby(deal(tasks, about["devices"], about["link"]))]
    rows = []
    for name, path in methods.items():
        with study.errors_of(name):
            served = [common.simulate(share, study.script(path).schedule(share), about["link"])[0] for share in shares]
        rows.append({**about, "algorithm": name, MET: 100 * pd.concat(served)["deadline_met"].mean()})
    return rows


def deal(tasks, devices, link):
    """The device (0, 1, ...) that each task is dealt to: an array. tasks: in order of arrival."""
    computed = np.zeros(devices, "int64")  # when each device has computed all that it was dealt
    sent = np.zeros(devices, "int64")  # and when it has sent all of that
    backlog = sent if link == "shared" else computed
    chosen = []
    for arrival, computation, trans in zip(tasks["arrival_time"], tasks["computation_time"], tasks["trans_time"]):
        k = np.maximum(backlog, arrival).argmin()
        computed[k] = max(computed[k], arrival) + computation
        sent[k] = max(sent[k], computed[k]) + trans
        chosen.append(k)
    return np.array(chosen)


def report(runs):
    about = runs.iloc[0]
    who = list(runs["algorithm"].unique())
    number = runs["run"].nunique()
    table = stats.compare(runs, ["devices"], "run", who, [MET])
    needed = pd.DataFrame({"policy": who})
    for what, column in [("mean", "mean"), ("whole_interval", "low")][:number]:  # one list has no interval
        enough = table[table[column] >= GOAL].groupby("algorithm")["devices"].min()
        needed[what] = [enough.get(name, f"more than {runs['devices'].max()}") for name in who]
    lists = about["tasks_file"] or f"{number} random lists, load {LOAD}, seed {about['seed']}"
    parts = [f"reproduce.devices: {about['model']} on {about['device']}, {about['link']} uplink of each device\n"
             f"{lists}, {about['tasks']:,} tasks" + (f"\n{study.legend(number, changes=False)}" if number > 1 else ""),
             ("met", "Deadlines met (%)", study.means(table, ["devices"], who)),
             ("needed", f"Least number of devices of which the mean, or its whole interval, reaches {GOAL} %", needed)]
    parts += study.own_changes(runs, ["devices"], "run", who, [MET])
    goal = {MET: (GOAL, f"{GOAL} %")}
    figure = functools.partial(study.draw_lines, marks=goal), {MET: "deadlines met (%)"}, "devices", who, table
    return parts, {"table": table}, {"": figure}


if __name__ == "__main__":
    study.run("devices", __doc__, cases, run_case, report, RUNS,
              ["model", "device", "link", "seed", "tasks_file", "tasks", "run", "devices", MET], study.POLICIES,
              flags=add_flags, tasks=None, model=MODEL, device=DEVICE, link=LINK, seed=SEED, out=study.OUT)
