"""The output layer fitted once more, on labelled noise, and pulled back to what it was: no data, means of classes.

    minimise over W, b:   sum_c p_c * mean_{z of c} CE(W h(z) + b, c)  +  strength / 2 * |W - W_0|^2 * mean |h|^2

CE is the cross-entropy, h(z) what the slept hidden layers answer to labelled noise, W_0 the settled and levelled rows,
and p_c the share of class c. The pull is in units of the hidden activity, so that one strength fits heads of any width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from src_plugin.config.constants import DEFAULT, Constants
from src_plugin.head.probe import Probe
from src_plugin.head.state import HeadState


def refit(
    noise: Probe,
    labels: Tensor,
    state: HeadState,
    *,
    seen: tuple[int, ...],
    prior: Sequence[float],
    constants: Constants = DEFAULT,
) -> HeadState:
    """Fit the rows of the seen classes on labelled noise.

    Args:
        noise: The head, and labelled noise to show it.
        labels: The class of each vector, shape (n,).
        state: Its parameters; they stay as they are.
        seen: Outputs of the classes seen so far, ascending; other rows are not touched.
        prior: The share of each of them, in that order, of sum 1.
        constants: `refit_strength` and `refit_steps`.

    Returns:
        The parameters with other output rows. Biases of the output layer are fitted where there are some.

    Source:
        L-BFGS with a line search for strong Wolfe conditions: `torch.optim.LBFGS`.
    """
    rows = list(seen)
    hidden = noise.hidden(state).detach()
    target = torch.searchsorted(torch.tensor(rows, device=labels.device), labels)
    weight = torch.tensor(prior, dtype=hidden.dtype, device=hidden.device)
    before = [p[rows].detach() for p in (state.weights[-1], state.biases[-1]) if p is not None]
    fitted = [p.clone().requires_grad_() for p in before]
    pull = constants.refit_strength * float(hidden.square().sum(1).mean()), constants.refit_strength
    solver = torch.optim.LBFGS(fitted, max_iter=constants.refit_steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        with torch.enable_grad():
            fit = F.cross_entropy(F.linear(hidden, *fitted), target, weight=weight)
            for strength, now, then in zip(pull, fitted, before, strict=False):
                fit = fit + 0.5 * strength * (now - then).square().sum()
            fit.backward()
        return fit.detach()

    solver.step(loss)
    moved = [None if p is None else p.clone() for p in (state.weights[-1], state.biases[-1])]
    for part, rows_now in zip([p for p in moved if p is not None], fitted, strict=True):
        part[rows] = rows_now.detach()
    weights, bias = moved
    assert weights is not None
    return HeadState((*state.weights[:-1], weights), (*state.biases[:-1], bias))
