"""Model files: what is written comes back, and what cannot be trusted is refused by name, with the cure."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn

import benchmarks
from benchmarks.configs.backbone import BackboneConfig
from benchmarks.configs.run import ModelConfig, RunConfig
from benchmarks.data.dataset import Dataset
from benchmarks.errors import DataError, ImageError, ModelFileError
from benchmarks.features.backbones import Backbone, Frozen, build_backbone
from benchmarks.runs.image_model import Pixels
from benchmarks.runs.keeping import prepare_saving
from benchmarks.runs.layers import Divide
from benchmarks.runs.models import build_model
from benchmarks.runs.saved import ENTRY, load_model, save_model
from model_samples import SMALL
from src_plugin.errors import ConfigError

NAMES = ["cat", "dog"]
CONFIG = BackboneConfig.model_validate(SMALL)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone(CONFIG)


def head(n_inputs: int = 3, *, weights: list[list[float]] | None = None) -> nn.Sequential:
    linear = nn.Linear(n_inputs, 2)
    if weights is not None:
        nn.init.zeros_(linear.bias)
        linear.weight.data = torch.tensor(weights)
    return nn.Sequential(nn.Flatten(), nn.Sequential(linear, nn.Dropout(0.5)))


def saved(folder: Path, **settings: Any) -> Path:
    path = folder / "some.model.safetensors"
    given: dict[str, Any] = {"class_names": NAMES, **settings}
    if "backbone" not in given:
        given.setdefault("pixels", Pixels((3, 1, 1), (1, 1)))
    save_model(path, given.pop("head", None) or head(), **given)
    return path


def rewritten(path: Path, **changes: Any) -> Path:
    """Write a file again, with another text and the same tensors."""
    with safe_open(path, "pt") as file:
        about = {**json.loads(file.metadata()[ENTRY]), **changes}
    path.write_bytes(safetensors.torch.save(safetensors.torch.load_file(path), {ENTRY: json.dumps(about)}))
    return path


def pixel(*rgb: int) -> Image.Image:
    return Image.fromarray(np.array([[rgb]], dtype=np.uint8))


def test_pixels_go_through_the_layers_that_were_saved(tmp_path: Path) -> None:
    # 255 and 51 are 1 and 0.2 in [0, 1], by 2: 0.5 and 0.1. Outputs 0.5 + 0.1 and 0.5 - 0.1.
    chain = nn.Sequential(Divide(2.0), *head(weights=[[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]))
    model = benchmarks.load_model(saved(tmp_path, head=chain))
    scores = model([pixel(255, 51, 0)])
    assert scores.tolist() == [pytest.approx([0.6, 0.4])]
    # e^0.6 / (e^0.6 + e^0.4) = 1 / (1 + e^-0.2) = 0.549834
    assert model.probabilities([pixel(255, 51, 0)])[0].tolist() == [pytest.approx(0.549834), pytest.approx(0.450166)]
    assert (model.class_names, model.training) == (("cat", "dog"), False)


def test_outputs_that_estimate_probabilities_are_shared_out(tmp_path: Path) -> None:
    chain = head(weights=[[0.6, 0.0, 0.0], [0.2, -1.0, 0.0]])
    model = load_model(saved(tmp_path, head=chain, probabilities="shares"))
    found = model.probabilities([pixel(255, 0, 0), pixel(255, 255, 0), pixel(0, 0, 0)])
    # 0.6 and 0.2; 0.6 and -0.8, which counts as 0; nothing at all
    assert found.tolist() == [pytest.approx([0.75, 0.25]), pytest.approx([1.0, 0.0]), pytest.approx([0.5, 0.5])]


def test_a_grey_image_gives_the_values_that_it_was_stored_with() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    image = Image.fromarray(grey).convert("RGB")
    assert torch.equal(Pixels((1, 3, 4), (4, 3))(image), torch.from_numpy(grey)[None].float() / 255)
    assert torch.equal(Pixels((12,), (4, 3))(image), torch.from_numpy(grey).flatten().float() / 255)


@pytest.mark.parametrize("precision", ["single", "half"])
def test_a_backbone_is_built_anew_and_its_features_are_kept_as_in_training(
    tmp_path: Path, backbone: Backbone, precision: str
) -> None:
    config = CONFIG.model_copy(update={"precision": precision})
    chain = head(backbone.n_features)
    path = saved(tmp_path, head=chain, backbone=config, provenance=backbone.provenance)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    features = backbone.module(backbone.transform(image)[None])
    features = features.half().float() if precision == "half" else features
    model = load_model(path)
    torch.testing.assert_close(model([image]), chain.eval()(features), atol=1e-6, rtol=0)
    assert path.stat().st_size < 20_000  # the backbone is not in it


def test_a_file_holds_no_code_and_says_what_it_is(tmp_path: Path, backbone: Backbone) -> None:
    provenance = {**backbone.provenance}
    path = saved(tmp_path, head=head(96), backbone=CONFIG, provenance=provenance, run={"strategy": "naive", "seed": 3})
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()[ENTRY])
    assert about["schema"] == 1
    assert about["run"] == {"strategy": "naive", "seed": 3}
    assert about["backbone"]["name"] == "test_resnet"
    assert about["backbone"]["weights"]["sha256"] == provenance["weights"]["sha256"]
    assert [layer["kind"] for layer in about["layers"]] == ["flatten", "linear"]


def tear(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-4])
    return path


def flip(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    return path


def without_text(path: Path) -> Path:
    path.write_bytes(safetensors.torch.save(safetensors.torch.load_file(path)))
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


BROKEN = {
    "torn": (tear, "is torn, or no safetensors file .*copy it anew, or make it again"),
    "empty": (empty, "is torn, or no safetensors file"),
    "a flipped bit": (flip, "is damaged: its weights are not those that were written; copy it anew"),
    "weights alone": (without_text, "holds weights, but no model"),
    "newer": (lambda path: rewritten(path, schema=2), "has schema 2, and this code reads up to 1: newer code wrote it"),
    "no schema": (lambda path: rewritten(path, schema=None), "cannot be read"),
    "an unknown layer": (lambda path: rewritten(path, layers=[{"kind": "attention"}]), "contradicts itself"),
    "other sizes": (
        lambda path: rewritten(path, layers=[{"kind": "linear", "in_features": 9, "out_features": 2, "bias": True}]),
        "contradicts itself",
    ),
    "gone": (lambda path: path.rename(path.with_name("else")).with_name(path.name), "there is no model file"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_cannot_be_trusted_is_refused_by_name(tmp_path: Path, spoil: Any, message: str) -> None:
    path = spoil(saved(tmp_path))
    with pytest.raises(ModelFileError, match=rf"some\.model\.safetensors.*{message}|{message}.*some\.model"):
        load_model(path)


def test_a_backbone_with_other_weights_is_refused_until_the_right_ones_are_given(
    tmp_path: Path, backbone: Backbone
) -> None:
    path = saved(tmp_path, head=head(96), backbone=CONFIG, provenance=backbone.provenance)
    right = tmp_path / "right.safetensors"
    assert isinstance(backbone.module, Frozen)
    state = backbone.module.network.state_dict()
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in state.items()}, right)
    other = rewritten(path, backbone={**about_backbone(path), "config": {**SMALL, "seed": 1}})
    with pytest.raises(ModelFileError, match=r"was trained on test_resnet with weights of SHA-256 .*--weights FILE"):
        load_model(other)
    assert load_model(other, weights=right).class_names == ("cat", "dog")
    with pytest.raises(ModelFileError, match=r"its backbone test_resnet cannot be built: .*there is no file"):
        load_model(other, weights=tmp_path / "wrong.safetensors")


def about_backbone(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return dict(json.loads(file.metadata()[ENTRY])["backbone"])


def test_images_that_are_prepared_otherwise_are_warned_of(tmp_path: Path, backbone: Backbone) -> None:
    path = saved(tmp_path, head=head(96), backbone=CONFIG, provenance={**backbone.provenance, "transform": "Crop(7)"})
    with pytest.warns(UserWarning, match="images are prepared otherwise here than in training; install the versions"):
        load_model(path)


def test_an_image_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    pixel(1, 2, 3).resize((5, 4)).save(path)
    model = load_model(saved(tmp_path))
    with pytest.raises(DataError, match=r"large\.png: it has 5 x 4 pixels, and the network learnt images of 1 x 1"):
        model.predict([path])
    with pytest.raises(ImageError, match=r"gone\.png cannot be read: .*Mend, replace or remove it$"):
        model.predict([tmp_path / "gone.png"])
    table = load_model(saved(tmp_path, pixels=Pixels((3,), None)))
    with pytest.raises(DataError, match=r"learnt rows of numbers of shape \(3,\), no images"):
        table.predict([path])
    assert table(torch.zeros(4, 3)).shape == (4, 2)


def test_what_a_file_cannot_hold_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot hold Tanh; give an nn\.Sequential of Flatten, Linear"):
        saved(tmp_path, head=nn.Sequential(nn.Linear(3, 2), nn.Tanh()))
    with pytest.raises(ConfigError, match="3 class_names for 2 outputs; give one for each"):
        saved(tmp_path, class_names=["a", "b", "c"])
    with pytest.raises(ConfigError, match="together"):
        saved(tmp_path, backbone=CONFIG)
    assert list(tmp_path.iterdir()) == []


KINDS: dict[str, dict[str, Any]] = {
    "two layers": {"hidden": [9, 7]},
    "of Avalanche": {"kind": "simple_mlp", "hidden": [8, 8], "bias": True, "dropout": 0.5},
    "of the paper": {"hidden": [9], "dropout": 0.25, "dropout_style": "paper", "output": "relu"},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("scales", [None, [1.0, 4.0]], ids=["as they are", "scaled"])
def test_every_kind_of_network_answers_from_its_file_as_in_the_run(
    tmp_path: Path, tiny: RunConfig, digits: Dataset, kind: dict[str, Any], scales: list[float] | None
) -> None:
    config = tiny.model_copy(update={"model": ModelConfig.model_validate(kind)})
    network = build_model(config.model, n_inputs=digits.n_inputs, n_classes=10)
    strategy = SimpleNamespace(model=network, plugins=[])
    prepare_saving(strategy, config=config, data=digits, scales=scales)(tmp_path / "some", {})
    images = digits.test_images[:50]
    with torch.no_grad():
        expected = network.eval()(images if scales is None else images / 4.0)
        found = load_model(tmp_path / "some")(images)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
