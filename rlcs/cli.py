"""The command line. Each command is a thin function; heavy imports happen inside, so that mistakes are told at once."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from rlcs import __version__
from rlcs.errors import ConfigError, RLCSError

app = typer.Typer(
    name="rlcs",
    help="Reinforcement learning with curriculum sampling for language and vision-language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Explain the settings.", no_args_is_help=True)
app.add_typer(config_app, name="config")

ConfigArgument = Annotated[Path, typer.Argument(help="YAML file of the run.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings to change, e.g. train.steps=50.")]


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"rlcs {__version__}")
        raise typer.Exit
    _set_up_logging(debug)


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="YAML file of the run.")] = None,
    overrides: Overrides = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Folder of a run to go on with.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the resolved settings and exit.")] = False,
) -> None:
    """Train a policy: cold start if configured, reinforcement learning, evaluation before and after."""
    from rlcs.config_loading import dump_config, load_config

    if resume is not None:
        if config is not None:
            raise ConfigError("give either a configuration or --resume, not both: a run goes on with its own settings")
        from rlcs.launch import resume as resume_run
        from rlcs.progress import Display

        with Display() as display:
            resume_run(resume, display)
        return
    if config is None:
        raise ConfigError("which run? Give a configuration, e.g. `rlcs train configs/quickstart.yaml`, or --resume RUN")
    settings = load_config(config, overrides or [])
    if print_config:
        typer.echo(dump_config(settings), nl=False)
        return
    from rlcs.launch import train as train_run
    from rlcs.progress import Display

    with Display() as display:
        train_run(settings, display)


@app.command()
def sft(config: ConfigArgument, overrides: Overrides = None) -> None:
    """Cold start only: teach a policy the response format on worked solutions."""
    from rlcs.config_loading import load_config
    from rlcs.launch import cold_start
    from rlcs.progress import Display

    with Display() as display:
        cold_start(load_config(config, [*(overrides or []), "sft.enabled=true"]), display)


@app.command("eval")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    num_samples: Annotated[int | None, typer.Option(min=1, help="Responses a prompt; the largest k of pass@k.")] = None,
    step: Annotated[
        int | None, typer.Option(min=0, help="Iteration whose checkpoint is evaluated; the newest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line for each domain and tier.")] = False,
) -> None:
    """Evaluate a run's policy on its held-out prompts: pass@1 and pass@k by domain and tier."""
    from rlcs.launch import evaluate_run
    from rlcs.progress import Display

    with Display() as display:
        evaluate_run(run, display, num_samples=num_samples, step=step, as_json=as_json)


@app.command()
def doctor() -> None:
    """Print what was found on this machine and what is wrong with it; exit 1 if a run could not start."""
    from rlcs.doctor import main as run_doctor

    raise typer.Exit(run_doctor())


@config_app.command("explain")
def explain_setting(key: Annotated[str, typer.Argument(help="A setting, e.g. rollout.num_generations.")]) -> None:
    """Print the type, default and meaning of a setting."""
    from rlcs.config_reference import explain

    typer.echo(explain(key))


@config_app.command("reference")
def settings_reference() -> None:
    """Print all settings as a Markdown table."""
    from rlcs.config_reference import reference_markdown

    typer.echo(reference_markdown(), nl=False)


def main() -> NoReturn:
    """Run the command line: an error of ours is one line on standard error, and its exit code."""
    debug = "--debug" in sys.argv
    if debug:  # accepted before and after the command
        sys.argv = [sys.argv[0], "--debug", *[argument for argument in sys.argv[1:] if argument != "--debug"]]
    try:
        app()
    except RLCSError as error:
        if debug:
            raise
        print(f"rlcs: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _set_up_logging(debug: bool) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("rlcs").setLevel(logging.DEBUG if debug else logging.INFO)
    if not debug:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that spin while they wait take the cores from the other processes of a run: measured 2.5 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


if __name__ == "__main__":
    main()
