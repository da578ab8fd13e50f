"""NightOfCopies: the night that a network had, once more for copies of its weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from src_plugin.config import SleepConfig
from src_plugin.errors import WeightsError
from src_plugin.head.norms import WithNorm
from src_plugin.head.state import Head
from src_plugin.night.sleep import sleep_head
from src_plugin.waking.summary import TrainingSummary


class NightOfCopies:
    """Puts copies of a network's weights to sleep: the same noise, the same summary of training, their own weights.

    Make one before the network itself sleeps, and call `woke` when it has. A copy that equals the trained network then
    gets the slept weights, bit for bit; any other (of an earlier epoch, an average) sleeps on its own, in the place of
    the network, which is put back.

    Args:
        root: The module whose names the copies have.
        head: The head that sleeps.
        training: What training showed.
        config: How to sleep.
        generator: The generator as it is before the sleep; it is copied.
    """

    def __init__(
        self,
        root: nn.Module,
        head: Head,
        training: TrainingSummary,
        config: SleepConfig,
        generator: np.random.Generator,
    ) -> None:
        self._head, self._training, self._config = head, training, config
        self._generator = copy.deepcopy(generator)
        own = {id(t) for module in head.modules for t in module.state_dict(keep_vars=True).values()}
        self._places = {name: t for name, t in root.state_dict(keep_vars=True).items() if id(t) in own}
        self._trained = self._read()
        self._moments = {part: part.moments for part in head.parts if isinstance(part, WithNorm)}
        self._fresh = {part: copy.deepcopy(list(m.values())) for part, m in self._moments.items()}
        self._slept = self._trained

    def _read(self) -> dict[str, Tensor]:
        return {name: place.detach().clone() for name, place in self._places.items()}

    def woke(self) -> None:
        """Note what the sleep made of the network itself."""
        self._slept = self._read()

    def sleep(self, weights: Mapping[str, Tensor]) -> None:
        """Put a copy to sleep, in place.

        Args:
            weights: Tensors by their names in the root, or in a part of it that has the whole head.

        Raises:
            WeightsError: Weights of the head are missing, or have another shape.
            SRCError: As a sleep of the network itself.
        """
        own = self._own(weights)
        if all(torch.equal(own[name], value.to(own[name])) for name, value in self._trained.items()):
            slept = self._slept
        else:
            with self._in_place_of_the_network(own):
                sleep_head(self._head, self._training, self._config, copy.deepcopy(self._generator))
                slept = self._read()
        with torch.no_grad():
            for name, value in slept.items():
                own[name].copy_(value)

    def _own(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return those of the head, by their names in the root."""
        parts = min(self._places).split(".")
        prefixes = ["".join(part + "." for part in parts[:i]) for i in range(len(parts))]
        names = list(self._places)
        for prefix in prefixes:
            short = [name.removeprefix(prefix) for name in names]
            if all(name.startswith(prefix) for name in names) and all(name in weights for name in short):
                own = {name: weights[key] for name, key in zip(names, short, strict=True)}
                break
        else:
            raise WeightsError(f"it does not hold the whole head ({', '.join(names)})")
        for name, value in own.items():
            if value.shape != self._places[name].shape:
                shapes = f"{tuple(value.shape)}, and the network's {tuple(self._places[name].shape)}"
                raise WeightsError(f"its {name!r} has shape {shapes}")
        return own

    @contextmanager
    def _in_place_of_the_network(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        kept = self._read()
        try:
            self._write(weights)
            for part, moments in self._moments.items():
                part.moments = dict(zip(moments, copy.deepcopy(self._fresh[part]), strict=True))
            yield
        finally:
            self._write(kept)
            for part, moments in self._moments.items():
                part.moments = moments

    def _write(self, weights: Mapping[str, Tensor]) -> None:
        for part in self._moments:
            part.moments = {}  # a refresh would take them for written
        with torch.no_grad():
            for name, place in self._places.items():
                place.copy_(weights[name])
        for layer in self._head.parts:
            layer.refresh()
