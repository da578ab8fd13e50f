"""A head that is shown the same inputs with one state after another, with nothing computed twice.

Most of the work is in the lower layers, and most states that a night looks at have some of them in common, or lie on a
straight line, along which the first layer's answer is linear.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from src_plugin.head.state import Head, HeadState


class Probe:
    """A head that is shown the same inputs with one state after another.

    What the first and the last hidden layer answer is kept for every state that was asked for, by the very tensors of
    the layers below.

    Args:
        head: The head.
        inputs: Inputs of the head, shape (n, n_0), in the dtype of the parameters.
    """

    def __init__(self, head: Head, inputs: Tensor) -> None:
        self.head = head
        self.inputs = inputs
        self._firsts: list[tuple[HeadState, Tensor]] = []
        self._hiddens: list[tuple[HeadState, Tensor]] = []

    def first(self, state: HeadState) -> Tensor:
        """Return what the first layer answers, before its ReLU; shape (n, n_1). It is not to be written to."""
        lowest = HeadState(state.weights[:1], state.biases[:1])
        answer = _known(self._firsts, lowest)
        if answer is None:
            answer = F.linear(self.inputs, state.weights[0], state.biases[0])
            self._firsts.append((lowest, answer))
        return answer

    def learn(self, state: HeadState, first: Tensor) -> None:
        """Take over what the first layer answers with a state, where that is known without computing it."""
        self._firsts.append((HeadState(state.weights[:1], state.biases[:1]), first))

    def hidden(self, state: HeadState) -> Tensor:
        """Return the inputs of the head's last layer; shape (n, n_{L-1}). They are not to be written to."""
        if len(self.head.parts) == 1:
            return self.inputs
        lower = HeadState(state.weights[:-1], state.biases[:-1])
        answer = _known(self._hiddens, lower)
        if answer is None:
            answer = self.head.hidden_from(state.above_first, self.first(state))
            self._hiddens.append((lower, answer))
        return answer

    def logits(self, state: HeadState) -> Tensor:
        """Return the outputs of the awake head, before any ReLU or softmax; shape (n, n_L). Not to be written to."""
        if len(self.head.parts) == 1:
            return self.first(state)
        return F.linear(self.hidden(state), state.weights[-1], state.biases[-1])


class Line:
    """The straight line between two states, and what a head answers to the inputs of a probe along it.

    What the first layer answers is linear there, so it is computed at both ends only.

    Args:
        probe: The head, and its inputs.
        start: The state at position 0.
        end: The state at position 1.
    """

    def __init__(self, probe: Probe, start: HeadState, end: HeadState) -> None:
        self._probe, self._start, self._end = probe, start, end
        self._firsts = probe.first(start), probe.first(end)

    def logits(self, position: float, *, rows: slice = slice(None)) -> Tensor:
        """Return the outputs at a position, for some rows of the inputs; shape (rows, n_L)."""
        upper = self._start.above_first.towards(self._end.above_first, position)
        return self._probe.head.logits_from(upper, self._first(position, rows))

    def point(self, position: float) -> HeadState:
        """Return the state at a position, whose first layer's answer the probe need not compute any more."""
        state = self._start.towards(self._end, position)
        self._probe.learn(state, self._first(position, slice(None)))
        return state

    def _first(self, position: float, rows: slice) -> Tensor:
        return torch.lerp(self._firsts[0][rows], self._firsts[1][rows], position)


def _known(answers: list[tuple[HeadState, Tensor]], state: HeadState) -> Tensor | None:
    for known, answer in answers:
        if all(a is b for a, b in zip(known.weights, state.weights, strict=True)) and all(
            a is b for a, b in zip(known.biases, state.biases, strict=True)
        ):
            return answer
    return None
