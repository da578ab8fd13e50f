"""Find the classifier head of a model: the longest tail of linear layers joined by activations that ends in its output.

One forward pass is followed (see `trace.py`), so names and order of registration do not matter; a head may also be
named. What SRC could not change without changing something else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from src_plugin.errors import HeadNotFoundError
from src_plugin.head.layers import Layer, Plain
from src_plugin.head.modes import eval_mode
from src_plugin.head.norms import WithNorm
from src_plugin.head.recognise import is_lora, is_surely_linear, layer_of, linear_like
from src_plugin.head.state import FROZEN, Head
from src_plugin.head.steps import Joint, chain
from src_plugin.head.trace import ACTIVATIONS, UNITS, Kind, Node, Trace, trace
from src_plugin.head.walk import TAIL, NoLayerError, joints_of, walk

SUPPORTED = "linear layers with activations, Dropout, Flatten, LayerNorm or batch norm between them"
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
COMPILED = "_orig_mod"  # where torch.compile keeps the model
CURE = "Name the layers yourself, input side first: head='classifier', or head=['fc1', 'fc2']"


def find_head(model: nn.Module, *args: object, head: str | Sequence[str] | None = None) -> Head:
    """Find the classifier head of a model.

    Args:
        model: Any module.
        *args: An example input for one forward pass (eval mode, no gradients, no random state drawn). Not needed if
            `head` is given, but then it checks what stands between the named layers.
        head: Dotted name of a layer or of a container of layers, or a list of names, input side first.

    Returns:
        The longest tail of linear layers, with an activation between them, that ends in the output and of which no
        weight is frozen. Batch norm beside a layer is a part of it; a tail that keeps the order of the classes is
        allowed behind the last layer (softmax, a mask of unseen classes, division by a temperature).

    Raises:
        HeadNotFoundError: There is none, or a layer of it cannot be changed without changing something else.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2))
        >>> find_head(model, torch.zeros(1, 4)).names
        ('1', '3')
    """
    check_model(model)
    if head is not None:
        return named_head(model, head, trace(model, *args) if args else None)
    if not args:
        raise HeadNotFoundError(f"{type(model).__name__}: finding its head needs one example input. {CURE}")
    return traced_head(model, trace(model, *args))


def check_model(model: nn.Module) -> None:
    """Refuse models that cannot be followed or changed at all.

    Raises:
        HeadNotFoundError: It is scripted, on the meta device, or was made in inference mode.
    """
    kind = type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        raise HeadNotFoundError(
            f"{kind} is a scripted module, which shows none of its layers. Train the plain module, and script it "
            "afterwards"
        )
    for name, parameter in model.named_parameters():
        if parameter.device.type == "meta":
            raise HeadNotFoundError(
                f"{name!r} of {kind} is on the meta device and has no values. Load the model first: "
                "model.to_empty(device='cpu'), then load_state_dict"
            )
        if parameter.is_inference():
            raise HeadNotFoundError(
                f"{name!r} of {kind} was made in torch.inference_mode(), so nothing may write to it. Make the model "
                "outside of it"
            )


def traced_head(model: nn.Module, record: Trace) -> Head:
    """Return the head that one traced forward pass ends in; see `find_head`."""
    kind = type(model).__name__
    if record.path is None:
        raise HeadNotFoundError(
            f"the output of {kind} holds {len(record.candidates)} tensors that could be class scores, at "
            f"{', '.join(map(_place, record.candidates))}. Name the right one 'logits', return it alone, or name its "
            f"layers: head='classifier'"
        )
    if record.output is None:
        raise HeadNotFoundError(
            f"the output of {kind} is not one tensor made by its layers, as far as they can be followed: a scripted "
            f"module, or a function outside of torch, cannot. {CURE}"
        )
    try:
        found = walk(record, record.output, refusal=_refusal(model, record.calls))
    except NoLayerError as error:
        if record.scores is not None and len(record.scores) < 2:
            raise _no_classes(kind, record.scores) from None
        why = _because(error.node)
        raise HeadNotFoundError(
            f"{kind} has no head SRC can change: its output comes from {error.what}{why}, and only {SUPPORTED} can "
            f"sleep. {_only_pure(model, record) if why or _is_made_by_layers(error.node) else CURE}"
        ) from None
    parts = [met.part for met in found.layers]
    names = [met.name for met in found.layers]
    _check_frozen(model, parts[-1], names[-1])
    head = _made(model, names, parts, joints_of(found), found.below, found.why)
    if record.scores is not None and len(record.scores) < 2 and record.scores.numel() != head.sizes[-1]:
        raise _no_classes(kind, record.scores)
    return head


def _is_made_by_layers(node: Node | None) -> bool:
    """Whether layers lead to a step, so that no head that is named may end below it."""
    return node is not None and any(below.kind is Kind.LINEAR for below in node.ancestors())


def _no_classes(kind: str, shape: Sequence[int]) -> HeadNotFoundError:
    return HeadNotFoundError(
        f"the output of {kind} has shape {tuple(shape)} and no dimension of classes, so there is nothing to balance. "
        "Give the model one output per class, shape (n, classes)"
    )


def named_head(model: nn.Module, head: str | Sequence[str], record: Trace | None = None) -> Head:
    """Return the head made of the named layers or containers; see `find_head`.

    Args:
        model: The model.
        head: Dotted name or names, input side first.
        record: A traced forward pass, which shows what really stands between the layers; None takes the word of the
            names for it.
    """
    names, parts, between = _named_parts(model, head, is_traced=record is not None)
    if not parts:
        raise HeadNotFoundError(f"head={head!r} holds no linear layer, and only {SUPPORTED} can sleep")
    refusal = _refusal(model, {} if record is None else record.calls)
    held = [part.module for part in parts]
    for name, part in zip(names, parts, strict=True):
        is_twice = held.count(part.module) > 1
        why = _shared("weight", name, f"{name}, named more than once") if is_twice else refusal(part, name)
        if why:
            raise HeadNotFoundError(why)
    _check_frozen(model, parts[-1], names[-1])
    if record is not None and any(part.module in record.linears for part in parts):
        return _traced_names(model, names, parts, record)
    below, why = "", "cannot sleep"
    while any(part.frozen for part in parts):
        below, why = f"{names[0]!r} ({type(parts[0].module).__name__})", f"{FROZEN} (requires_grad=False)"
        names, parts, between = names[1:], parts[1:], between[1:]
    joints = []
    for i, modules in enumerate(between):
        is_last = i == len(between) - 1
        if not is_last and not any(isinstance(module, ACTIVATIONS) for module in modules):
            modules = [*modules, nn.ReLU()]  # named one by one: the ReLU is a function in the model's forward
        joints.append(chain(modules, n_answers=i + 1))
    return _made(model, names, parts, joints, below, why)


def _named_parts(
    model: nn.Module, head: str | Sequence[str], *, is_traced: bool
) -> tuple[list[str], list[Layer], list[list[nn.Module]]]:
    """Return names and layers, and the modules that stand behind each of them in their containers."""
    modules = dict(model.named_modules())
    names: list[str] = []
    parts: list[Layer] = []
    between: list[list[nn.Module]] = []
    for given in [head] if isinstance(head, str) else list(head):
        if f"{COMPILED}.{given}" in modules:
            given = f"{COMPILED}.{given}"
        if given not in modules:
            linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
            raise HeadNotFoundError(f"{type(model).__name__} has no module {given!r}; its Linear layers: {linear}")
        for name, module in _units(modules[given], given):
            if _is_layer(module, name):
                names.append(name)
                parts.append(layer_of(module, name))
                between.append([])
            elif isinstance(module, UNITS):
                if between and not _fold(parts, between, module):
                    between[-1].append(module)
            elif not is_traced and not any(True for _ in module.children()):
                raise HeadNotFoundError(
                    f"head={head!r}: {name!r} is {type(module).__name__}, and only {SUPPORTED} can sleep"
                )
    return names, parts, between


def _units(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """Return a module and its parts by name; what a layer consists of is left out."""
    found = [(name, module)]
    if _is_layer(module, name):
        return found
    for child_name, child in module.named_children():
        found += _units(child, f"{name}.{child_name}" if name else child_name)
    return found


def _is_layer(module: nn.Module, name: str) -> bool:
    """Whether a module computes x W' + b; one with a forward of its own is tried out."""
    if isinstance(module, nn.Linear) and not is_surely_linear(module):
        _check_forward(module, name)
    return isinstance(module, nn.Linear) or is_lora(module)


def _check_forward(module: nn.Linear, name: str) -> None:
    weight = module.weight
    x = torch.linspace(0.1, 1.0, 2 * module.in_features, device=weight.device, dtype=weight.dtype)
    x = x.reshape(2, module.in_features)
    with torch.no_grad(), eval_mode(module), torch.random.fork_rng(devices=[]):
        output = module.forward(x)
    if not linear_like(module, x, output):
        raise HeadNotFoundError(
            f"{name!r} is {type(module).__name__}, a Linear layer with a forward of its own that is not x W' + b. "
            f"{CURE}"
        )


def _fold(parts: list[Layer], between: list[list[nn.Module]], module: nn.Module) -> bool:
    """Fold batch norm into the layer right before it, if it can be."""
    part = parts[-1]
    if not isinstance(module, _BatchNorm) or not isinstance(part, Plain) or between[-1]:
        return False
    if module.running_mean is None or not WithNorm.can_fold(part, module, behind=True):
        return False
    parts[-1] = WithNorm(part, behind=module)
    return True


def _traced_names(model: nn.Module, names: Sequence[str], parts: Sequence[Layer], record: Trace) -> Head:
    """Return the head of the named layers as a forward pass showed it, or refuse what it shows."""
    for name, part in zip(names, parts, strict=True):
        if part.module not in record.linears:
            raise HeadNotFoundError(f"the forward pass of the model never called {name!r}, so it cannot be in the head")
    last = record.linears[parts[-1].module]
    top = _top_of(last, names[-1], record)
    modules = [module for part in parts for module in part.modules]
    found = walk(record, top, refusal=_refusal(model, record.calls), among=modules)
    taken = {module for met in found.layers for module in met.part.modules}
    missing = [(n, p) for n, p in zip(names, parts, strict=True) if p.module not in taken]
    if missing and not any(p.frozen for _, p in missing):
        raise HeadNotFoundError(
            f"between {missing[-1][0]!r} and {found.layers[0].name!r} stands {found.below or 'nothing'}, which "
            f"{found.why}; name a head that begins behind it"
        )
    below = found.below if missing else ""
    return _made(model, [met.name for met in found.layers], [met.part for met in found.layers], joints_of(found), below,
                 found.why)  # fmt: skip


def _top_of(last: Node, name: str, record: Trace) -> Node:
    """Return the step that a named head ends in: the model's output, if that is made of it, else its last layer."""
    for path, output in record.candidates.items():
        node: Node | None = output
        while node is not None and node is not last and node.kind in (*TAIL, Kind.BATCH_NORM) and node.parents:
            node = node.parent
        if node is last:
            record.path = path
            return output
        if node is not None and node.kind is Kind.JOIN and last in node.ancestors():
            record.path = path
            return output
        if node is not None and node.kind is Kind.LINEAR:
            raise HeadNotFoundError(
                f"the head ends in {name!r}, but {node.describe()} comes after it in the model, and its outputs must "
                "be the scores of the classes. Name the layers up to the output, or none at all"
            )
    return last  # a pass may bypass a named head


def check_scores(model: nn.Module, head: Head, record: Trace) -> None:
    """Refuse a named head of which something else makes the scores of the classes, since they are to be balanced.

    Raises:
        HeadNotFoundError: They are made of its outputs by steps that no head can end in.
    """
    last = record.linears[head.parts[-1].module]
    for output in record.candidates.values():
        if last not in output.ancestors():
            continue
        node: Node | None = output
        while node is not None and node is not last and node.kind in (*TAIL, Kind.BATCH_NORM, Kind.JOIN):
            node = node.parent
        if node is not None and node is not last:
            raise HeadNotFoundError(
                f"the head ends in {head.names[-1]!r}, but {node.describe()} makes the scores of the classes of it, "
                f"and these cannot be balanced there. {_only_pure(model, record)}"
            )


def _only_pure(model: nn.Module, record: Trace) -> str:
    """Return what can be done where no layer makes the scores."""
    known = {module: name for name, module in model.named_modules()}
    names = [known[module] for module in record.linears if isinstance(module, nn.Linear)]
    try:
        named_head(model, names[-1:], record)
    except HeadNotFoundError:
        return "Leave SRC out: no Linear layer of the model can sleep by itself"
    return f"Only pure SRC applies, with layers that are named: SRCPlugin('src_only', head={names[-1:]})"


def layers_above(head: Head, record: Trace) -> list[nn.Module]:
    """Return the layers that took what came out of a named head, as the heads of single tasks do."""
    last = head.parts[-1].modules[0]
    return [
        layer
        for layer, node in record.linears.items()
        if layer not in head.modules and any(below.module is last for below in node.ancestors())
    ]


def parts_below(model: nn.Module, head: Head, record: Trace) -> set[str]:
    """Return the names of the modules that a pass went through before the head, and of those that contain them."""
    names = {module: name for name, module in model.named_modules()}
    below: set[str] = set()
    for module in takewhile(lambda module: module is not head.entry, record.order):
        parts = names[module].split(".")
        below.update(".".join(parts[:n]) for n in range(len(parts) + 1))
    return below


def parameters_below(model: nn.Module, head: Head, record: Trace) -> set[str]:
    """Return the names of the parameters that the input of a head was made with, and not of those behind or beside it.

    They are those that autograd leads to, and all of modules that the pass went through before: some hide their
    parameters from autograd, as a checkpoint does, and some from modules, as attention does.
    """
    found: set[int] = set()
    waiting, known = [record.sources.get(head.entry)], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in known:
            continue
        known.add(node)
        found.add(id(getattr(node, "variable", None)))
        waiting += [parent for parent, _ in node.next_functions]
    for module in takewhile(lambda module: module is not head.entry, record.order):
        found.update(id(parameter) for parameter in module.parameters(recurse=False))
    return {name for name, parameter in model.named_parameters() if id(parameter) in found}


def renewed(head: Head, model: nn.Module) -> Head:
    """Return the head with the modules that bear the same names now: others may have replaced them.

    Raises:
        HeadNotFoundError: A name is no longer there.
    """
    modules = dict(model.named_modules())
    names = dict(zip((m for part in head.parts for m in part.modules), head.inner, strict=True))
    missing = [name for name in names.values() if name not in modules]
    if missing:
        raise HeadNotFoundError(f"{type(model).__name__} no longer has the layer {missing[0]!r} of its head")
    return replace(head, parts=tuple(part.in_model(modules, names) for part in head.parts))


def _check_frozen(model: nn.Module, last: Layer, name: str) -> None:
    """Refuse a head of which nothing may be changed.

    Raises:
        HeadNotFoundError: The weights of its last layer are frozen.
    """
    if last.frozen:
        more = ""
        if is_lora(last.module):
            more = " (a Linear beside its LoRA adapters; merge these first, model.merge_and_unload())"
        is_all = not any(p.requires_grad for p in model.parameters())
        cure = "model.requires_grad_(True)" if is_all else f"model.get_submodule({name!r}).requires_grad_(True)"
        raise HeadNotFoundError(
            f"'{name}.{last.frozen}'{more}, which the outputs come from, is frozen (requires_grad=False), and sleep "
            f"changes no frozen parameter. Unfreeze {'the model' if is_all else 'it'} before: {cure}"
        )


def _made(
    model: nn.Module, names: Sequence[str], parts: Sequence[Layer], joints: Sequence[Joint], below: str, why: str
) -> Head:
    """Return a head of layers that follow each other.

    Raises:
        HeadNotFoundError: They do not.
    """
    known = {module: name for name, module in model.named_modules()}
    inner = tuple(known[module] for part in parts for module in part.modules)
    head = Head(tuple(names), tuple(parts), tuple(joints), below, why, inner)
    for (name, part), (after_name, after) in zip(
        zip(head.names, head.parts, strict=True), zip(head.names[1:], head.parts[1:], strict=True), strict=False
    ):
        if part.sizes[1] != after.sizes[0]:
            raise HeadNotFoundError(
                f"{name!r} has {part.sizes[1]} outputs but {after_name!r} has {after.sizes[0]} inputs: "
                "these layers do not follow each other; name them input side first, without gaps"
            )
    return head


def _refusal(model: nn.Module, calls: Mapping[nn.Module, int]) -> Callable[[Layer, str], str]:
    """Return what says why a layer of the model cannot be changed alone."""
    uses: dict[int, list[str]] = {}
    for prefix, module in model.named_modules():  # each module once, also where it has two names
        for name, parameter in module.named_parameters(prefix, recurse=False, remove_duplicate=False):
            uses.setdefault(id(parameter), []).append(name)

    def refusal(part: Layer, name: str) -> str:
        for module in part.modules:
            if isinstance(module, nn.Linear) and calls.get(module, 0) > 1:
                return _shared("weight", name, f"{name}, called more than once in a forward pass")
        for target in part.targets():
            shared = uses.get(id(target), [])
            if len(shared) > 1:
                return _shared(shared[0].rpartition(".")[2], name, ", ".join(shared))
        return ""

    return refusal


def _shared(kind: str, name: str, where: str) -> str:
    return (
        f"the {kind} of {name!r} is shared ({where}): sleep would change both uses. Untie them, or name a head without "
        f"this layer. {CURE}"
    )


def _because(node: Node | None) -> str:
    """Return what is special about a step that no head can end in, in brackets."""
    if node is None:
        return ""
    if isinstance(node.module, nn.Linear):
        return ", a Linear layer with a forward of its own that is not x W' + b"
    names = {n.name for n in node.ancestors() if n.within == node.within and n.within}
    if "normalize" in names or "cosine_similarity" in names or node.name == "cosine_similarity":
        return " (a cosine head: its scores depend on directions alone)"
    if node.name in ("add", "iadd", "sum", "stack", "mean") and len(node.parents) > 1:
        return " (several answers in one)"
    below: Node | None = node
    while below is not None and below.name in ("getitem", *RECURRENT):
        if below.name in RECURRENT:
            return " (a recurrent layer)"
        below = below.parent
    if node.kind is Kind.OTHER and len(node.parents) == 1 and node.parents[0].kind is Kind.LINEAR:
        return " (which may not keep the order of the scores: apply it outside of the model)"
    if node.name == "bilinear":
        return " (a bilinear head)"
    if node.name == "unknown":
        return " (what made it cannot be followed: a scripted module, or a function outside of torch)"
    return ""


def _place(path: Sequence[str | int]) -> str:
    return "output" + "".join(f"[{key!r}]" for key in path)
