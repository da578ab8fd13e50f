"""Find the classifier head of a model: the longest tail of Linear layers joined by ReLU that ends in its output.

One forward pass is followed (see `tracing.py`), so names and order of registration do not matter; a head may also be
named. What SRC could not change without changing something else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn
from torch.nn.utils import parametrize

from src_plugin.errors import HeadNotFoundError
from src_plugin.head.state import Head
from src_plugin.head.trace import UNITS, Node, Trace, trace

SUPPORTED = "Linear layers joined by ReLU, Dropout, Flatten or Identity"
CURE = "Name the layers yourself, input side first: head='classifier', or head=['fc1', 'fc2']"

JOINTS = ("relu", "dropout", "reshape", "identity")
TAIL = (*JOINTS, "softmax", "mask")  # what may stand between the last Linear and the model's output


def find_head(model: nn.Module, *args: object, head: str | Sequence[str] | None = None) -> Head:
    """Find the classifier head of a model.

    Args:
        model: Any module.
        *args: An example input for one forward pass (eval mode, no gradients, no random state drawn). Not needed if
            `head` is given, but then it checks what stands between the named layers.
        head: Dotted name of a layer or of a container of layers, or a list of names, input side first.

    Returns:
        The longest tail of Linear layers joined by ReLU, Dropout, Flatten or Identity that ends in the output; a
        softmax or a mask of unseen classes behind the last layer is allowed.

    Raises:
        HeadNotFoundError: There is none, or a layer of it cannot be changed without changing something else.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> find_head(model, torch.zeros(1, 4)).names
        ('1', '3')
    """
    if head is not None:
        return named_head(model, head, trace(model, *args) if args else None)
    if not args:
        raise HeadNotFoundError(f"{type(model).__name__}: finding its head needs one example input. {CURE}")
    return traced_head(model, trace(model, *args))


def traced_head(model: nn.Module, record: Trace) -> Head:
    """Return the head that one traced forward pass ends in; see `find_head`."""
    kind = type(model).__name__
    node = record.output
    if node is None:
        raise HeadNotFoundError(f"the output of {kind} is not one tensor made by its layers. {CURE}")
    nodes: list[Node] = []
    joints: list[list[nn.Module]] = [[]]
    seen_relu = True
    blocker: Node | None = None
    while node is not None:
        if node.kind == "linear" and seen_relu:
            nodes.append(node)
            joints.append([])
            seen_relu = False
        elif node.kind in (JOINTS if nodes else TAIL):
            seen_relu = seen_relu or node.kind == "relu"
            if node.kind != "mask":
                joints[-1].insert(0, _joint(node))
        else:
            blocker = node
            break
        node = node.parent
    if not nodes:
        what = "nothing" if blocker is None else blocker.describe()
        raise HeadNotFoundError(
            f"{kind} has no head SRC can change: its output comes from {what}, and only {SUPPORTED} can sleep. {CURE}"
        )
    layers = [n.module for n in reversed(nodes)]
    names = [n.name for n in reversed(nodes)]
    found = _checked(model, names, layers, list(reversed(joints[:-1])), record.calls)
    return replace(found, below="" if blocker is None else blocker.describe())


def named_head(model: nn.Module, head: str | Sequence[str], record: Trace | None = None) -> Head:
    """Return the head made of the named layers or containers; see `find_head`.

    Args:
        model: The model.
        head: Dotted name or names, input side first.
        record: A traced forward pass, which shows what really stands between the layers; None takes the word of the
            names for it.
    """
    modules = dict(model.named_modules())
    names: list[str] = []
    layers: list[nn.Module] = []
    joints: list[list[nn.Module]] = []
    wanted = [head] if isinstance(head, str) else list(head)
    for given in wanted:
        if given not in modules:
            linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
            raise HeadNotFoundError(f"{type(model).__name__} has no module {given!r}; its Linear layers: {linear}")
        for name, module in modules[given].named_modules(prefix=given, remove_duplicate=False):
            if isinstance(module, nn.Linear):
                names.append(name)
                layers.append(module)
                joints.append([])
            elif isinstance(module, UNITS):
                if joints:
                    joints[-1].append(module)
            elif not any(True for _ in module.children()):
                raise HeadNotFoundError(
                    f"head={head!r}: {name!r} is {type(module).__name__}, and only {SUPPORTED} can sleep"
                )
    if not layers:
        raise HeadNotFoundError(f"head={head!r} holds no Linear layer, and only {SUPPORTED} can sleep")
    for between in joints[:-1]:  # layers named one by one: the ReLU between them is a function in the model's forward
        if not any(isinstance(module, nn.ReLU) for module in between):
            between.append(nn.ReLU())
    if record is not None:
        joints = _traced_joints(names, layers, joints, record)
    return _checked(model, names, layers, joints, {} if record is None else record.calls)


def _traced_joints(
    names: Sequence[str], layers: Sequence[nn.Module], joints: Sequence[list[nn.Module]], record: Trace
) -> list[list[nn.Module]]:
    """Return what a forward pass showed between the layers, or refuse what cannot sleep."""
    seen: list[list[nn.Module]] = []
    for name, layer, after_name, after in zip(names, layers, names[1:], layers[1:], strict=False):
        if layer not in record.linears or after not in record.linears:
            missing = name if layer not in record.linears else after_name
            raise HeadNotFoundError(
                f"the forward pass of the model never called {missing!r}, so it cannot be in the head"
            )
        between: list[nn.Module] = []
        node = record.linears[after].parent
        while node is not None and node.module is not layer:
            if node.kind not in JOINTS:
                raise HeadNotFoundError(
                    f"between {name!r} and {after_name!r} stands {node.describe()}, and only {SUPPORTED} can sleep; "
                    "name a head that begins behind it"
                )
            between.insert(0, _joint(node))
            node = node.parent
        if node is None or not any(isinstance(module, nn.ReLU) for module in between):
            raise HeadNotFoundError(
                f"{after_name!r} does not follow {name!r} through a ReLU in the forward pass, and only {SUPPORTED} can "
                "sleep; name layers that do, input side first"
            )
        seen.append(between)
    node = record.output if layers[-1] in record.linears else None  # a pass may bypass a named head
    while node is not None and node.kind in TAIL:
        node = node.parent
    if node is not None and node.kind == "linear" and node.module is not layers[-1]:
        raise HeadNotFoundError(
            f"the head ends in {names[-1]!r}, but {node.describe()} comes after it in the model, and its outputs must "
            "be the scores of the classes. Name the layers up to the output, or none at all"
        )
    return [*seen, joints[-1]]


def layers_above(head: Head, record: Trace) -> list[nn.Linear]:
    """Return the Linear layers that took what came out of a named head, as the heads of single tasks do."""
    above = []
    for layer, node in record.linears.items():
        below: Node | None = node.parent
        while below is not None and below.module is not head.layers[-1]:
            below = below.parent
        if below is not None and isinstance(layer, nn.Linear):
            above.append(layer)
    return above


def parts_below(model: nn.Module, head: Head, record: Trace) -> set[str]:
    """Return the names of the modules that a pass went through before the head, and of those that contain them."""
    names = {module: name for name, module in model.named_modules()}
    below: set[str] = set()
    for module in record.order:
        if module is head.layers[0]:
            break
        parts = names[module].split(".")
        below.update(".".join(parts[:n]) for n in range(len(parts) + 1))
    return below


def _checked(
    model: nn.Module,
    names: Sequence[str],
    layers: Sequence[nn.Module | None],
    joints: Sequence[Sequence[nn.Module]],
    calls: dict[nn.Module, int],
) -> Head:
    """Refuse layers that cannot be changed alone, and return the head."""
    uses: dict[int, list[str]] = {}
    for prefix, module in model.named_modules():  # each module once, also where it has two names
        for name, parameter in module.named_parameters(prefix, recurse=False, remove_duplicate=False):
            uses.setdefault(id(parameter), []).append(name)
    linears: list[nn.Linear] = []
    for name, layer in zip(names, layers, strict=True):
        assert isinstance(layer, nn.Linear)
        if type(layer).forward is not nn.Linear.forward:
            raise HeadNotFoundError(
                f"{name!r} is {type(layer).__name__}, a Linear layer with a forward of its own. {CURE}"
            )
        if parametrize.is_parametrized(layer) or "weight" not in layer._parameters:
            raise HeadNotFoundError(
                f"the weight of {name!r} is computed from other parameters (weight norm or another parametrisation), "
                "so a slept weight would not last; remove the parametrisation before sleep"
            )
        for kind, parameter in layer.named_parameters(recurse=False):
            shared = uses.get(id(parameter), [])
            if len(shared) > 1 or list(layers).count(layer) > 1 or calls.get(layer, 1) > 1:
                where = ", ".join(shared) if len(shared) > 1 else f"{name}, called more than once in a forward pass"
                raise HeadNotFoundError(
                    f"the {kind} of {name!r} is shared ({where}): sleep would change both uses. "
                    f"Untie them, or name a head without this layer. {CURE}"
                )
        linears.append(layer)
    for (name, layer), (after_name, after) in zip(
        zip(names, linears, strict=True), zip(names[1:], linears[1:], strict=True), strict=False
    ):
        if layer.out_features != after.in_features:
            raise HeadNotFoundError(
                f"{name!r} has {layer.out_features} outputs but {after_name!r} has {after.in_features} inputs: "
                "these layers do not follow each other; name them input side first, without gaps"
            )
    return Head(tuple(names), tuple(linears), tuple(tuple(between) for between in joints))


def _joint(node: Node) -> nn.Module:
    """Return the module of a step, or one that does what its function does at test time."""
    if node.module is not None:
        return node.module
    functions: dict[str, nn.Module] = {
        "relu": nn.ReLU(),
        "softmax": nn.Softmax(dim=-1),
        "log_softmax": nn.LogSoftmax(dim=-1),
    }
    return functions.get(node.name, nn.Identity())
