"""Running the app on uvicorn until somebody says stop, and ending what is under way then.

Not here: taking the address (listen.py), what is served (app.py), the engine (engine/supervisor.py).
Door: run.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from quire.config.decided import ServerConfig
from quire.server.protocol import BoundedProtocol

logger = logging.getLogger(__name__)

_FAREWELL_S = 3
"""How long requests have, when the grace is over, to send their error; what is left after that is cut off."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """Remembers the signal that ended it. uvicorn raises it again, and the process would end before its engine."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told_to_end, self.told_again = asyncio.Event(), asyncio.Event()
        self.signal = 0
        self._loop = asyncio.get_running_loop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, receiver in before.items():
                signal.signal(number, receiver)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True
        told = self.told_again if self.signal else self.told_to_end
        self.signal = self.signal or sig
        self._loop.call_soon_threadsafe(told.set)


async def run(
    app: ASGIApp, config: ServerConfig, listener: socket.socket, end_requests: Callable[[], Awaitable[None]]
) -> int:
    """Serve on the listener until a signal ends it. Says where it listens once it does.

    ``end_requests``: gives every request that is still under way after the grace its error. The result is the
    process's exit code, by the signal as shells count: 130 for SIGINT, 143 for SIGTERM.
    """
    server = _Server(
        uvicorn.Config(
            app,
            loop="none",
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning" if config.log_level == "info" else config.log_level,
            access_log=False,
            root_path=config.root_path,
            timeout_keep_alive=config.keep_alive_s,
            timeout_graceful_shutdown=config.shutdown_timeout_s + _FAREWELL_S,
            server_header=False,
            ssl_keyfile=config.ssl_keyfile,
            ssl_certfile=config.ssl_certfile,
            ssl_ca_certs=config.ssl_ca_certs,
            ssl_cert_reqs=config.ssl_cert_reqs,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    if server.started:
        gc.freeze()  # What is there now stays, and collections need not walk over it.
        print(_greeting(config), file=sys.stderr, flush=True)
    ending = asyncio.create_task(_end(server, config.shutdown_timeout_s, end_requests), name="end")
    try:
        await serving
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
    return 128 + server.signal if server.signal else 0


async def _end(server: _Server, grace_s: int, end_requests: Callable[[], Awaitable[None]]) -> None:
    await server.told_to_end.wait()
    logger.info("Told to end; requests under way have %d s. Ctrl-C again ends them now.", grace_s)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.told_again.wait(), grace_s)
    await end_requests()


def _greeting(config: ServerConfig) -> str:
    model = config.model_names[0]
    if config.uds is not None:
        return f"Quire serves {model} on the socket {config.uds}."
    scheme = "https" if config.ssl_certfile else "http"
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"{scheme}://{host}:{config.port}"
    key = " -H 'Authorization: Bearer YOUR_KEY'" if config.keys else ""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Who are you?"}}]}}'
    return (
        f"Quire serves {model} on {url} (OpenAI API: {url}/v1, documentation: {url}/docs). Try:\n"
        f"  quire chat --url {url}/v1\n"
        f"  curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"
    )
