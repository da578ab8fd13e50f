"""Families of timm: the head of each is found, it sleeps, and all below stays as it is."""

import re

import pytest

pytest.importorskip("timm")

from family_samples import FAMILIES, look
from networks_table import PAGE

QUICK = ("resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto", "efficientvit_b0")


def check(name):
    family = FAMILIES[name]
    seen = look(name, family)
    if family.refused:
        assert re.search(family.refused, seen.below)
        return
    assert len(seen.names) == family.layers
    assert (seen.decision, seen.changed) == ("slept", ())


def test_there_are_sixty_families():
    assert len(FAMILIES) >= 60


@pytest.mark.parametrize("name", QUICK)
def test_a_common_model_sleeps_and_all_below_its_head_stays_as_it_is(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in QUICK])
def test_a_model_sleeps_and_all_below_its_head_stays_as_it_is(name):
    check(name)


def test_the_page_has_a_row_for_each():
    text = PAGE.read_text("utf-8")
    assert not [name for name in FAMILIES if f"| `{name}` |" not in text]
