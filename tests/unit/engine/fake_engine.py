"""A process that speaks the engine's side of the wire without a model: token k of a request is its last prompt id + k +
1.

Behaviour by the first prompt id: 666 ends the process, 13 sends garbage, 7 never answers.
"""

from __future__ import annotations

import os
import socket
import sys

from quire.core.command import Cancel, Command, Reply
from quire.core.events import Delta, EngineStats, Ready, Scheduled, StartFailed, StepEvents
from quire.core.request import Request
from quire.core.wire import Decoder, encode


def answer(request: Request) -> list[StepEvents]:
    events = []
    for k in range(request.stopping.max_tokens):
        is_last = k + 1 == request.stopping.max_tokens
        deltas = tuple(
            Delta(request.id, index, (request.prompt_ids[-1] + k + 1,), finish="length" if is_last else None)
            for index in range(request.n)
        )
        scheduled = tuple(Scheduled(request.id, index, 0, True, 1.0) for index in range(request.n)) if k == 0 else ()
        events.append(StepEvents(deltas, scheduled, stats=EngineStats(step=k + 1, num_running=1)))
    return events


def main(mode: str, fd: int) -> None:
    connection = socket.socket(fileno=fd)
    sys.stdin.buffer.read()
    if mode == "die":
        os._exit(3)
    if mode == "refuse":
        connection.sendall(encode(StartFailed("config.json: hidden_size is missing.")))
        return
    connection.sendall(encode(Ready(1, 2, 3, 0.5)))
    decoder = Decoder()
    waiting: set[str] = set()
    while data := connection.recv(65536):
        for message in decoder.feed(data):
            if isinstance(message, Request):
                if message.prompt_ids[0] == 666:
                    os._exit(1)
                if message.prompt_ids[0] == 13:
                    connection.sendall(b"\xff" * 64)
                    continue
                if message.prompt_ids[0] == 7:
                    waiting.add(message.id)
                    continue
                for event in answer(message):
                    connection.sendall(encode(event))
            elif isinstance(message, Cancel) and message.request_id in waiting:
                waiting.discard(message.request_id)
                connection.sendall(encode(StepEvents((Delta(message.request_id, 0, finish="abort"),))))
            elif isinstance(message, Command):
                error = "" if message.name == "count_waiting" else "no such command"
                connection.sendall(encode(Reply(message.number, str(len(waiting)), error)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
