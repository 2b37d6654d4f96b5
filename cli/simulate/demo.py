"""`plsctl demo`: the whole chain on the simulated microscope, and a report to look at."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plsctl.acquire.words import counted, duration
from plsctl.cli.shared.output import JsonFlag, VerboseFlag, emit, print_message, progress
from plsctl.cli.shared.training_progress import TrainingProgress
from plsctl.cli.shared.verdict import print_verdict

if TYPE_CHECKING:
    from plsctl.acquire.scanning.scan import Scan
    from plsctl.acquire.store.records import PassName

SLIDE = """\
# The slide of `plsctl demo`: a small region under the simulated microscope.
slide: {name}
patient: P01
stain: RAL-MCDh
hardware: simulator_small
# Without overlap no crop is in two fields, and the splits of the data set are even.
region: {{x_um: [{x[0]}, {x[1]}], y_um: [{y[0]}, {y[1]}], overlap: 0}}
recipe: {recipe}
exposures: shipped:exposures_20x.csv
focus: {{mode: surface, points: {focus_points}, range_um: 30, refresh_positions: 60}}
slide_return: {{fields: 3}}
passes:
  unstained: {{objective: 20x}}
  stained: {{objective: 20x}}
  highres: {{objective: 100x, exposures: shipped:exposures_100x.csv}}
"""


@dataclass(frozen=True)
class Size:
    """How large a demonstration is: the region scanned, the recipe, and how much it trains."""

    name: str
    x_um: tuple[int, int]
    y_um: tuple[int, int]
    recipe: str
    trained_recipe: str
    steps: int
    focus_points: int


FULL = Size("demo", (10000, 10937), (5000, 5527), "full", "le18deg", 500, 3)
QUICK = Size("quick", (10000, 10468), (5800, 6151), "le18deg", "le18deg", 240, 1)


@dataclass
class Timing:
    """Seconds that each step took."""

    seconds: dict[str, float] = field(default_factory=dict)

    def measure(self, step: str, work: Callable[[], Any]) -> Any:
        """Do the work and note how long it took."""
        began = time.monotonic()
        result = work()
        self.seconds[step] = round(time.monotonic() - began, 1)
        return result


def demo(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where everything is written.")
    ] = Path("demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A few fields and a very short training.")
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Scan, match, train and stain on the simulated microscope, and write a report to look at.

    Stopped anywhere, the same command goes on.

    Example: plsctl demo demo --quick
    """
    from plsctl.acquire.store.records import PASSES

    size = QUICK if quick else FULL
    timing = Timing()
    print_message(
        f"A simulated smear is scanned three times, its cells are matched and learnt; all of it "
        f"goes into {directory}."
    )
    scan = _open(directory, size)
    for name in PASSES:
        timing.measure(f"{name} pass", partial(_take, scan, name))
    dataset, run = directory / f"{size.name}.zarr", directory / f"{size.name}_run"
    stained = directory / f"{size.name}_stained.ome.zarr"
    samples = timing.measure("data set", lambda: _build(scan.folder.path, dataset))
    timing.measure("training", lambda: _train(size, dataset, run))
    scores = timing.measure("evaluation", lambda: _evaluate(run))
    timing.measure("virtual staining", lambda: _stain(scan, run, stained))
    place = directory / "report.html"
    timing.measure("report", lambda: _report(place, [scan.folder.path, dataset, run], stained))
    emit(
        {
            "report": place.resolve(),
            "samples": samples,
            "metrics": scores["metrics"],
            "baselines": scores["baselines"],
            **{
                name: scores[name]
                for name in ("verdict", "baseline", "difference", "nuclei", "verdict_text")
            },
            "seconds": sum(timing.seconds.values()),
            "steps": timing.seconds,
        },
        json,
    )
    print_verdict(scores)
    print_message(f"All done in {duration(sum(timing.seconds.values()))}. Open {place.resolve()}")


def _open(directory: Path, size: Size) -> "Scan":
    """Write the slide file, and open its scan."""
    from plsctl.acquire.errors import disk_errors
    from plsctl.acquire.scanning.scan import open_scan

    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{size.name}.yaml"
    text = SLIDE.format(
        name=size.name,
        x=size.x_um,
        y=size.y_um,
        recipe=size.recipe,
        focus_points=size.focus_points,
    )
    file.write_text(text, encoding="utf-8")
    return open_scan(file, directory / "scans")


def _take(scan: "Scan", name: "PassName") -> None:
    from plsctl.acquire.interrupt import stop_on_signals
    from plsctl.acquire.scanning.pass_run import run_pass
    from plsctl.cli.shared.roles import make_roles

    if scan.is_finished(name):
        print_message(f"Pass {name}: taken before.")
        return
    with stop_on_signals() as stop, progress("reading the settings") as advance:
        result = run_pass(
            scan,
            name,
            lambda operator: make_roles(operator, assume_yes=True),
            stop,
            progress=advance.steps,
        )
    positions = counted(result.totals.positions, "position")
    print_message(f"Pass {name}: {positions}, {counted(result.totals.frames, 'image')}.")
    if result.verdict is not None:
        print_message(f"Safe to stain: {result.verdict.in_words}.")


def _build(scan: Path, dataset: Path) -> int:
    from plsctl.process.building.builder import build_dataset
    from plsctl.process.dataset.reader import Dataset

    if not dataset.exists():
        with progress("opening the scan") as advance:
            result = build_dataset([scan], dataset, progress=advance.steps)
        dropped = ", ".join(f"{count} {reason}" for reason, count in result.dropped.items())
        print_message(
            f"Data set: {counted(result.samples, 'sample')}; dropped: {dropped or 'none'}."
        )
    return len(Dataset.open(dataset))


def _train(size: Size, dataset: Path, run: Path) -> None:
    from plsctl.models.runs.config import TrainingConfig
    from plsctl.models.staining.task import SSIM
    from plsctl.models.staining.train import train

    config = TrainingConfig(
        model="fast",
        data=dataset,
        out=run,
        recipe=size.trained_recipe,
        steps=size.steps,
        schedule="cosine",
        learning_rate=1e-3,
        average=0.98,
        epochs=size.steps,
        patience=size.steps,
        batch=4,
        # On a machine that does something else besides, threads that wait for each other cost more
        # than the second one gains.
        threads=1,
    )
    with progress("reading the data set") as advance:
        shown = TrainingProgress(advance)
        result = train(
            config, on_epoch=shown.on_epoch, on_step=shown.on_step, on_phase=shown.on_phase
        )
    print_message(
        f"Trained: {counted(result.epochs, 'epoch')} in {duration(result.seconds)}, validation "
        f"{SSIM.label} {result.metrics[SSIM.column]:.3f}."
    )


def _evaluate(run: Path) -> dict[str, Any]:
    from plsctl.models.evaluation.evaluate import evaluate
    from plsctl.models.runs.run import Run

    with progress("comparing samples", unit="sample") as advance:
        scores: dict[str, Any] = evaluate(Run.open(run), on_samples=advance)
    names = {"prediction": scores["metrics"], **scores["baselines"]}
    for name, values in names.items():
        print_message(
            f"  {name:12s} SSIM {values['ssim']['mean']:.3f}, MAE {values['mae']['mean']:.4f}"
        )
    return scores


def _stain(scan: "Scan", run: Path, stained: Path) -> None:
    from plsctl.models.prediction.predictor import Predictor
    from plsctl.models.prediction.stain import stain
    from plsctl.models.runs.run import Run

    with progress("staining virtually", unit="position") as advance:
        stain(
            Predictor(Run.open(run)),
            scan.folder.path,
            stained,
            on_position=lambda done, total: advance(completed=done, total=total),
        )


def _report(place: Path, folders: list[Path], stained: Path) -> None:
    from plsctl.models.report.report import write_report

    with progress("drawing the report"):
        write_report(
            place,
            [*folders, stained],
            title="From a blood smear to a virtual stain",
            subtitle="One simulated slide: scanned unstained, stained and at 100x, matched, "
            "learnt.",
        )
