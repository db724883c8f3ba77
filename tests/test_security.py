"""Nothing in the code runs what came from a model, a dataset or the network; secrets stay out of a run's settings.

That none is in a run's folder is looked at in tests/e2e/test_train.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlcs.config_loading import load_config
from rlcs.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("rlcs", "rewards", "curricula", "envs", "scripts")
RUN_CODE = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle"}
FORBIDDEN_CALLS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "torch.load", "yaml.unsafe_load",
    "yaml.full_load", "sympy.sympify", "sympify", "parse_expr", "sympy.parse_expr", "pandas.eval", "numexpr.evaluate",
}  # fmt: skip
# The sandbox's own harness: it runs a response's program, with no network, as nobody, shut in (rewards/sandbox.py).
ALLOWED = {("rewards/code_harness.py", "exec"), ("rewards/code_harness.py", "compile")}


def findings(path: str, tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(file, what) for each construct that could run foreign code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((path, name) for name in names if name.partition(".")[0] in FORBIDDEN_IMPORTS)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in RUN_CODE | FORBIDDEN_CALLS:
            yield path, name
        if name in ("yaml.load", "yaml.load_all") and "Safe" not in ast.unparse(node):
            yield path, name
        for keyword in node.keywords:
            if keyword.arg in ("shell", "allow_pickle", "trust_remote_code") and ast.unparse(keyword.value) == "True":
                yield path, f"{name}({keyword.arg}=True)"


def sources() -> list[Path]:
    files = {path.resolve() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    return sorted(path for path in files if path.is_relative_to(ROOT))


def test_no_source_runs_foreign_code() -> None:
    files = sources()
    assert len(files) > 200  # the folders are where the test thinks
    found = {
        finding
        for path in files
        for finding in findings(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found - ALLOWED == set()
    assert found >= ALLOWED  # what is excepted is still there


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "import pickle",
        "from pickle import loads",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "sympy.sympify(text)",
        "torch.load(path)",
    ],
)
def test_the_search_finds_it(code: str) -> None:
    assert list(findings("x.py", ast.parse(code)))


JUDGE = ["reward.judge.model=m", "reward.judge.base_url=https://judge.example/v1"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("reward.judge.base_url=https://me:hunter2@judge.example/v1", "api_key_env"),
        ("reward.judge.api_key_env=sk-hunter2", "environment variable"),
        ("logging.mlflow_tracking_uri=https://me:hunter2@mlflow.example", "MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_a_password_in_a_setting_is_refused_and_not_repeated(setting: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(ROOT / "configs" / "quickstart.yaml", [*JUDGE, setting])
    reason = str(error.value).partition(": ")[2]  # without the override, which is what the user has typed
    assert words in reason and "hunter2" not in reason


def test_code_of_a_model_folder_is_not_trusted_by_default() -> None:
    assert load_config(ROOT / "configs" / "quickstart.yaml", []).model.trust_remote_code is False
