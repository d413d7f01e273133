"""Real servers on loopback, each over a tiny Llama, and real clients for them."""

import threading
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")
import openai
import uvicorn
from small_world import ByteTokenizer, PlainTemplate, parrot, random_llama, torch_engine

from puna.serve.app import Server, build_app

CALL = '{"name": "weather", "parameters": {"city": "Lima"}}'
TOKENIZER = ByteTokenizer([CALL])


class Site:
    """One server: its address, its engine, its template, and clients for it."""

    def __init__(self, engine, url):
        self.engine, self.url = engine, url
        self.tokenizer, self.template = TOKENIZER, PlainTemplate(TOKENIZER)
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)

    def idle(self, seconds=10):
        """Whether the engine has nothing left to do, soon."""
        deadline = time.monotonic() + seconds
        while self.engine.running and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.engine.running == 0


@contextmanager
def site(model, engine_settings=None, **app_settings):
    with torch_engine(model, TOKENIZER, **(engine_settings or {})) as engine:
        app = build_app(engine, PlainTemplate(TOKENIZER), TOKENIZER, "tiny", **app_settings)
        server = Server(uvicorn.Config(app, port=0, log_config=None, access_log=False), app.state.served)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        here = Site(engine, f"http://127.0.0.1:{port}")
        try:
            yield here
        finally:
            here.client.close()
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def tiny():
    """A model with random weights."""
    with site(random_llama(TOKENIZER.size, context=2048)) as here:
        yield here


@pytest.fixture(scope="session")
def polite():
    """A model that answers every chat with né€! and ends."""
    special = TOKENIZER.special
    with site(
        parrot(TOKENIZER.size, [special["<end>"], *TOKENIZER.encode("né€!"), special["<eot>"]])
    ) as here:
        yield here


@pytest.fixture(scope="session")
def tagger():
    """A model that begins its call with the special token for it."""
    special = TOKENIZER.special
    said = [special["<end>"], special["<|python_tag|>"], TOKENIZER.ids[CALL.encode()], special["<eot>"]]
    with site(parrot(TOKENIZER.size, said)) as here:
        yield here


@pytest.fixture(scope="session")
def caller():
    """A model that answers every chat with one tool call."""
    special = TOKENIZER.special
    with site(
        parrot(TOKENIZER.size, [special["<end>"], TOKENIZER.ids[CALL.encode()], special["<eot>"]])
    ) as here:
        yield here
