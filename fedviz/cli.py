"""The ``fedviz`` command.

Its options, its JSON and its exit statuses are a contract: 0 well, 1 a check found mismatches,
2 bad input or usage, with one line on stderr.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fedviz._version import __version__
from fedviz.errors import FedvizError, InvalidArgumentError
from fedviz.progress import Progress, ProgressCallback

__all__ = ["command", "main"]

OK, MISMATCHES, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main() -> None:
    """Run the command; every failure is one line, never a traceback."""
    # TensorFlow greets with a page of text on stderr; what is wrong is said by our own errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal's encoding does not know is no reason to say nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        status = command.main(standalone_mode=False)
    except click.exceptions.Abort:
        _complain("interrupted; nothing was written.")
        status = INTERRUPTED
    except click.ClickException as error:
        _complain(f"{error.format_message()} Try 'fedviz --help'.")
        status = BAD_INPUT
    except FedvizError as error:
        _complain(str(error))
        status = BAD_INPUT
    except Exception as error:
        if os.environ.get("FEDVIZ_DEBUG"):
            raise
        _complain(
            f"an error that should not happen: {type(error).__name__}: {error}. FEDVIZ_DEBUG=1 "
            "shows where; please report it."
        )
        status = BAD_INPUT
    sys.exit(status if isinstance(status, int) else OK)


def _complain(message: str) -> None:
    click.echo(f"fedviz: {' '.join(message.split())}", err=True)


def _warn(message: str) -> None:
    _complain(f"warning: {message}")


_show_others = warnings.showwarning


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Our own warnings are for the user, and one line too."""
    if category.__module__.startswith("fedviz."):
        _warn(str(message))
    else:
        _show_others(message, category, *place)


def _say(value: dict[str, Any], as_json: bool, text: str) -> None:
    try:
        click.echo(json.dumps(value, indent=2, allow_nan=False) if as_json else text)
    except BrokenPipeError:
        # The reader has seen enough (`| head`): the exit status still says what was found, and
        # Python must not try to write the rest when it ends.
        sys.stdout = None


@contextlib.contextmanager
def _progress_bar(title: str) -> Iterator[ProgressCallback]:
    """A bar on stderr, and only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def report(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.done,
                total=progress.total,
                description=progress.message,
            )

        yield report


_file = click.argument("file", type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.version_option(__version__, prog_name="fedviz")
def command() -> None:
    """Build, check, average and look at federated weight datasets."""


@command.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--architecture",
    default="digits-mlp",
    show_default=True,
    metavar="NAME|FILE",
    help="A registered architecture, a Keras JSON config, or a weights file to perturb.",
)
@click.option("--clients", default=10, show_default=True, help="Clients in every round.")
@click.option("--rounds", default=1, show_default=True)
@click.option("--mode", default="perturb", show_default=True, metavar="perturb|train")
@click.option(
    "--data", default="digits", show_default=True, metavar="digits|FILE.npz", help="To train on."
)
@click.option(
    "--partition",
    default="iid",
    show_default=True,
    metavar="iid|dirichlet:ALPHA|shards:K|client-id",
)
@click.option("--stddev", default=0.01, show_default=True, help="Of the noise, when perturbing.")
@click.option("--relative", is_flag=True, help="The deviation is a multiple of each tensor's rms.")
@click.option("--local-epochs", default=3, show_default=True)
@click.option("--batch-size", default=16, show_default=True)
@click.option("--learning-rate", default=0.15, show_default=True)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="CLIENT:KIND[:ARG]",
    help="Inject a fault, such as c03:transpose, c07:nan:0.01 or c08:inner-product:2; may be "
    "repeated.",
)
@click.option("--seed", default=0, show_default=True)
def generate(out: Path, faults: tuple[str, ...], **options: Any) -> None:
    """Generate a dataset: perturbed clients, or real federated training.

    An existing OUT is replaced when the new dataset is complete.
    """
    from fedviz import generation

    _check_dataset_name(out)
    request = generation.GenerateRequest(faults=faults, **options)
    with _progress_bar("generating") as report:
        generation.generate(request, out, report)
    _echo_info(out, as_json=False)


def _check_dataset_name(out: Path) -> None:
    if out.suffix not in (".h5", ".hdf5"):
        raise InvalidArgumentError(f"{out.name}: expected a name that ends in .h5.")


@command.command(name="import")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path)
)
@click.option(
    "--num-examples",
    metavar="N,N,...|FILE.csv",
    help="For each file in order, or a CSV of client,num_examples or file,client,num_examples.",
)
@click.option(
    "--reference",
    metavar="FILE|majority",
    help="Whose signature the dataset has; the server model's, if that is given, or majority.",
)
@click.option("--server", type=click.Path(path_type=Path), help="The server model's weights.")
@click.option(
    "--keep-names", is_flag=True, help="Keep layer numbers that Keras gave, and arr_0, as they are."
)
@_json
def import_(
    out: Path,
    files: tuple[Path, ...],
    num_examples: str | None,
    reference: str | None,
    server: Path | None,
    keep_names: bool,
    as_json: bool,
) -> None:
    """Make a dataset of clients' weights files: one round, one client for each FILE.

    A FILE is a Keras, NumPy, safetensors or TensorFlow file, a folder or a zip of them, or a
    fedviz dataset. An existing OUT is replaced if it is a dataset.
    """
    from fedviz.importing import import_clients

    _check_dataset_name(out)
    with _progress_bar("importing") as report:
        found = import_clients(
            files,
            out,
            num_examples=None if num_examples is None else _parsed_examples(num_examples),
            reference=reference,
            server=server,
            keep_names=keep_names,
            progress=report,
        )
    _say(found.to_json(), as_json, str(found))


def _parsed_examples(text: str) -> Path | list[int]:
    cells = [cell.strip() for cell in text.split(",")]
    if not all(cell.isdecimal() for cell in cells):
        return Path(text)
    return [int(cell) for cell in cells]


@command.command()
@_file
@_json
def info(file: Path, as_json: bool) -> None:
    """Say what is in a dataset."""
    _echo_info(file, as_json)


def _echo_info(file: Path, as_json: bool) -> None:
    from fedviz.dataset import WeightDataset
    from fedviz.describe import dataset_info, dataset_text

    with WeightDataset(file) as dataset:
        _say(dataset_info(dataset), as_json, dataset_text(dataset))


@command.command()
@_file
@click.option(
    "--reference",
    default="server",
    show_default=True,
    metavar="CLIENT|majority|server|FILE|ARCHITECTURE",
    help="What every client is compared with.",
)
@click.option(
    "--signatures-only", is_flag=True, help="Read no weights: do not look at their values."
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json", "junit", "github"]),
    default="text",
    show_default=True,
    help="For people, programs, test reports, or a GitHub workflow.",
)
@_json
@click.pass_context
def check(
    context: click.Context,
    file: Path,
    reference: str,
    signatures_only: bool,
    output_format: str,
    as_json: bool,
) -> None:
    """Compare every client with a reference; exit with 1 if there are mismatches."""
    from fedviz import describe
    from fedviz.analysis.check import check as run_check
    from fedviz.dataset import WeightDataset
    from fedviz.reference import resolve_reference

    if as_json and output_format not in ("text", "json"):
        raise InvalidArgumentError(f"--json and --format {output_format}: choose one of them.")
    with WeightDataset(file) as dataset, _progress_bar("checking") as report:
        found = run_check(
            dataset,
            resolve_reference(dataset, reference),
            look_at="signatures" if signatures_only else "values",
            progress=report,
        )
    texts = {
        "junit": lambda: describe.check_junit(found, file),
        "github": lambda: describe.check_github(found, file),
    }
    text = texts.get(output_format, lambda: describe.check_text(found))()
    _say(found.to_json(), as_json or output_format == "json", text)
    context.exit(OK if found.consistent else MISMATCHES)


_leave_out_divergent = click.option(
    "--leave-out-divergent",
    is_flag=True,
    help="Aggregate the conforming clients instead of refusing the round.",
)


@command.command()
@_file
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where it goes.")
@click.option("--round", "round_number", default=-1, help="Its number; the last by default.")
@click.option("--aggregator", default="mean", show_default=True)
@click.option(
    "--weighting", default="num_examples", show_default=True, metavar="num_examples|uniform"
)
@click.option("--param", "params", multiple=True, metavar="K=V", help="Of the aggregator.")
@_leave_out_divergent
@click.option(
    "--integers",
    default="keep",
    show_default=True,
    metavar="keep|round",
    help="Integer and bool tensors: the server model's, or averaged and rounded.",
)
@click.option(
    "--history",
    is_flag=True,
    help="Run an adaptive aggregator over the rounds before too.",
)
@_json
def average(
    file: Path,
    out: Path,
    round_number: int,
    aggregator: str,
    weighting: str,
    params: tuple[str, ...],
    leave_out_divergent: bool,
    integers: str,
    history: bool,
    as_json: bool,
) -> None:
    """Average a round; `fedviz aggregators` lists the rules.

    OUT ends in .h5 (a dataset; FILE itself: the aggregate is added to it), .npz, .safetensors or
    .weights.h5 (Keras).
    """
    from fedviz.aggregation.average import average as run_average
    from fedviz.dataset import WeightDataset
    from fedviz.results import average_json, average_text, check_output, save_average

    with WeightDataset(file) as dataset:
        check_output(out, dataset)
        with _progress_bar("loading TensorFlow") as report:
            result = run_average(
                dataset,
                round_number,
                weighting=weighting,
                aggregator=aggregator,
                parameters=_parsed_parameters(params),
                divergent="leave-out" if leave_out_divergent else "refuse",
                integers=integers,
                history=history,
                progress=report,
            )
        save_average(result, dataset, out)
    _say(average_json(result, out), as_json, average_text(result, out))


def _parsed_parameters(texts: tuple[str, ...]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidArgumentError(f"--param {text}: expected NAME=VALUE.")
        try:
            parameters[name] = json.loads(value)
        except json.JSONDecodeError:
            parameters[name] = value
    return parameters


@command.command()
@_file
@click.option(
    "--aggregators",
    required=True,
    metavar="NAME[:K=V]...,NAME,...",
    help="Which, with their parameters: mean,median,krum:faulty=2.",
)
@click.option("--round", "round_number", default=-1, help="Its number; the last by default.")
@click.option(
    "--weighting", default="num_examples", show_default=True, metavar="num_examples|uniform"
)
@_leave_out_divergent
@_json
@click.pass_context
def compare(
    context: click.Context,
    file: Path,
    aggregators: str,
    round_number: int,
    weighting: str,
    leave_out_divergent: bool,
    as_json: bool,
) -> None:
    """Apply several aggregators to one round, side by side; exit with 2 if none could be."""
    from fedviz.comparison import compare as run_compare
    from fedviz.comparison import comparison_text, parse_candidate
    from fedviz.dataset import WeightDataset

    candidates = [parse_candidate(text) for text in aggregators.split(",") if text]
    with WeightDataset(file) as dataset, _progress_bar("comparing") as report:
        found = run_compare(
            dataset,
            candidates,
            round_number,
            weighting,
            report,
            divergent="leave-out" if leave_out_divergent else "refuse",
        )
    _say(found.to_json(), as_json, comparison_text(found))
    context.exit(OK if found.applied else BAD_INPUT)


@command.command()
@_file
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="An .html file to write."
)
@click.option("--round", "round_number", default=-1, help="Its number; the last by default.")
@_json
def report(file: Path, out: Path, round_number: int, as_json: bool) -> None:
    """Write a report of one round: one HTML file that asks nobody for anything."""
    from fedviz.report import report_json, report_text, write_report

    with _progress_bar("reading") as progress:
        contents = write_report(file, out, round_number, progress)
    _say(report_json(contents, out), as_json, report_text(contents, out))


@command.command()
@_json
def aggregators(as_json: bool) -> None:
    """List the aggregators with their formulae and parameters."""
    from fedviz import describe

    _say(describe.aggregators_json(), as_json, describe.aggregators_text())


@command.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=False))
@click.option("--port", default=8501, show_default=True)
@click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Where datasets are kept."
)
def serve(file: Path | None, port: int, data_dir: Path | None) -> None:
    """Open the dashboard in the browser's reach, on this machine only."""
    from fedviz.serve import serve as run_serve

    run_serve(file, port, data_dir)


@command.command()
@click.option("--port", required=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--data-dir",
    required=True,
    type=click.Path(path_type=Path),
    help="Where datasets lie: the same path as on the machine that averages.",
)
def worker(port: int, host: str, data_dir: Path) -> None:
    """Run a TFF worker for other machines, which list it in FEDVIZ_TFF_WORKERS.

    It asks nobody who they are: see docs/distributed.md before it leaves 127.0.0.1.
    """
    from fedviz.aggregation.machines import WorkerAddress
    from fedviz.aggregation.shared_worker import serve_worker

    serve_worker(WorkerAddress(host, port), data_dir, click.echo, _warn)


if __name__ == "__main__":
    main()
