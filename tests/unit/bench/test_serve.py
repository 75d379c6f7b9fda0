"""quire/bench/serve.py"""

from __future__ import annotations

import asyncio
import json

import pytest

from quire.bench.arrivals import Arrival
from quire.bench.serve import Goal, Load, asked, body_of, details, lines, parse_goals, report, send_all, times_ms
from quire.bench.stream import Answer, Target
from quire.errors import ConfigError

KEYS = {
    "date",
    "backend",
    "model_id",
    "tokenizer_id",
    "num_prompts",
    "request_rate",
    "burstiness",
    "max_concurrency",
    "duration",
    "completed",
    "failed",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "total_token_throughput",
    "max_output_tokens_per_s",
    "max_concurrent_requests",
}
LOAD = Load(backend="openai", model="m", fields={"temperature": 0.0})
GOOD = Answer(
    began_s=100.0,
    ended_s=101.6,
    first_s=100.5,
    last_s=101.5,
    gaps_s=[0.25, 0.75],
    num_prompt_tokens=10,
    num_output_tokens=3,
)
SLOW = Answer(
    began_s=100.0, ended_s=105.0, first_s=104.0, last_s=105.0, gaps_s=[1.0], num_prompt_tokens=20, num_output_tokens=2
)
BROKEN = Answer(began_s=100.0, ended_s=100.1, error="HTTP 500")


def test_times_follow_their_definitions_and_leave_failures_out() -> None:
    found = times_ms([GOOD, BROKEN, SLOW])
    assert found["ttft"] == pytest.approx([500.0, 4000.0])
    assert found["tpot"] == pytest.approx([500.0, 1000.0])
    assert found["itl"] == pytest.approx([250.0, 750.0, 1000.0])
    assert found["e2el"] == pytest.approx([1500.0, 5000.0])


def test_a_report_has_the_fields_keys() -> None:
    result = asked(LOAD, num_prompts=3, rate=float("inf"), burstiness=1.0, tokenizer=None)
    result |= report([GOOD, BROKEN, SLOW], 5.0, goals=(Goal("ttft", 1000.0),), percentiles=(50.0, 99.0))
    assert set(result) == KEYS | {
        f"{key}_{m}_ms" for key in ("mean", "median", "std", "p50", "p99") for m in ("ttft", "tpot", "itl", "e2el")
    }
    assert (result["completed"], result["failed"]) == (2, 1)
    assert (result["total_input_tokens"], result["total_output_tokens"]) == (30, 5)
    assert result["request_goodput"] == pytest.approx(0.2)
    assert result["output_throughput"] == pytest.approx(1.0)
    assert result["max_concurrent_requests"] == 2
    assert result["max_output_tokens_per_s"] == pytest.approx(2.0)
    assert result["median_ttft_ms"] == pytest.approx(2250.0)
    assert len(lines(result, ("ttft",), (99.0,))) == 15


def test_a_report_of_failures_alone_has_zeros() -> None:
    result = report([BROKEN], 1.0)
    assert (result["completed"], result["mean_ttft_ms"], result["max_output_tokens_per_s"]) == (0, 0.0, 0.0)


def test_details_keep_the_order_of_the_requests() -> None:
    found = details([GOOD, BROKEN])
    assert found["errors"] == ["", "HTTP 500"]
    assert found["output_lens"] == [3, 0]


def test_bodies_are_what_each_endpoint_takes() -> None:
    ids = body_of(LOAD, Arrival(0.0, [1, 2], 5))
    assert (ids["prompt"], ids["max_tokens"], ids["stream"], ids["temperature"]) == ([1, 2], 5, True, 0.0)
    chat = body_of(Load("openai-chat", "m", {}), Arrival(0.0, "hi", 5))
    assert chat["messages"] == [{"role": "user", "content": "hi"}]
    assert "prompt" not in chat


def test_goals_are_read_and_wrong_ones_refused() -> None:
    assert parse_goals(["ttft:200", "e2el:1e3"]) == (Goal("ttft", 200.0), Goal("e2el", 1000.0))
    for text in ("ttft", "itl:5", "ttft:nan", "ttft:-1", "speed:1"):
        with pytest.raises(ConfigError, match="--goodput"):
            parse_goals([text])


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ConfigError, match="ttfx"):
        report([GOOD], 1.0, metrics=("ttfx",))


async def test_no_more_requests_are_under_way_than_allowed_and_answers_keep_their_order() -> None:
    under_way = most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        body = json.loads(await reader.readexactly(length))
        under_way += 1
        most = max(most, under_way)
        for _ in range(5):
            await asyncio.sleep(0)
        under_way -= 1
        text = json.dumps({"choices": [{"text": str(body["prompt"][0])}]})
        events = f"data: {text}\n\ndata: [DONE]\n\n".encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(events) + events)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        target = Target("127.0.0.1", server.sockets[0].getsockname()[1], "/v1/completions")
        load = Load("openai", "m", {}, max_concurrency=3)
        answers, duration_s = await send_all(target, load, [Arrival(0.0, [i], 1) for i in range(20)])
    assert [answer.text for answer in answers] == [str(i) for i in range(20)]
    assert most <= 3
    assert duration_s > 0
