"""Families of timm: where the head of each is found, and whether all below it stays as it is in a sleep."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from src_plugin.errors import HeadNotFoundError
from src_plugin.head.find import find_head
from src_plugin.head.watch import head_inputs
from src_plugin.night.sleep import sleep


@dataclass(frozen=True)
class Family:
    """A model of timm.

    Attributes:
        layers: So many layers of it sleep; 0 if it is refused.
        size: Pixels a side of its inputs.
        refused: What the refusal says.
        settings: Of `timm.create_model`, to make it small.
    """

    layers: int = 1
    size: int = 64
    refused: str = ""
    settings: dict = field(default_factory=dict)


SMALL = {"img_size": 64}
SHALLOW = {"img_size": 64, "depth": 2}
SUM = Family(0, 224, "several answers in one")

FAMILIES: dict[str, Family] = {
    **dict.fromkeys(
        (
            "resnet10t", "resnet18", "resnext26ts", "seresnext26t_32x4d", "resnest14d", "skresnet18", "ecaresnet26t",
            "gcresnext26ts", "densenet121", "hrnet_w18_small", "ese_vovnet19b_dw", "mobilenetv2_035", "mnasnet_050",
            "mobilenetv4_conv_small_035", "efficientnet_lite0", "tf_efficientnet_b0", "tf_efficientnetv2_b0",
            "fbnetc_100", "spnasnet_100", "tinynet_e", "rexnet_100", "semnasnet_075", "mixnet_s", "regnetx_002",
            "regnety_002", "nf_regnet_b0", "repvgg_a0", "mobileone_s0", "starnet_s050", "convnext_atto",
            "convnextv2_atto", "poolformer_s12", "edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050", "fastvit_t8",
            "tiny_vit_5m_224", "cs3darknet_s", "shvit_s1", "xception41", "convmixer_768_32", "res2net50_26w_4s",
        ),
        Family(),
    ),
    **dict.fromkeys(("mobilenetv3_small_050", "lcnet_035", "ghostnet_050", "fasternet_t0", "hardcorenas_a",
                     "repghostnet_050", "hgnetv2_b0"), Family(2)),
    "inception_next_atto": Family(2),
    "caformer_s18": Family(2),
    "mambaout_femto": Family(2),
    "efficientvit_b0": Family(2),
    "resnetv2_50": Family(),
    "dpn48b": Family(),
    "dla34": Family(),
    "vit_tiny_patch16_224": Family(settings=SHALLOW),
    "deit_tiny_patch16_224": Family(settings=SHALLOW),
    "deit3_small_patch16_224": Family(settings=SHALLOW),
    "eva02_tiny_patch14_224": Family(size=56, settings={"img_size": 56, "depth": 2}),
    "cait_xxs24_224": Family(settings=SHALLOW),
    "beit_base_patch16_224": Family(settings={**SHALLOW, "embed_dim": 192, "num_heads": 3}),
    "xcit_nano_12_p16_224": Family(settings=SHALLOW),
    "convit_tiny": Family(settings=SHALLOW),
    "mixer_s32_224": Family(settings=SMALL),
    "gmlp_ti16_224": Family(settings=SMALL),
    "resmlp_12_224": Family(settings=SMALL),
    "swin_tiny_patch4_window7_224": Family(settings={**SMALL, "depths": (1, 1, 1, 1)}),
    "swinv2_tiny_window8_256": Family(settings={**SMALL, "depths": (1, 1, 1, 1)}),
    "pit_ti_224": Family(settings={**SMALL, "depth": (1, 1, 1)}),
    "mvitv2_tiny": Family(size=224),
    "visformer_tiny": Family(settings=SMALL),
    "maxvit_tiny_tf_224": Family(2, settings={**SMALL, "depths": (1, 1, 1, 1)}),
    "coatnet_nano_rw_224": Family(settings=SMALL),
    "gcvit_xxtiny": Family(size=224),
    "efficientvit_m0": Family(size=224),
    "levit_128s": SUM,
    "efficientformer_l1": SUM,
    "swiftformer_xs": SUM,
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What was seen of a model.

    Attributes:
        names: Of the layers of its head; empty if it is refused.
        below: What ended the search, or the refusal.
        decision: Of the sleep.
        changed: Names of what the sleep changed outside of the head.
    """

    names: tuple[str, ...]
    below: str
    decision: str = ""
    changed: tuple[str, ...] = ()


def look(name: str, family: Family) -> Seen:
    """Find the head of a model with random weights, let it learn two classes by hand, and let it sleep once."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=10, **family.settings).eval()
    images = torch.rand(4, 3, family.size, family.size, generator=torch.Generator().manual_seed(0))
    try:
        head = find_head(model, images)
    except HeadNotFoundError as error:
        return Seen((), str(error))
    inputs = head_inputs(model, head, images, device="cpu")
    own = {f"{name}." for name in head.inner}
    before, learnt = head.read(), head.read()
    hidden = head.hidden(before, inputs).mean(0)
    learnt.weights[-1][2:4] += 5 * hidden / hidden.square().sum()  # as training would: new classes win
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    head.write(learnt)
    report = sleep(
        model, inputs.mean(0), example=images, before=before, old_classes=[0, 1], new_classes=[2, 3], inputs=inputs
    )
    after = model.state_dict()
    changed = [key for key, value in tensors.items() if not torch.equal(value, after[key])]
    outside = tuple(key for key in changed if not any(key.startswith(prefix) for prefix in own))
    return Seen(head.names, head.below, report.decision, outside)
