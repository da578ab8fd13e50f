"""Settings: the numbers of the methods. Imports nothing, so that a config is read at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Numbers of the methods; a row of STRATEGIES says which are its own.

    Attributes:
        memory_fraction: Exemplars that a method may keep, all classes together, as a fraction of the training images of
            the stream.
        memory_size: The same as a number of images; where it is given, the fraction does not count.
        ewc_lambda: Weight of EWC's penalty.
        ewc_online_lambda: Weight of online EWC's penalty.
        ewc_decay: How much of the older Fisher information online EWC keeps, in [0, 1].
        si_lambda: Weight of Synaptic Intelligence's penalty.
        mas_lambda: Weight of the penalty of memory aware synapses.
        lwf_alpha: Weight of LwF's distillation.
        lwf_temperature: Its temperature.
        gem_strength: Margin that GEM adds to its constraints.
        der_alpha: Weight of the distance to stored logits in DER++.
        der_beta: Weight of the loss of stored labels in DER++.
        owm_alpha: Regularisation of OWM's projectors: the smaller, the stricter they protect what was seen.
    """

    memory_fraction: float = 0.0075
    memory_size: int | None = None
    ewc_lambda: float = 100.0
    ewc_online_lambda: float = 100.0
    ewc_decay: float = 0.9
    si_lambda: float = 0.1
    mas_lambda: float = 0.1
    lwf_alpha: float = 1.0
    lwf_temperature: float = 2.0
    gem_strength: float = 0.5
    der_alpha: float = 0.1
    der_beta: float = 0.5
    owm_alpha: float = 1.0
