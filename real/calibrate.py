"""Times a real model's layers on this machine, beside the estimates, and prints the shares of a device that would fit.

    python -m real.calibrate --checkpoint HuggingFaceTB/SmolLM2-135M-Instruct --device T4
"""
import os
import sys
from dataclasses import replace

import numpy as np

if __name__ == "__main__" and not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = os.path.dirname(sys.path[0])

import common
from real import model as real

PROMPT, OUTPUT = 512, 32  # tokens of a run
REPEATS = 3  # runs, after one that does not count


def time_layer(model, prompt_tokens, output_tokens):
    """Seconds that a layer takes for a prompt and for a token of the output: medians of REPEATS runs."""
    layers = real.decoder_layers(model)[1]
    passes = real.time_stages(layers, [len(layers)], model.device)[0]  # the prompt's, then one for each token
    runs = []
    for _ in range(1 + REPEATS):
        passes.clear()
        real.continued(model, [1] * prompt_tokens, output_tokens + 1, min_new_tokens=output_tokens + 1)
        runs.append((passes[0], np.mean(passes[1:])))
    return np.median(runs[1:], axis=0) / len(layers)


def main(prog):
    args = real.make_parser(prog, __doc__, "device", "checkpoint", "threads").parse_args()
    devices = common.DEVICES if args.device is None else [common.get_device(args.device)]

    config, plan = real.read_model(args.checkpoint)
    model, text = real.load_whole(args.checkpoint, config)
    print(f"{text}\n{real.set_threads(model, args.threads)}")
    plan = replace(plan, bits=8 * next(real.decoder_layers(model)[1].parameters()).element_size())
    prompt_tokens = min(PROMPT, plan.context // 2)
    prefill, decode = time_layer(model, prompt_tokens, min(OUTPUT, plan.context // 4))
    print(f"a layer, measured: {prefill:.3g} s for a prompt of {prompt_tokens} tokens, {decode:.3g} s for a token of "
          "the output\n")

    for device in devices:
        prompt = common.layer_time(plan, device, prompt_tokens, 0)
        token = common.layer_time(plan, device, prompt_tokens, 1) - prompt
        compute_share = 2 * plan.params * prompt_tokens / prefill / (device.tflops * 1e12)
        bandwidth_share = plan.layer_bytes / decode / (device.bandwidth * 1e9)
        print(f"{device.type}, predicted: {prompt:.3g} s and {token:.3g} s; the shares that would fit:")
        print(f"    compute_share={compute_share:.3g}, bandwidth_share={bandwidth_share:.3g}")


if __name__ == "__main__":
    common.run(main, "real.calibrate")
