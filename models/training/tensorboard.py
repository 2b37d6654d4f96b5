"""The curve as event files that TensorBoard shows, where it is asked for."""

from __future__ import annotations

from pathlib import Path

from plsctl.acquire.errors import UserError


def require_tensorboard() -> None:
    """Raise UserError where TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UserError(
            "TensorBoard is not installed.",
            field="tensorboard",
            hint="Install it with pip install 'plsctl[tensorboard]', or leave --tensorboard out: "
            "curve.csv and curves.png hold the same.",
        ) from None


class EventWriter:
    """Writes a row of the curve after each epoch into the run's folder `tensorboard`.

    Parameters
    ----------
    epoch
        The last finished epoch; what an interrupted run wrote beyond it is hidden.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch + 1)

    def write(self, row: dict[str, float]) -> None:
        """Loss terms and SSIM as `train/NAME` and `validation/NAME` over epochs."""
        epoch = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                part, _, term = name.partition("_")
                known = part in ("train", "validation")
                self._writer.add_scalar(f"{part}/{term}" if known else name, value, epoch)
        self._writer.flush()
