"""A site of corpora's owners on this machine, with all that goes wrong on the way to one."""

import gzip
import hashlib
import json
import os
import re
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import NamedTuple


class Request(NamedTuple):
    method: str
    path: str
    range: str | None


class Site:
    """Files by their paths, Git repositories in a folder, and a log of the requests.

    Attributes:
        files: What is served.
        tags: ETag of each file.
        dates: When a file was modified.
        encodings: How a file is said to be compressed.
        moved: Where a path redirects to.
        repositories: Folder of Git repositories, served by Git's own program.
        large: Git LFS: repository → contents by their hashes.
        refusals: Statuses that are answered first, by path; with a header Retry-After if it is told.
        cuts: After how many bytes the next answers are cut, by path; those after them are whole.
        gates: Answers to these paths wait for the event.
        held: Paths that are answered with that many bytes, and then nothing until the end.
        ranges: Whether parts of files can be asked for.
        requests: All that came.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.dates: dict[str, str] = {}
        self.encodings: dict[str, str] = {}
        self.moved: dict[str, str] = {}
        self.repositories: Path | None = None
        self.large: dict[str, dict[str, bytes]] = {}
        self.refusals: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
        self.cuts: dict[str, list[int]] = defaultdict(list)
        self.gates: dict[str, threading.Event] = {}
        self.held: dict[str, int] = {}
        self.ranges = True
        self.requests: list[Request] = []
        self.over = threading.Event()
        self.url = ""

    def ranges_of(self, path: str) -> list[str | None]:
        """The ranges that were asked for, of one path."""
        return [request.range for request in self.requests if request.path == path]


@contextmanager
def serve() -> Iterator[Site]:
    """Serves until the block ends."""
    site = Site()

    class Handler(_Handler):
        pass

    Handler.site = site
    server = _Server(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def answer_with(*answers: bytes) -> Iterator[str]:
    """Yields the address of a server that answers with these bytes in turn, with the last of them again and again."""
    left = list(answers)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            if self.request.recv(1 << 16):
                self.request.sendall(left.pop(0) if len(left) > 1 else left[0])

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        self.site.requests.append(Request(self.command, path, self.headers.get("Range")))
        if path in self.site.gates:
            self.site.gates[path].wait(30)
        if self.site.refusals[path]:
            status, wait = self.site.refusals[path].pop(0)
            self._send(status, b"no", {} if wait is None else {"Retry-After": wait})
        elif path in self.site.moved:
            self._send(302, b"", {"Location": self.site.moved[path]})
        elif path.endswith("/info/lfs/objects/batch"):
            self._tell_links(path.removesuffix(".git/info/lfs/objects/batch"), body)
        elif path.startswith("/objects/") and self.headers.get("Authorization") != "whoever":
            self._send(403, b"no", {})
        elif path in self.site.files:
            self._send_file(path)
        elif self.site.repositories is not None and (self.site.repositories / path.split("/")[1]).is_dir():
            self._run_git(path, query, body)
        else:
            self._send(404, b"not here", {})

    def _send(self, status: int, body: bytes, headers: dict[str, str], limit: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:limit])
        self.wfile.flush()
        if limit is not None:
            self.close_connection = True

    def _send_file(self, path: str) -> None:
        body, status, headers = self.site.files[path], 200, {}
        tag, date = self.site.tags.get(path), self.site.dates.get(path)
        told = {"ETag": tag, "Last-Modified": date, "Content-Encoding": self.site.encodings.get(path)}
        headers.update({name: value for name, value in told.items() if value is not None})
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.site.ranges and self.headers.get("If-Range") in (None, tag, date):
            start, total = int(asked[1]), len(body)
            if start >= total:
                self._send(416, b"", {"Content-Range": f"bytes */{total}"})
                return
            body, status = body[start:], 206
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        if path in self.site.held:
            self._send(status, body, headers, limit=self.site.held[path])
            self.site.over.wait(30)
            return
        self._send(status, body, headers, limit=self.site.cuts[path].pop(0) if self.site.cuts[path] else None)

    def _tell_links(self, repository: str, body: bytes) -> None:
        asked = json.loads(body)
        there = self.site.large.get(repository, {})
        objects = []
        for one in asked["objects"]:
            if one["oid"] in there:
                place = f"/objects{repository}/{one['oid']}"
                self.site.files[place] = there[one["oid"]]
                link = {"href": self.site.url + place, "header": {"Authorization": "whoever"}}
                objects.append({**one, "actions": {"download": link}})
            else:
                objects.append({**one, "error": {"code": 404, "message": "the budget is spent"}})
        self._send(200, json.dumps({"transfer": "basic", "objects": objects}).encode(), {})

    def _run_git(self, path: str, query: str, body: bytes) -> None:
        """Answers as Git's own server does."""
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.site.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self._send(int(headers.pop("Status", "200").split()[0]), content, headers)


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def wait_until(condition: object, seconds: float = 20) -> None:
    """Waits until a function returns something true."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
