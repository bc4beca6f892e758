"""A server that is asked over HTTP: reachable or not, slow, lying."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.errors import OptionError, ServerProblem
from advisor.server_metrics import TOKENS
from advisor.server_reader import ServerReader, address
from tests.watch.http_server import Answer, hangs_up, never_ends, redirects, says_nothing, serving, too_much
from tests.watch.servers import Counting

METRICS = Counting().answered(100, (90, 80)).text().encode()
OFF = (501, b'{"error": {"code": 501, "message": "Start it with `--metrics`"}}')


def problem(answer: Answer, answer_s: float = 30.0) -> ServerProblem:
    with serving({"/metrics": answer}) as fake, pytest.raises(ServerProblem) as caught:
        ServerReader(address(fake.url), answer_s=answer_s).metrics()
    assert caught.value.exit_code == 2
    return caught.value


def test_metrics_are_read_below_any_path() -> None:
    with serving({"/llama/metrics": (200, METRICS)}) as fake:
        assert ServerReader(address(f"{fake.url}/llama/")).metrics()[TOKENS] == 270


def test_nobody_is_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ServerProblem, match="not reachable") as caught:
            ServerReader(address(f"http://127.0.0.1:{free.getsockname()[1]}")).metrics()
    assert caught.value.why
    assert caught.value.fix


def test_a_server_without_metrics_says_how_to_get_them() -> None:
    found = problem(OFF)
    assert "does not publish its counters" in found.what
    assert "--metrics" in found.fix


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, b'{"error": {"message": "Invalid API Key"}}'), "API key"),
        ((503, b'{"error": {"message": "Loading model"}}'), "not ready"),
        ((404, b"<html>nothing here"), "no /metrics"),
        ((400, b"\xff\x00" * 5000), "no /metrics"),
        (redirects, "no /metrics"),
        ((200, b"<html>It works!</html>"), "not as llama.cpp's"),
        ((200, b""), "not as llama.cpp's"),
        ((200, b"llamacpp:tokens_predicted_total many"), "not as llama.cpp's"),
        ((500, b'{"error": []}'), "no /metrics"),
        (hangs_up, "not reachable"),
        (too_much, "more than 4 MiB"),
    ],
)
def test_what_is_no_reading_is_a_sentence(answer: Answer, said: str) -> None:
    found = problem(answer)
    assert said in found.what
    assert len(found.why) < 300


@pytest.mark.parametrize("answer", [says_nothing, never_ends])
def test_slow_answers_end_at_the_time_limit(answer: Answer) -> None:
    assert "did not answer within 0.3 s" in problem(answer, answer_s=0.3).what


def test_what_is_optional_may_fail_in_any_way() -> None:
    for answer in (OFF, (200, b"not json"), (200, b"[" * 100_000), hangs_up):
        with serving({"/metrics": (200, METRICS), "/slots": answer, "/props": answer, "/v1/models": answer}) as fake:
            reader = ServerReader(address(fake.url))
            assert reader.slots() is None
            assert reader.model_path() == ""
            assert reader.model_parameters() == 0


def test_slots_and_the_model_are_read() -> None:
    answers: dict[str, Answer] = {
        "/slots": (200, b'[{"id": 0}]'),
        "/props": (200, b'{"model_path": "/m/a.gguf", "chat_template": "x"}'),
        "/v1/models": (200, b'{"data": [{"id": "a", "meta": {"n_params": 134515008, "n_vocab": 49152}}]}'),
    }
    with serving(answers) as fake:
        reader = ServerReader(address(fake.url))
        assert reader.slots() == [{"id": 0}]
        assert reader.model_path() == "/m/a.gguf"
        assert reader.model_parameters() == 134515008


def test_the_key_goes_to_the_address_that_was_given_and_nowhere_else() -> None:
    with serving({"/metrics": redirects, "/elsewhere": (200, METRICS)}) as fake:
        with pytest.raises(ServerProblem):
            ServerReader(address(fake.url), api_key="secret").metrics()
        assert [(path, headers.get("Authorization")) for path, headers in fake.asked] == [("/metrics", "Bearer secret")]


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving({"/metrics": (200, METRICS)}) as fake:
        reader = ServerReader(address(fake.url))
        assert reader.metrics()
        assert "Authorization" not in fake.asked[0][1]


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost", "http://localhost:80"),
        ("HTTPS://Example.org/a/b/", "https://example.org:443/a/b"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_addresses(url: str, said: str) -> None:
    assert str(address(url)) == said


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8080",
        "localhost",
        "file:///etc/passwd",
        "ftp://host/",
        "http://",
        "http://host:99999",
        "http://host:port",
        "http://user:word@host",
        "http://host/?model=x",
        "http://host/#x",
        "http://ho st",
        "http://host/\r\nX-Header: 1",
        "http://höst",
        "http://" + "a" * 70 + ".org",
        "http://[::1",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(OptionError) as caught:
        address(url)
    assert caught.value.fix


@given(st.text() | st.text().map(lambda text: f"http://{text}"))
def test_any_text_is_an_address_or_refused(url: str) -> None:
    try:
        found = address(url)
    except OptionError:
        return
    assert found.host.isascii()
    assert found.prefix.isascii()
    assert 0 <= found.port < 65536
