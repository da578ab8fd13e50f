"""The mirror of a pretraining in Weights & Biases (W&B), by Lightning's own logger. A sink: the files stay the truth.

What of it is said to whom is decided as for runs, see `benchmarks.tracking.settings`; host, user, folders, packages,
git state, code and system metrics are not given to W&B.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.features.prediction import is_first_rank
from benchmarks.pretrain.config import PretrainConfig
from benchmarks.records.record import config_hash
from benchmarks.tracking.settings import WandbSettings, discretion, load_wandb, quiet, without_key
from src_plugin.errors import warn_user

try:
    from pytorch_lightning.loggers import WandbLogger
except ImportError as error:
    raise ImportError("pretraining needs the 'lightning' extra: pip install 'src-plugin[lightning]'") from error

STEP = "trainer/global_step"
"""Lightning's name of the step, beside everything that it logs."""


@contextmanager
def mirror(settings: WandbSettings, config: PretrainConfig, *, folder: Path) -> Iterator[WandbLogger | None]:
    """Give Lightning a logger, and close it in the end: as failed if an exception passes.

    A training that goes on, on the same config, is the same run in W&B. If it cannot be opened, there is one warning,
    and the training goes on without.

    Args:
        settings: Where it is mirrored.
        config: What is trained.
        folder: Of the pretraining; wandb's files lie in <folder>/wandb unless the settings say otherwise.

    Yields:
        The logger; None if W&B is disabled or cannot be used, and in the processes of all devices but the first.

    Raises:
        ConfigError: See `WandbSettings.decided`.
    """
    settings = settings.decided(beside=folder)
    if settings.mode == "disabled" or not is_first_rank():
        yield None
        return
    assert settings.dir is not None
    with discretion(settings.dir):
        logger = _open(settings, config)
        failed = True
        try:
            yield logger
            failed = False
        finally:
            if logger is not None:
                logger.experiment.finish(exit_code=int(failed))


def _open(settings: WandbSettings, config: PretrainConfig) -> WandbLogger | None:
    wandb = load_wandb()
    try:
        assert settings.dir is not None
        settings.dir.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            id=f"pretrain-{config.name}-{config_hash(config.identity())}",
            resume="allow",
            name=config.name,
            config={"name": config.name, **config.identity()},
            job_type="pretrain",
            tags=list(dict.fromkeys([config.dataset, "paper_vgg", *settings.tags])),
            mode=settings.mode,
            project=settings.project,
            entity=settings.entity,
            dir=str(settings.dir),
            reinit="create_new",  # leaves other runs of this process alone
            settings=quiet(settings),
        )
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
    except Exception as problem:
        warn_user(
            f"W&B: {config.name} could not be opened: {without_key(f'{type(problem).__name__}: {problem}')}. The "
            "training goes on without its mirror"
        )
        return None
    return WandbLogger(experiment=run)
