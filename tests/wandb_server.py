"""A stand-in of W&B's server on this machine: as much of its protocol as sweeps, agents and their runs speak."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml  # type: ignore[import-untyped]

ENTITY = "laboratory"
KEY = "0123456789" * 4


@dataclass
class Run:
    """What the server has been told of a run.

    Attributes:
        sweep: The sweep that the run says it is of.
        config: Its configuration.
        history: A dict each time that something was logged.
        summary: Its last or final values.
        exit_code: Once it has ended.
        preempted: It said that it was interrupted, and is to go on.
        files: That it wants to upload.
        artifacts: That it wants to keep.
    """

    sweep: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    preempted: bool = False
    files: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)


class Server(ThreadingHTTPServer):
    """The server.

    Args:
        trials: Parameters of the runs that it gives to agents, in turn; then it sends them home.
        stop_after: Stops a run, as early termination does, once its history has so many rows with ``stop_metric``.
        stop_metric: See there.

    Attributes:
        sweeps: Configurations of the sweeps, by id, as they were sent.
        runs: By id, in order.
        operations: Names of all that was asked.
    """

    daemon_threads = True

    def __init__(
        self, trials: list[dict[str, Any]], stop_after: dict[str, int] | None = None, stop_metric: str = ""
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.trials = trials
        self.stop_after, self.stop_metric = stop_after or {}, stop_metric
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, Run] = {}
        self.operations: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: clients hang up as they end."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Answers a GraphQL request."""
        self.operations.append(operation)
        answers = {
            "Viewer": self._viewer,
            "GetDefaultEntity": self._viewer,
            "ServerFeaturesQuery": lambda _: {"serverInfo": {"features": []}},
            "UpsertSweep": self._upsert_sweep,
            "SweepWithRuns": self._sweep,
            "GetSweep": self._sweep,
            "CreateAgent": lambda _: {"createAgent": {"agent": {"id": "agent"}}},
            "Heartbeat": self._heartbeat,
            "UpsertBucket": self._upsert_bucket,
            "RunResumeStatus": lambda _: {"model": {"id": "p", "name": "p", "entity": _ENTITY, "bucket": None}},
            "CreateRunFiles": self._files,
            "CreateArtifact": self._artifact,
        }
        return answers[operation](asked)

    def stream(self, run: str, sent: dict[str, Any]) -> None:
        """Takes in a piece of a run's history, summary, log and end."""
        known = self.runs[run]
        for name, file in sent.get("files", {}).items():
            if name == "wandb-history.jsonl":
                known.history += map(json.loads, file["content"])
            elif name == "wandb-summary.json":
                known.summary = json.loads(file["content"][-1])
        known.preempted |= sent.get("preempting", False)
        if sent.get("complete"):
            known.exit_code = sent["exitcode"]

    def should_stop(self, run: str) -> bool:
        """Whether the server has decided to stop a run."""
        limit = self.stop_after.get(run)
        rows = [row for row in self.runs[run].history if self.stop_metric in row] if run in self.runs else []
        return limit is not None and len(rows) >= limit

    def _viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        teams: dict[str, Any] = {"edges": []}
        person = {"id": "u", "entity": ENTITY, "username": "me", "email": "", "flags": "{}", "teams": teams}
        return {"viewer": person}

    def _upsert_sweep(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = f"sweep{len(self.sweeps)}"
        self.sweeps[name] = yaml.safe_load(asked["config"])
        project = {"id": "p", "name": asked["projectName"], "entity": _ENTITY}
        return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}

    def _sweep(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked.get("sweep") or asked["name"]
        if name not in self.sweeps:
            return {"project": {"sweep": None}}
        config = yaml.dump(self.sweeps[name])
        about = {"id": name, "name": name, "config": config, "state": "RUNNING", "runs": {"edges": []}}
        return {"project": {"sweep": about}}

    def _heartbeat(self, asked: dict[str, Any]) -> dict[str, Any]:
        running = json.loads(asked["runState"])
        commands: list[dict[str, Any]] = [{"type": "stop", "run_id": run} for run in running if self.should_stop(run)]
        if not running:
            commands = [self._next()]
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    def _next(self) -> dict[str, Any]:
        """What an agent is to do that is idle: runs that were interrupted come first."""
        numbers = range(len(self.trials))
        again = [number for number in numbers if (run := self.runs.get(f"run{number}")) and run.preempted]
        for number in (*again, *range(len(self.runs), len(self.trials))):
            name = f"run{number}"
            command = {"type": "resume" if name in self.runs else "run", "run_id": name, "program": ""}
            self.runs.setdefault(name, Run()).preempted = False
            args = {key: {"value": value} for key, value in self.trials[number].items()}
            return {**command, "args": args}
        return {"type": "exit"}

    def _upsert_bucket(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["name"]
        run = self.runs.setdefault(name, Run())
        run.sweep = asked.get("sweep") or run.sweep
        run.config |= json.loads(asked.get("config") or "{}")
        project = {"id": "p", "name": asked.get("project") or "p", "entity": _ENTITY}
        bucket: dict[str, Any] = {"id": name, "name": name, "displayName": asked.get("displayName")}
        bucket |= {"project": project}
        bucket |= {"sweepName": run.sweep, "config": "{}", "historyLineCount": 0, "description": ""}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _files(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.runs[asked["run"]].files += asked["files"]
        files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in asked["files"]]
        answer: dict[str, Any] = {"runID": asked["run"], "uploadHeaders": [], "files": files}
        return {"createRunFiles": answer}

    def _artifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        given = asked["input"]
        self.runs[given["runName"]].artifacts.append(given["artifactCollectionName"])
        # As if it had all of the files already: nothing is uploaded.
        artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": {"id": "a"}}}
        return {"createArtifact": {"artifact": artifact}}


_ENTITY = {"id": "e", "name": ENTITY}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/graphql":
            asked = json.loads(body)
            operation = asked.get("operationName") or asked["query"].split("(")[0].split()[1]
            try:
                answer: dict[str, Any] = {"data": self.server.answer(operation, asked.get("variables") or {})}
            except KeyError as error:
                answer = {"data": {}, "errors": [{"message": f"no {error} in {operation}"}]}
            self._send(answer)
        elif self.path.endswith("/file_stream"):
            run = self.path.split("/")[-2]
            self.server.stream(run, json.loads(body))
            self._send({"stopped": True} if self.server.should_stop(run) else {})
        else:
            self._send({})

    do_GET = do_PUT = do_POST  # noqa: N815

    def _send(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(*trials: dict[str, Any], **stop: Any) -> Iterator[Server]:
    """Has a server listen."""
    with Server(list(trials), **stop) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
