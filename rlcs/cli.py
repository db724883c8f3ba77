"""The command line. Each command is a thin function; heavy imports happen inside, so that mistakes are told at once."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from rlcs import __version__
from rlcs.errors import ConfigError, RLCSError
from rlcs.terminal_text import PrintableFormatter, printable_lines
from rlcs.vision.environment import prepare_process

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

FORM_HELP = "A built-in reward, path/to/file.py:name, package.module:name, or an entry point of rlcs.rewards."
RewardOptions = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Argument of the reward; may be repeated.")
]
TimeoutOption = Annotated[float, typer.Option("--timeout-s", min=0.001, help="Limit of one sample's work, in seconds.")]
FallbackOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--fallback", metavar="NAME", help="Also read answers marked so: boxed, final_answer; may be repeated."
    ),
]
ThinkingOption = Annotated[bool, typer.Option("--thinking-open", help="Responses start inside of the thinking.")]
JudgeURL = Annotated[str | None, typer.Option("--judge-url", help="OpenAI-compatible address of a judge.")]
JudgeModel = Annotated[str | None, typer.Option("--judge-model", help="Name of the judge model there.")]
JudgeKeyEnv = Annotated[str | None, typer.Option("--judge-key-env", help="Environment variable with the judge's key.")]


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"rlcs {__version__}")
        raise typer.Exit
    _set_up_logging(debug)
    prepare_process()


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="YAML file of the run.")] = None,
    overrides: Overrides = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Folder of a run to go on with, or the URL of its copy.")
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the resolved settings and exit.")] = False,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Print placement, memory and tokens a step; start nothing.")
    ] = False,
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
    if dry:
        from rlcs.dry_run import dry_run
        from rlcs.preflight import available_cpus, available_gpus

        report = dry_run(settings, num_cpus=available_cpus(settings), num_gpus=available_gpus(settings))
        typer.echo(report, nl=False)
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
    thinking_budgets: Annotated[
        list[int] | None,
        typer.Option("--thinking-budget", min=1, help="Force the answer after so many tokens; repeat for a curve."),
    ] = None,
) -> None:
    """Evaluate a run's policy on its held-out prompts: pass@1 and pass@k by domain and tier."""
    from rlcs.launch import evaluate_run
    from rlcs.progress import Display

    with Display() as display:
        evaluate_run(
            run,
            display,
            num_samples=num_samples,
            step=step,
            as_json=as_json,
            thinking_budgets=thinking_budgets or (),
        )


@app.command()
def merge(
    source: Annotated[Path, typer.Argument(help="Run, checkpoint or adapter folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; must not exist.")],
) -> None:
    """Merge a LoRA adapter into its base: an ordinary model folder for transformers and vLLM."""
    from rlcs.merge import merge as merge_adapter

    adapter = merge_adapter(source, output)
    typer.echo(f"merged {adapter} into its base; the model is in {output}")


@app.command()
def grade(
    config: ConfigArgument,
    overrides: Overrides = None,
    data: Annotated[str | None, typer.Option("--data", help="Dataset to grade; else the configuration's own.")] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="Folder or hub name; repeat for several. Else model.path.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="Responses a prompt and model; else rollout.num_generations.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Parquet file to write; else DATA-graded.parquet.")
    ] = None,
    edges: Annotated[
        str,
        typer.Option("--edges", help="quantile, or the least pass rate of all tiers but the last: 0.8,0.6,0.4,0.2."),
    ] = "quantile",
    label: Annotated[
        str | None, typer.Option("--label", help="Column with human labels, merged into the tiers.")
    ] = None,
    label_weight: Annotated[
        float, typer.Option("--label-weight", help="Weight of a label against the models, 0 to 1.")
    ] = 0.3,
    chunk: Annotated[int | None, typer.Option("--chunk", min=1, help="Prompts graded and saved at a time.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a grading that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output, or what was stopped.")] = False,
) -> None:
    """Grade prompts offline: pass rates of one or several models become tiers of a dataset for data.train."""
    import shlex

    from rlcs.config_loading import load_config
    from rlcs.curricula.grading import TierRule
    from rlcs.grading.display import GradeDisplay
    from rlcs.grading.plan import GradeRequest, parse_edges

    rule = TierRule(parse_edges(edges), label_weight)
    settings = load_config(config, overrides or [])
    from rlcs.grading.job import grade as grade_prompts

    arguments = [argument for argument in sys.argv[1:] if argument not in ("--resume", "--overwrite")]
    request = GradeRequest(
        settings,
        data=data,
        models=tuple(models or ()),
        samples=samples,
        output=output,
        rule=rule,
        label=label,
        chunk=chunk,
        resume=resume,
        overwrite=overwrite,
        command=shlex.join(["rlcs", *arguments, "--resume"]),
    )
    display = GradeDisplay()
    with display:
        grade_prompts(request, display)


@app.command()
def score(
    form: Annotated[str, typer.Option("--reward", metavar="FORM", help=FORM_HELP)],
    data: Annotated[str, typer.Option("--data", help="JSONL, JSON, CSV or Parquet; - reads JSONL from a pipe.")],
    options: RewardOptions = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line a row, and nothing else.")] = False,
    timeout_s: TimeoutOption = 2.0,
    fallbacks: FallbackOptions = None,
    thinking_is_open: ThinkingOption = False,
    skip_bad_rows: Annotated[bool, typer.Option("--skip-bad-rows", help="Go on after a row that is no use.")] = False,
    judge_url: JudgeURL = None,
    judge_model: JudgeModel = None,
    judge_key_env: JudgeKeyEnv = None,
) -> None:
    """Score responses: rows have `prompt`, `response`, `answer` and what else the reward reads.

    With --json, a line a row: {"id", "value", "correct", "detail"}; `id` is the row's own, else its number from 0.
    """
    from rlcs.reward_commands.choice import RewardChoice, parse_options
    from rlcs.reward_commands.score import score_file

    choice = RewardChoice(
        form,
        parse_options(options or []),
        tuple(fallbacks or ()),
        thinking_is_open,
        timeout_s,
        judge_url,
        judge_model,
        judge_key_env,
    )
    score_file(choice, data, as_json=as_json, skip_bad_rows=skip_bad_rows)


@app.command("reward-test")
def reward_test(
    form: Annotated[str, typer.Argument(metavar="FORM", help=FORM_HELP)],
    cases: Annotated[str | None, typer.Argument(help="Cases file; a built-in reward has its own.")] = None,
    options: RewardOptions = None,
    timeout_s: TimeoutOption = 2.0,
    fallbacks: FallbackOptions = None,
    thinking_is_open: ThinkingOption = False,
    judge_url: JudgeURL = None,
    judge_model: JudgeModel = None,
    judge_key_env: JudgeKeyEnv = None,
) -> None:
    """Run a reward against cases (response, reference, expected); exit 1 on a miss."""
    from rlcs.reward_commands.check import test_reward
    from rlcs.reward_commands.choice import RewardChoice, parse_options

    choice = RewardChoice(
        form,
        parse_options(options or []),
        tuple(fallbacks or ()),
        thinking_is_open,
        timeout_s,
        judge_url,
        judge_model,
        judge_key_env,
    )
    raise typer.Exit(0 if test_reward(choice, cases) else 1)


@app.command("reward-new")
def reward_new(
    name: Annotated[str, typer.Argument(help="Name of the reward, such as close_enough.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where the two files go.")] = Path(),
) -> None:
    """Write a commented reward to begin with, NAME.py, and its cases, NAME_cases.jsonl."""
    from rlcs.reward_commands.skeleton import class_name, write_skeleton

    code, cases = write_skeleton(name, folder)
    typer.echo(f"wrote {code} and {cases}; try: rlcs reward-test {code}:{class_name(name)} {cases}")


@app.command("reward-model")
def reward_model(config: ConfigArgument, overrides: Overrides = None) -> None:
    """Train a reward model on preference pairs."""
    from rlcs.progress import Display
    from rlcs.reward_model import train_reward_model

    with Display() as display:
        train_reward_model(config, overrides or [], display)


@app.command()
def curriculum(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="ID", help="Why this prompt was drawn or not; a prefix will do.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a run's curriculum did: shares drawn, pass rates then and now, useful groups, by domain and tier."""
    from rlcs.curriculum_commands.show import show_curriculum

    show_curriculum(run, as_json=as_json, prompt=prompt)


@app.command()
def simulate(
    config: ConfigArgument,
    overrides: Overrides = None,
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", metavar="KIND", help="Curriculum beside the config's, in any form; may be repeated."),
    ] = None,
    scenarios: Annotated[
        list[str] | None, typer.Option("--scenario", metavar="NAME", help="Simulated learner; may be repeated; all.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each, to be averaged.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Try the configured curriculum on simulated learners, in seconds and without a model, against uniform sampling."""
    from rlcs.config_loading import load_config
    from rlcs.curriculum_commands.simulation import simulate_config

    simulate_config(load_config(config, overrides or []), compare or [], scenarios or [], seeds=seeds, as_json=as_json)


@app.command()
def dashboard(
    runs_dir: Annotated[Path, typer.Argument(help="Folder that holds runs, or one run.")] = Path("runs"),
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; beyond this machine a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0: any free one.")] = 7860,
) -> None:
    """Show runs in a browser: live plots, the curriculum, prompts, rollouts, rewards."""
    from rlcs.curriculum_commands.prompt import why_drawn
    from rlcs.dashboard.server import serve

    serve(runs_dir, host=host, port=port, explain=why_drawn)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folder of a run; of several with --compare.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to write.")] = Path("report.html"),
    compare: Annotated[bool, typer.Option("--compare", help="Show several runs in the same plots.")] = False,
) -> None:
    """Write the plots of a run and a sample of its responses as one HTML file that can be sent."""
    from rlcs.dashboard.report import write_report

    if compare != (len(runs) > 1):
        raise ConfigError("give one run, or --compare and two or more")
    size = write_report(runs, output)
    typer.echo(f"wrote {output} ({size / 1e6:.1f} MB)")


@app.command()
def status(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show what is new, until the run ends.")] = False,
) -> None:
    """Show how a run goes, on one screen."""
    from rlcs.dashboard.terminal import show_status

    show_status(run, watch=watch)


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
        print(f"rlcs: error: {printable_lines(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one on the way out would change the exit code
        sys.exit(130)
    sys.exit(0)


def _set_up_logging(debug: bool) -> None:
    handler = logging.StreamHandler()  # standard error
    handler.setFormatter(PrintableFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("rlcs").setLevel(logging.DEBUG if debug else logging.INFO)
    if not debug:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that spin while they wait take the cores from the other processes of a run: measured 2.5 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


if __name__ == "__main__":
    main()
