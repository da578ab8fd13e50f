"""`configs/cub200.yaml` from the archive's own layout to records, on a few generated birds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.data.sets import DATA_SETS
from benchmarks.records.record import Record, find_records
from image_samples import as_folder, coded
from places import CONFIGS

CONFIG = CONFIGS / "cub200.yaml"
N_CLASSES, N_TRAIN, N_TEST = 4, 6, 2  # of each class


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four species of CUB-200-2011 in its original layout, some photos in grey as in the original."""
    names = [f"{k:03d}.Bird_{k}" for k in range(1, N_CLASSES + 1)]
    photos = [(k, f"{name}/{name}_{i:04d}.jpg", i < N_TRAIN) for k, name in enumerate(names, 1)
              for i in range(N_TRAIN + N_TEST)]  # fmt: skip
    tables = {
        "classes.txt": [f"{k} {name}" for k, name in enumerate(names, 1)],
        "images.txt": [f"{i} {photo}" for i, (_, photo, _) in enumerate(photos, 1)],
        "image_class_labels.txt": [f"{i} {k}" for i, (k, _, _) in enumerate(photos, 1)],
        "train_test_split.txt": [f"{i} {int(train)}" for i, (_, _, train) in enumerate(photos, 1)],
    }
    files = {name: "\n".join(lines).encode() + b"\n" for name, lines in tables.items()}
    for i, (_, photo, _) in enumerate(photos):
        files[f"images/{photo}"] = coded(i, mode="L" if i == 0 else "RGB", size=(50, 37), kind="JPEG")
    as_folder(tmp_path / "data" / "CUB_200_2011", files)

    few = replace(DATA_SETS["cub200"], n_classes=N_CLASSES, n_train=N_CLASSES * N_TRAIN, n_test=N_CLASSES * N_TEST)
    monkeypatch.setitem(DATA_SETS, "cub200", few)
    return tmp_path / "data"


def run(birds: Path, out: Path) -> dict[str, Record]:
    settings = ["--set", "backbone.weights=random", "backbone.image_size=64"]
    arguments = ["--strategies", "naive", "naive+src", "--data-root", str(birds), "--out", str(out)]
    assert main(["run", str(CONFIG), *arguments, "--features", str(birds.parent / "features"), *settings]) == 0
    return {record.strategy: record for record in find_records(out)}


@pytest.mark.filterwarnings("ignore:cub200. 1 of 32 images are greyscale:UserWarning")
def test_birds_go_through_resnet50_to_a_sleeping_head(birds: Path, tmp_path: Path) -> None:
    records = run(birds, tmp_path / "runs")
    assert {name: record.status for name, record in records.items()} == {"naive": "done", "naive+src": "done"}
    slept = records["naive+src"]
    assert slept.features is not None
    assert slept.features["backbone"]["name"] == "resnet50"
    assert [len(names) for names in slept.experiences] == [N_CLASSES // 2] * 2
    assert sorted(name for names in slept.experiences for name in names) == [
        f"{k:03d}.Bird_{k}" for k in range(1, N_CLASSES + 1)
    ]
    assert [report["sizes"] for report in slept.sleep_reports] == [[2048, 350, 300, N_CLASSES]] * 2
    assert slept.n_test == [2 * N_TEST] * 2
