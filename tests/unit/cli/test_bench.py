"""quire/cli/bench.py and the files beside it: flags, refusals, and runs against a server of the test's own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from quire.bench.offline import Batch
from quire.cli import main
from quire.cli._bench_engine import PEERS_SHAPE, Engine, _cost, _wanted
from quire.config.card import read_card
from quire.config.decide_quantization import scheme_of
from quire.errors import ConfigError, UnknownFlag

EVENTS = (
    b'data: {"choices":[{"text":"a"}]}\n\n'
    b'data: {"choices":[{"text":"b"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)


class TinyServer(threading.Thread):
    """Answers every GET with a list of one model and every POST with the same stream; keeps the bodies."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bodies: list[dict[str, object]] = []
        self.status = b"200 OK"
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._done = asyncio.Event()

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def begin(self) -> None:
        self.start()
        self._ready.wait(10)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self.join(10)

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._answer, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._done.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        payload = EVENTS
        if head.startswith("GET"):
            payload = b'{"data":[{"id":"tiny"}]}'
        else:
            length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("Content-Length:"))
            self.bodies.append(json.loads(await reader.readexactly(length)))
        lines = b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (self.status, len(payload))
        writer.write(lines + payload)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def server() -> Iterator[TinyServer]:
    server = TinyServer()
    server.begin()
    yield server
    server.end()


def test_a_server_is_measured_and_the_result_is_written(
    server: TinyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"bench serve --port {server.port} --num-prompts 5 --input-len 4 --output-len 2 --goodput ttft:60000"
    saved = f"--save-detailed --result-dir {tmp_path} --result-filename r.json --metadata host=here --top-k 3"
    assert main([*arguments.split(), *saved.split()]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["model_id"], result["completed"], result["total_output_tokens"]) == ("tiny", 5, 10)
    assert (result["host"], result["request_rate"]) == ("here", "inf")
    assert result["generated_texts"] == ["ab"] * 5
    assert result["request_goodput"] == result["request_throughput"]
    assert len(server.bodies) == 6
    assert server.bodies[-1]["max_tokens"] == 2
    assert (server.bodies[-1]["top_k"], server.bodies[-1]["ignore_eos"]) == (3, True)
    assert "requests that succeeded" in capsys.readouterr().out


def test_a_server_that_refuses_is_told_before_the_measuring(
    server: TinyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.status = b"500 Broken"
    assert main(["bench", "serve", "--port", str(server.port), "--model", "m", "--num-prompts", "3"]) == 2
    assert len(server.bodies) == 1
    assert "nothing was measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("bench speed", "no benchmark 'speed'"),
        ("bench latency --batch-size 0", "less than 1"),
        ("bench latency --batch-sise 3", "--batch-sise"),
        ("bench throughput --jobs peers --only 9x9+9", "no job '9x9+9'"),
        ("bench serve --backend telepathy", "--backend"),
        ("bench serve --model m --metric-percentiles 0", "--metric-percentiles"),
        ("bench serve --model m --percentile-metrics ttfx", "ttfx"),
        ("bench serve --model m --goodput fast", "--goodput"),
        ("bench serve --model m --extra-body []", "--extra-body"),
        ("bench serve --model m --header nothing", "--header"),
        ("bench serve --model m --request-rate 0", "above 0"),
        ("bench serve --base-url nowhere --model m", "http://"),
        ("bench serve --port 1", "No server listens"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_engines_flags_are_the_engines_and_the_benchmarks_defaults_lie_under_them() -> None:
    engine = Engine("x", ["--max-num-seqs", "7"], model="shape", load_format="dummy", max_num_seqs=64, max_model_len=99)
    assert engine.options == {
        "enable_prefix_caching": False,
        "model": "shape",
        "load_format": "dummy",
        "max_num_seqs": 7,
        "max_model_len": 99,
    }
    with pytest.raises(UnknownFlag, match="--max-num-seqs"):
        Engine("x", ["--max-num-sequs", "7"])


def test_random_weights_are_for_the_benchmarks_own_model_alone() -> None:
    engine = Engine("x", ["folder", "--enable-prefix-caching"], model="shape", load_format="dummy")
    assert engine.options == {"enable_prefix_caching": True, "model": "folder"}


def test_jobs_are_found_with_and_without_blanks() -> None:
    names = ["1 x 16 + 64", "8 x 128 + 64", "start"]
    assert _wanted(names, None) == names
    assert _wanted(names, ["8x128+64", "start"]) == ["8 x 128 + 64", "start"]
    with pytest.raises(ConfigError, match="no job"):
        _wanted(names, ["2 x 2 + 2"])


def test_the_peers_shape_costs_what_the_peers_say() -> None:
    card = read_card(PEERS_SHAPE)
    cost = _cost(card, "bfloat16")
    assert cost.weight_bytes == pytest.approx(1.19e9, rel=0.01)
    assert cost.body_flop == pytest.approx(0.88e9, rel=0.01)
    assert cost.head_flop + cost.body_flop == pytest.approx(1.19e9, rel=0.01)
    assert Batch(8, 128, 64).num_output_tokens == 512


def test_fewer_bits_are_fewer_bytes_to_read() -> None:
    card = read_card(PEERS_SHAPE)
    small = _cost(card, "bfloat16", scheme_of("int4"))
    assert small.weight_bytes == pytest.approx(0.394e9, rel=0.01)
    assert small.body_flop == _cost(card, "bfloat16").body_flop
