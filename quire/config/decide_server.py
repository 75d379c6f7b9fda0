"""The slice of server/: address, names, keys, what is written.

Not here: everything else that is decided (resolve.py).
Door: decide_server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from quire.config.asked import Asked
from quire.config.card import Card
from quire.config.decided import ServerConfig
from quire.config.env import Env
from quire.config.fit import MemoryPlan
from quire.config.keys import ApiKey, plain_key, read_keys
from quire.config.ledger import Ledger
from quire.config.option import options_of
from quire.config.server import ServerOptions
from quire.errors import ConfigError

_QUEUED_PER_ROW = 8
_QUEUED_TOKENS = 2**20
_LOG_LEVELS = {"trace": "debug"}
"""Levels that Python's logging does not have."""


def decide_server(
    asked: Asked, card: Card, plan: MemoryPlan, env: Env, ledger: Ledger, *, max_num_seqs: int
) -> ServerConfig:
    """Decide the slice of server/.

    Raises: ConfigError for a TLS file that is missing, or a key without its certificate.
    """
    server = asked.server
    _check_tls(server)
    keys = server.api_key or env.api_keys
    if any(not key.strip() for key in keys):
        raise ConfigError("--api-key is empty; leave it out to serve without keys.")
    plain = tuple(map(plain_key, keys))
    listed = () if server.api_keys_file is None else read_keys(Path(server.api_keys_file))
    names = asked.engine.model.served_model_name or (asked.engine.model.model,)
    ledger.note("served_model_name", " ".join(names), "names that requests may use; the first is echoed")
    _check_keys(plain, listed, names)
    _note_keys(asked, plain, listed, ledger)
    _note(server, ledger, bool(env.api_keys))
    max_queued_rows, max_queued_tokens = server.max_num_queued_reqs, server.max_num_queued_tokens
    if max_queued_rows is None:
        max_queued_rows = _QUEUED_PER_ROW * max_num_seqs
    if max_queued_tokens is None:
        max_queued_tokens = _QUEUED_TOKENS
    ledger.note("max_num_queued_reqs", max_queued_rows, f"samples that may wait; default {_QUEUED_PER_ROW} a row")
    ledger.note("max_num_queued_tokens", max_queued_tokens, "prompt tokens that may wait")
    return ServerConfig(
        model_names=names,
        model_root=asked.engine.model.model,
        max_model_len=plan.max_model_len,
        host=server.host,
        port=server.port,
        uds=server.uds,
        keys=(*plain, *listed),
        root_path=server.root_path,
        allowed_origins=server.allowed_origins,
        allowed_methods=server.allowed_methods,
        allowed_headers=server.allowed_headers,
        allow_credentials=server.allow_credentials,
        ssl_keyfile=server.ssl_keyfile,
        ssl_certfile=server.ssl_certfile,
        ssl_ca_certs=server.ssl_ca_certs,
        ssl_cert_reqs=server.ssl_cert_reqs,
        response_role=server.response_role,
        log_level=_LOG_LEVELS.get(server.uvicorn_log_level, server.uvicorn_log_level),
        logs_access=not server.disable_uvicorn_access_log,
        logs_requests=server.enable_log_requests,
        max_log_len=server.max_log_len,
        logs_stats=not server.disable_log_stats,
        sends_request_id=server.enable_request_id_headers,
        forces_usage=server.enable_force_include_usage,
        gives_prompt_tokens_details=server.enable_prompt_tokens_details,
        returns_tokens_as_token_ids=server.return_tokens_as_token_ids,
        max_queued_rows=max_queued_rows,
        max_queued_tokens=max_queued_tokens,
        max_queue_wait_s=server.max_queue_wait,
        has_docs=not server.disable_fastapi_docs,
        has_console=server.console,
        has_tokenizer_info=server.enable_tokenizer_info_endpoint,
        tracks_load=server.enable_server_load_tracking,
        shutdown_timeout_s=server.shutdown_timeout,
        sse_keep_alive_s=server.sse_keep_alive_interval,
        default_chat_template_kwargs=json.dumps(dict(server.default_chat_template_kwargs or {})),
    )


def _note(server: ServerOptions, ledger: Ledger, has_keys: bool) -> None:
    for one in options_of(ServerOptions):
        if one.name in ("max_num_queued_reqs", "max_num_queued_tokens"):
            continue
        value = getattr(server, one.name)
        if one.name == "api_key":
            shown = f"{len(value)} keys" if value else "from QUIRE_API_KEY" if has_keys else "none"
            ledger.note(one.name, shown, one.help, source="QUIRE_API_KEY" if has_keys else "default")
            continue
        shown = " ".join(value) if isinstance(value, tuple) else value
        ledger.note(one.name, "none" if shown in (None, "") else shown, one.help)


def _check_keys(plain: Sequence[ApiKey], listed: Sequence[ApiKey], names: Sequence[str]) -> None:
    digests = {key.sha256 for key in plain}
    for key in listed:
        if key.sha256.lower() in digests:
            raise ConfigError(f"--api-keys-file: the key {key.name!r} is one of --api-key too; leave it out there.")
        unknown = [model for model in key.models or () if model not in names]
        if unknown or key.models == ():
            said = f"the model {unknown[0]!r}, which is not served" if unknown else "no model"
            raise ConfigError(f"--api-keys-file: the key {key.name!r} names {said}; served are {', '.join(names)}.")


def _note_keys(asked: Asked, plain: Sequence[ApiKey], listed: Sequence[ApiKey], ledger: Ledger) -> None:
    is_fair = asked.engine.scheduler.scheduling_policy == "fair"
    if is_fair and not listed:
        ledger.warn("--scheduling-policy fair shares between the keys of --api-keys-file; without one all are one.")
    if not is_fair and any(key.weight != 1.0 for key in listed):
        ledger.warn("Weights in --api-keys-file need --scheduling-policy fair; they are not used.")
    if plain and listed:
        ledger.warn("Beside --api-keys-file there are keys of --api-key or QUIRE_API_KEY, which have no limits.")


def _check_tls(server: ServerOptions) -> None:
    if (server.ssl_keyfile is None) != (server.ssl_certfile is None):
        raise ConfigError("--ssl-keyfile and --ssl-certfile belong together; give both or none.")
    for flag, name in (
        ("--ssl-keyfile", server.ssl_keyfile),
        ("--ssl-certfile", server.ssl_certfile),
        ("--ssl-ca-certs", server.ssl_ca_certs),
    ):
        if name is not None and not Path(name).is_file():
            raise ConfigError(f"{flag} {name}: there is no such file.")
