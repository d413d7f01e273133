"""A server of the S3 protocol on loopback, and a proxy before it that fails as stores do."""

import http.client
import logging
import random
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pyarrow import fs

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "llama",
    "AWS_SECRET_ACCESS_KEY": "grass",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "NO_PROXY": "127.0.0.1",
}


@contextmanager
def s3_server():
    """The port of a server with an empty bucket `pampa`."""
    pytest.importorskip("flask", reason="the server of the S3 protocol is moto[server]")
    server = pytest.importorskip("moto.server", reason="the server of the S3 protocol is moto")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    port = running.get_host_and_port()[1]
    try:
        filesystem(port, "allow_bucket_creation=true&allow_bucket_deletion=true").create_dir("pampa")
        yield port
    finally:
        running.stop()


def filesystem(port, more=""):
    """A file system that looks into the bucket beside the product."""
    keys = {"access_key": "llama", "secret_key": "grass", "region": "us-east-1", "scheme": "http"}
    flags = {name: True for name in ("allow_bucket_creation", "allow_bucket_deletion") if name in more}
    return fs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", **keys, **flags)


def objects(port, folder):
    """Every object below a folder: {name in it: its bytes}."""
    system = filesystem(port)
    found = system.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    names = [info.path for info in found if info.type == fs.FileType.File]
    return {name[len(folder) + 1 :]: system.open_input_file(name).readall() for name in sorted(names)}


def copied(port, local, folder):
    """Put the files of a folder into the bucket."""
    system = filesystem(port)
    for path in sorted(path for path in local.rglob("*") if path.is_file()):
        with system.open_output_stream(
            f"{folder}/{path.relative_to(local).as_posix()}", compression=None
        ) as out:
            out.write(path.read_bytes())


class Proxy:
    """Passes requests on, but fails the share `share` of those that `wanted(method, path)` picks.

    `how`: "500", "403", "cut" (half of the body, then silence) or "hang up" (no answer at all).
    """

    def __init__(self, port, how="500", share=1.0, wanted=lambda method, path: True, seed=0):
        self.port, self.how, self.share, self.wanted = port, how, share, wanted
        self.rng, self.failed, self.lock = random.Random(seed), 0, threading.Lock()

    def unlucky(self, method, path):
        with self.lock:
            hit = self.wanted(method, path) and self.rng.random() < self.share
            self.failed += hit
        return hit

    @contextmanager
    def running(self):
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _handler(proxy):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.body()
                if proxy.unlucky(self.command, self.path):
                    self.fail(body)
                    return
                status, headers, data = self.passed_on(body)
                self.say(status, headers, data)

            def body(self):
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline().partition(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def passed_on(self, body):
                there = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
                there.request(self.command, self.path, body, self.passed_headers())
                said = there.getresponse()
                data = said.read()
                there.close()
                return said.status, said.getheaders(), data

            def passed_headers(self):
                own = ("transfer-encoding", "expect", "content-length", "connection")
                return {name: value for name, value in self.headers.items() if name.lower() not in own}

            def say(self, status, headers, data, send=None):
                self.send_response_only(status)
                head = self.command == "HEAD"
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "connection", "content-length") or (
                        head and name.lower() == "content-length"
                    ):
                        self.send_header(name, value)
                if not head:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(b"" if head else data[:send])

            def fail(self, body):
                if proxy.how in ("500", "403"):
                    code = {"500": "InternalError", "403": "AccessDenied"}[proxy.how]
                    text = f"<Error><Code>{code}</Code><Message>no luck</Message></Error>".encode()
                    self.say(int(proxy.how), [("Content-Type", "application/xml")], text)
                    return
                if proxy.how == "cut":
                    status, headers, data = self.passed_on(body)
                    self.say(status, headers, data, send=len(data) // 2)
                self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

            def log_message(self, *_):
                pass

        return Handler
