"""The endpoint for Prometheus, scraped over HTTP and read by Prometheus' own parser."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rlcs.config import LoggingConfig
from rlcs.errors import ConfigError
from rlcs.runlog import RunLog
from rlcs.vitals import ActorState, Snapshot


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def scrape(port: int) -> dict[tuple[str, str], float]:
    """Values by name and labels, as name=value,..."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {
        (sample.name, ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_has_the_last_iteration_the_actors_and_the_queues(tmp_path: Path) -> None:
    port = free_port()
    log = RunLog(tmp_path, LoggingConfig(tensorboard=False, prometheus_port=port), {})
    assert scrape(port)["rlcs_iteration", ""] == 0
    log.write_metrics(1, {"reward/mean": 0.25})
    log.write_metrics(2, {"reward/mean": 0.5, 'reward/a "domain"\n': 0.75, "time/generate": 1.5})
    log.note_stage("learn", 3)
    actors = [
        ActorState("engine-0", "rollouts", "busy", 2, 17, "abc", 1.5, None, 41),
        ActorState("scorer-0", "scoring", "dead"),
    ]
    log.note_actors(Snapshot(actors, {"rollouts": 7}))
    found = scrape(port)
    log.close()
    assert found["rlcs_iteration", ""] == 2
    assert found["rlcs_metric", "name=reward/mean"] == 0.5
    assert found["rlcs_metric", 'name=reward/a "domain"\n'] == 0.75
    assert found["rlcs_stage_seconds", "stage=generate"] == 1.5
    assert found["rlcs_stage", "stage=learn"] == 1
    assert found["rlcs_run_info", f"run={tmp_path.name}"] == 1
    assert found["rlcs_queue_length", "queue=rollouts"] == 7
    engine = "actor=engine-0,role=rollouts"
    assert found["rlcs_actor_restarts_total", engine] == 2
    assert found["rlcs_weight_version", engine] == 41
    assert found["rlcs_actor_memory_bytes", engine] == 1.5 * 2**30
    assert found["rlcs_actor_up", engine] == found["rlcs_actor_busy", engine] == 1
    assert found["rlcs_actor_up", "actor=scorer-0,role=scoring"] == 0
    written = json.loads((tmp_path / "actors.json").read_text())
    assert written["queues"] == {"rollouts": 7} and written["actors"][0]["version"] == 41
    with pytest.raises(urllib.error.URLError):
        scrape(port)  # closed with the run


def test_it_listens_on_this_machine_alone_unless_asked(tmp_path: Path) -> None:
    port = free_port()
    log = RunLog(tmp_path, LoggingConfig(tensorboard=False, prometheus_port=port), {})
    with socket.create_server(("127.0.0.2", port)):  # another address of this machine is still free
        pass
    log.close()


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"prometheus_port: cannot listen on 127.0.0.1:{port} .*choose another"):
            RunLog(tmp_path, LoggingConfig(tensorboard=False, prometheus_port=port), {})
