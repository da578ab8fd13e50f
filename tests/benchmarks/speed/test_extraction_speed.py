"""Extraction beside the plain loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.speed.extraction import plain_loop, time_extraction
from extract_samples import (
    CONFIG,
    IMAGES,
    compute,
    make_backbone,
    small_shards,
)
from src_plugin.errors import ConfigError

pytestmark = pytest.mark.usefixtures(small_shards.__name__)


def test_the_plain_loop_gives_the_same_features(tmp_path: Path) -> None:
    backbone = make_backbone()
    found = compute(tmp_path, backbone=backbone, config=BackboneConfig(name="toy", precision="single"))
    assert torch.equal(plain_loop(IMAGES.train, backbone, n_images=22, batch_size=4), found.train[:])


def test_both_ways_are_timed_in_turn() -> None:
    timed = time_extraction(IMAGES, make_backbone(), CONFIG, n_images=1000, repeats=2, batch_size=4)
    assert timed["n_images"] == len(IMAGES.train) + len(IMAGES.test) > 22  # all there are
    assert [len(times) for times in timed["seconds"].values()] == [2, 2]
    own, plain = timed["seconds"]["extraction"], timed["seconds"]["plain"]
    assert timed["ratios"] == sorted([plain[0] / own[0], plain[1] / own[1]])
    assert timed["ratio"] == pytest.approx(sum(timed["ratios"]) / 2)
    assert timed["extraction"] > 0
    assert timed["processor_ratio"] > 0
    with pytest.raises(ConfigError, match="nothing to time"):
        time_extraction(IMAGES, make_backbone(), CONFIG, n_images=0)
