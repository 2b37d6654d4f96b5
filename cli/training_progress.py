"""How far a training has come: steps, their rate, the loss and the similarity."""

from plsctl.cli.work import Work


class TrainingProgress:
    """Turns the callbacks of `plsctl.models.training.train` into progress.

    A run ends after so many steps or at a time, whichever comes first, so the number of all steps
    is told from the share that is done.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._steps = 0
        self._first_share = 0.0

    def on_phase(self, phase: str) -> None:
        """Show what is done now."""
        self._work(description=phase, unit="step")

    def on_batch(self, share: float) -> None:
        """Count a step; `share` of the run, in [0, 1], was done before it."""
        if self._steps == 0:
            self._first_share = share
        gained = share - self._first_share
        if gained > 0:
            self._work(total=max(1, round(self._steps / gained * (1 - self._first_share))))
        self._steps += 1
        self._work()

    def on_epoch(self, row: dict[str, float]) -> None:
        """Show the scores of an epoch."""
        self._work(
            note=f"epoch {row['epoch']:.0f}: loss {row['train_loss']:.4f}, validation SSIM "
            f"{row['validation_ssim']:.3f}"
        )
