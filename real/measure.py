"""Generates every task on a real model, and writes a task file with what each took, for any of the nine scripts.

    python -m real.measure ADSA --checkpoint HuggingFaceTB/SmolLM2-135M-Instruct
    python ADSA.py --tasks results/ADSA_measured_tasks.csv

In the file each task has the computation_time (the median of --repeats runs), memory_gb (beyond the loaded model),
prompt_tokens and output_tokens that were measured, and what they were measured with.
"""
import os
import sys

import pandas as pd

if __name__ == "__main__" and not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = os.path.dirname(sys.path[0])

import common
from real import model as real


def measured_tasks(tasks, rows, prompts, made_on):
    """Table in the task format: `tasks`, of read_tasks, with what generate found (rows) in place of the estimates.
    made_on: of real.measured_on."""
    found = pd.DataFrame(rows, index=tasks.index)
    made = found["ids"].map(len)
    table = common.in_seconds(tasks)[["label", "prompt", "arrival_time", "trans_time", "deadline"]]
    return table.assign(
        output_words=(made / common.TOKENS_PER_WORD).round().astype("int64"), output_tokens=made,
        prompt_tokens=[len(prompt) for prompt in prompts], computation_time=found["seconds"].round(6),
        measured_spread=found["spread"].round(6), memory_gb=(found["growth"] / 1e9).round(9), **made_on)


def main(prog):
    parser = real.make_parser(prog, __doc__, "tasks", "out", "checkpoint", "sample", "seed", "repeats", "threads",
                              scripts=real.SCRIPTS)
    args = parser.parse_args()
    name, script = real.load_script(args.script, real.SCRIPTS, "tasks")
    seed = int(common.check_number(args.seed or 0, "--seed", whole=True))
    given = real.settings_of(args, script, "tasks", "out")

    config, plan = real.read_model(args.checkpoint)
    tasks = common.read_tasks(given["tasks"], plan, common.DEVICES[:1])  # of any device: nothing estimated remains
    encode, decode = real.load_tokenizer(args.checkpoint)
    prompts, tokens = real.read_prompts(tasks, encode, plan.context)
    model, text = real.load_whole(args.checkpoint, config, seed)
    print(f"measuring on {text}\n{real.set_threads(model, args.threads)}", flush=True)
    made_on = real.measured_on(model, args.checkpoint)

    rows = []
    try:
        for row in real.generate(model, prompts, tokens, seed, args.sample, repeats=args.repeats):
            rows.append(row)
    except BaseException:  # interrupted, or out of memory: what is measured is kept
        if rows:
            part = measured_tasks(tasks[:len(rows)], rows, prompts[:len(rows)], made_on)
            path, = common.write_files(given["out"], {f"{name}_measured_part.csv": real.quoted(part)})
            common.warn(f"{len(rows)} of {len(tasks)} tasks are measured, and kept in {path}")
        raise

    texts = real.texts_table(tasks, rows, decode)
    paths = common.write_files(given["out"], {
        f"{name}_measured_tasks.csv": real.quoted(measured_tasks(tasks, rows, prompts, made_on)),
        f"{name}_texts.csv": real.quoted(texts)})
    real.print_texts(texts)
    print(f"\nwritten: {', '.join(paths)}")


if __name__ == "__main__":
    common.run(main, "real.measure")
