"""The table of tiny networks that all kernel tests walk: shapes and stimuli at which an implementation may trip.

A network is tested by being a row here.
"""

from dataclasses import dataclass, field

import numpy as np

RULE = {"inc": 0.02, "dec": 0.004}


@dataclass(frozen=True)
class Net:
    """Sizes n_0..n_L, a stimulus and the numbers of the rule; weights and spikes follow from them and a seed."""

    sizes: tuple[int, ...]
    n_steps: int = 120
    rate: float = 0.3  # probability of an input spike
    silent_inputs: int = 0  # the first so many inputs never spike
    gain: float = 1.5
    threshold: float = 0.9
    fires: bool = True  # whether some unit of every layer fires
    rule: dict = field(default_factory=lambda: RULE)

    def weights(self, dtype: type = np.float64) -> list[np.ndarray]:
        """Both signs, a third of them inside the smooth part of the gate."""
        rng = np.random.default_rng(len(self.sizes) * 1000 + sum(self.sizes))
        layers = [rng.normal(0.05, 0.4, (post, pre)) for pre, post in zip(self.sizes, self.sizes[1:], strict=False)]
        return [np.where(rng.random(w.shape) < 1 / 3, rng.normal(0.0, 0.002, w.shape), w).astype(dtype) for w in layers]

    def spikes(self) -> np.ndarray:
        spikes = np.random.default_rng(7).random((self.n_steps, self.sizes[0])) < self.rate
        spikes[:, : self.silent_inputs] = False
        return spikes

    def arguments(self) -> dict:
        """All keywords that `simulate` needs."""
        layers = len(self.sizes) - 1
        return {"scales": [self.gain] * layers, "thresholds": [self.threshold] * layers, **self.rule}


NETS = {
    "one neuron": Net((1, 1), gain=4.0),
    "one layer": Net((6, 4)),
    "one input": Net((1, 5), rate=0.5),
    "one output": Net((9, 1)),
    "63 units": Net((63, 63, 63), rate=0.1),
    "wide then narrow": Net((5, 41, 3)),
    "narrow then wide": Net((41, 3, 17)),
    "four layers": Net((12, 9, 7, 5, 4), gain=2.5),
    "silent input": Net((8, 6, 4), rate=0.0, fires=False),
    "input all on": Net((9, 6, 5), rate=1.0, gain=4.0),
    "dead inputs": Net((20, 9, 5), silent_inputs=11, gain=2.5),
    "zero threshold": Net((8, 6, 4), threshold=0.0),
    "infinite threshold": Net((8, 6, 4), threshold=np.inf, fires=False),
    "no gate": Net((12, 9, 7, 4), gain=2.5, rule={**RULE, "inc": 0.0005, "gate_width": None}),
    "no gate, many spikes": Net((20, 120, 100), threshold=0.0, rule={**RULE, "inc": 0.004, "gate_width": None}),
    "wide gate": Net((12, 9, 4), rule={**RULE, "gate_width": 0.3}),
    "no leak": Net((12, 9, 4), rule={**RULE, "decay": 1.0}),
    "strong leak": Net((12, 9, 4), rule={**RULE, "decay": 0.5}),
    "inhibition": Net((12, 9, 7), rule={**RULE, "inhibition": 0.3}),
    "steps per layer": Net((12, 9, 7), rule={"inc": [0.03, 0.01], "dec": [0.0, 0.002]}),
    "more than a block fires": Net((300, 40, 20), rate=0.2, threshold=0.0, n_steps=20),
    "one step": Net((12, 9, 4), n_steps=1, rate=0.9, gain=3.0),
    "no steps": Net((12, 9, 4), n_steps=0, fires=False),
}
