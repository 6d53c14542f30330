"""A server from its start to its end: loading, keys, limits, newer weights, draining."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from opt_model.exchange.reader import Weights
from opt_store import open_store
from support.processes import free_ports
from support.served_models import OPTCTL, SHAPE, TEXT, serving, write_model

pytestmark = pytest.mark.integration
ENDLESS = {"prompt": "The quick", "max_tokens": 240, "ignore_eos": True}


def test_keys_come_from_a_file_that_may_change(folder: Path, tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text("first\n\nsecond\n")
    with serving(folder, tmp_path / "log", "--api-keys", str(keys)) as server:
        assert server.post("/v1/completions", {"prompt": "a"}).status_code == 401
        for key, status in (("first", 200), ("second", 200), ("third", 401), ("", 401)):
            server.headers = {"Authorization": f"Bearer {key}"}
            assert server.get("/v1/models").status_code == status
        assert server.post("/tokenize", {"prompt": "a"}).headers["www-authenticate"] == "Bearer"
        server.headers = {}
        for path in ("/health", "/metrics", "/", "/docs"):
            assert server.get(path).status_code == 200
        keys.write_text("third\n")
        server.headers = {"Authorization": "Bearer third"}
        assert server.get("/v1/models").status_code == 200
        server.headers = {"Authorization": "Bearer first"}
        assert server.get("/v1/models").status_code == 401


def test_limits_answer_with_a_time_to_come_again(folder: Path, tmp_path: Path):
    options = ("--max-queue", "2", "--max-sequences", "1", "--max-body-bytes", "2000", "--deadline", "30")
    with serving(folder, tmp_path / "log", *options) as server:
        assert server.post("/v1/completions", {"prompt": "a" * 3000}).status_code == 413
        chunked = requests.post(f"{server.url}/v1/completions", data=iter([b"x" * 3000]), timeout=60)
        assert chunked.status_code == 413
        too_many = server.post("/v1/completions", {"prompt": ["a"] * 3})
        assert (too_many.status_code, too_many.json()["error"]["param"]) == (400, "prompt")
        answers: list[int] = []
        crowd = [
            threading.Thread(target=lambda: answers.append(server.post("/v1/completions", ENDLESS).status_code))
            for _ in range(12)
        ]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        assert set(answers) == {200, 429}
        refused = server.metric("opt:requests_refused_total")
        assert refused >= answers.count(429) + 3


def test_a_deadline_ends_an_answer(folder: Path, tmp_path: Path):
    with serving(folder, tmp_path / "log", "--deadline", "0.01") as server:
        late = server.post("/v1/completions", ENDLESS)
        assert late.status_code == 503
        assert late.headers["retry-after"]
        assert late.json()["error"]["code"] == "deadline_exceeded"
        (*_, last) = server.events(ENDLESS)
        assert last["error"]["code"] == "deadline_exceeded"


def test_a_chat_template_makes_chat_work(folder: Path, tmp_path: Path):
    template = tmp_path / "chat.jinja"
    template.write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}"
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    )
    with serving(folder, tmp_path / "log", "--chat-template", str(template)) as server:
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 6, "temperature": 0}
        answer = server.post("/v1/chat/completions", body).json()
        assert answer["object"] == "chat.completion"
        completed = server.complete("user: hi\nassistant:", max_tokens=6)["choices"][0]["text"]
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": completed}
        streamed = server.post("/v1/chat/completions", {**body, "stream": True}).text
        assert '"delta":{"role":"assistant"' in streamed
        assert streamed.endswith("data: [DONE]\n\n")
        refused = server.post("/v1/chat/completions", {"messages": [{"role": "system", "content": "be"}]})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")


def test_a_draining_server_ends_its_answers_and_takes_no_new_ones(folder: Path, tmp_path: Path):
    with serving(folder, tmp_path / "log", "--max-sequences", "1") as server:
        body = {**ENDLESS, "n": 4, "stream": True}
        with requests.post(f"{server.url}/v1/completions", json=body, stream=True, timeout=120) as answer:
            lines = answer.iter_lines()
            next(lines)
            os.kill(server.pid, signal.SIGTERM)
            health = wait_for_status(server, 503)
            assert health.json()["status"] == "draining"
            refused = server.post("/v1/completions", {"prompt": "a"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            rest = [line for line in lines if line]
        assert rest[-1] == b"data: [DONE]"
        assert sum(b'"finish_reason":"length"' in line for line in rest) == 4
        assert ended(server.pid)
    assert "Traceback" not in server.log.read_text()


def wait_for_status(server, status: int) -> requests.Response:
    while (answer := server.get("/health")).status_code != status:
        time.sleep(0.02)
    return answer


def ended(pid: int) -> bool:
    for _ in range(1200):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_drain_has_an_end(folder: Path, tmp_path: Path):
    with serving(folder, tmp_path / "log", "--max-sequences", "1", "--drain", "0") as server:
        body = {**ENDLESS, "n": 64, "stream": True}
        with requests.post(f"{server.url}/v1/completions", json=body, stream=True, timeout=120) as answer:
            next(answer.iter_lines())
            os.kill(server.pid, signal.SIGTERM)
            assert ended(server.pid)


def test_newer_weights_are_served_without_a_broken_answer(tmp_path: Path):
    """A watched directory gets other weights while a stream is open: it ends with the old ones."""
    write_model(tmp_path / "model", seed=1)
    with serving(tmp_path / "model", tmp_path / "log", "--watch", "--max-sequences", "1") as server:
        before = server.get("/v1/models").json()["data"][0]["revision"]
        body = {**ENDLESS, "n": 60, "stream": True}
        old = server.complete(TEXT[0], max_tokens=8)["choices"][0]["text"]
        with requests.post(f"{server.url}/v1/completions", json=body, stream=True, timeout=300) as answer:
            lines = answer.iter_lines()
            next(lines)
            write_model(tmp_path / "next", seed=2)
            (tmp_path / "model" / "model.safetensors").unlink()  # who has mapped it keeps it
            shutil.copy(tmp_path / "next" / "model.safetensors", tmp_path / "model")
            shutil.copy(tmp_path / "next" / "config.json", tmp_path / "model")
            while server.get("/v1/models").json()["data"][0]["revision"] == before:
                assert server.get("/health").status_code == 200
                time.sleep(0.1)
            new = server.complete(TEXT[0], max_tokens=8)
            rest = [line for line in lines if line]
        assert rest[-1] == b"data: [DONE]"
        assert before.encode() in rest[0]
        assert new["choices"][0]["text"] != old
        assert new["system_fingerprint"] != before


def test_weights_that_cannot_be_loaded_leave_the_old_ones_serving(tmp_path: Path):
    write_model(tmp_path / "model", seed=1)
    with serving(tmp_path / "model", tmp_path / "log", "--watch") as server:
        old = server.complete(TEXT[0], max_tokens=8)
        (tmp_path / "model" / "config.json").write_text("{}")
        while "cannot load the model" not in server.log.read_text():
            time.sleep(0.1)
        assert server.get("/health").status_code == 200
        assert server.complete(TEXT[0], max_tokens=8)["choices"] == old["choices"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "{}", "num_hidden_layers"),
        ("vocab.json", "{", "tokenizer"),
        ("model.safetensors", "x", "header"),
    ],
)
def test_a_broken_directory_ends_the_command_with_the_reason(folder: Path, tmp_path: Path, name, content, said):
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / name).write_text(content)
    quietly: Any = {"capture_output": True, "text": True, "timeout": 180}
    done = subprocess.run([OPTCTL, "serve", broken, "--port", "1"], check=False, **quietly)
    assert done.returncode != 0
    assert "cannot listen" in done.stderr or said in done.stderr
    done = subprocess.run([OPTCTL, "generate", broken, "--prompt", "a"], check=False, **quietly)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_generate_and_batch_answer_as_the_server_does(folder: Path, tmp_path: Path, server):
    text = server.complete("The quick brown", max_tokens=7)["choices"][0]["text"]
    spoken = subprocess.run(
        [OPTCTL, "generate", folder, "--prompt", "The quick brown", "--max-tokens", "7", "--temperature", "0"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert spoken.stdout == f"The quick brown{text}\n"
    line = '{"custom_id": "a", "body": {"prompt": "The quick brown", "max_tokens": 7, "temperature": 0}}\n'
    bad = '{"custom_id": "b", "body": {"prompt": "a", "stream": true}}\n'
    command = [OPTCTL, "batch", "-", "--model", folder, "--output", tmp_path / "out.jsonl"]
    done = subprocess.run(command, input=line + bad, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    answers = {
        a["custom_id"]: a["response"] for a in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    }
    assert answers["a"]["body"]["choices"][0]["text"] == text
    assert answers["b"]["body"]["error"]["param"] == "stream"
    wrong = subprocess.run(command, input="{}", capture_output=True, text=True, check=False)
    assert (wrong.returncode, "line 1: custom_id" in wrong.stderr) == (2, True)


def test_a_directory_in_a_store_is_fetched_once_and_checked(folder: Path, tmp_path: Path):
    (tmp_path / "store").mkdir()
    store = open_store((tmp_path / "store").as_uri())
    for file in sorted(folder.iterdir(), key=lambda path: path.name == "config.json"):
        store.upload(f"served/{file.name}", file)
    url, cache = f"{(tmp_path / 'store').as_uri()}/served", str(tmp_path / "cache")
    with serving(url, tmp_path / "log", "--model-name", "m", XDG_CACHE_HOME=cache) as server:
        card = server.get("/v1/models").json()["data"][0]
        assert card["revision"].startswith("sha256:")
    (kept,) = [path for path in (tmp_path / "cache/opt-operator/models").iterdir() if path.is_dir()]
    assert Weights.open(kept).shape == SHAPE.model_copy(update={"init_std": Weights.open(kept).shape.init_std})
    stored = tmp_path / "store/served/model.safetensors"
    raw, written = bytearray(stored.read_bytes()), stored.stat()
    raw[-1] ^= 1
    stored.write_bytes(raw)
    os.utime(stored, ns=(written.st_atime_ns, written.st_mtime_ns))  # it rots: nobody has written it anew
    shutil.rmtree(cache)
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    command = [OPTCTL, "serve", url, "--port", str(free_ports(1)[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=180)
    assert done.returncode == 1
    assert "model.safetensors" in done.stderr
    assert not [path for path in (tmp_path / "cache/opt-operator/models").glob("*") if path.is_dir()]
