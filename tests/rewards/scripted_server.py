"""A chat completion endpoint that does what a test tells it, and notes what it was sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What the server answers to one request."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    """How long it takes."""
    trickle_s: float = 0.0
    """How long it sends spaces, one every 0.05 s, before the body."""


def says(text: str, **options: Any) -> Answer:
    """A chat completion with this text."""
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "judge",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
    }
    return Answer(body=json.dumps(body), **options)


def verdict(word: str, reason: str = "because") -> Answer:
    """A chat completion with a verdict."""
    return says(json.dumps({"reason": reason, "verdict": word}))


def refuses(status: int, message: str, **headers: str) -> Answer:
    """An error in the protocol's form."""
    return Answer(status, json.dumps({"error": {"message": message, "type": "x", "code": None}}), headers)


Script = Callable[[dict[str, Any], int], Answer]
"""From the body of a request and its number, counted from 0, to the answer."""


class ScriptedServer:
    """Runs in threads of its own."""

    def __init__(self, script: Script) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.highest_concurrency = 0
        self._now = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    number = len(server.bodies)
                    server.bodies.append(body)
                    server.authorizations.append(self.headers["Authorization"])
                    server._now += 1
                    server.highest_concurrency = max(server.highest_concurrency, server._now)
                try:
                    answer = script(body, number)
                    time.sleep(answer.after_s)
                finally:
                    with server._lock:
                        server._now -= 1
                self._send(answer)

            def do_GET(self) -> None:
                self._send(Answer(body=json.dumps({"object": "list", "data": [{"id": "judge", "object": "model"}]})))

            def _send(self, answer: Answer) -> None:
                payload = answer.body.encode()
                spaces = int(answer.trickle_s / 0.05)
                try:
                    self.send_response(answer.status)
                    self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
                    for name, value in answer.headers.items():
                        if name != "Content-Type":
                            self.send_header(name, value)
                    self.send_header("Content-Length", str(spaces + len(payload)))
                    self.end_headers()
                    for _ in range(spaces):
                        self.wfile.write(b" ")
                        self.wfile.flush()
                        time.sleep(0.05)
                    self.wfile.write(payload)
                except OSError:  # the client gave up
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            def handle_error(self, *args: Any) -> None:
                return  # clients that give up are what some tests are about

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def user_message(self, number: int = -1) -> str:
        """What the user said in a request."""
        content: str = self.bodies[number]["messages"][-1]["content"]
        return content


@contextmanager
def serving(*answers: Answer, script: Script | None = None) -> Iterator[ScriptedServer]:
    """A server that gives these answers in order, the last one for ever, or follows a script."""
    with ScriptedServer(script or (lambda body, number: answers[min(number, len(answers) - 1)])) as server:
        yield server
