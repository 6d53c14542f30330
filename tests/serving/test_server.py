"""The server as OpenAI's own client sees it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from urllib.parse import urlsplit

import openai
import pytest

from support.served_models import Server

pytestmark = pytest.mark.integration
PROMPT = "The quick brown fox"


@pytest.fixture(scope="module")
def client(server: Server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_the_official_client_completes_and_streams_the_same(client, server):
    whole = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=12, temperature=0)
    assert whole.object == "text_completion"
    assert whole.choices[0].finish_reason in ("length", "stop")
    assert whole.usage.completion_tokens <= 12
    chunks = list(
        client.completions.create(
            model="tiny",
            prompt=PROMPT,
            max_tokens=12,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == whole.choices[0].finish_reason
    assert len(chunks) > 3


def test_models_are_listed(client):
    (model,) = client.models.list().data
    assert model.id == "tiny"
    assert client.models.retrieve("tiny").max_model_len == 256
    with pytest.raises(openai.NotFoundError, match="this server has 'tiny'"):
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError, match="model: found 'other'"):
        client.completions.create(model="other", prompt="a")


def test_every_kind_of_prompt_gives_the_same_answer(server):
    ids = server.post("/tokenize", {"prompt": PROMPT}).json()["tokens"]
    kinds = (PROMPT, ids, [PROMPT], [ids], [PROMPT, PROMPT], [ids, ids])
    texts = [[c["text"] for c in server.complete(prompt, max_tokens=6)["choices"]] for prompt in kinds]
    assert {text for several in texts for text in several} == {texts[0][0]}
    assert [len(several) for several in texts] == [1, 1, 1, 1, 2, 2]


def test_echo_with_logprobs_tells_the_prompt_too(server, hf):
    import torch

    answer = server.complete(PROMPT, max_tokens=3, echo=True, logprobs=2)["choices"][0]
    told = answer["logprobs"]
    ids = server.post("/tokenize", {"prompt": PROMPT}).json()["tokens"]
    assert answer["text"].startswith(PROMPT)
    assert len(told["tokens"]) == len(told["token_logprobs"]) == len(told["top_logprobs"]) == len(ids) + 3
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    assert told["tokens"][0] == "</s>"
    for token, offset, following in zip(
        told["tokens"][1:], told["text_offset"][1:], told["text_offset"][2:], strict=False
    ):
        if not token.startswith("bytes:"):
            assert answer["text"][offset:following] == token
    with torch.inference_mode():
        reference = torch.log_softmax(hf(torch.tensor([ids])).logits[0], -1)
    wanted = [float(reference[at, token]) for at, token in enumerate(ids[1:])]
    assert told["token_logprobs"][1 : len(ids)] == pytest.approx(wanted, abs=1e-3)
    for own, top in zip(told["token_logprobs"][1:], told["top_logprobs"][1:], strict=True):
        assert own in top.values()
        assert len(top) in (2, 3)


def test_no_new_tokens_only_scores(server):
    answer = server.complete(PROMPT, max_tokens=0, echo=True, logprobs=0)
    (choice,) = answer["choices"]
    assert choice["text"] == PROMPT
    assert choice["logprobs"]["top_logprobs"] is None
    assert len(choice["logprobs"]["tokens"]) == answer["usage"]["prompt_tokens"]
    assert answer["usage"]["completion_tokens"] == 0
    streamed = list(server.events({"prompt": PROMPT, "max_tokens": 0, "echo": True, "logprobs": 0}))
    assert [event["choices"][0]["logprobs"] for event in streamed] == [choice["logprobs"]]


def test_choices_are_many_seeded_and_the_best_is_kept(server):
    fields = {"max_tokens": 6, "temperature": 1.5, "seed": 4, "n": 3}
    first, again = (server.complete([PROMPT, "b"], **fields) for _ in range(2))
    assert [c["index"] for c in first["choices"]] == list(range(6))
    assert [c["text"] for c in first["choices"]] == [c["text"] for c in again["choices"]]
    assert len({c["text"] for c in first["choices"]}) > 3
    assert first["usage"]["prompt_tokens"] == again["usage"]["prompt_tokens"]
    both = server.complete(PROMPT, **{**fields, "n": 3, "best_of": 3, "logprobs": 0})
    best = server.complete(PROMPT, **{**fields, "n": 1, "best_of": 3, "logprobs": 0})

    def mean(choice):
        values = choice["logprobs"]["token_logprobs"]
        return sum(values) / max(1, len(values))

    assert best["choices"][0]["text"] == max(both["choices"], key=mean)["text"]


def test_stop_texts_end_the_answer_and_are_not_in_it(server):
    free = server.complete(PROMPT, max_tokens=20, temperature=1.2, seed=3, ignore_eos=True)["choices"][0]["text"]
    stop = free[len(free) // 2 : len(free) // 2 + 2]
    asked = {"max_tokens": 20, "temperature": 1.2, "seed": 3, "ignore_eos": True, "stop": ["never", stop]}
    cut = server.complete(PROMPT, **asked)
    assert cut["choices"][0]["text"] == free[: free.find(stop)]
    assert cut["choices"][0]["finish_reason"] == "stop"
    assert cut["usage"]["completion_tokens"] < 20
    events = list(server.events({"prompt": PROMPT, **asked}))
    assert "".join(event["choices"][0]["text"] for event in events) == cut["choices"][0]["text"]


def test_bias_penalties_and_stop_tokens_reach_the_engine(server):
    assert (
        server.complete(PROMPT, max_tokens=4, logit_bias={"45": 100}, return_token_ids=True)["choices"][0]["token_ids"]
        == [45] * 4
    )
    varied = server.complete(
        PROMPT, max_tokens=4, logit_bias={"45": 9, "46": 8.9}, frequency_penalty=2, return_token_ids=True
    )["choices"][0]["token_ids"]
    assert varied[:2] == [45, 46]
    ended = server.complete(PROMPT, max_tokens=9, logit_bias={"45": 100}, stop_token_ids=[45], min_tokens=2)
    assert ended["usage"]["completion_tokens"] == 2
    assert ended["choices"][0]["finish_reason"] == "stop"
    of_document = server.complete(PROMPT, max_tokens=9, logit_bias={"2": 100})
    assert (of_document["choices"][0]["text"], of_document["choices"][0]["finish_reason"]) == ("", "stop")


def test_many_clients_at_once_get_what_each_gets_alone(server):
    prompts = [f"{PROMPT} {number} {'x' * number}" for number in range(24)]
    alone = [server.complete(prompt, max_tokens=10)["choices"][0]["text"] for prompt in prompts]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda p: server.complete(p, max_tokens=10)["choices"][0]["text"], prompts))
    assert together == alone


def test_text_and_tokens_turn_into_each_other(server):
    text = "Größe 日本 🙂 def main():"
    there = server.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()
    assert there["count"] == len(there["tokens"]) == len(there["token_strs"])
    assert server.post("/detokenize", {"tokens": there["tokens"]}).json() == {"prompt": text}
    with_start = server.post("/tokenize", {"prompt": text}).json()["tokens"]
    assert with_start == [2, *there["tokens"]]
    assert server.post("/detokenize", {"tokens": [2, 5]}).json()["prompt"].startswith("</s>")


def test_metrics_have_vllms_names_and_count(server):
    before = server.metric("vllm:generation_tokens_total")
    server.complete([PROMPT] * 2, max_tokens=5, ignore_eos=True)
    assert server.metric("vllm:generation_tokens_total") == before + 10
    names = {line.split("{")[0].split(" ")[0] for line in server.get("/metrics").text.splitlines() if line[0] != "#"}
    assert {
        "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
        "vllm:prompt_tokens_total", "vllm:request_success_total", "vllm:time_to_first_token_seconds_bucket",
        "vllm:inter_token_latency_seconds_sum", "vllm:e2e_request_latency_seconds_count",
        "vllm:prefix_cache_hits_total", "vllm:cache_config_info",
    } <= names  # fmt: skip


def test_chat_says_why_not(client):
    with pytest.raises(openai.BadRequestError, match="base model without a chat template"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}])


def test_the_api_is_described(server):
    described = server.get("/openapi.json").json()
    assert {"/v1/completions", "/v1/models", "/tokenize", "/health", "/v1/batches"} <= set(described["paths"])
    assert server.get("/docs").status_code == 200
    assert server.get("/version").json()["version"]
    assert server.get("/health").json() == {"status": "ready"}


def test_a_batch_of_requests_is_worked_off(client, server, tmp_path):
    lines = [
        {"custom_id": f"r{n}", "method": "POST", "url": "/v1/completions", "body": {"prompt": f"a{n}", "max_tokens": 3}}
        for n in range(5)
    ] + [{"custom_id": "bad", "method": "POST", "url": "/v1/completions", "body": {"prompt": 5}}]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    uploaded = client.files.create(file=path, purpose="batch")
    batch = client.batches.create(input_file_id=uploaded.id, endpoint="/v1/completions", completion_window="24h")
    while batch.status not in ("completed", "failed"):
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed", batch.errors
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (6, 5, 1)
    out = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert {line["custom_id"] for line in out} == {f"r{n}" for n in range(5)}
    (wrong,) = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    assert wrong["response"]["status_code"] == 400
    assert {file.id for file in client.files.list().data} >= {uploaded.id, batch.output_file_id}
    assert client.files.delete(uploaded.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(uploaded.id)


def test_a_batch_that_is_no_batch_fails_by_line(client, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"custom_id": "a", "body": {}}\n{"custom_id": "a", "body": {}}\n')
    uploaded = client.files.create(file=path, purpose="batch")
    batch = client.batches.create(input_file_id=uploaded.id, endpoint="/v1/completions", completion_window="24h")
    while batch.status not in ("completed", "failed"):
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "failed"
    assert "line 2: custom_id" in batch.errors.data[0].message


def test_clients_that_leave_free_their_slots(server):
    """More is asked than the server could answer before its clients have left: what it does not do is what it freed."""
    body = {"prompt": PROMPT, "max_tokens": 230, "ignore_eos": True}
    before = server.metric("vllm:request_success_total")
    for _ in range(3):
        with server.post("/v1/completions", {**body, "stream": True}, stream=True) as answer:
            next(answer.iter_lines())
    address = urlsplit(server.url)
    with ExitStack() as stack:
        for _ in range(16):
            left = HTTPConnection(address.hostname, address.port, timeout=60)
            stack.callback(left.close)
            left.request("POST", "/v1/completions", json.dumps({**body, "n": 8}), {"content-type": "application/json"})
    server.complete(PROMPT, max_tokens=1)
    while server.metric("vllm:num_requests_running") + server.metric("vllm:num_requests_waiting"):
        pass
    assert server.metric("vllm:request_success_total") <= before + 1 + 3 + 16 * 8 / 2
