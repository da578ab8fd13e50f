"""A matrix: regimes by methods on several data sets, from one YAML file that varies a base one factor at a time.

    config of (dataset, regime) = base <- {stream: {dataset: ...}} <- datasets.<dataset> <- regimes.<regime>.set

A data set goes by its own name, or by any other if it says which one it is: stream: {dataset: cifar10}. Images need a
backbone, and the data set says which.

Mappings are merged, anything else is replaced, as in `benchmarks.configs.run`. Methods are written for naive training;
a regime with another strategy underneath, say replay, puts its name in place of naive (naive+src becomes replay+src).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args

from pydantic import Field, ValidationError

from benchmarks.configs.files import explain, merge, refuse_unknown
from benchmarks.configs.run import RunConfig, Section
from benchmarks.configs.yaml_files import MATRIX, read_mapping
from benchmarks.data.sets import DATA_SETS, IMAGE_SETS, check_known
from src_plugin.errors import ConfigError, did_you_mean
from strategies import find_row

Group = Literal["training", "one layer", "streams", "underneath"]
GROUPS: tuple[str, ...] = get_args(Group)  # in the order of a table

NAIVE = "naive"  # the word in a method's name that stands for the strategy underneath
PARTS = ("stream", "model", "training", "sleep", "settings")  # what a base or a regime may set
PARTS_OF_DATASET = (*PARTS, "backbone")
Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Methods = Annotated[list[str], Field(min_length=1)]


class Regime(Section):
    """One row of the matrix.

    Attributes:
        name: Short and without spaces; part of the names of configs and folders.
        title: What people read in its place.
        group: What it varies: the "training", the "streams", or what is trained "underneath" the sleep; "one layer" is
            training of heads that `auto` only levels, which no mean is taken of.
        set: Parts of RunConfig that differ from the base.
        methods: Instead of those of the matrix.
        datasets: Some of those of the matrix; None for all.
        no_harm: Whether sleep promises to cost nothing here; the table says whether it kept that.
        strategy: What takes the place of "naive" in the names of methods.
    """

    name: Slug
    title: str
    group: Group
    set: dict[str, Any] = Field(default_factory=dict)
    methods: Methods | None = None
    datasets: Annotated[list[str], Field(min_length=1)] | None = None
    no_harm: bool = False
    strategy: str = NAIVE


class MatrixFile(Section):
    """What a YAML file holds.

    Attributes:
        name: Title of the table.
        description: What the matrix is for.
        base: Parts of RunConfig that all regimes share, without the data set.
        datasets: Name of a data set -> parts that differ on it.
        titles: Name of a data set -> what people read; without one the title of the data set, or its name.
        methods: Names of strategies, written for naive training.
        draws: "heat_map", or "curves" along the regimes: accuracy with and without sleep.
        regimes: The rows.
    """

    name: str
    description: str = ""
    base: dict[str, Any]
    datasets: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    titles: dict[str, str] = Field(default_factory=dict)
    methods: Methods
    draws: Literal["heat_map", "curves"] = "heat_map"
    regimes: Annotated[list[Regime], Field(min_length=1)]


@dataclass(frozen=True)
class Cell:
    """One regime on one data set.

    Attributes:
        dataset: The data set's name in the file.
        title: What people call it.
        regime: The row it belongs to.
        config: What is run; its name is <file stem>-<dataset>-<regime>.
        strategies: Method, as the file writes it -> strategy that is run for it.
    """

    dataset: str
    title: str
    regime: Regime
    config: RunConfig
    strategies: dict[str, str]


@dataclass(frozen=True)
class Matrix:
    """A file, read and checked.

    Attributes:
        stem: Name of the file without its ending: the folder of its records.
        title: For people.
        methods: All of its methods.
        draws: Which picture it makes.
        cells: Data set by data set, regimes in the order of their groups, then of the file.
    """

    stem: str
    title: str
    methods: tuple[str, ...]
    draws: Literal["heat_map", "curves"]
    cells: tuple[Cell, ...]

    def check_methods(self, methods: Sequence[str]) -> None:
        """Refuse methods that the matrix does not have.

        Raises:
            ConfigError: The nearest known one is named.
        """
        for method in methods:
            if method not in self.methods:
                raise ConfigError(f"{self.stem} has no method {method!r}{did_you_mean(method, self.methods)}")

    def select(self, *, regimes: Sequence[str] | None = None, datasets: Sequence[str] | None = None) -> Matrix:
        """Return the matrix of some of its regimes and data sets; None keeps all.

        Raises:
            ConfigError: A name is not in the matrix, or nothing is left of it.
        """
        for kind, asked, known in (
            ("regime", regimes, {cell.regime.name for cell in self.cells}),
            ("dataset", datasets, {cell.dataset for cell in self.cells}),
        ):
            for name in asked or ():
                if name not in known:
                    raise ConfigError(f"{self.stem} has no {kind} {name!r}{did_you_mean(name, known)}")
        kept = tuple(
            cell
            for cell in self.cells
            if (regimes is None or cell.regime.name in regimes) and (datasets is None or cell.dataset in datasets)
        )
        if not kept:
            raise ConfigError(f"{self.stem} has none of these regimes on these data sets")
        return replace(self, cells=kept)


def load_matrix(path: Path) -> Matrix:
    """Read a matrix and build the config of every cell.

    Raises:
        ConfigError: The file is missing or not YAML, a key or a name is unknown (the nearest known one is given), a
            value does not fit, or two regimes share a name; the message names file, regime and key.
    """
    raw = read_mapping(path, MATRIX)
    file = _validate(raw, path)
    _refuse_parts(file.base, path, "base")
    for name, parts in file.datasets.items():
        _refuse_dataset(name, parts, path)
    for name in file.titles:
        if name not in file.datasets:
            raise ConfigError(f"{path}: titles: unknown {name!r}{did_you_mean(name, file.datasets)}")
    for i, regime in enumerate(file.regimes):
        where = f"regimes.{regime.name}"
        if regime.name in {other.name for other in file.regimes[:i]}:
            raise ConfigError(f"{path}: two regimes are called {regime.name!r}; a name says which folder is whose")
        for name in regime.datasets or ():
            if name not in file.datasets:
                raise ConfigError(f"{path}: {where}.datasets: unknown {name!r}{did_you_mean(name, file.datasets)}")
        _refuse_parts(regime.set, path, f"{where}.set")
    rows = sorted(file.regimes, key=lambda regime: GROUPS.index(regime.group))
    cells = tuple(
        _build_cell(file, path, dataset=dataset, regime=regime)
        for dataset in file.datasets
        for regime in rows
        if regime.datasets is None or dataset in regime.datasets
    )
    methods = tuple(dict.fromkeys([*file.methods, *(method for cell in cells for method in cell.strategies)]))
    return Matrix(stem=path.stem, title=file.name, methods=methods, draws=file.draws, cells=cells)


def _validate(raw: Mapping[str, Any], path: Path) -> MatrixFile:
    """Check the file's own keys; regimes one by one, so that a message can name the regime."""
    if "regimes" not in raw and raw.keys() & {"extends", "stream", "strategies"}:
        raise ConfigError(f"{path} is the config of one benchmark, no matrix: python -m benchmarks run {path}")
    for key in raw:
        if key not in MatrixFile.model_fields:
            raise ConfigError(f"{path}: unknown key {key!r}{did_you_mean(key, MatrixFile.model_fields)}")
    rows = raw.get("regimes")
    for i, row in enumerate(rows if isinstance(rows, list) else ()):
        if isinstance(row, Mapping):
            name = row.get("name", i)
            refuse_unknown(row, Regime, path, f"regimes.{name}.")
            try:
                Regime.model_validate(row)
            except ValidationError as error:
                _refuse(error, row, path, f"in regime {name!r}")
    try:
        return MatrixFile.model_validate(raw)
    except ValidationError as error:
        _refuse(error, raw, path, "")


def _refuse(error: ValidationError, raw: Mapping[str, Any], path: Path, where: str) -> NoReturn:
    raise ConfigError(explain(error, [(path, dict(raw))]) + (f", {where}" if where else "")) from error


def _refuse_parts(parts: Mapping[str, Any], path: Path, where: str) -> None:
    """Refuse keys that are no part of RunConfig, and a data set: which one is said by `datasets` alone."""
    _refuse_keys(parts, path, where, known=PARTS)
    if "dataset" in parts.get("stream", {}):
        raise ConfigError(f"{path}: {where}.stream.dataset: the data sets of a matrix are the keys of `datasets`")


def _refuse_dataset(name: str, parts: Mapping[str, Any], path: Path) -> None:
    """Refuse a data set that does not exist, one of images without a backbone, and keys that are no part of it."""
    where = f"datasets.{name}"
    _refuse_keys(parts, path, where, known=PARTS_OF_DATASET)
    dataset = parts.get("stream", {}).get("dataset", name)
    check_known(str(dataset), where=f"{path}: datasets: ")
    if dataset in IMAGE_SETS and "backbone" not in parts:
        raise ConfigError(f"{path}: {where}: {dataset} are images, which need a backbone; add {where}.backbone")


def _refuse_keys(parts: Mapping[str, Any], path: Path, where: str, *, known: Sequence[str]) -> None:
    for part, content in parts.items():
        if part not in known:
            raise ConfigError(f"{path}: unknown key {f'{where}.{part}'!r}{did_you_mean(part, known)}")
        if not isinstance(content, Mapping):
            raise ConfigError(f"{path}: {where}.{part} must be a mapping; got {content!r}")
    refuse_unknown(parts, RunConfig, path, f"{where}.")


def _build_cell(file: MatrixFile, path: Path, *, dataset: str, regime: Regime) -> Cell:
    where = f"in regime {regime.name!r} on {dataset}"
    methods = regime.methods or file.methods
    strategies = {method: _strategy(method, regime.strategy) for method in methods}
    if len(strategies) < len(methods):
        raise ConfigError(f"{path}: methods: one is named twice, {where}: {', '.join(methods)}")
    for strategy in strategies.values():
        try:
            find_row(strategy)
        except ConfigError as error:
            raise ConfigError(f"{path}: methods: {error}, {where}") from error
    merged: dict[str, Any] = {
        "name": f"{path.stem}-{dataset}-{regime.name}",
        "description": f"{file.name}: {regime.title} on {dataset}.",
        "strategies": list(strategies.values()),
    }
    for layer in (file.base, {"stream": {"dataset": dataset}}, file.datasets[dataset], regime.set):
        merged = merge(merged, layer)
    try:
        config = RunConfig.model_validate(merged)
    except ValidationError as error:
        _refuse(error, merged, path, where)
    try:
        config.sleep.build()
    except ConfigError as error:
        raise ConfigError(f"{path}: sleep: {error}, {where}") from error
    title = file.titles.get(dataset) or (DATA_SETS[dataset].title if dataset in DATA_SETS else dataset)
    return Cell(dataset=dataset, title=title, regime=regime, config=config, strategies=strategies)


def _strategy(method: str, underneath: str) -> str:
    """Return the strategy of a method: naive+src over replay is replay+src, average stays what it is."""
    base, plus, end = method.partition("+")
    return f"{underneath}{plus}{end}" if base == NAIVE else method
