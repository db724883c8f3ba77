"""Other people's tools behind one small interface: TensorBoard, Weights & Biases, MLflow, trackio, Prometheus.

Each is optional, and imported only where the configuration asks for it. One that cannot be started is told before the
run begins; one that fails later is switched off with a warning, since the run's own folder has everything.
"""

from __future__ import annotations

import html
import logging
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcs.config import LoggingConfig
from rlcs.errors import ConfigError, one_line
from rlcs.vitals import Snapshot

logger = logging.getLogger(__name__)

TABLE_COLUMNS = ("step", "domain", "tier", "prompt", "answer", "response", "reward", "correct", "detail")
"""Columns of the samples of rollouts that tools with tables get."""


class MetricLogger:
    """A tool that metrics go to. Everything is optional: the default does nothing."""

    name = "logger"

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the numbers of an iteration, or of an evaluation after it."""

    def log_rollouts(self, step: int, rows: Sequence[Sequence[Any]]) -> None:
        """Take a sample of an iteration's responses: rows of `TABLE_COLUMNS`."""

    def log_actors(self, snapshot: Snapshot) -> None:
        """Take how the actors and queues are; called from a thread of its own."""

    def log_stage(self, stage: str, step: int) -> None:
        """Take what the run does now, in iteration `step`."""

    def close(self) -> None:
        """Send what is buffered."""


class LoggerSet(MetricLogger):
    """The tools of a configuration, called in turn.

    Raises:
        ConfigError: a tool is not installed or cannot be started.
    """

    def __init__(self, config: LoggingConfig, run_dir: Path, run_config: Mapping[str, Any]) -> None:
        self._tools: list[MetricLogger] = []
        if config.tensorboard:
            self._tools.append(TensorBoardLogger(run_dir))
        if config.wandb:
            self._tools.append(WandbLogger(config, run_dir, run_config))
        if config.mlflow:
            self._tools.append(MLflowLogger(config, run_dir, run_config))
        if config.trackio:
            self._tools.append(TrackioLogger(config, run_dir, run_config))
        if config.prometheus_port is not None:
            from rlcs.prometheus import PrometheusLogger

            self._tools.append(PrometheusLogger(config, run_dir))

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self._each("log_metrics", step, metrics)

    def log_rollouts(self, step: int, rows: Sequence[Sequence[Any]]) -> None:
        self._each("log_rollouts", step, rows)

    def log_actors(self, snapshot: Snapshot) -> None:
        self._each("log_actors", snapshot)

    def log_stage(self, stage: str, step: int) -> None:
        self._each("log_stage", stage, step)

    def close(self) -> None:
        self._each("close")

    @property
    def wants_rollouts(self) -> bool:
        """Whether a tool takes samples of rollouts."""
        return any(type(tool).log_rollouts is not MetricLogger.log_rollouts for tool in self._tools)

    def _each(self, method: str, *arguments: Any) -> None:
        for tool in list(self._tools):
            try:
                getattr(tool, method)(*arguments)
            except Exception as error:
                # Whatever a tool's own client raises: a lost connection must not end a run of days.
                reason = one_line(error)
                logger.warning("%s is switched off for the rest of the run: %s", tool.name, reason)
                self._tools.remove(tool)


class TensorBoardLogger(MetricLogger):
    """Events in the run's folder."""

    name = "TensorBoard"

    def __init__(self, run_dir: Path) -> None:
        from torch.utils.tensorboard.writer import FileWriter

        self._writer = FileWriter(str(run_dir / "tensorboard"), flush_secs=5)

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        # One event for all: `SummaryWriter.add_scalar` makes one each, which takes twenty times longer.
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._writer.add_summary(Summary(value=values), step)

    def close(self) -> None:
        self._writer.close()


class WandbLogger(MetricLogger):
    """Weights & Biases; a resumed run goes on in the same place."""

    name = "Weights & Biases"

    def __init__(self, config: LoggingConfig, run_dir: Path, run_config: Mapping[str, Any]) -> None:
        wandb: Any = _imported("wandb", "logging.wandb")
        self._wandb = wandb
        try:
            self._run = wandb.init(
                project=config.wandb_project,
                name=run_dir.name,
                id=_identity(run_dir / "wandb-id.txt"),
                resume="allow",
                dir=str(run_dir),
                config=dict(run_config),
            )
        except wandb.errors.Error as error:
            reason = one_line(error)
            raise ConfigError(
                f"logging.wandb: Weights & Biases cannot be started: {reason} (`wandb login`, or WANDB_MODE=offline)"
            ) from error

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def log_rollouts(self, step: int, rows: Sequence[Sequence[Any]]) -> None:
        self._run.log({"rollouts": self._wandb.Table(list(TABLE_COLUMNS), [list(row) for row in rows])}, step=step)

    def close(self) -> None:
        self._run.finish()


class MLflowLogger(MetricLogger):
    """MLflow; without a tracking address, in a database in the run's folder."""

    name = "MLflow"

    def __init__(self, config: LoggingConfig, run_dir: Path, run_config: Mapping[str, Any]) -> None:
        mlflow: Any = _imported("mlflow", "logging.mlflow")
        self._entities = mlflow.entities
        uri = config.mlflow_tracking_uri or f"sqlite:///{(run_dir / 'mlflow.db').absolute()}"
        identity = run_dir / "mlflow-id.txt"
        try:
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            experiment = self._client.get_experiment_by_name(config.wandb_project)
            # Without an address, tables stay in the run's folder, too, not below the working directory.
            place = None if config.mlflow_tracking_uri else (run_dir / "mlflow-artifacts").absolute().as_uri()
            number = (
                experiment.experiment_id
                if experiment
                else self._client.create_experiment(config.wandb_project, artifact_location=place)
            )
            if identity.exists():
                self._id = identity.read_text(encoding="utf-8").strip()
            else:
                self._id = self._client.create_run(number, run_name=run_dir.name).info.run_id
                identity.write_text(f"{self._id}\n", encoding="utf-8")
                self._client.log_dict(self._id, dict(run_config), "config.json")
        except mlflow.exceptions.MlflowException as error:
            reason = one_line(error)
            raise ConfigError(f"logging.mlflow: MLflow cannot be started at {uri}: {reason}") from error

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        import time

        now = int(time.time() * 1000)
        values = [self._entities.Metric(name, float(value), now, step) for name, value in metrics.items()]
        for start in range(0, len(values), 1000):  # the most that a call may hold
            self._client.log_batch(self._id, metrics=values[start : start + 1000])

    def log_rollouts(self, step: int, rows: Sequence[Sequence[Any]]) -> None:
        columns = {name: [row[i] for row in rows] for i, name in enumerate(TABLE_COLUMNS)}
        self._client.log_dict(self._id, columns, f"rollouts/step-{step:06d}.json")

    def close(self) -> None:
        self._client.set_terminated(self._id)


class TrackioLogger(MetricLogger):
    """trackio, the local one of Hugging Face."""

    name = "trackio"

    def __init__(self, config: LoggingConfig, run_dir: Path, run_config: Mapping[str, Any]) -> None:
        self._trackio: Any = _imported("trackio", "logging.trackio")
        self._run = self._trackio.init(
            project=config.wandb_project, name=run_dir.name, config=dict(run_config), resume="allow", embed=False
        )

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def log_rollouts(self, step: int, rows: Sequence[Sequence[Any]]) -> None:
        import pandas  # type: ignore[import-untyped]

        # Its pages take a cell for Markdown with HTML in it: what a model wrote must stay text there, too.
        escaped = [[html.escape(cell, quote=False) if isinstance(cell, str) else cell for cell in row] for row in rows]
        table = self._trackio.Table(dataframe=pandas.DataFrame(escaped, columns=list(TABLE_COLUMNS)))
        self._run.log({"rollouts": table}, step=step)

    def close(self) -> None:
        self._run.finish()


def _imported(package: str, setting: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"{setting} is on, but the package {package} is not installed: `pip install {package}`, or turn it off"
        ) from error


def _identity(path: Path) -> str:
    """The id kept with the run, made at its start."""
    if not path.exists():
        path.write_text(f"{secrets.token_hex(8)}\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
