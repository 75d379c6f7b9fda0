"""The exception tree. Each error knows its HTTP status, its type and its code; its message says what happened, the
numbers and the way out.

Not here: how an error is written on the wire of a dialect (server/).
"""

from __future__ import annotations


class QuireError(Exception):
    """Everything that Quire raises on purpose."""

    status = 500
    type = "server_error"
    code: str | None = None
    retry_after_s: int | None = None
    """After how long it is worth asking again; None: nobody knows, or never."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class ConfigError(QuireError):
    """An option, or options together, cannot be had."""


class UnknownFlag(ConfigError):
    """A flag that nobody knows; the message names the nearest."""


class UnsupportedFlag(ConfigError):
    """A flag of the field that Quire knows but does not serve; the message says so and why."""


class DoesNotFit(ConfigError):
    """Weights, activations and KV need more memory than there is; the message has the numbers and the largest that
    fits.
    """


class PortBusy(ConfigError):
    """Somebody else listens there."""


class CheckpointError(QuireError):
    """A checkpoint cannot be used; one line that names the file and, where there is one, the tensor."""


class ModelNotFound(CheckpointError):
    """Neither a local folder nor a cached or reachable hub id."""


class UnsupportedModel(CheckpointError):
    """The architecture or a part of its configuration is not served."""


class RequestError(QuireError):
    """The client's mistake."""

    status = 400
    type = "invalid_request_error"


class InvalidValue(RequestError):
    """A field is missing, of the wrong type or out of its bounds; ``param`` names it."""

    code = "invalid_value"


class NotSupported(RequestError):
    """A field or value of the field's API that Quire does not serve yet; never silently ignored."""

    code = "unsupported"


class PromptTooLong(RequestError):
    """Prompt, or prompt and output, exceed the context."""

    code = "context_length_exceeded"


class UnknownModel(RequestError):
    """The request names a model that is not served."""

    status = 404
    type = "not_found_error"
    code = "model_not_found"


class NotFound(RequestError):
    """No such route or object."""

    status = 404
    type = "not_found_error"
    code = "not_found"


class MethodNotAllowed(RequestError):
    status = 405
    code = "method_not_allowed"


class BodyTooLarge(RequestError):
    status = 413
    code = "request_too_large"


class UnsupportedMediaType(RequestError):
    status = 415
    code = "unsupported_media_type"


class AuthenticationFailed(RequestError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class RateLimited(RequestError):
    """The key has used what it may; try again after ``retry_after_s`` seconds."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(QuireError):
    """Try again after ``retry_after_s`` seconds."""

    status = 503
    type = "service_unavailable_error"
    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineDead(QuireError):
    """No engine can be had now; nothing of this request can be continued."""

    status = 503
    retry_after_s = 10
    type = "service_unavailable_error"
    code = "engine_dead"


class ShuttingDown(EngineDead):
    """The server was told to end; another one may answer."""

    code = "shutting_down"


class SequenceFailed(QuireError):
    """The engine failed this sequence alone."""

    code = "sequence_failed"
