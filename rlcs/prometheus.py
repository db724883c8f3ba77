"""An endpoint that Prometheus scrapes: the last iteration's metrics, and the actors and queues as they are now.

Only numbers and names of metrics, actors, domains and rewards are told, no texts. It listens on this machine alone
unless `logging.prometheus_host` says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlcs.config import LoggingConfig
from rlcs.errors import ConfigError
from rlcs.loggers import MetricLogger
from rlcs.vitals import Snapshot

_GIB = 2**30


class PrometheusLogger(MetricLogger):
    """Serves `/metrics` from a thread until it is closed.

    Raises:
        ConfigError: the address cannot be listened on, or the package prometheus_client is not installed.
    """

    name = "Prometheus"

    def __init__(self, config: LoggingConfig, run_dir: Path) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError as error:
            raise ConfigError(
                "logging.prometheus_port is set, but the package prometheus_client is not installed: "
                "`pip install prometheus-client`, or set it to null"
            ) from error
        self._run = run_dir.name
        self._step = 0
        self._stage = ""
        self._metrics: dict[str, float] = {}
        self._snapshot = Snapshot()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        host, port = config.prometheus_host, config.prometheus_port or 0
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"logging.prometheus_port: cannot listen on {host}:{port} ({reason}): choose another port, or null"
            ) from error

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self._step, self._metrics = step, {**self._metrics, **metrics}

    def log_actors(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def log_stage(self, stage: str, step: int) -> None:
        self._stage = stage

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def collect(self) -> Iterator[Any]:
        """What a scrape gets: see docs/dashboard.md."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        metrics, snapshot = self._metrics, self._snapshot
        run = InfoMetricFamily("rlcs_run", "The run")
        run.add_metric([], {"run": self._run})
        yield run
        yield GaugeMetricFamily("rlcs_iteration", "Iterations that are done", self._step)
        tokens = metrics.get("progress/generated_tokens", 0.0)
        yield CounterMetricFamily("rlcs_generated_tokens", "Tokens generated since the run began", tokens)
        stage = GaugeMetricFamily("rlcs_stage", "1 for the stage that the iteration is in", labels=["stage"])
        if self._stage:
            stage.add_metric([self._stage], 1)
        yield stage
        seconds = GaugeMetricFamily("rlcs_stage_seconds", "Time of a stage in the last iteration", labels=["stage"])
        every = GaugeMetricFamily("rlcs_metric", "A metric of the last iteration by its name", labels=["name"])
        for name, value in metrics.items():
            if name.startswith("time/"):
                seconds.add_metric([name.removeprefix("time/")], value)
            else:
                every.add_metric([name], value)
        yield seconds
        yield every
        queue = GaugeMetricFamily("rlcs_queue_length", "Requests that wait", labels=["queue"])
        for name, length in snapshot.queues.items():
            queue.add_metric([name], length)
        yield queue
        labels = ["actor", "role"]
        up = GaugeMetricFamily("rlcs_actor_up", "0 once an actor has died", labels=labels)
        busy = GaugeMetricFamily("rlcs_actor_busy", "1 while it works", labels=labels)
        restarts = CounterMetricFamily("rlcs_actor_restarts", "How often it was replaced", labels=labels)
        memory = GaugeMetricFamily("rlcs_actor_memory_bytes", "Resident memory of its process", labels=labels)
        gpu = GaugeMetricFamily("rlcs_actor_gpu_memory_bytes", "GPU memory that PyTorch holds", labels=labels)
        version = GaugeMetricFamily("rlcs_weight_version", "Updates that its weights have seen", labels=labels)
        for actor in snapshot.actors:
            of = [actor.name, actor.role]
            up.add_metric(of, float(actor.state != "dead"))
            busy.add_metric(of, float(actor.state == "busy"))
            restarts.add_metric(of, actor.restarts)
            for family, gib in ((memory, actor.memory_gib), (gpu, actor.gpu_memory_gib)):
                if gib is not None:
                    family.add_metric(of, gib * _GIB)
            if actor.version is not None:
                version.add_metric(of, actor.version)
        yield from (up, busy, restarts, memory, gpu, version)
