"""What the functions of torch do to the tensors that pass a head, by the names torch knows them under.

A name is given without the underscores that mark in-place forms and operators: `relu_` is relu, `__iadd__` is iadd.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ACTIVATIONS = _names(
    "relu relu6 gelu silu leaky_relu elu celu selu softplus sigmoid tanh hardswish hardsigmoid hardtanh mish "
    "prelu rrelu softsign logsigmoid log_sigmoid threshold clamp clamp_min clamp_max clip abs square pow sqrt exp "
    "erf softshrink hardshrink tanhshrink log1p expit"
)
"""A unit's answer by its own input alone, not linear."""

CHOICES = _names("maximum minimum max min fmax fmin where mul rmul imul multiply div truediv")
"""Not linear where two of their inputs come from the layer below: max(x, 0), x * (x > 0)."""

PASSIVE = _names(
    "add radd iadd sub rsub isub subtract mul rmul imul multiply div idiv truediv itruediv divide neg gt lt ge le "
    "eq ne sign heaviside maximum minimum max min fmax fmin where zeros_like ones_like full_like layer_norm "
    "rms_norm group_norm normalize"
)
"""Linear, or a part of something that is not; they do not count as an activation by themselves."""

UNCHANGED = _names(
    "dropout alpha_dropout feature_dropout feature_alpha_dropout dropout1d dropout2d dropout3d flatten view "
    "reshape contiguous to float double half bfloat16 type type_as squeeze unsqueeze clone detach cpu cuda "
    "identity ravel"
)
"""At test time nothing but another shape or type."""

SOFTMAX = frozenset(("softmax", "log_softmax"))
MASKS = frozenset(("masked_fill",))
JOINS = frozenset(("cat", "concat", "concatenate", "hstack"))
FACTORIES = _names(
    "zeros ones full tensor new_zeros new_ones new_full new_tensor scalar_tensor as_tensor zeros_like ones_like"
)
"""They make constants; of one element only, since the shape of a larger one may be that of a batch."""


def plain_name(function: object) -> tuple[str, bool]:
    """Return the name of a function without marks, and whether it works in place."""
    name = str(getattr(function, "__name__", function))
    if name.startswith("__") and name.endswith("__"):
        bare = name.strip("_")
        return bare, bare.startswith("i") and bare[1:] in PASSIVE | {"truediv"}
    return name.strip("_"), name.endswith("_")
