"""`plsctl train`: a network from a data set."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from plsctl.acquire.words import counted, duration
from plsctl.cli.learning import train_optics
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import (
    JsonFlag,
    VerboseFlag,
    emit,
    print_message,
    print_next_command,
    progress,
)
from plsctl.cli.shared.training_progress import TrainingProgress

What = Annotated[
    str,
    typer.Argument(
        help=f"A model ({', '.join(completion.TRAINED)}) or a YAML file that describes the run.",
        metavar="MODEL|CONFIG.yaml",
        autocompletion=completion.models_and_files,
    ),
]


def train(
    what: What,
    data: Annotated[Path | None, typer.Option(help="Data set to train on.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder to write.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Images to use: a recipe's name or YAML file; all of the data set by default.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="20x or 100x.", autocompletion=completion.TARGETS)
    ] = None,
    from_run: Annotated[
        Path | None,
        typer.Option("--from", help="Run whose weights to begin with; maepf-rpgan-sn needs one."),
    ] = None,
    blocks: Annotated[int | None, typer.Option(help="Blocks of the network: 4, or 8.")] = None,
    width: Annotated[
        int | None,
        typer.Option(help="Channels inside: RRDB as many as the input, unet 64, fast 32."),
    ] = None,
    perceptual: Annotated[
        str | None,
        typer.Option(
            help="Network of the perceptual loss: targets, classifier (of the cells' types), or a "
            "file of VGG19 weights."
        ),
    ] = None,
    tolerate_shift_px: Annotated[
        int | None,
        typer.Option(help="Let targets lie shifted by so many pixels: 0, or 2 for loose matches."),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            help="none, mirrors or turns: symmetries of the LEDs that samples undergo.",
            autocompletion=completion.values("none", "mirrors", "turns"),
        ),
    ] = None,
    augment_tolerance_deg: Annotated[
        float | None,
        typer.Option(help="How far an LED may stand from where a symmetry wants it (1.5)."),
    ] = None,
    augment_mask: Annotated[
        float | None,
        typer.Option(help="Largest share of images that a symmetry may leave without light (0.1)."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many epochs.")] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="At most so many batches, whatever the size of the data set."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="At most so long.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples in a batch: 20, or 12.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's rate (2e-4).")] = None,
    discriminator_rate: Annotated[
        float | None, typer.Option(help="Adam's rate of the discriminator (4e-4).")
    ] = None,
    adversarial_reduction: Annotated[
        str | None,
        typer.Option(
            help="mean or sum (as the thesis writes it): of the adversarial losses over a batch.",
            autocompletion=completion.values("mean", "sum"),
        ),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="constant or cosine.", autocompletion=completion.SCHEDULES)
    ] = None,
    average: Annotated[
        float | None, typer.Option(help="Keep a running mean of the weights: 0.99, or 0 for none.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better loss.")
    ] = None,
    train_share: Annotated[
        float | None, typer.Option(help="Use only this share of the training samples: 0.5.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and order.")] = None,
    margin: Annotated[
        int | None,
        typer.Option(help="Surroundings of the crop that are seen (px); all of the data set's."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or cuda.", autocompletion=completion.DEVICES)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the CPU; fewer on a busy machine.")
    ] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Use torch.compile.")
    ] = None,
    tensorboard: Annotated[
        bool | None,
        typer.Option("--tensorboard/--no-tensorboard", help="Write curves for TensorBoard too."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="auto, float32 or bfloat16.", autocompletion=completion.PRECISIONS),
    ] = None,
    memory_format: Annotated[
        str | None,
        typer.Option(
            help="auto (what a short timing finds faster), contiguous, channels_last or winograd.",
            autocompletion=completion.values("auto", "contiguous", "channels_last", "winograd"),
        ),
    ] = None,
    pooling: Annotated[
        int | None, typer.Option(help="Of learned-optics: squares of 1 to 6 pixels are averaged.")
    ] = None,
    optics: Annotated[
        str | None,
        typer.Option(
            help="Of learned-optics: learned, or frozen for comparison.",
            autocompletion=completion.values("learned", "frozen"),
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew; an old run goes once the new one stands.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be trained; needs no data.")
    ] = False,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Train a network that stains virtually, or optics with a network that tells cells apart.

    The same command again continues a stopped run.

    Several GPUs: torchrun --nproc-per-node 4 --no-python plsctl train ...

    Example: plsctl train maepfnet --data wbc.zarr --out runs/first --recipe full-nohe
    """
    given = {
        "data": data, "out": out, "recipe": recipe, "target": target, "from_run": from_run,
        "blocks": blocks, "width": width, "perceptual": perceptual,
        "tolerate_shift_px": tolerate_shift_px, "augment": augment,
        "augment_tolerance_deg": augment_tolerance_deg, "augment_mask": augment_mask,
        "epochs": epochs, "steps": steps,
        "minutes": minutes, "batch": batch, "learning_rate": learning_rate,
        "discriminator_rate": discriminator_rate,
        "adversarial_reduction": adversarial_reduction, "schedule": schedule, "average": average,
        "patience": patience, "train_share": train_share, "seed": seed, "margin": margin,
        "device": device, "threads": threads,
        "compile": compiled, "tensorboard": tensorboard, "precision": precision,
        "memory_format": memory_format, "pooling": pooling, "optics": optics,
    }  # fmt: skip
    asked = {name: value for name, value in given.items() if value is not None}
    if train_optics.is_asked_for(what):
        train_optics.train_optics(what, asked, fresh=fresh, dry_run=dry_run, as_json=as_json)
        return
    train_optics.refuse_its_options(what, asked)
    if dry_run:
        known = from_run is not None or what.endswith((".yaml", ".yml"))
        _describe(_config(what, {"out": ""} | ({} if known else {"data": ""}) | asked), as_json)
    else:
        _train(_config(what, asked), fresh, as_json)


def _config(what: str, asked: dict[str, Any]) -> Any:
    from plsctl.models.runs.config import TrainingConfig, config_from_file, config_from_options

    config: TrainingConfig
    if what.endswith((".yaml", ".yml")):
        config = config_from_file(Path(what), asked)
    else:
        config = config_from_options(what, asked)
    return config


def _describe(config: Any, as_json: bool) -> None:
    if config.data != Path() and config.data.exists():
        from plsctl.process.dataset.reader import Dataset
        from plsctl.process.dataset.recipe_images import recipe_name

        data = Dataset.open(config.data)
        name, images = (
            recipe_name(config.recipe, data.recipe),
            len(data.channels_for(config.recipe)),
        )
    else:
        from plsctl.acquire.plans.recipes import load_recipe

        recipe = load_recipe(config.recipe or "full")
        name, images = recipe.name, len(recipe.images())
    result = {
        "model": config.model,
        "recipe": name,
        "images": images,
        "channels": 3 * images,
        "parameters": config.parameters(3 * images),
    }
    print_message(
        f"{config.model}: {config.spec.summary}; {images} images of {name}, "
        + (f"{config.depth} blocks, " if config.depth else "")
        + f"{result['parameters']:,} parameters."
    )
    emit(result, as_json)


def _train(config: Any, fresh: bool, as_json: bool) -> None:
    from plsctl.models.runs.folder import check_request
    from plsctl.process.dataset.reader import Dataset

    first_process = os.environ.get("RANK", "0") == "0"
    if first_process:  # of torchrun's processes: it speaks for all
        data = Dataset.open(config.data)
        check_request(config, data, fresh)
        samples = counted(len(data.split("train", config.target)), "sample")
        print_message(
            f"Training {config.model} on {samples} of {config.data}, into {config.out}; first the "
            "network library is loaded ..."
        )
    from plsctl.models.staining.task import SSIM
    from plsctl.models.staining.train import train as train_model

    if not first_process:
        train_model(config, fresh=fresh)
        return
    if config.perceptual == "classifier" and not (config.out / "facts.json").is_file():
        print_message(
            "First a classifier learns the types of the stained cells, for the perceptual loss."
        )
    with progress("reading the data set") as advance:
        shown = TrainingProgress(advance)
        result = train_model(
            config,
            fresh=fresh,
            on_epoch=shown.on_epoch,
            on_step=shown.on_step,
            on_phase=shown.on_phase,
        )
    reasons = {
        "epochs": "all epochs are done",
        "steps": "all steps are done",
        "time": "the time is used up",
        "patience": "the loss no longer falls",
    }
    validated = SSIM.column in result.metrics
    figure = (
        f"{SSIM.label} {result.metrics[SSIM.column]:.4f}"
        if validated
        else f"training loss {result.metrics['train_loss']:.4f}"
    )
    print_message(
        f"{config.out}: {counted(result.epochs, 'epoch')} in {duration(result.seconds)}, best "
        f"{result.best_epoch} ({figure}); {reasons[result.stopped]}."
    )
    if not validated:
        print_message(
            "There is no validation split: the best epoch is that of the lowest training loss."
        )
    print_next_command("evaluate", config.out)
    emit(
        {"model": config.model, "recipe": config.recipe, **result.as_dict()},
        as_json,
    )
