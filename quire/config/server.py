"""Options of the server: where it listens, who may ask, what it writes.

Not here: what the server does with them (server/).
Door: ServerOptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quire.config.option import option


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Everything about HTTP."""

    host: str = option("127.0.0.1", "Address to listen on; 0.0.0.0: every one of the machine.")
    port: int = option(8000, "Port to listen on.", low=0, high=65535)
    uds: str | None = option(None, "Unix socket to listen on instead of host and port.", kind="text")
    api_key: tuple[str, ...] = option((), "Keys that clients must send one of. Default: those in QUIRE_API_KEY.")
    api_keys_file: str | None = option(
        None, "YAML file of keys with names, digests, weights and limits; see docs/operating.md.", kind="text"
    )
    root_path: str = option("", "Path prefix behind a proxy.")
    allowed_origins: tuple[str, ...] = option((), "CORS origins, a JSON list; none by default.")
    allowed_methods: tuple[str, ...] = option(("*",), "CORS methods, a JSON list.")
    allowed_headers: tuple[str, ...] = option(("*",), "CORS headers, a JSON list.")
    allow_credentials: bool = option(False, "Let browsers send credentials across origins.")
    ssl_keyfile: str | None = option(None, "File of the TLS key.", kind="text")
    ssl_certfile: str | None = option(None, "File of the TLS certificate.", kind="text")
    ssl_ca_certs: str | None = option(None, "File of the authorities that sign clients' certificates.", kind="text")
    ssl_cert_reqs: int = option(0, "Clients' certificates: 0 none, 1 optional, 2 required.", low=0, high=2)
    response_role: str = option("assistant", "Role of the server's messages.")
    default_chat_template_kwargs: Mapping[str, object] | None = option(
        None, "Variables of the chat template for every request, a JSON object.", kind="json"
    )
    return_tokens_as_token_ids: bool = option(False, "Write tokens in logprobs as token_id:N.")
    enable_prompt_tokens_details: bool = option(False, "Report cached prompt tokens in usage.")
    enable_force_include_usage: bool = option(False, "Report usage in every stream.")
    enable_server_load_tracking: bool = option(False, "Count requests in flight for /load.")
    enable_tokenizer_info_endpoint: bool = option(False, "Serve /tokenizer_info.")
    enable_request_id_headers: bool = option(False, "Send X-Request-Id with every answer.")
    disable_fastapi_docs: bool = option(False, "Serve neither the API's description nor its pages.")
    console: bool = option(True, "Serve a page at / to chat with the model and watch the engine.")
    max_num_queued_reqs: int | None = option(
        None,
        "Refuse (503) when more samples than this would wait for a row. Default: eight times --max-num-seqs.",
        kind="whole",
        low=0,
        high=2**31 - 1,
    )
    max_num_queued_tokens: int | None = option(
        None,
        "Refuse (503) when more prompt tokens than this would wait to be computed, 64k too. Default: 1M.",
        kind="count",
        unit="tokens",
        low=0,
        high=2**31 - 1,
    )
    max_queue_wait: int = option(
        120,
        "Refuse (503) when a request would wait longer than this for its first token, by what steps took so far; "
        "0: however long.",
        unit="seconds",
        low=0,
        high=86400,
    )
    shutdown_timeout: int = option(
        5, "How long requests may go on after the server was told to end.", unit="seconds", low=0, high=86400
    )
    sse_keep_alive_interval: int = option(
        0, "Comment in a stream that is silent this long; 0: none.", unit="seconds", low=0, high=86400
    )
    uvicorn_log_level: str = option(
        "info",
        "Level of the server's log; trace is debug.",
        choices=("critical", "error", "warning", "info", "debug", "trace"),
    )
    disable_uvicorn_access_log: bool = option(False, "No line for each HTTP request.")
    enable_log_requests: bool = option(False, "Log each request.")
    max_log_len: int | None = option(
        None, "Most characters of a logged prompt.", kind="whole", unit="characters", low=0, high=2**31 - 1
    )
    disable_log_stats: bool = option(False, "No line of statistics every 10 seconds.")
