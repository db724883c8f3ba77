"""`logging`: where the numbers of a run go, and what raises an alarm."""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rlcs.config_section import Section, refuse_password


class AlarmConfig(Section):
    """What the dashboard and the report warn of."""

    window: PositiveInt = Field(20, description="Iterations over which a change is looked for.")
    reward_gain: PositiveFloat = Field(
        0.1, description="Training reward that rose so much, while held-out accuracy did not rise."
    )
    answer_share: float = Field(
        0.3, gt=0, le=1, description="Share of a domain's responses with one and the same answer."
    )
    length_growth: float = Field(2.0, gt=1, description="Growth of the mean length of responses, as a factor.")
    repetition_share: float = Field(
        0.1, gt=0, le=1, description="Share of responses that repeat themselves or mix languages."
    )
    failure_share: float = Field(0.01, gt=0, le=1, description="Share of responses whose scoring timed out or crashed.")
    constant_iterations: PositiveInt = Field(3, description="Iterations in which a reward gave one and the same value.")
    useful_share: float = Field(0.2, gt=0, le=1, description="Share of useful groups, below which there is an alarm.")
    logprob_gap: PositiveFloat = Field(0.02, description="Mean difference of log-probabilities of engine and learner.")
    entropy_share: float = Field(0.1, gt=0, le=1, description="Entropy as a share of that at the start, below which.")
    grad_norm_ratio: float = Field(10.0, gt=1, description="Gradient norm as a multiple of its median.")


class LoggingConfig(Section):
    """Where metrics go besides metrics.jsonl."""

    tensorboard: bool = Field(True, description="Write TensorBoard events to the run folder.")
    wandb: bool = Field(False, description="Log to Weights & Biases (the package must be installed).")
    wandb_project: str = Field("rlcs", description="Project at Weights & Biases, MLflow and trackio.")
    mlflow: bool = Field(False, description="Log to MLflow (the package must be installed).")
    mlflow_tracking_uri: str | None = Field(
        None, description="Address of the MLflow server; null: a database in the run's folder."
    )
    trackio: bool = Field(False, description="Log to trackio (the package must be installed).")
    prometheus_port: int | None = Field(
        None, ge=1, le=65535, description="Port at which Prometheus finds the run's numbers, /metrics; null: none."
    )
    prometheus_host: str = Field(
        "127.0.0.1", description="Address on which that port listens; others than this let everybody there read it."
    )
    monitor_every_s: PositiveFloat = Field(
        2.0, description="Seconds between two looks at the actors: their memory, queues and weights."
    )
    rollouts_every: int = Field(1, ge=0, description="Write rollouts each so many iterations; 0: never.")
    token_groups: int = Field(
        32, ge=0, description="Groups an iteration whose rollouts are written with each token and its log-probability."
    )
    alarms: AlarmConfig = Field(default_factory=AlarmConfig, description="Limits of the dashboard's alarms.")
    report: bool = Field(True, description="Write report.html to the run's folder when the run is finished.")

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        advice = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
        refuse_password(self.mlflow_tracking_uri, "logging.mlflow_tracking_uri", advice)
        return self
