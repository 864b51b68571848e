"""Requests to a server that runs already, a chunk of tokens at a time: of llama.cpp's own API, or of OpenAI's.

In llama.cpp a request holds a slot from its first chunk to its last, and with it its KV cache, while others run. By
OpenAI's API it sends its prompt and the text so far with each chunk, and an engine finds them in its prefix cache.
"""
import contextlib
import functools
import http.client
import json
import operator
import os
import time
from types import SimpleNamespace

import common

LLAMA, OPENAI = APIS = ("llama.cpp", "openai")
PIECE = 512  # tokens of a prompt that are computed in one step, as llama.cpp itself does (-ub)
TIMEOUT = 600  # s without an answer
NO_LIMIT = 10 ** 9  # tokens


def connect(url, api, slots=None):
    """A server: address, api, model, context (tokens of a slot), slots (those that no request holds; at first so many,
    or all) and chunk (tokens that a request makes in a step). Raises UserError: none is there, or another one."""
    common.require(url.startswith("http://"), f"--server {url}: it must be http://ADDRESS:PORT")
    address = url[len("http://"):].rstrip("/")
    server = SimpleNamespace(address=address, api=api, context=NO_LIMIT, slots=[], chunk=NO_LIMIT)
    if api == OPENAI:
        server.model, = ask(address, "/v1/models", [("data", 0, "id")])
        return server
    fields = ("model_path",), ("total_slots",), ("default_generation_settings", "n_ctx")
    path, there, server.context = ask(address, "/props", fields)
    common.require((slots or 1) <= there, f"--slots {slots}: the server has {there} (its flag -np)")
    server.model, server.slots = os.path.basename(path), list(range(slots or there))
    return server


def ask(address, path, fields=(), **body):
    """What a server answers to a GET or, with a body, to a POST: of the JSON what stands under these keys."""
    place = f"http://{address}{path}"
    try:
        with contextlib.closing(http.client.HTTPConnection(address, timeout=TIMEOUT)) as link:
            link.request("POST" if body else "GET", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = link.getresponse()
            text = answer.read().decode(errors="replace")
        common.require(answer.status == 200, f"{place} answers {answer.status}: {common.cut(text, 200)}")
        found = json.loads(text)
        return [functools.reduce(operator.getitem, keys, found) for keys in fields]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise common.UserError(f"{place}: no server, one of another API, or an old build: {error!r}") from error


def encode(server, prompt):
    """A prompt as it is sent: to llama.cpp the tokens of a chat's first message, by OpenAI's API the text as it is."""
    if server.api == OPENAI:
        return prompt or " "
    chat, = ask(server.address, "/apply-template", [("prompt",)], messages=[{"role": "user", "content": prompt}])
    return ask(server.address, "/tokenize", [("tokens",)], content=chat, add_special=True, parse_special=True)[0]


def check_slots(server, name, intervals):
    """UserError if a schedule has more requests begun and not done, at once, than there are slots."""
    spans = intervals.groupby("label").agg({"start": "min", "end": "max"})
    most = max(((spans["start"] <= now) & (now < spans["end"])).sum() for now in spans["start"])
    common.require(server.api == OPENAI or most <= len(server.slots), f"{name} begins {most} requests before the first "
                   f"of them is done, and the server has {len(server.slots)} slots (its flag -np)")


class Request:
    """The generation of one task by a server, as real.serve.Generation is that of a model in this process."""

    def __init__(self, server, prompt, most):
        self.server, self.prompt, self.most = server, prompt, most
        self.made = type(prompt)()  # tokens, or text by OpenAI's API
        self.count = 0  # tokens of it
        self.fed = 0  # tokens of the prompt that the server has computed
        self.slot = None
        self.salt = str(time.time())  # the prefix cache of vLLM and of SGLang is then its own
        self.ids = None  # what is made, once it is all there

    def step(self):
        """Makes one more chunk, or has the next piece of a long prompt computed; returns whether it was the last."""
        server = self.server
        tokens = min(server.chunk, self.most - self.count)
        body = dict(temperature=0, cache_prompt=self.fed > 0)  # at first no KV cache: one may be left of another run
        if server.api == OPENAI:
            self.fed = len(self.prompt)
            fields = [("choices", 0, "text"), ("usage", "completion_tokens"), ("choices", 0, "finish_reason")]
            made, count, reason = ask(server.address, "/v1/completions", fields, prompt=self.prompt + self.made,
                                      model=server.model, max_tokens=tokens, cache_salt=self.salt, **body)
        else:
            if self.slot is None:
                common.require(server.slots, "more requests are begun than the server has slots (its flag -np)")
                self.slot = server.slots.pop()
            self.fed = min(self.fed + PIECE, len(self.prompt))
            is_piece = self.fed < len(self.prompt)
            made, reason = ask(server.address, "/completion", [("tokens",), ("stop_type",)], id_slot=self.slot,
                               prompt=self.prompt[:self.fed] + self.made, n_predict=0 if is_piece else tokens,
                               return_tokens=True, **body)
            if is_piece:  # a token is made even so, and left there
                return False
            count = len(made)
        self.made = self.made + made
        self.count += count
        if reason in ("limit", "length") and self.count < self.most:  # the end of a chunk, not that of the text
            return False
        self.ids = self.made
        if self.slot is not None:
            server.slots.append(self.slot)
        return True
