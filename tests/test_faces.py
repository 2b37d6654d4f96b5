"""The names that users import: which they are, that they load late, what the pages use."""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

import plsctl

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FACES = {
    "plsctl.acquire": (
        "Hardware HardwareError Microscope PassReader PlsctlError ScanFolder UserError "
        "load_hardware open_microscope open_scan run_pass take_stack"
    ),
    "plsctl.acquire.leds": (
        "Capabilities Garbled HardwareError Identity LedArray LedArraySettings LineFault "
        "NoAnswer PlainArray Refused SequenceTiming SerialArray SerialLine Settings UserError "
        "brightness_level checked_by checked_leds driver_options open_led_array"
    ),
    "plsctl.process": (
        "Dataset FocusStackSettings QualitySettings SegmentationSettings SingleLeds build_dataset "
        "find_cells flag_samples focus_stack match merge_datasets read_image reconstruct "
        "rewrite_table scan_roles segment segment_crop stack_from_pass"
    ),
    "plsctl.models": (
        "ArrayLimits Compute FixedFilter FrameStainer LedPatterns OpticsLayer Run StainingOptions "
        "Step Task TorchDataset TrainingConfig TrainingSettings evaluate open_stainer "
        "pattern_recipe save_recipe stain train train_task"
    ),
    "plsctl.sim": (
        "FieldSpectrum Imaging Smear SmearSettings View cells_in_region mask object_grid"
    ),
}


def _imports(page: Path) -> list[ast.ImportFrom]:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    found = (node for block in blocks for node in ast.walk(ast.parse(block)))
    return [node for node in found if isinstance(node, ast.ImportFrom)]


@pytest.mark.parametrize("face", FACES)
def test_the_stable_names_are_these(face: str) -> None:
    module = import_module(face)
    assert sorted(module.__all__) == sorted(FACES[face].split())
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name).__doc__
    with pytest.raises(AttributeError, match="nonsense"):
        module.nonsense  # noqa: B018


def test_the_package_tells_its_version_and_parts() -> None:
    assert plsctl.__version__ == version("plsctl")
    assert {"__version__", "acquire", "process", "models"} <= set(dir(plsctl))


def test_importing_and_listing_the_names_loads_nothing_heavy() -> None:
    heavy = {"torch", "pymmcore", "pymmcore_plus", "zarr", "tensorstore", "numpy", "pydantic"}
    code = (
        f"import sys, plsctl, {', '.join(FACES)}\n"
        f"for face in {list(FACES)!r}: dir(sys.modules[face])\n"
        f"print(' '.join(set(sys.modules) & {heavy!r}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_import_stable_names_only(page: Path) -> None:
    for node in _imports(page):
        if (node.module or "").startswith("plsctl"):
            names = {alias.name for alias in node.names}
            assert names <= set(FACES[str(node.module)].split()), ast.unparse(node)


def test_the_page_of_names_lists_them_all() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for face, names in FACES.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{face}` |"))
        assert re.findall(r"`(\w+)`", row.split("|")[2]) == names.split()


FRAMES = [{"label": "brightfield"}, {"label": "plate-1"}]


@pytest.fixture
def written(tmp_path: Path) -> np.ndarray:
    """The targets of a data set a.zarr with a margin; stacks hold them in their middle."""
    from plsctl.process.dataset.writer import DatasetWriter

    rng = np.random.default_rng(3)
    stacks = rng.integers(0, 256, (10, 2, 3, 12, 12), dtype=np.uint8)
    targets = stacks[:, 0, :, 2:-2, 2:-2].copy()
    rows = pd.DataFrame({"slide": "S1", "split": ["train"] * 8 + ["validation", "test"]}).assign(
        position="A/1", x_um=0.0, y_um=0.0
    )
    with DatasetWriter(
        tmp_path / "a.zarr", FRAMES, recipe="mine", pixel_um=0.3, crop_px=8, margin_px=2, shard=4
    ) as writer:
        writer.append(stacks, {"20x": targets}, rows)
        writer.finish()
    return stacks


def test_a_data_set_is_found_however_its_place_is_written(
    written: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plsctl.process import Dataset

    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("USERPROFILE" if os.name == "nt" else "HOME", str(tmp_path))
    for place in ("../a.zarr", Path("../work/../a.zarr"), "~/a.zarr", Path("~/a.zarr")):
        assert np.array_equal(Dataset.open(place).read_images([7], [0, 1], 2), written[[7]])


def test_users_hold_zarr_groups_that_know_what_is_in_them(
    written: np.ndarray, tmp_path: Path
) -> None:
    from plsctl.process import Dataset

    group = Dataset.open(tmp_path / "a.zarr").group
    assert isinstance(group, zarr.Group)
    # Without a warning on the table beside the arrays: warnings are errors here.
    assert dict(group.arrays()).keys() == {"input", "target_20x"}
    assert np.array_equal(group["input"][7], written[7])
    with pytest.raises(ValueError, match="read"):
        group.attrs["mine"] = 1


# Python 3.12 and later warn of any fork while threads run; zarr-python takes care of its own.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_of_torch_gives_the_samples(
    written: np.ndarray, tmp_path: Path, workers: int
) -> None:
    from torch.utils.data import DataLoader

    from plsctl.models import TorchDataset

    samples = TorchDataset(tmp_path / "a.zarr", "train")
    samples.data.read_images([0], [0])  # tensorstore has threads now, and no fork outlives that
    batches = list(DataLoader(samples, batch_size=4, num_workers=workers))
    stacks, targets = (np.concatenate([np.asarray(b[i]) for b in batches]) for i in (0, 1))
    inner = written[:8, ..., 2:-2, 2:-2]
    assert np.array_equal(stacks, inner.reshape(8, 6, 8, 8))
    assert np.array_equal(targets, inner[:, 0])


def test_a_torch_data_set_travels_to_a_process_of_its_own(
    written: np.ndarray, tmp_path: Path
) -> None:
    from plsctl.models import TorchDataset

    samples = TorchDataset(tmp_path / "a.zarr", "test", margin_px=2)
    samples.data.read_images([0], [0])
    stack, _ = pickle.loads(pickle.dumps(samples))[0]
    assert np.array_equal(np.asarray(stack), written[9].reshape(6, 12, 12))


def test_a_stack_is_taken_in_two_lines() -> None:
    from plsctl.acquire import UserError, open_microscope, take_stack

    with open_microscope(ROOT / "hardware_configs" / "simulator_small.yaml") as microscope:
        microscope.move_xy(10_500, 5_500)
        stack = take_stack(microscope, "le8deg")
        assert stack.shape == (4, 600, 800, 3) and stack.dtype == np.uint8
        assert np.median(stack[0]) > 1.2 * np.median(stack[1]) > 40
        # The LEDs were left off: what is seen is the black level.
        assert np.median(microscope.snap(5.0)) < 8
        with pytest.raises(UserError, match="no recipe"):
            take_stack(microscope, "ful")


DRIVER = """
from plsctl.acquire.leds import Capabilities, Identity, LedArraySettings, Settings
from plsctl.acquire.leds import checked_by, checked_leds, driver_options


class Options(Settings):
    rows: int


class Ours:
    def __init__(self, settings: LedArraySettings) -> None:
        rows = driver_options(settings, Options).rows
        self.identity = Identity("ours", "tin", "1", 8 * rows)
        self.capabilities = Capabilities(several=True)
        self.lit = ()

    def light(self, leds, brightness=1.0):
        self.lit = checked_leds(leds, self.identity.led_count)


def check(settings):
    driver_options(settings, Options)
    return Capabilities(several=True)


@checked_by(check)
def open_ours(settings):
    return Ours(settings)
"""


def test_a_laboratorys_own_driver_needs_one_place_to_import_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plsctl.acquire.leds import LedArraySettings, UserError, open_led_array

    (tmp_path / "our_leds.py").write_text(DRIVER)
    info = tmp_path / "our_leds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: our-leds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[plsctl.led_drivers]\nours = our_leds:open_ours\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings = LedArraySettings(driver="ours", port="x", geometry="g.csv", options={"rows": 4})
    array = open_led_array(settings)
    array.light([3, 1])
    assert (array.identity.led_count, array.lit) == (32, (1, 3))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="no LED 32"):
        array.light([32])
    wrong = settings.model_copy(update={"options": {"rows": 4, "colour": 1}})
    # As `plsctl scan --dry-run` does, without opening it.
    from plsctl.acquire.leds.array import check_led_array

    assert check_led_array(settings) == array.capabilities
    for use in (open_led_array, check_led_array):
        with pytest.raises(UserError, match="no field 'colour'") as caught:
            use(wrong)
        assert caught.value.field == "led_array.options.colour"
