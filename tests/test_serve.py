"""The server: what models are asked over HTTP is what they are asked in Python; limits, keys, mistakes, a clean end."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import pytest
from pydantic import ValidationError

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.run.chosen import packed_for
from bothways.run.model import Model
from bothways.use.serve import desk, running, wishes
from bothways.use.serve.desk import Limits

JSON = {"Content-Type": "application/json"}
TEXTS = tiny.sentences(12, seed=3)


@contextmanager
def served(key=None, host="127.0.0.1", limits=None, **models):
    """A server in a thread; what asks it."""
    made = running.server(models, host, limits or Limits(), key)
    with running.listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Caller(listening.getsockname()[1])
        finally:
            made.should_exit = True
            thread.join()


class Caller:
    """Asks a server; what comes back, with its status."""

    def __init__(self, port):
        self.port, self.headers = port, {}

    def raw(self, path, body=None, method=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method or ("GET" if body is None else "POST"), path, body, {**self.headers, **headers})
        answer = connection.getresponse()
        read = answer.read()
        connection.close()
        return answer, read

    def __call__(self, path, **wish):
        body = json.dumps(wish) if wish else None
        answer, read = self.raw(path, body, **(JSON if wish else {}))
        return answer.status, json.loads(read)

    def results(self, path, **wish):
        status, said = self(path, **wish)
        assert status == 200, said
        return said["results"]

    def refusal(self, path, **wish):
        status, said = self(path, **wish)
        assert set(said) == {"error"}
        assert "\n" not in said["error"]["message"]
        return status, said["error"]["message"]


@pytest.fixture(scope="module")
def all_heads():
    return tiny.model(("classify", "tag", "answer", "choose", "mlm"))


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranker") / "model"
    return bw.load(tiny.ranker(folder, "classify", labels=("score",), problem="scores"), device="cpu")


@pytest.fixture(scope="module")
def caller(all_heads):
    with served(all=all_heads) as asks:
        yield asks


def plain(value):
    return json.loads(json.dumps(value, default=lambda one: one.item()))


def near(found, right):
    """Whether plain data is equal, numbers nearly."""
    if isinstance(right, dict):
        return found.keys() == right.keys() and all(near(found[name], right[name]) for name in right)
    if isinstance(right, list | tuple):
        return len(found) == len(right) and all(map(near, found, right))
    return found == pytest.approx(right, abs=1e-5) if isinstance(right, float) else found == right


@pytest.mark.parametrize(
    ("path", "wish", "ask"),
    [
        ("/embed", {"texts": TEXTS, "pooling": "cls", "dims": 8}, lambda m: m.embed(TEXTS, "cls", dims=8).tolist()),
        ("/embed", {"texts": TEXTS[0]}, lambda m: m.embed(TEXTS[:1]).tolist()),
        ("/classify", {"texts": TEXTS}, lambda m: [asdict(one) for one in m.classify(TEXTS)]),
        ("/tag", {"texts": TEXTS}, lambda m: [asdict(one) for one in m.tag(TEXTS)]),
        ("/tag", {"texts": [["red", "river"]]}, lambda m: [asdict(one) for one in m.tag([["red", "river"]])]),
        (
            "/answer",
            {"question": TEXTS[:2], "context": TEXTS[2], "top": 3},
            lambda m: [asdict(one) for one in m.answer(TEXTS[:2], [TEXTS[2]] * 2, top=3)],
        ),
        (
            "/choose",
            {"prompt": TEXTS[0], "choices": TEXTS[1:4]},
            lambda m: [asdict(m.choose(TEXTS[0], TEXTS[1:4]))],
        ),
        (
            "/fill",
            {"texts": "the [MASK] river", "top": 2},
            lambda m: [[asdict(one) for one in m.fill_mask("the [MASK] river", 2)]],
        ),
    ],
)
def test_what_is_asked_over_http_is_what_is_asked_in_python(caller, all_heads, path, wish, ask):
    assert near(caller.results(path, **wish), plain(ask(all_heads)))


def test_answers_do_not_wait_for_acknowledgements():
    with running.listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_rankers_and_scorers_answer_as_in_python(ranker):
    right = ranker.rerank(TEXTS[0], TEXTS[1:], top=4)
    with served(r=ranker) as asks:
        assert near(asks.results("/rerank", query=TEXTS[0], texts=TEXTS[1:], top=4), [asdict(one) for one in right])
        assert asks.results("/rerank", query="a", texts=["half \ud800 a pair"])[0]["text"] == "half \ufffd a pair"
        scored = asks.results("/score", texts=[TEXTS[0]] * 3, pairs=TEXTS[1:4])
        assert near(scored, ranker.score([TEXTS[0]] * 3, TEXTS[1:4]).tolist())
        status, said = asks("/v1/rerank", query=TEXTS[0], documents=TEXTS[1:], top_n=4, return_documents=True)
    assert status == 200
    assert [one["index"] for one in said["results"]] == [one.place for one in right]
    assert [one["document"]["text"] for one in said["results"]] == [one.text for one in right]
    assert near([one["relevance_score"] for one in said["results"]], [one.score for one in right])


def test_clients_of_openai_get_vectors(caller, all_heads):
    right = all_heads.embed(TEXTS)
    status, said = caller("/v1/embeddings", input=TEXTS, model="all", user="somebody")
    assert status == 200
    np.testing.assert_allclose([one["embedding"] for one in said["data"]], right, atol=1e-5)
    assert said["usage"]["prompt_tokens"] == sum(
        len(all_heads.tokenizer.encode([text]).sequence(0)) - 2 for text in TEXTS
    )
    _, packed = caller("/v1/embeddings", input=TEXTS[0], encoding_format="base64")
    decoded = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(decoded, right[0], atol=1e-5)
    assert caller("/v1/models")[1]["data"][0]["id"] == "all"


def test_many_callers_at_once_each_get_their_own(caller, all_heads):
    right = all_heads.embed(TEXTS)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda place: caller.results("/embed", texts=TEXTS[place]), list(range(12)) * 6))
    np.testing.assert_allclose(np.concatenate(found), np.tile(right, (6, 1)), atol=1e-5)


def test_a_large_request_lets_others_have_their_turn(all_heads, monkeypatch):
    monkeypatch.setattr("bothways.use.serve.calls._PORTION", 30)
    calls, embed = [], all_heads.embed
    monkeypatch.setattr(all_heads, "embed", lambda texts, *more, **options: calls.append(len(texts)) or embed(texts))
    with served(all=all_heads) as asks:
        found = asks.results("/embed", texts=TEXTS)
    np.testing.assert_allclose(found, embed(TEXTS), atol=1e-5)
    assert len(calls) > 3


def test_what_is_cut_is_told(all_heads):
    short = all_heads.copy()
    short.max_length = 8
    with served(short=short) as asks:
        _, said = asks("/classify", texts=["red river", "stone " * 20])
        assert said["usage"] == {"texts": 2, "tokens": 22, "cut_texts": 1, "cut_tokens": 14}
        _, metrics = asks.raw("/metrics")
        assert b'bothways_cut_tokens_total{model="short"} 14.0' in metrics
        _, windowed = asks("/tag", texts="stone " * 20)
        assert windowed["usage"]["cut_tokens"] == 0
        assert len(windowed["results"][0]["tags"]) == 20


@pytest.mark.parametrize(
    ("path", "wish", "status", "said"),
    [
        ("/embed", {"text": "a"}, 400, "/embed knows no field 'text'; did you mean 'texts'?"),
        ("/embed", {"pooling": "mean"}, 400, "/embed needs the field 'texts': One text, or a list of them."),
        ("/embed", {"texts": 3}, 400, "the field 'texts' of /embed is not as it should be: One text"),
        ("/embed", {"texts": ["a", None]}, 400, "the field 'texts' of /embed is not as it should be"),
        ("/embed", {"texts": "a", "pooling": "most"}, 400, "most"),
        ("/embed", {"texts": "a", "model": "al"}, 400, "there is no model 'al' here; did you mean 'all'?"),
        ("/embed", {"texts": ["a"] * 1025}, 413, "1,025 texts are more than the 1,024 of a request"),
        ("/embed", {"texts": ["a"] * 900, "prompt": "b " * 4500}, 413, "8,100,900 letters would be read, more than"),
        ("/fill", {"texts": "[MASK] " * 400, "top": 100}, 413, "the reply might have 114,560,000 letters, more than"),
        ("/fill", {"texts": "[MASK]", "top": 101}, 400, "the field 'top' of /fill is not as it should be: How many"),
        ("/classify", {"texts": ["a", "b"], "pairs": ["c"]}, 400, "2 entries and 1"),
        ("/choose", {"prompt": ["a", "b"], "choices": ["c", "d"]}, 400, "a list of choices for each prompt"),
        ("/choose", {"prompt": "a", "choices": [["c"]]}, 400, "a list of texts for a single prompt"),
        ("/embed", {f"x{n}": 1 for n in range(99)}, 400, "should be a JSON object with fields of /embed: model, texts"),
        ("/answer", {"question": "", "context": "a"}, 400, "empty"),
        ("/fill", {"texts": "no mask here"}, 400, "[MASK]"),
        ("/rerank", {"query": "a", "texts": ["b"]}, 404, "no model here answers /rerank; there are"),
        ("/nowhere", {"texts": "a"}, 404, "there is no /nowhere here; there are"),
        ("/v1/embeddings", {"input": [[1, 2]]}, 400, "check_embedding_ctx_length=False"),
    ],
)
def test_mistakes_are_one_sentence(caller, path, wish, status, said):
    got, sentence = caller.refusal(path, **wish)
    assert got == status
    assert said in sentence


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (wishes.EmbedWish, {"texts": [1] * 1000}),
        (wishes.TagWish, {"texts": [[1]] * 1000}),
        (wishes.ChooseWish, {"prompt": "a", "choices": [[1] * 1000] * 10}),
        (wishes.DocumentsWish, {"query": "a", "documents": [1] * 1000}),
        (wishes.EmbeddingsWish, {"input": [1] * 1000}),
        (wishes.EmbedWish, {"texts": "a", **{f"x{n}": 1 for n in range(1000)}}),
    ],
)
def test_many_mistakes_cost_no_more_than_a_few(form, body):
    with pytest.raises(ValidationError) as error:
        form.model_validate(body)
    assert error.value.error_count() < 10


def test_what_is_no_json_is_told(caller):
    for body, status, said in (
        (b'{"texts":', 400, "the request is no JSON"),
        (b"[]", 400, "a JSON object with fields of /embed"),
        (b'{"texts": "\xff"}', 400, "JSON in UTF-8"),
    ):
        answer, read = caller.raw("/embed", body, **JSON)
        assert answer.status == status
        assert said in json.loads(read)["error"]["message"]
    answer, _ = caller.raw("/embed")
    assert answer.status == 405
    answer, read = caller.raw("/embed", b'{"texts": "a"}')  # a form of another page could send that
    assert answer.status == 400
    assert b"Content-Type: application/json" in read
    assert caller.raw("/embed", json.dumps({"texts": "a \ud800 b"}), **JSON)[0].status == 200


def test_a_request_that_is_too_large_is_refused_whether_it_says_so_or_not(all_heads):
    body = json.dumps({"texts": "river " * 1000}).encode()
    with served(all=all_heads, limits=Limits(bytes=1000)) as asks:
        said, read = asks.raw("/embed", body, **JSON)
        sent, read_in_chunks = asks.raw("/embed", iter([body[:500], body[500:]]), **JSON)
    assert said.status == sent.status == 413
    assert b"larger than 1,000 bytes" in read
    assert b"larger than 1,000 bytes" in read_in_chunks


def test_too_many_that_wait_are_sent_away_and_what_waits_is_answered(all_heads, monkeypatch):
    inside, go_on, embed = threading.Event(), threading.Event(), all_heads.embed

    def slow(texts, *more, **options):
        inside.set()
        assert go_on.wait(60)
        return embed(texts)

    monkeypatch.setattr(all_heads, "embed", slow)
    with served(all=all_heads, limits=Limits(waiting=10)) as asks, ThreadPoolExecutor(1) as pool:
        first = pool.submit(asks, "/embed", texts="river " * 9)
        assert inside.wait(60)
        answer, read = asks.raw("/embed", json.dumps({"texts": "river " * 5}), **JSON)
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert "tokens wait already" in json.loads(read)["error"]["message"]
        go_on.set()
        assert first.result()[0] == 200
        assert asks("/embed", texts="river " * 50)[0] == 200  # alone, it may be larger


def test_what_takes_too_long_is_given_up(all_heads, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(all_heads, "embed", lambda *texts, **options: go_on.wait(60) and np.zeros((1, 2)))
    with served(all=all_heads, limits=Limits(seconds=0.2)) as asks:
        status, said = asks.refusal("/embed", texts="a")
        go_on.set()
    assert status == 504
    assert "too long" in said


def test_a_caller_who_hangs_up_gives_its_place_to_others(all_heads, monkeypatch):
    waiting, left = threading.Event(), threading.Event()

    async def never(texts, **options):
        waiting.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            left.set()
            raise

    body = json.dumps({"texts": "a river"}).encode()
    with served(all=all_heads, limits=Limits(waiting=10)) as asks:
        monkeypatch.setattr(all_heads, "aembed", never)
        with socket.create_connection(("127.0.0.1", asks.port)) as calling:
            lines = ["POST /embed HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
            head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
            calling.sendall(head.encode() + body)
            assert waiting.wait(60)
        assert left.wait(60)
        monkeypatch.undo()
        assert asks("/embed", texts="river " * 9)[0] == 200
        assert b'bothways_requests_total{path="/embed",status="499"} 1.0' in asks.raw("/metrics")[1]
        assert b"bothways_waiting_tokens 0.0" in asks.raw("/metrics")[1]


def test_the_key_is_asked_for_and_other_hosts_are_not_answered(all_heads):
    with served(all=all_heads, key="secret") as asks:
        assert asks.refusal("/embed", texts="a")[0] == 401
        asks.headers = {"Authorization": "Bearer wrong"}
        assert asks.refusal("/info")[0] == 401
        assert asks("/health") == (200, {"status": "ok"})
        asks.headers = {"Authorization": "Bearer secret"}
        assert asks("/embed", texts="a")[0] == 200
        assert asks.raw("/info", Host="elsewhere.example")[0].status == 421
        assert asks.raw("/info", Host="[::1]:80")[0].status == 200
    with served(all=all_heads, host="0.0.0.0") as asks:
        assert asks.raw("/info", Host="elsewhere.example")[0].status == 200


def test_several_models_answer_what_each_can(all_heads, ranker):
    vectors = tiny.model(("mlm",))
    with served(all=all_heads, vectors=vectors, ranker=ranker) as asks:
        assert asks("/embed", texts="a")[1]["model"] == "vectors"  # the others are there for their tasks
        assert asks("/embed", texts="a", model="all")[1]["model"] == "all"
        assert asks("/rerank", query="a", texts=["b"])[1]["model"] == "ranker"
        assert "say which" in asks.refusal("/fill", texts="[MASK]")[1]
        assert "vectors does not answer /tag; it answers" in asks.refusal("/tag", texts="a", model="vectors")[1]
        info = asks("/info")[1]
    assert [one["name"] for one in info["models"]] == ["all", "vectors", "ranker"]
    with pytest.raises(BothwaysError, match="no model to serve"):
        bw.web_app({})


def test_what_is_unexpected_tells_nothing_of_itself(all_heads, monkeypatch):
    def broken(*texts, **options):
        raise RuntimeError("a secret")

    monkeypatch.setattr(all_heads, "embed", broken)
    with served(all=all_heads) as asks:
        assert asks.refusal("/embed", texts="a") == (500, "something went wrong here; the server's log tells")
        assert asks("/health")[0] == 200


def test_figures_and_page(caller):
    caller("/embed", texts="a river")
    for place in range(30):
        caller(f"/made/up/{place}")
    _, read = caller.raw("/metrics")
    assert b'bothways_requests_total{path="/embed",status="200"}' in read
    assert b'path="other",status="404"' in read
    assert b"made" not in read
    answer, page = caller.raw("/")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert b"http" not in page.replace(b"{location.origin}", b"")  # nothing is loaded from elsewhere
    schema = caller("/openapi.json")[1]
    assert set(schema["paths"]["/embed"]["post"]) >= {"requestBody", "summary"}


@pytest.mark.parametrize(("name", "value"), [("texts", 0), ("bytes", -1), ("waiting", 0), ("seconds", 0.0)])
def test_limits_that_let_nothing_through(name, value):
    with pytest.raises(BothwaysError, match=f"limit of {name}"):
        desk.Limits(**{name: value})


def test_models_are_warm_before_anybody_can_ask(monkeypatch):
    model, made = Model(tiny.saved(()), engine="packed"), []
    monkeypatch.setattr("bothways.run.model.packed_for", lambda one: made.append(one) or packed_for(one))
    opened = running.opened(["mine=hub/name"], lambda _: model)
    assert made == [model]
    with served(**opened) as asks:
        asks.results("/embed", texts=TEXTS)
    assert made == [model]


def test_names_of_models(tmp_path, all_heads):
    all_heads.save(tmp_path / "run" / "model")
    loaded = []

    def load(source):
        loaded.append(source)
        return all_heads

    names = [str(tmp_path / "run" / "model"), f"other={tmp_path}", "hub/name"]
    assert list(running.opened(names, load)) == ["run", "other", "name"]
    assert loaded == [names[0], str(tmp_path), "hub/name"]
    with pytest.raises(BothwaysError, match="two models are called 'name'; give one another name: NAME=MODEL"):
        running.opened(["hub/name", "other/name"], load)


def start(*arguments, **environment):
    command = [sys.executable, "-m", "bothways", "serve", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def test_the_command_serves_and_ends_when_it_is_told_to(tmp_path, all_heads):
    all_heads.save(tmp_path / "mine")
    process = start(tmp_path / "mine", "--port", 0, BOTHWAYS_API_KEY="secret", PYTHONUNBUFFERED="1")
    answers, listening = process.stdout.readline(), process.stdout.readline()
    assert answers.startswith("mine answers /embed, /classify")
    port = int(listening.split(" (")[0].rpartition(":")[2])
    asks = Caller(port)
    asks.headers = {"Authorization": "Bearer secret"}
    assert len(asks.results("/embed", texts=TEXTS)) == len(TEXTS)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (0, "stopped\n", "")


def test_a_port_that_is_taken_and_a_model_that_is_absent(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(tmp_path, "--port", taken.getsockname()[1])
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.count("\n") == 1
    assert "Address already in use" in errors
    process = start(tmp_path / "absent", "--port", 0)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "there is no model folder" in errors
