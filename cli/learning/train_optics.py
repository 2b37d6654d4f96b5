"""`plsctl train learned-optics`: light and blur, learned with the network behind them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import counted, duration
from plsctl.cli.shared.output import emit, print_message, progress
from plsctl.cli.shared.training_progress import TrainingProgress

if TYPE_CHECKING:
    from plsctl.models.learned_optics.settings import OpticsRun

MODEL = "learned-optics"

OWN_OPTIONS = {"pooling", "optics"}


def is_asked_for(what: str) -> bool:
    """Whether a model's name or a file with a run means this."""
    if not what.endswith((".yaml", ".yml")):
        return what == MODEL
    from plsctl.acquire.files.locations import location
    from plsctl.acquire.files.settings import read_yaml

    return bool(read_yaml(location(what))[0].get("model") == MODEL)


def refuse_its_options(what: str, asked: dict[str, Any]) -> None:
    """`UserError` where another model is to be trained with options of this one."""
    for name in OWN_OPTIONS & set(asked):
        raise UserError(
            f"--{name} is an option of {MODEL}, and {what} is another model.",
            field=name,
            hint="Leave it out.",
        )


def train_optics(
    what: str, asked: dict[str, Any], *, fresh: bool, dry_run: bool, as_json: bool
) -> None:
    """Train the run or the sweep that is asked for, or say what it would be."""
    from plsctl.models.learned_optics.settings import optics_run

    file = Path(what) if what.endswith((".yaml", ".yml")) else None
    needed = {} if file is not None or not dry_run else {"data": "", "out": ""}
    config = optics_run(needed | asked, file)
    if dry_run:
        for run in config.runs():
            print_message(f"{_told(run)}.")
        emit({"model": MODEL, "runs": [_described(run) for run in config.runs()]}, as_json)
        return
    _train(config, fresh, as_json)


def _described(run: "OpticsRun") -> dict[str, Any]:
    return {"pooling": run.pooling, "optics": run.optics, "network": run.network, "blur": run.blur}


def _told(run: "OpticsRun") -> str:
    return f"Pooling {run.pooling}, {run.optics} optics ({run.blur}), network {run.network}"


def _train(config: "OpticsRun", fresh: bool, as_json: bool) -> None:
    first_process = os.environ.get("RANK", "0") == "0"  # of torchrun's: it speaks for all
    if first_process:
        print_message(f"Training {MODEL} on {config.data}; first the network library is loaded ...")
    from plsctl.models.learned_optics.train import train_sweep

    if not first_process:
        train_sweep(config, fresh=fresh)
        return
    with progress("reading the images") as advance:
        shown = TrainingProgress(advance)

        def begin(run: "OpticsRun") -> None:
            nonlocal shown
            print_message(f"{_told(run)}, into {run.out}.")
            shown = TrainingProgress(advance)  # every run has steps of its own
            shown.on_phase(f"pooling {run.pooling}")

        results = train_sweep(
            config, fresh=fresh, on_run=begin, on_step=lambda report: shown.on_step(report)
        )
    for result in results:
        low, high = result.scores["accuracy"]["ci95"]
        print_message(
            f"{result.config.out}: {counted(result.training.epochs, 'epoch')} in "
            f"{duration(result.training.seconds)}, best {result.training.best_epoch}; accuracy "
            f"{100 * result.scores['accuracy']['mean']:.2f} % ({100 * low:.2f} to "
            f"{100 * high:.2f}) of {counted(result.scores['images'], 'validation image')}."
        )
    if results[0].drawn:
        print_message(
            "The validation images were drawn at random: those of one slide or cell may lie on "
            "both sides. Lay images into train/ and validation/ to divide them otherwise."
        )
    if config.sweep:
        print_message(f"Table of the sweep: {config.out / 'sweep.csv'}")
    emit(
        {
            "model": MODEL,
            "runs": [
                result.row() | {"run": str(result.config.out), "stopped": result.training.stopped}
                for result in results
            ],
        },
        as_json,
    )
