"""Many slides on a Dask cluster of worker processes, one of them killed in the middle."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plsctl.acquire.errors import UserError
from plsctl.process.building.builder import build_dataset
from plsctl.process.dataset.splits import SplitSettings
from plsctl.process.workers import dask_cluster as cluster
from plsctl.process.workers.dask_cluster import cluster_workers

distributed = pytest.importorskip("distributed", reason="the extra `distributed` is not installed")
UNDIVIDED = SplitSettings(ratios=None)


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_cluster_that_loses_a_worker_builds_what_one_process_builds(
    slides: Callable[[int], list[Path]],
    contents: Callable[[Path], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scans = slides(3)
    build_dataset(scans, tmp_path / "local.zarr", split=UNDIVIDED)
    done: list[int] = []
    with (
        distributed.LocalCluster(
            n_workers=3, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as machines,
        distributed.Client(machines, set_as_default=False) as client,
    ):
        pids = list(client.run(os.getpid).values())

        def kill_one(what: str, finished: int, total: int) -> None:
            if what != "cutting cells":
                return
            if finished == 1 and total == 6:
                os.kill(pids[0], signal.SIGKILL)
            done.append(finished)

        monkeypatch.chdir(tmp_path)  # where the workers are not
        build_dataset(
            [scan.relative_to(tmp_path) for scan in scans],
            tmp_path / "cluster.zarr",
            split=UNDIVIDED,
            workers=cluster_workers(machines.scheduler_address),
            progress=kill_one,
        )
        assert pids[0] not in client.run(os.getpid).values()
    assert done == [0, 1, 2, 3, 4, 5, 6]
    assert contents(tmp_path / "local.zarr") == contents(tmp_path / "cluster.zarr")


def test_no_scheduler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WAIT_S", 0.2)
    with (
        pytest.raises(UserError, match="no Dask scheduler answers at tcp"),
        cluster_workers("tcp://127.0.0.1:9"),
    ):
        pass
