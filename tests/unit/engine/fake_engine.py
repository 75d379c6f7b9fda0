"""A process that speaks the engine's side of the wire without a model.

Token k of a request is its last prompt id + k + 1, whatever engine computes it. Behaviour by the first prompt id: 666
ends the process whenever it runs, 667 does so once (a file remembers it), 668 after every twelve tokens, 13 sends
garbage once, 7 never answers, 8 stops the process once, 9 begins a step once that never ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from quire.core.command import Cancel, Command, Reply
from quire.core.events import Delta, EngineStats, Ready, Scheduled, StartFailed, StepEvents
from quire.core.request import Request, Resumed
from quire.core.wire import Decoder, encode
from quire.engine.heartbeat import Heartbeat


class FakeEngine:
    """Answers each request at once and whole."""

    def __init__(self, connection: socket.socket, memory: Path, heartbeat: Heartbeat) -> None:
        self.connection = connection
        self.heartbeat = heartbeat
        self.memory = memory
        self.waiting: dict[str, Request] = {}

    def run(self) -> None:
        decoder = Decoder()
        while data := self.connection.recv(65536):
            for message in decoder.feed(data):
                if isinstance(message, Request):
                    self.answer(message)
                elif isinstance(message, Cancel) and message.request_id in self.waiting:
                    del self.waiting[message.request_id]
                    self.send(Delta(message.request_id, 0, finish="abort"))
                elif isinstance(message, Command):
                    error = "" if message.name == "count_waiting" else "no such command"
                    self.connection.sendall(encode(Reply(message.number, str(len(self.waiting)), error)))

    def send(self, *events: Delta | Scheduled) -> None:
        self.connection.sendall(
            encode(
                StepEvents(
                    deltas=tuple(event for event in events if isinstance(event, Delta)),
                    scheduled=tuple(event for event in events if isinstance(event, Scheduled)),
                    stats=EngineStats(step=1, num_running=1),
                )
            )
        )

    def is_first_time(self) -> bool:
        if self.memory.exists():
            return False
        self.memory.touch()
        return True

    def answer(self, request: Request) -> None:
        kind = request.prompt_ids[0]
        samples = request.resumed or tuple(Resumed(index) for index in range(request.n))
        self.send(*(Scheduled(request.id, sample.index, 0, True, 1.0) for sample in samples))
        if kind == 7:
            self.waiting[request.id] = request
            return
        for sample in samples:
            for k in range(len(sample.token_ids), request.stopping.max_tokens):
                if kind == 666 or (kind == 667 and k == 2 and self.is_first_time()):
                    os._exit(1)
                if kind == 668 and k - len(sample.token_ids) == 12:
                    os._exit(1)
                if kind == 8 and k == 1 and self.is_first_time():
                    os.kill(os.getpid(), signal.SIGSTOP)
                if kind == 9 and k == 1 and self.is_first_time():
                    self.heartbeat.begin_step(1)
                    signal.pause()
                if kind == 13 and k == 1 and self.is_first_time():
                    self.connection.sendall(b"\xff" * 64)
                    return
                is_last = k + 1 == request.stopping.max_tokens
                token = request.prompt_ids[-1] + k + 1
                self.send(Delta(request.id, sample.index, (token,), finish="length" if is_last else None))


def main(mode: str, memory: Path, socket_fd: int, heartbeat_fd: int) -> None:
    connection, heartbeat = socket.socket(fileno=socket_fd), Heartbeat(heartbeat_fd)
    sys.stdin.buffer.read()
    if mode == "die":
        os._exit(3)
    if mode == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "be deaf":
        connection.sendall(encode(StartFailed("deaf")))
        signal.pause()
    if mode == "refuse":
        connection.sendall(encode(StartFailed("config.json: hidden_size is missing.")))
        return
    heartbeat.begin_step(1)
    heartbeat.end_step()
    heartbeat.start()
    connection.sendall(encode(Ready(1, 2, 3, 0.5)))
    FakeEngine(connection, memory, heartbeat).run()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
