"""RunConfig: what is run, and what of it can move a number. `files.py` reads it from YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.configs.backbone import BackboneConfig
from benchmarks.data.sets import IMAGE_FOLDER, check_known, dataset_title
from src_plugin.config import Simulation, SleepConfig, simulation_only
from strategies import Settings, find_row, sleep_of

Positive = Annotated[int, Field(ge=1)]
Label = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Part = Positive | Annotated[float, Field(gt=0, lt=1)]
"""So many of them, or a fraction."""


class Section(BaseModel):
    """A part of a config: immutable, no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StreamConfig(Section):
    """Which images come in which order; one of the five fields after `folder` says how the stream is split.

    Attributes:
        dataset: A name of `benchmarks.data.sets.DATA_SETS`, or "image_folder" (images of your own). A backbone takes
            images only.
        folder: Of `dataset: image_folder`: one or several folders or zips of `split/class/image`, e.g. [photos.zip].
        n_experiences: Number of experiences with equally many classes each.
        classes_per_experience: Classes of each experience.
        experiences: Labels of each experience. A class may come back in a later one: its training images are cut into
            as many equal parts, in file order, as it appears.
        permutations: So many experiences of all classes: one with the pixels as they are, then each with an order of
            the pixels of its own, drawn from the run's seed.
        then: Data sets that follow `dataset`, all images of each as one experience, on the same outputs (cross-modal).
        class_order: "fixed" (0, 1, 2, ...), "seeded" (drawn from the run's seed), "seeded_experiences" (the experiences
            of the fixed order, in an order drawn from the run's seed), or a list of all classes.
        samples_per_experience: Train on the first so many images of each experience in file order; None for all.
        images_per_experience: Train on fewer images, drawn from the run's seed and spread evenly over the classes of an
            experience: a number (50), a fraction (0.1), or a list of either with one for each experience.
        class_shares: Keep such a share, in (0, 1], of the training and test images of each class, for classes of uneven
            size; in the order of labels, e.g. [1, 0.1, ...].
        scale: What images or features are divided by: a number; "first", the largest value of the first experience's
            training images; "running", the largest of all experiences so far, for methods that keep no images; None
            leaves them as they are.
        first: Only the first so many experiences, for searches; None for all.
        validation: Measure on every sixth training image of each class, in file order, which is not trained on; for
            searches, which see no test image.
        task_labels: Task-incremental: the number of the experience is given with each image, in use as well, and each
            has output units of its own.

    Example:
        dataset: image_folder
        folder: [photos.zip]
        n_experiences: 5
        class_order: seeded
        images_per_experience: 0.5
        scale: first
    """

    dataset: str
    folder: Annotated[list[str], Field(min_length=1)] | None = None
    n_experiences: Positive | None = None
    classes_per_experience: list[Positive] | None = None
    experiences: Annotated[list[Annotated[list[Label], Field(min_length=1)]], Field(min_length=1)] | None = None
    permutations: Positive | None = None
    then: Annotated[list[str], Field(min_length=1)] | None = None
    class_order: Literal["fixed", "seeded", "seeded_experiences"] | list[int] = "fixed"
    samples_per_experience: Positive | None = None
    images_per_experience: Part | Annotated[list[Part], Field(min_length=1)] | None = None
    class_shares: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)] | None = None
    scale: Literal["first", "running"] | Annotated[float, Field(gt=0)] | None = None
    first: Positive | None = None
    validation: bool = False
    task_labels: bool = False

    @property
    def title(self) -> str:
        """What the data set is called where people read it, see `benchmarks.data.sets.dataset_title`."""
        return dataset_title(self.dataset, self.folder)

    @property
    def length(self) -> int:
        """Number of experiences, also of those after `first`."""
        if self.then is not None:
            return 1 + len(self.then)
        listed = self.classes_per_experience or self.experiences or ()
        return self.n_experiences or self.permutations or len(listed)

    @model_validator(mode="after")
    def _states_one_split(self) -> StreamConfig:
        ways = ("n_experiences", "classes_per_experience", "experiences", "permutations", "then")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "none"
            raise ValueError(f"give one of them: {', '.join(ways)} (null clears an inherited one); here is {said}")
        if given[0] in ways[2:] and (self.class_order != "fixed" or self.task_labels):
            raise ValueError(f"{given[0]} leaves no choice of class_order (leave it fixed), and takes no task_labels")
        if self.dataset == IMAGE_FOLDER and self.folder is None:
            raise ValueError("dataset: image_folder needs folder: [...], e.g. folder: [photos.zip]")
        if self.dataset != IMAGE_FOLDER and self.folder is not None:
            check_known(self.dataset, where="dataset: ")
            raise ValueError(f"folder is for dataset: image_folder, and {self.dataset} is found by its own name")
        if self.images_per_experience is not None and (self.permutations or self.then):
            raise ValueError("images_per_experience is for streams that are cut by classes; use samples_per_experience")
        if self.class_shares is not None and (self.permutations or self.then):
            raise ValueError("class_shares is for streams that are cut by classes; leave it out")
        if self.images_per_experience is not None and self.samples_per_experience is not None:
            raise ValueError("images_per_experience and samples_per_experience exclude each other; set one to null")
        for group in self.experiences or []:
            if len(set(group)) != len(group):
                raise ValueError(f"experiences: {group} names a class twice")
        return self


class ModelConfig(Section):
    """The network.

    Attributes:
        kind: "mlp" (Linear, ReLU, dropout, ...), or "simple_mlp", Avalanche's SimpleMLP with ordinary dropout.
        hidden: Units of each hidden layer.
        bias: Whether Linear layers have biases.
        dropout: Probability of dropping a hidden unit in training.
        dropout_style: "inverted" (PyTorch: scaled in training) or "paper" (scaled in use, by 1 - p).
        output: "linear", or "relu": rectified outputs whose gradient is 1 everywhere.
        init_half_range: Draw all weights from U(-a, a); None for PyTorch's own initialisation.

    Example:
        hidden: [200, 100]
        dropout: 0.25
    """

    kind: Literal["mlp", "simple_mlp"] = "mlp"
    hidden: list[Positive]
    bias: bool = False
    dropout: Fraction = 0.0
    dropout_style: Literal["inverted", "paper"] = "inverted"
    output: Literal["linear", "relu"] = "linear"
    init_half_range: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _fits_simple_mlp(self) -> ModelConfig:
        if self.kind == "simple_mlp":
            if len(set(self.hidden)) != 1:
                raise ValueError("simple_mlp needs at least one hidden layer, and all of the same size")
            if not self.bias or self.output != "linear" or self.dropout_style != "inverted":
                raise ValueError("simple_mlp has biases, linear outputs and inverted dropout; use kind: mlp for others")
        return self


class TrainingConfig(Section):
    """How each experience is learnt.

    Attributes:
        optimizer: One of torch.optim.
        lr: Its learning rate.
        momentum: As in torch.optim.SGD; for "sgd" only.
        weight_decay: As in torch.optim.
        batch_size: Images per update.
        epochs: Passes over the images of each experience.
        loss: "cross_entropy", or "squared_error" between outputs and one-hot labels.

    Example:
        optimizer: adam
        lr: 0.001
        batch_size: 64
        epochs: 2
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)]
    momentum: Fraction = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Positive
    epochs: Positive
    loss: Literal["cross_entropy", "squared_error"] = "cross_entropy"

    @model_validator(mode="after")
    def _momentum_is_sgd(self) -> TrainingConfig:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum is a setting of sgd; {self.optimizer} has its own")
        return self


class SleepSection(Section):
    """The sleep of strategies that end in "+src".

    Attributes:
        preset: "auto" or a published preset of `SleepConfig`.
        set: Settings of `SleepConfig`, flat, that differ from the preset. With `replay`, `settle` and `level` all false
            nothing is left of a sleep, and names that end in "+src" are refused: each would be the run without it once
            more.
        reference: Where mean input and scales come from: "none" for the plugin's own running mean, "seen_classes" for
            all training images of all classes seen so far, also those not trained on (the authors' code).
        every: Sleep after every so many experiences.

    Example:
        preset: auto
        set: {depth: 0.5, prior: equal}
    """

    preset: str = "auto"
    set: dict[str, Any] = Field(default={})
    reference: Literal["none", "seen_classes"] = "none"
    every: Positive = 1

    def build(self) -> SleepConfig:
        """Return the SleepConfig this section describes.

        Raises:
            ConfigError: Unknown preset, unknown field, or a value out of range.
        """
        return SleepConfig.preset(self.preset).changed(**self.set)


class SettingsSection(Section):
    """Numbers of the methods underneath; see `strategies.Settings`, whose defaults these are.

    Example:
        memory_size: 500
        ewc_lambda: 1000
    """

    memory_fraction: Annotated[float, Field(gt=0, le=1)] = Settings.memory_fraction
    memory_size: Positive | None = Settings.memory_size
    ewc_lambda: NotNegative = Settings.ewc_lambda
    ewc_online_lambda: NotNegative = Settings.ewc_online_lambda
    ewc_decay: Annotated[float, Field(ge=0, le=1)] = Settings.ewc_decay
    si_lambda: NotNegative = Settings.si_lambda
    mas_lambda: NotNegative = Settings.mas_lambda
    lwf_alpha: NotNegative = Settings.lwf_alpha
    lwf_temperature: Annotated[float, Field(gt=0)] = Settings.lwf_temperature
    gem_strength: NotNegative = Settings.gem_strength
    der_alpha: NotNegative = Settings.der_alpha
    der_beta: NotNegative = Settings.der_beta
    owm_alpha: Annotated[float, Field(gt=0)] = Settings.owm_alpha

    def build(self) -> Settings:
        """Return them as the strategies take them."""
        return Settings(**self.model_dump())


class RunConfig(Section):
    """One benchmark: a stream, a network, its training, and the strategies to compare on it.

    Attributes:
        name: Of the folder of its records and of its table; without it, and where it is inherited, the file's own name.
        description: A sentence on what it is.
        source: Where its numbers are from, e.g. an article and its table.
        stream: Which images come in which order.
        backbone: A frozen network below the head; None learns the pixels themselves.
        model: The network that learns, the head.
        training: How each experience is learnt.
        sleep: The sleep of strategies that end in "+src".
        settings: Numbers of the methods underneath.
        strategies: What is compared: names of `strategies.STRATEGIES`, each alone or followed by "+src" and the like,
            e.g. [naive, naive+src, rehearsal+src, joint].

    Example:
        extends: configs/base.yaml
        stream: {dataset: mnist, n_experiences: 5}
        strategies: [naive, naive+src, joint]
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    source: str = ""
    stream: StreamConfig
    backbone: BackboneConfig | None = None
    model: ModelConfig
    training: TrainingConfig
    sleep: SleepSection = SleepSection()
    settings: SettingsSection = SettingsSection()
    strategies: Annotated[list[str], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_stream(self) -> RunConfig:
        if self.stream.task_labels and (self.model.output != "linear" or self.model.init_half_range is not None):
            raise ValueError(
                "under stream.task_labels, heads come with their tasks, with linear outputs and PyTorch's own "
                "initialisation: model.output must be linear, and init_half_range null"
            )
        if self.backbone is not None and not self.backbone.cached:
            if self.stream.scale == "running":
                raise ValueError(
                    "stream.scale: running changes with every experience, and a model with its backbone inside divides "
                    "by one number; use first or a number, or backbone.cached: true"
                )
            if self.stream.task_labels:
                raise ValueError(
                    "task_labels needs backbone.cached: true, since tasks' heads stand in a model of their own"
                )
        others = self.stream.task_labels or self.stream.permutations or self.stream.then
        if self.sleep.reference == "seen_classes" and others:
            raise ValueError(
                "sleep.reference: seen_classes knows images by their classes, and task_labels, permutations and then "
                "make other images or labels of them; use reference: none"
            )
        return self


LATER_STREAM_FIELDS: dict[str, Any] = {
    **{"experiences": None, "permutations": None, "then": None},
    **{"first": None, "validation": False, "task_labels": False},
    **{"folder": None, "images_per_experience": None, "class_shares": None, "scale": None},
}
"""Fields that came when there were records already, with defaults that leave the hashes of those as they are."""


LATER_SLEEP_FIELDS: dict[str, Any] = {
    **{"new_classes_gate": True, "hidden_gate": True},
    **{"engine": "simulated", "input_share": 1.0, "noise": "binary", "prior": "equal", "keep": "mean"},
}
"""The same of `SleepConfig`, with what they were then; that is not always their default now."""


DEPTH_BEFORE = 0.25
"""Of a sleep in closed form, while that had a depth and no fractions; records have null for it."""


def numbers_of(sleep: SleepConfig) -> dict[str, Any]:
    """Return the fields of a sleep that can move a number, as plain JSON.

    What other fields make idle is left out, so that a new default of `auto` does not discard records it has no part in.
    """
    told: dict[str, Any] = _plain(sleep.to_dict())
    idle = {name for name, then in LATER_SLEEP_FIELDS.items() if told[name] == then}
    if sleep.is_pure:
        idle.update(("noise", "prior"))
    if isinstance(sleep.sleep, Simulation):
        idle.update(_idle_in(sleep.sleep) | {"fractions"})
    else:
        idle.update({*simulation_only()} - {"steps"})
        if sleep.sleep is None:
            idle.update(("engine", "fractions", "depression", "depth"))
        elif sleep.sleep.depth is None:
            idle.update(("depression", "depth"))
        else:
            idle.add("fractions")
            told["depth"] = None if sleep.sleep.depth == DEPTH_BEFORE else sleep.sleep.depth
    return {name: value for name, value in told.items() if name not in idle}


def _idle_in(simulation: Simulation) -> set[str]:
    """Return the fields of a simulated sleep that others make idle."""
    idle: set[str] = set()
    if simulation.has_given_steps:
        idle.update(("potentiation", "depression", "depth"))
    if simulation.thresholds is not None:
        idle.add("target_rates")
    if simulation.max_rate is not None:
        idle.update(("input_spikes", "input_share"))
    return idle


def resolve(config: RunConfig, strategy: str) -> dict[str, Any]:
    """Return everything that can move a number of one strategy's runs, as plain JSON: what is hashed and recorded.

    Texts, the list of strategies and settings of other methods are left out, and `sleep` is None for a strategy that
    does not sleep, so that changing them does not discard records.

    Raises:
        ConfigError: There is no such strategy, or nothing would be left of its sleep.
    """
    sections = config.model_dump(include={"stream", "model", "training"})
    if config.backbone is not None:
        sections["backbone"] = config.backbone.model_dump()
    for key, default in LATER_STREAM_FIELDS.items():
        if sections["stream"][key] == default:
            del sections["stream"][key]
    sleep: dict[str, Any] | None = None
    row, suffix = find_row(strategy)
    if suffix:
        numbers = numbers_of(sleep_of(strategy, config.sleep.build()))
        sleep = {"preset": config.sleep.preset, "reference": config.sleep.reference, "every": config.sleep.every}
        then = {name for name, value in config.sleep.set.items() if LATER_SLEEP_FIELDS.get(name, math.nan) == value}
        if numbers.get("engine") == "closed_form" and config.sleep.set.get("depth") == DEPTH_BEFORE:
            then.add("depth")
        sleep |= {"changed": sorted(config.sleep.set.keys() - then), "numbers": numbers}
    if row.settings:
        sections["settings"] = _settings_of(config.settings, row.settings)
    return {**sections, "sleep": sleep, "strategy": strategy}


def _settings_of(settings: SettingsSection, names: Sequence[str]) -> dict[str, Any]:
    """Return the settings that a method reads; of the two that give the size of a memory, the one that counts."""
    idle = "memory_size" if settings.memory_size is None else "memory_fraction"
    return settings.model_dump(include=set(names) - {idle})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value  # JSON has no infinity
