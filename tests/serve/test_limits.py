"""Who may come in: hosts, keys, sizes; and how the server begins and ends."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import openai
import pytest
from conftest import site
from small_world import random_llama

from puna.errors import PunaError
from puna.serve.app import serve
from puna.serve.limits import is_loopback

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:9", "[::1]:80", "LOCALHOST"])
def test_this_machines_names_are_answered(tiny, host):
    assert httpx.get(tiny.url + "/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "localhost@evil.example", "[", ""]
)
def test_a_page_that_points_its_own_name_at_us_is_not_answered(tiny, host):
    for path in ("/v1/models", "/health"):
        reply = httpx.get(tiny.url + path, headers={"host": host})
        assert reply.status_code == 403 and reply.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize(
    "origin, status", [("https://evil.example", 403), ("null", 403), ("http://localhost:3000", 200)]
)
def test_a_page_from_elsewhere_cannot_post(tiny, origin, status):
    reply = httpx.post(tiny.url + "/v1/chat/completions", json=ASK, headers={"origin": origin})
    assert reply.status_code == status


def test_a_server_for_others_answers_to_any_name():
    with site(random_llama(262), hosts=None) as here:
        assert httpx.get(here.url + "/v1/models", headers={"host": "box.example"}).status_code == 200


def test_a_key_opens_and_nothing_else_does():
    with site(random_llama(262), api_key="sésame") as here:
        for wrong in (
            {},
            {"authorization": "Bearer"},
            {"authorization": "Bearer wrong"},
            {"authorization": "sésame"},
        ):
            raw = {name: value.encode() for name, value in wrong.items()}
            reply = httpx.get(here.url + "/v1/models", headers=raw)
            assert reply.status_code == 401 and reply.json()["error"]["code"] == "invalid_api_key"
            assert "sésame" not in reply.text
        with pytest.raises(openai.AuthenticationError):
            here.client.models.list()
        right = {"authorization": "Bearer sésame".encode()}
        assert httpx.get(here.url + "/v1/models", headers=right).status_code == 200
        assert httpx.post(here.url + "/v1/chat/completions", json=ASK, headers=right).status_code == 200
        assert httpx.get(here.url + "/health").status_code == 200


def test_a_body_too_large_is_refused_announced_or_not():
    with site(random_llama(262), body_bytes=1000) as here:

        def pieces():
            for _ in range(20):
                yield b" " * 100

        for content in (b" " * 1001, pieces()):
            headers = {"content-type": "application/json"}
            reply = httpx.post(here.url + "/v1/chat/completions", content=content, headers=headers)
            assert reply.status_code == 413 and "1,000 bytes" in reply.json()["error"]["message"]
        assert httpx.post(here.url + "/v1/chat/completions", json=ASK).status_code == 200


def test_loopback_is_this_machine_only():
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "localhost.example", "")))


def test_an_address_that_is_taken_is_said_so(tiny):
    port = int(tiny.url.rsplit(":", 1)[1])
    with pytest.raises(PunaError, match=rf"127.0.0.1:{port}: cannot listen there[^$]*try: another --port"):
        serve(None, port=port)
    with pytest.raises(PunaError, match="cannot listen there"):
        serve(None, host="no such host")


PROGRAM = """
    import sys
    sys.path.insert(0, "tests")
    from small_world import ByteTokenizer, PlainTemplate, random_llama, torch_engine
    from puna.serve.app import build_app, serve
    tokenizer = ByteTokenizer()
    with torch_engine(random_llama(tokenizer.size, context=100_000), tokenizer) as engine:
        app = build_app(engine, PlainTemplate(tokenizer), tokenizer, "tiny")
        serve(app, port=0, ready=lambda url: print(url, flush=True))
    print("closed")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_running_answers_and_the_program_goes_on(number):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    url = program.stdout.readline().strip()
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        endless = {**ASK, "max_tokens": 90_000, "logit_bias": {"65": 100}}
        stream = client.chat.completions.create(**endless, stream=True)
        for _ in range(3):
            next(stream)
        program.send_signal(number)
        with pytest.raises(openai.APIError, match="the server is stopping"):
            list(stream)
    out, err = program.communicate(timeout=15)
    assert (program.returncode, out.strip(), err) == (0, "closed", "")


def test_the_room_needs_no_torch():
    check = "import sys, puna.serve.app; sys.exit('torch' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )


def test_a_missing_package_is_named():
    check = """
        import sys
        sys.modules["uvicorn"] = None
        from puna.errors import PunaError
        try:
            import puna.serve.app
        except PunaError as missing:
            print(missing)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(check)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "uvicorn" in ran.stdout and "pip install 'puna[serve]'" in ran.stdout
