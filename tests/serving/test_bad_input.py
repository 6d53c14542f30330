"""What is wrong with a request is said by field, with a 4xx; the server goes on."""

from __future__ import annotations

import json

import pytest
import requests

from support.served_models import Server

pytestmark = pytest.mark.integration
GOOD = {"prompt": "a", "max_tokens": 1}
CASES = [
    ({"prompt": 5}, 400, "prompt"),
    ({"prompt": []}, 400, "prompt"),
    ({"prompt": [[]]}, 400, "prompt"),
    ({"prompt": ["a", 5]}, 400, "prompt"),
    ({"prompt": [True]}, 400, "prompt"),
    ({"prompt": None}, 400, "prompt"),
    ({"prompt": {"text": "a"}}, 400, "prompt"),
    ({"prompt": [512]}, 400, "prompt"),
    ({"prompt": [-1]}, 400, "prompt"),
    ({"prompt": [10**30]}, 400, "prompt"),
    ({"prompt": "a " * 600}, 400, "prompt"),
    ({"prompt": ["a"] * 129}, 400, "prompt"),
    ({"max_tokens": "5"}, 400, "max_tokens"),
    ({"max_tokens": 1.5}, 400, "max_tokens"),
    ({"max_tokens": -1}, 400, "max_tokens"),
    ({"max_tokens": 257}, 400, "max_tokens"),
    ({"max_tokens": 10**30}, 400, "max_tokens"),
    ({"temperature": -0.1}, 400, "temperature"),
    ({"temperature": "hot"}, 400, "temperature"),
    ({"top_p": 0}, 400, "top_p"),
    ({"top_p": 1.1}, 400, "top_p"),
    ({"top_k": -2}, 400, "top_k"),
    ({"n": 0}, 400, "n"),
    ({"n": 129}, 400, "n"),
    ({"n": 2, "best_of": 1}, 400, "best_of"),
    ({"best_of": 2, "stream": True}, 400, "best_of"),
    ({"logprobs": 21}, 400, "logprobs"),
    ({"logprobs": -1}, 400, "logprobs"),
    ({"stop": ["a"] * 17}, 400, "stop"),
    ({"stop": 5}, 400, "stop"),
    ({"seed": 2**63}, 400, "seed"),
    ({"seed": "s"}, 400, "seed"),
    ({"presence_penalty": 2.1}, 400, "presence_penalty"),
    ({"frequency_penalty": -2.1}, 400, "frequency_penalty"),
    ({"logit_bias": {"512": 1}}, 400, "logit_bias"),
    ({"logit_bias": {"a": 1}}, 400, "logit_bias"),
    ({"logit_bias": {"5": 101}}, 400, "logit_bias.5"),
    ({"stop_token_ids": [512]}, 400, "stop_token_ids"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
    ({"stream": True, "stream_options": {"usage": True}}, 400, "stream_options.usage"),
    ({"suffix": "b"}, 400, "suffix"),
    ({"temprature": 1}, 400, "temprature"),
    ({"model": "other"}, 404, "model"),
]


@pytest.mark.parametrize(("fields", "status", "param"), CASES, ids=[json.dumps(c[0])[:40] for c in CASES])
def test_a_wrong_field_is_named(server: Server, fields, status, param):
    answer = server.post("/v1/completions", {**GOOD, **fields})
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {}, "prompt"),
        ("/detokenize", {"tokens": [512]}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/batches", {"input_file_id": "../../etc/passwd", "endpoint": "/v1/completions"}, "input_file_id"),
        ("/v1/batches", {"input_file_id": "file-0", "endpoint": "/v1/other"}, "endpoint"),
    ],
)
def test_other_routes_name_the_field_too(server: Server, path, body, param):
    answer = server.post(path, body)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"prompt": "a"', b"\xff\xfe", b"null"])
def test_what_is_no_json_object_is_said(server: Server, body):
    headers = {"content-type": "application/json"}
    answer = requests.post(f"{server.url}/v1/completions", data=body, headers=headers, timeout=60)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_unknown_routes_and_methods(server: Server):
    assert server.post("/v1/nothing", {}).json()["error"]["type"] == "not_found_error"
    assert server.get("/v1/completions").status_code == 405


def test_the_server_goes_on(server: Server):
    assert server.complete("a", max_tokens=1)["choices"]
