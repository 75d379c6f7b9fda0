"""benchmarks/peers: servers under load, with a small program in an engine's place; the tokenizer they are given."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from benchmarks.peers.lineup import Server, servers
from benchmarks.peers.parts import SERVED, Served, ServedJob
from benchmarks.peers.process_group import PeerFailed
from benchmarks.peers.server_process import ServerProcess
from benchmarks.peers.serving import ServingRace
from benchmarks.write_tokenizer import SPECIAL, tokenizer, write

ROOT = Path(__file__).parents[3]

_SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
cache = os.environ.get("SERVER_CACHE")
if cache:
    os.makedirs(cache, exist_ok=True)
    print("found", len(os.listdir(cache)), flush=True)
    open(f"{cache}/compiled", "w").close()
class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["max_tokens"] == 13:
            return self.send_error(500)
        self.send_response(200)
        self.end_headers()
        events = [{"choices": [{"text": "a "}]}] * asked["max_tokens"]
        usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": asked["max_tokens"]}
        for event in [*events, {"choices": [], "usage": usage}]:
            self.wfile.write(f"data: {json.dumps(event)}\\n\\n".encode())
        self.wfile.write(b"data: [DONE]\\n\\n")
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Answers).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def server(name: str, tmp_path: Path, program: str = _SERVER) -> Server:
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    (model / "tokenizer.json").touch()
    command = (sys.executable, "-c", program, "--port", str(free_port()))
    return Server(name, command, model, {"SERVER_CACHE": str(tmp_path / name)}, "SERVER_CACHE")


def test_loads_are_given_in_turn_and_rates_are_shares_of_what_the_fastest_did(tmp_path: Path) -> None:
    jobs = (
        ServedJob("at once", 4, 3, num_requests=4, concurrency=2),
        ServedJob("Poisson", 4, 3, rate=0.001, window_s=1e-9),
    )
    part = Served("", "model", "small", jobs, kv_bytes=10**6, goodput=("ttft:60000",))
    broken = server("broken", tmp_path, "raise ImportError('no such server')")
    race = ServingRace(part, [server("quire", tmp_path), broken, server("other", tmp_path)], tmp_path / "logs", 60, 9)
    try:
        race.start(with_cold=True)
        race.round(0, jobs)
        race.weigh(weight_mb=1.0)
    finally:
        race.end()
    assert [(run.racer, run.job, run.rate > 0) for run in race.runs] == [
        ("quire", "small, at once", False),
        ("other", "small, at once", False),
        ("quire", "small, Poisson", True),
        ("other", "small, Poisson", True),
    ]
    assert race.runs[0].result.total_output_tokens == 12
    assert race.runs[0].result.total_input_tokens == 16
    assert race.runs[2].rate < race.runs[0].result.request_throughput
    found = {(one.racer, one.job): one.value for one in race.readings}
    assert found["quire", "small, ready cold"] > 0 and found["other", "small, ready warm"] > 0
    assert found["quire", "small, Poisson, good requests"] > 0
    assert ("quire", "small, at once, good requests") not in found
    least = max(found["quire", "small, resident when ready"], found["quire", "small, resident at most"] - 1)
    assert found["quire", "small, resident beyond weights and KV"] == pytest.approx(least - 1)
    assert [(one.racer, one.job) for one in race.failures] == [("broken", "start")]
    assert "no such server" in race.failures[0].error


def test_a_cold_start_finds_an_empty_cache_and_the_warm_one_what_it_left(tmp_path: Path) -> None:
    part = Served("", "model", "small", (), kv_bytes=1)
    race = ServingRace(part, [server("one", tmp_path)], tmp_path / "logs", 60, 9)
    kept = tmp_path / "one-cold-model"
    kept.mkdir()
    for number in range(3):
        (kept / str(number)).touch()
    try:
        race.start(with_cold=True)
        assert (tmp_path / "logs" / "one-model-server.log").read_text(encoding="utf-8") == "found 1\n"
    finally:
        race.end()


def test_a_request_that_fails_or_a_missing_file_voids_the_load(tmp_path: Path) -> None:
    process = ServerProcess(server("one", tmp_path), dict(os.environ), tmp_path / "one.log", 60)
    try:
        with pytest.raises(PeerFailed, match="HTTP 500"):
            process.load(["--num-prompts", "1", "--input-len", "1", "--output-len", "13"])
    finally:
        process.end()
    absent = servers(tmp_path, tmp_path / "model" / "gone", Path(sys.executable), port=1, kv_bytes=1, num_seqs=1)
    race = ServingRace(SERVED["serving"], absent, tmp_path / "logs", 60, 9)
    race.start(with_cold=True)
    assert ["missing; benchmarks/peers/setup.sh makes it" in one.error for one in race.failures] == [True, True]


def test_servers_get_the_same_settings_and_ports_of_their_own(tmp_path: Path) -> None:
    quire, vllm = servers(tmp_path, tmp_path, Path("python"), port=7, kv_bytes=1 << 20, num_seqs=64)
    flags = ["--served-model-name", "--dtype", "--no-enable-prefix-caching", "--max-model-len", "--max-num-seqs"]
    for flag in flags:
        at, there = quire.command.index(flag), vllm.command.index(flag)
        assert quire.command[at : at + 2] == vllm.command[there : there + 2]
    assert [one.command[one.command.index("--port") + 1] for one in (quire, vllm)] == ["7", "8"]
    assert quire.command[quire.command.index("--kv-cache-memory-bytes") + 1] == str(1 << 20)
    assert vllm.environment["VLLM_CPU_KVCACHE_SPACE"] == "1"


@pytest.mark.parametrize("size", [259, 1000, 16000])
def test_a_tokenizer_has_the_size_asked_and_gives_text_back(size: int, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": size, "max_position_embeddings": 64}))
    write(tmp_path)
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert made.get_vocab_size() == size
    text = "kalo mine, \u00e9\u4e16 42!\n"
    assert made.decode(made.encode(text).ids) == text
    assert all(made.decode([place]) for place in range(len(SPECIAL), size))


def test_a_tokenizer_smaller_than_its_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="259 entries at least, not 258"):
        tokenizer(258)
