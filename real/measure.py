"""Generates every task once on a real model, and writes a task file with what it took, for any of the nine scripts.

    python -m real.measure ADSA --checkpoint HuggingFaceTB/SmolLM2-135M-Instruct
    python ADSA.py --tasks results/ADSA_measured_tasks.csv

In the file each task has the computation_time, memory_gb (beyond the loaded model), prompt_tokens and output_tokens
that were measured.
"""
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common
from real import model as real


def measured_tasks(tasks, rows, prompts):
    """Table in the task format: `tasks`, of read_tasks, with what generate found (rows) in place of the estimates."""
    table = common.in_seconds(tasks)
    return table[["label", "prompt", "arrival_time"]].assign(
        output_words=[round(len(row["ids"]) / common.TOKENS_PER_WORD) for row in rows],
        trans_time=table["trans_time"], deadline=table["deadline"],
        computation_time=[round(row["seconds"], 6) for row in rows],
        prompt_tokens=[len(prompt) for prompt in prompts], output_tokens=[len(row["ids"]) for row in rows],
        memory_gb=[round(row["growth"] / 1e9, 9) for row in rows])


def main(prog):
    parser = real.make_parser(prog, __doc__, real.SCRIPTS, "tasks", "out")
    real.add_checkpoint(parser)
    real.add_sample(parser)
    args = parser.parse_args()
    name, script = real.script(args.script, real.SCRIPTS)
    if args.seed is not None and args.checkpoint and not args.sample:
        raise common.UserError("--seed: has no effect without --sample, as the weights are given")
    seed = int(common.check_number(args.seed or 0, "--seed", whole=True))
    given = real.overridden(args, script, "tasks", "out")
    common.check_writable(given["out"])
    config = real.load_config(args.checkpoint)
    plan = real.plan_model(args.checkpoint, config)
    tasks = common.read_tasks(given["tasks"], plan, common.DEVICES[:1])  # of any device: nothing estimated remains
    encode, decode = real.load_tokenizer(args.checkpoint)
    prompts, tokens = real.read_prompts(tasks, encode, plan.context)
    model, text = real.load_whole(args.checkpoint, config, seed)
    print(f"measuring on {text}", flush=True)
    rows = real.generate(model, prompts, tokens, seed, args.sample)
    texts = real.texts_table(tasks, rows, decode)
    paths = common.write_files(given["out"], {
        f"{name}_measured_tasks.csv": real.text_writer(measured_tasks(tasks, rows, prompts)),
        f"{name}_texts.csv": real.text_writer(texts)})
    real.print_texts(texts)
    print(f"\nwritten: {', '.join(paths)}")


if __name__ == "__main__":
    common.run(main, "real.measure")
