"""Held-out images of each class seen so far, as a head is given them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.streams.stream import Stream
from src_plugin.head.state import Head
from src_plugin.head.watch import head_inputs


def shown_by_class(
    i: int, stream: Stream, model: Any, head: Head, *, classes: Sequence[int], most: int
) -> dict[int, Tensor]:
    """Return the head's inputs for the first images of each class, in the order of `classes`.

    Args:
        i: Number of the experience that is over; it decides the scale of images.
        stream: Whose held-out images they are.
        model: The network.
        head: Its head.
        classes: Labels.
        most: Images of each class at most.

    Returns:
        Label -> shape (n, n_0).
    """
    images, labels = stream.data.test_images, stream.data.test_labels
    scale = 1.0 if stream.scales is None else stream.scales[i]
    rows = {label: images[(labels == label).nonzero().squeeze(1)[:most]] / scale for label in classes}
    return {label: head_inputs(model, head, shown, device="cpu") for label, shown in rows.items()}


def hidden_answers(head: Head, inputs: Tensor) -> list[Tensor]:
    """Return what each hidden layer answers at test time, shape (n, n_l) each."""
    with torch.no_grad():
        return head.activations(head.read(), inputs)[:-1]
