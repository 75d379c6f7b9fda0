"""quire/cli/_remote.py, chat.py and complete.py against a server that the test plays."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import httpx2
import pytest

from quire.cli._remote import Piece, Remote, RemoteError, Stats, each_line, say
from quire.cli.chat import Chat
from quire.cli.complete import complete

STREAM = (
    'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    'data: {"choices":[{"delta":{"content":"Good "}}]}\n\n'
    'data: {"choices":[{"delta":{"content":"day"},"finish_reason":"stop"}]}\n\n'
    'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
    "data: [DONE]\n\n"
)


class Played:
    """Answers with what the test says and keeps the requests."""

    def __init__(self, text: str = STREAM, status: int = 200) -> None:
        self.text = text
        self.status = status
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(self.status, text=self.text)

    def bodies(self) -> list[dict[str, object]]:
        return [json.loads(request.content) for request in self.requests]


def remote(played: Played, api_key: str | None = None) -> Remote:
    return Remote("http://here:1/v1/", api_key, transport=httpx2.MockTransport(played))


def test_a_chat_prints_the_answer_and_tells_the_whole_of_it_next_time(capsys: pytest.CaptureFixture[str]) -> None:
    played = Played()
    with remote(played) as server:
        chat = Chat(server, "m", "Be brief.")
        assert chat.tell("Hello") == "Good day"
        chat.tell("And now?")
    assert capsys.readouterr().out == "Good day\nGood day\n"
    first, second = played.bodies()
    assert first["model"] == "m"
    assert first["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert second["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Good day"},
        {"role": "user", "content": "And now?"},
    ]


def test_a_message_that_was_refused_is_not_kept() -> None:
    played = Played('{"error":{"message":"too long"}}', status=400)
    with remote(played) as server:
        chat = Chat(server, "m", None)
        with pytest.raises(RemoteError, match="answered 400: too long"):
            chat.tell("x" * 99)
        assert chat.messages == []


def test_completions_carry_the_text_and_the_bound(capsys: pytest.CaptureFixture[str]) -> None:
    played = Played('data: {"choices":[{"text":" world"}]}\n\ndata: [DONE]\n\n')
    with remote(played) as server:
        assert complete(server, "m", "Hello", 7, shows_stats=True) == " world"
    (body,) = played.bodies()
    assert (body["prompt"], body["max_tokens"]) == ("Hello", 7)
    assert "first text after" in capsys.readouterr().err


def test_the_first_model_is_asked_for_with_the_key() -> None:
    played = Played('{"object":"list","data":[{"id":"folio"},{"id":"other"}]}')
    with remote(played, "secret") as server:
        assert server.first_model() == "folio"
    assert played.requests[0].headers["authorization"] == "Bearer secret"
    assert str(played.requests[0].url) == "http://here:1/v1/models"


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ('{"data":[]}', 200, "lists no model"),
        ("<html>", 200, "--url end in /v1"),
        ('{"error":{"message":"bad key"}}', 401, "--api-key"),
        ("nothing here", 404, "answered 404: nothing here"),
    ],
)
def test_a_server_without_a_model_is_explained(text: str, status: int, said: str) -> None:
    with remote(Played(text, status)) as server, pytest.raises(RemoteError, match=said):
        server.first_model()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('data: {"error":{"message":"engine died"}}\n\ndata: [DONE]\n\n', "broke off: engine died"),
        ('data: {"choices":[{"text":"a"}]}\n\n', "ended before"),
        ("data: {\n\n", "no completion"),
    ],
)
def test_a_stream_that_goes_wrong_is_an_error(text: str, said: str) -> None:
    with remote(Played(text)) as server, pytest.raises(RemoteError, match=said):
        list(server.stream("/completions", {}))


def test_nobody_listening_says_how_to_start_a_server() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    with (
        Remote("http://here:1/v1", None, transport=httpx2.MockTransport(refuse)) as server,
        pytest.raises(RemoteError, match=r"No server listens at http://here:1/v1.*quire serve"),
    ):
        server.first_model()


def test_stats_count_tokens_a_second_after_the_first() -> None:
    ticks = iter([0.0, 1.0, 3.0])
    stats = Stats(clock=lambda: next(ticks))
    for piece in (Piece("a"), Piece("b"), Piece("", 5)):
        stats.take(piece)
    assert stats.line() == "first text after 1.000 s, 5 tokens, 2.0 tokens/s"
    assert Stats().line() == "no text"


def test_ctrl_c_ends_the_answer_and_closes_the_stream(capsys: pytest.CaptureFixture[str]) -> None:
    closed = []

    def pieces() -> Iterator[Piece]:
        try:
            yield Piece("once ")
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    assert say(pieces(), shows_stats=False) == "once "
    assert capsys.readouterr().out == "once  [stopped]\n"
    assert closed == [True]


def test_a_refusal_is_printed_and_the_next_line_is_still_heard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = []

    def act(line: str) -> None:
        heard.append(line)
        if line == "bad":
            raise RemoteError("The server answered 400.")

    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\nbad\ntwo\n"))
    each_line(act)
    assert heard == ["one", "bad", "two"]
    assert capsys.readouterr().err == "The server answered 400.\n"


def test_a_key_that_no_header_can_carry_is_refused() -> None:
    with pytest.raises(RemoteError, match="API key"):
        Remote("http://here:1/v1", "\u2713")
