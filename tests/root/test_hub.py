"""MODEL arguments: what is found, what is downloaded from a hub on loopback, and what is refused how."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from puna import hub
from puna.errors import PunaError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 4000,
    "pytorch_model.bin": b"never asked for",
    "small.Q4_0.gguf": b"GGUF and more",
}


class Hub(BaseHTTPRequestHandler):
    """The three answers of a model hub that huggingface_hub needs: two listings, a file's facts, its bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer(body=True)

    def do_HEAD(self):
        self._answer(body=False)

    def _answer(self, body):
        _, org, *rest = self.path.split("?")[0].removeprefix("/api/models").split("/")
        repository, name = rest[0], rest[-1]
        files = {"config.json": b"{}"} if repository == "bare" else FILES
        if repository == "gguf":
            files = {name: FILES[name] for name in FILES if name.endswith(".gguf")}
        if org != "here" or repository == "gone":
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)
        if repository == "closed":
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"}, body)
        if self.path.startswith("/api/"):
            listing = {
                "sha": COMMIT,
                "id": f"{org}/{repository}",
                "siblings": [{"rfilename": n} for n in files],
            }
            if "tree" in rest:
                listing = [{"type": "file", "path": n, "size": len(files[n]), "oid": "0" * 40} for n in files]
            return self._send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"}, body)
        if name not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, body)
        tag = hashlib.sha256(files[name]).hexdigest()
        self.server.asked.append(name)
        return self._send(200, files[name], {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"'}, body)

    def _send(self, status, content, headers, body):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def find_there(tmp_path):
    """puna.hub.find in a process whose hub is on loopback; (what it says, exit code, asked files)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = "import sys; from puna import hub; print(hub.find(sys.argv[1]).path)"

    def find(model, **extra):
        place = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "cache")}
        return subprocess.run(
            [sys.executable, "-c", program, model],
            env={**os.environ, "HF_HUB_DISABLE_XET": "1", **place, **extra},
            capture_output=True,
            text=True,
            timeout=60,
        )

    find.asked = server.asked
    yield find
    server.shutdown()
    server.server_close()


def test_a_hub_model_is_downloaded_whole_once_and_then_found_offline(find_there):
    done = find_there("hf:here/model")
    assert done.returncode == 0, done.stderr
    folder = done.stdout.strip()
    assert set(os.listdir(folder)) == {"config.json", "model.safetensors"}  # no pickles, no GGUF files
    with open(f"{folder}/model.safetensors", "rb") as file:
        assert file.read() == FILES["model.safetensors"]
    again = find_there("hf:here/model", HF_HUB_OFFLINE="1")
    assert again.stdout.strip() == folder


def test_one_gguf_of_a_hub_model_is_downloaded_alone(find_there):
    done = find_there("hf:here/gguf/small.Q4_0.gguf")
    assert done.stdout.strip().endswith("small.Q4_0.gguf"), done.stderr
    assert set(find_there.asked) == {"small.Q4_0.gguf"}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("hf:here/gone", "no such model on the hub"),
        ("hf:here/closed", "gated"),
        ("hf:here/gguf", "hf:here/gguf/FILE.gguf"),
        ("hf:here/model/none.gguf", "no file 'none.gguf'"),
        ("hf:here/model/pytorch_model.bin", "hf:org/name/file.gguf"),
        ("hf:model", "hf:org/name"),
        ("hf:he re/mod el", "hf:org/name"),
    ],
)
def test_what_the_hub_does_not_have_is_said_in_a_sentence(find_there, model, said):
    done = find_there(model)
    assert done.returncode == 1 and said in done.stderr.split("PunaError")[-1], done.stderr


def test_without_a_network_a_hub_model_is_refused_with_what_to_try(find_there):
    done = find_there("hf:here/model", HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert "the hub was not reached" in done.stderr
    done = find_there("hf:here/model", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in done.stderr


@pytest.mark.parametrize("model", ["nowhere", "~nobody-here/model", "", "smollm"])
def test_what_is_not_there_is_refused_by_name(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PunaError, match=r"no such file or folder|no model here"):
        hub.find(model)


def test_a_folder_is_known_by_the_file_that_describes_it(tmp_path):
    for name, kind in (("config.json", "hf"), ("params.json", "meta")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).write_text("{}")
        assert hub.find(str(tmp_path / kind)).kind == kind
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.gguf").write_bytes(b"GGUF")
    assert hub.find(str(tmp_path / "one")) == hub.Place(tmp_path / "one" / "a.gguf", "gguf")
    (tmp_path / "one" / "b.gguf").write_bytes(b"GGUF")
    with pytest.raises(PunaError, match=r"2 \.gguf files: name one"):
        hub.find(str(tmp_path / "one"))


def test_a_file_that_is_not_a_gguf_is_refused(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"<html>not found")
    with pytest.raises(PunaError, match="not GGUF"):
        hub.find(str(tmp_path / "model.gguf"))
