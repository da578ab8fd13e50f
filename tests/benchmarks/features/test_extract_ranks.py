"""Several processes, workers and devices compute what one does."""

from __future__ import annotations

import io
import itertools
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from rich.console import Console

from benchmarks.data.images import ArrayImages
from benchmarks.errors import DataError
from benchmarks.features import extract
from benchmarks.features.extract import features_for, images_per_shard
from benchmarks.features.shards import Part, Shards
from extract_samples import (
    CONFIG,
    IMAGES,
    KINDS,
    compute,
    folder_of,
    make_backbone,
    on_disk,
    refuse_to_compute,
    shard_files,
    small_shards,
)

pytestmark = pytest.mark.usefixtures(small_shards.__name__)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 8, 64])
def test_batches_do_not_reach_into_the_next_shard(batch_size: int) -> None:
    n = images_per_shard(batch_size)
    assert n % batch_size == 0
    assert n >= batch_size


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 5, 8])
def test_ranks_share_the_missing_shards(tmp_path: Path, n_ranks: int) -> None:
    shards = Shards(tmp_path, "train", labels=(0,) * 22, images_per_shard=4, n_features=5, precision="half")
    part = Part(IMAGES.train, shards, todo=[0, 2, 3, 5])
    dealt = [part.numbers(rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
    assert sorted(itertools.chain(*dealt)) == [0, 1, 2, 3, *range(8, 16), 20, 21]
    for numbers in dealt:  # every batch of 4 is the one that a single rank would make of that shard
        batches = [numbers[i : i + 4] for i in range(0, len(numbers), 4)]
        assert all(batch in ([*range(i, min(i + 4, 22))] for i in range(0, 22, 4)) for batch in batches)


def test_workers_open_the_same_images(tmp_path: Path) -> None:
    compute(tmp_path / "one")
    compute(tmp_path / "many", workers=2)
    assert shard_files(tmp_path / "many") == shard_files(tmp_path / "one")


@pytest.mark.slow
def test_two_devices_make_the_bytes_of_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    compute(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    missing = ("train-00000", "train-00002", "test-00001")  # one of each split for rank 0, and one in all for rank 1
    for shard in missing:
        (folder_of(tmp_path / "two") / f"{shard}.npy").write_bytes(b"")
        (folder_of(tmp_path / "two") / f"{shard}.json").unlink()
    compute(tmp_path / "two", n_devices=2, workers=1)
    assert shard_files(tmp_path / "two") == shard_files(tmp_path / "one")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_an_error_of_another_rank_comes_back_as_what_it_is(tmp_path: Path) -> None:
    images = on_disk(tmp_path / "images", torn=("train/9.png",))
    with pytest.raises(DataError, match=r"^\S*train/9\.png cannot be read: .*unreadable: skip$"):
        compute(tmp_path / "features", images, n_devices=2)


RANK = """
import pickle, sys
from pathlib import Path
from rich.console import Console
from benchmarks.features import extract

extract.IMAGES_PER_SHARD = 8
images, backbone, config = pickle.loads(Path(sys.argv[1]).read_bytes())
console = Console(width=200)
found = extract.features_for(
    images, backbone, config, cache=Path(sys.argv[2]), batch_size=4, n_devices=2, console=console
)
assert (len(found.train), len(found.test)) == (22, 9)
"""
"""What each of the processes does that torchrun starts."""


@contextmanager
def torchrun(folder: Path, cache: Path) -> Iterator[subprocess.Popen[str]]:
    """Two processes on this machine; they end with the test, also where they would wait for ever."""
    (folder / "rank.py").write_text(RANK)
    (folder / "given.pickle").write_bytes(pickle.dumps((IMAGES, make_backbone(), CONFIG)))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr=localhost", "--nproc-per-node=2"]
    process = subprocess.Popen(
        [sys.executable, *launcher, str(folder / "rank.py"), str(folder / "given.pickle"), str(cache)],
        env={**os.environ, "PYTHONPATH": str(Path(extract.__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()  # it ends those that it started


LEFT = {  # what is to be computed: by the first rank alone, by both, by none
    "one shard": ("test-00001",),
    "all": ("train-00000", "train-00001", "train-00002", "test-00000", "test-00001"),
    "nothing": (),
}


@pytest.mark.slow
@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_processes_of_torchrun_make_the_bytes_of_one_also_where_one_is_idle(
    tmp_path: Path, left: tuple[str, ...]
) -> None:
    compute(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for shard in left:
        for kind in KINDS:
            (folder_of(tmp_path / "two") / f"{shard}.{kind}").unlink()
    with torchrun(tmp_path, tmp_path / "two") as both:
        said, _ = both.communicate(timeout=180)
    assert both.returncode == 0, said
    assert shard_files(tmp_path / "two") == shard_files(tmp_path / "one")


@pytest.mark.slow
def test_processes_of_torchrun_go_on_together_when_another_has_computed_what_they_waited_for(tmp_path: Path) -> None:
    compute(tmp_path / "one")
    folder = tmp_path / "two" / folder_of(tmp_path / "one").name
    folder.mkdir(parents=True)
    lock = FileLock(folder / ".lock")
    with torchrun(tmp_path, tmp_path / "two") as both, lock:
        assert both.stdout is not None
        assert any("waiting for another process that computes them" in line for line in both.stdout)
        shutil.copytree(tmp_path / "one" / folder.name, folder, dirs_exist_ok=True)
        lock.release()
        said, _ = both.communicate(timeout=180)
    assert both.returncode == 0, said
    assert "31 images, on disk in" in said


def test_a_second_process_waits_and_takes_what_the_first_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(tmp_path / "first")
    refuse_to_compute(monkeypatch)
    folder = tmp_path / "second" / folder_of(tmp_path / "first").name
    folder.mkdir(parents=True)
    lock = FileLock(folder / ".lock")

    class FirstIsDone(io.StringIO):
        def write(self, text: str) -> int:
            if "waiting for another process" in text and lock.is_locked:
                shutil.copytree(tmp_path / "first" / folder.name, folder, dirs_exist_ok=True)
                lock.release()
            return super().write(text)

    lock.acquire()
    console = Console(file=FirstIsDone(), width=200)
    found = compute(tmp_path / "second", console=console)
    assert "waiting for another process that computes them" in console.file.getvalue()
    assert len(found.train) == 22


@pytest.mark.slow
def test_two_processes_at_once_leave_what_one_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the processes have shards of 2048 images
    pixels = np.random.default_rng(1).integers(0, 256, (5000, 6, 6, 3), np.uint8)
    images = replace(IMAGES, train=ArrayImages(pixels, [0] * 5000, name="many"))
    compute(tmp_path / "one", images, batch_size=64)
    spawn = multiprocessing.get_context("spawn")
    arguments = (images, make_backbone(), CONFIG)
    both = [spawn.Process(target=features_for, args=arguments, kwargs={"cache": tmp_path / "two"}) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert shard_files(tmp_path / "two") == shard_files(tmp_path / "one")
    assert len(shard_files(tmp_path / "one")) == 3 * 2 + 2 + 1
