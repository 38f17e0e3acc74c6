"""A server of MLflow on a port of its own, and servers that are none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

from tests.trackers.cases import refused

# Of servers that are neither MLflow's nor W&B's: the status and the body.
ANSWERS = {
    "401": (401, b'{"error_code": "UNAUTHENTICATED", "message": "who are you"}'),
    "404": (404, b"not here"),
    "garbage": (200, b"<html>Log in</html>"),
    "empty": (200, b""),
}


class Server:
    """`mlflow server`, with its own file for what it was asked.

    Attributes:
        uri: its address.
    """

    def __init__(self, folder, port):
        self.uri, self._asked = f"http://127.0.0.1:{port}", folder / "asked.log"

    def asked(self, path):
        """How often it was asked for a path."""
        return self._asked.read_text().count(path)


@contextmanager
def mlflow_server(folder):
    """The real server, with one worker."""
    port = refused()
    server = Server(folder, port)
    options = "--threads 4 --graceful-timeout 1 --no-control-socket"
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    places = {
        "--backend-store-uri": f"sqlite:///{folder}/server.db",
        "--artifacts-destination": str(folder / "files"),
        "--gunicorn-opts": f"{options} --access-logfile {folder}/asked.log",
    }
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (
        open(folder / "server.log", "wb") as log,
        subprocess.Popen(
            [*command, *(text for pair in places.items() for text in pair)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            _wait(server.uri, process)
            yield server
        finally:
            process.terminate()


def _wait(uri, process):
    deadline_s = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            requests.get(f"{uri}/health", timeout=5)
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not start, see its server.log")


@contextmanager
def answering(status, body):
    """A server that has one answer for everything: its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
