"""real.serve --server: a stub of llama.cpp's server, or of OpenAI's API, is asked chunk by chunk."""
import json
import pathlib
import re

import pandas as pd
import pytest
import stub_server
from conftest import refused

from real import server

TASKS = [{"label": f"Task {k}", "prompt": "a word " * k, "arrival_time": 0.03 * k, "output_words": 99,
          "output_tokens": tokens, "trans_time": 0.01, "deadline": 60} for k, tokens in ((1, 90), (2, 15), (3, 7))]
SERVE = ("real/serve", "SRTF", "--tasks", "tasks.json", "--repeats", "1", "--chunk", "4", "--no-plot", "--server")


@pytest.fixture(autouse=True)
def task_file():
    pathlib.Path("tasks.json").write_text(json.dumps(TASKS))


@pytest.fixture
def stub():
    with stub_server.running() as running:
        yield running


@pytest.mark.parametrize("api", server.APIS)
def test_requests_are_preempted_between_chunks(api, run, stub):
    """Their tokens are those of whole requests, or a warning would say so."""
    status, out, err = run(*SERVE, stub.url, "--api", api)
    assert (status, err) == (0, "")
    assert f"at {stub.url[7:]} in chunks of 4 tokens" in out
    metrics = pd.read_csv("results/SRTF_served_metrics.csv", index_col="metric")["measured"]
    assert metrics["preemptions"] >= 1  # of Task 1, which is under way when the others come
    assert all(body.get("n_predict", body.get("max_tokens")) <= 4 for path, body in stub.asked[-20:])


def test_a_request_goes_on_from_its_slot(stub):
    """Two by turns: each token of either is computed once, a long prompt in pieces, and first without a KV cache."""
    host = server.connect(stub.url, server.LLAMA)
    host.chunk = 4
    stub.slots[2] = [7] * 1300  # of a run before
    prompts = [[7] * 1300, [8] * 5]
    turns = [server.Request(host, prompt, 30) for prompt in prompts]
    computed, going = {}, list(turns)
    while going:
        request = going.pop(0)
        if not request.step():
            going.append(request)
        computed.setdefault(request.prompt[0], []).append(stub.computed[-1])
    for request, first in zip(turns, ([512, 512, 276], [5])):
        assert request.ids == stub_server.continued(request.prompt, 30)[0]
        assert request.count == len(request.ids)
        chunks = -(-request.count // 4)
        assert computed[request.prompt[0]] == first + [1] * (chunks - 1)
    assert len({body["id_slot"] for _, body in stub.asked}) == 2
    assert sorted(host.slots) == [0, 1, 2, 3]  # they are free again


@pytest.mark.parametrize("facts, flags, message", [
    ({}, (), "/props answers 503: "),
    ({"/props": {"model_path": "m"}}, (), "no server, one of another API, or an old build: KeyError('total_slots')"),
    (stub_server.FACTS, ("--slots", "5"), "--slots 5: the server has 4"),
    (stub_server.FACTS, ("--slots", "1"), "requests before the first of them is done, and the server has 1"),
    ({"/props": {**stub_server.PROPS, "default_generation_settings": {"n_ctx": 64}}}, (),
     "a request needs 99 tokens of context, and a slot of the server has 64")])
def test_a_server_that_does_not_fit_is_refused(facts, flags, message, run):
    with stub_server.running(facts) as stub:
        status, _, err = run(*SERVE, stub.url, *flags)
    assert status == 2 and message in err and err.count("\n") == 1
    assert not pathlib.Path("results").exists()


def test_where_nobody_listens_is_refused(run, stub):
    stub.shutdown()
    stub.server_close()
    refused(run(*SERVE, stub.url), f"{stub.url}/props: no server, one of another API")
    refused(run(*SERVE, "localhost:8080"), "--server localhost:8080: it must be http://ADDRESS:PORT")


def test_an_interrupted_run_keeps_what_is_served(run, stub, monkeypatch):
    measured = []  # requests until then
    monkeypatch.setattr(server, "check_slots", lambda *_: measured.append(len(stub.asked)))
    step = server.Request.step

    def interrupted(request):
        if measured and len(stub.asked) == measured[0] + 9:
            raise KeyboardInterrupt
        return step(request)
    monkeypatch.setattr(server.Request, "step", interrupted)
    status, _, err = run(*SERVE, stub.url)
    assert status == 130
    warning, last = err.splitlines()
    assert re.match(r"warning: SRTF: [012] of 3 tasks are served; what has run is kept in results", warning)
    assert last == "real.serve: interrupted"
    kept = pd.read_csv("results/SRTF_served_part.csv")
    assert (kept["end"] > kept["start"]).all() and kept["label"][0] == "Task 1"
