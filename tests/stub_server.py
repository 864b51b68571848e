"""A stand-in for llama.cpp's server, and for one of OpenAI's API, whose next token depends on all tokens before it."""
import contextlib
import http.server
import json
import threading
import time
import zlib

PROPS = {"model_path": "/models/stub.gguf", "total_slots": 4, "default_generation_settings": {"n_ctx": 2048}}
FACTS = {"/props": PROPS, "/v1/models": {"data": [{"id": "stub"}]}}


def continued(tokens, most):
    """Up to so many tokens after these, and whether the last one, a 10, ends the text."""
    made = []
    while len(made) < most:
        made.append(10 + zlib.crc32(bytes([*tokens, *made])) % 90)
        if made[-1] == 10:
            return made, True
    return made, False


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(self.server.facts.get(self.path))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        self.answer({"/apply-template": self.template, "/tokenize": self.tokenize, "/completion": self.completion,
                     "/v1/completions": self.text_completion}[self.path](body))

    def answer(self, content):
        self.send_response(503 if content is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(content or {"error": {"message": "Loading model"}}).encode())

    def template(self, body):
        return {"prompt": f"<{body['messages'][0]['content']}>"}

    def tokenize(self, body):
        return {"tokens": list(body["content"].encode())}

    def completion(self, body):
        """Computes what the slot does not hold of the prompt."""
        tokens, slot = body["prompt"], body.get("id_slot")
        if isinstance(tokens, str):
            tokens = list(tokens.encode())
        cached = self.server.slots.get(slot, [])
        is_kept = body["cache_prompt"] and tokens[:len(cached)] == cached
        computed = len(tokens) - (len(cached) if is_kept else 0)
        made, is_end = continued(tokens, max(1, body["n_predict"]))  # one for 0, as some builds have it
        self.server.slots[slot] = [*tokens, *made[:-1]]
        self.server.computed.append(computed)
        time.sleep(self.server.seconds * len(made))
        return {"content": bytes(made).decode(), "tokens": made, "stop_type": "eos" if is_end else "limit"}

    def text_completion(self, body):
        made, is_end = continued(body["prompt"].encode(), body["max_tokens"])
        time.sleep(self.server.seconds * len(made))
        return {"choices": [{"text": bytes(made).decode(), "finish_reason": "stop" if is_end else "length"}],
                "usage": {"completion_tokens": len(made)}}

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def running(facts=FACTS, seconds=0.002):
    """A stub server on a port of its own, which takes so many seconds a token. It notes: url; asked, the POSTs (path,
    body); computed, tokens of the prompts that its slots did not hold."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.facts, server.seconds, server.asked, server.computed, server.slots = facts, seconds, [], [], {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
