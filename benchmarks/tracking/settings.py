"""WandbSettings: where runs are mirrored in Weights & Biases (W&B), decided without a question to anyone."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from rich.console import Console

from benchmarks.configs.run import Section
from benchmarks.console import say
from src_plugin.errors import ConfigError, did_you_mean

MODES = {"online": "online", "offline": "offline", "disabled": "disabled", "run": "online", "dryrun": "offline"}
"""What WANDB_MODE may say; the last two are wandb's older names."""


class WandbSettings(Section):
    """Where runs are mirrored.

    Attributes:
        mode: "online", "offline" (files that `wandb sync` sends later) or "disabled"; None leaves it to `decided`.
        project: W&B's project; None for WANDB_PROJECT, or "src-plugin".
        entity: User or team; None for WANDB_ENTITY, or the key's own.
        dir: wandb's files lie in <dir>/wandb; None for WANDB_DIR, or the folder of the records.
        tags: Besides data set, strategy, and whether it sleeps.
        init_timeout: Longest wait for an answer when a run is opened, in s.
        finish_timeout: Longest wait for the rest to be sent when it is closed, in s.
    """

    mode: Literal["online", "offline", "disabled"] | None = None
    project: str | None = None
    entity: str | None = None
    dir: Path | None = None
    tags: list[str] = Field(default_factory=list)
    init_timeout: float = Field(default=30.0, gt=0)
    finish_timeout: float = Field(default=60.0, gt=0)

    @property
    def folder(self) -> Path:
        """The `dir` of settings that are decided."""
        assert self.dir is not None
        return self.dir

    def decided(self, *, beside: Path = Path("runs")) -> WandbSettings:
        """Return these settings with nothing left open; without a question to anyone, and without the network.

        The mode is this one, or that of WANDB_MODE, or what `wandb offline` or `wandb disabled` left in wandb's own
        settings; else "online" if there is a key (WANDB_API_KEY, WANDB_IDENTITY_TOKEN_FILE, netrc) for the server of
        wandb's settings, else "offline".

        Args:
            beside: The folder of the records.

        Raises:
            ConfigError: wandb is not installed, WANDB_MODE is none of its modes, a key or another of its variables
                is malformed, or "online" was asked for and there is no key.
        """
        folder = (self.dir or Path(os.environ.get("WANDB_DIR") or beside)).absolute()
        given = {
            "project": self.project or os.environ.get("WANDB_PROJECT") or "src-plugin",
            "entity": self.entity or os.environ.get("WANDB_ENTITY") or None,
            "dir": folder,
        }
        mode = self.mode or _mode_of_environment()
        if mode != "disabled":
            load_wandb()
        if mode in ("online", None):
            has_key, usual = _look_for_key(folder)
            if mode == "online" and not has_key:
                raise ConfigError(
                    "W&B's mode is online, but there is no key. Run `wandb login`, or set WANDB_API_KEY; or let the "
                    "mode be offline, and send the files later by `wandb sync`"
                )
            mode = mode or (usual if usual != "online" else "online" if has_key else "offline")
        return self.model_copy(update={**given, "mode": mode})


def sending(settings: WandbSettings) -> str:
    """Return the command that sends what was mirrored offline.

    Args:
        settings: As `WandbSettings.decided` gives them.
    """
    assert settings.dir is not None
    return f"wandb sync --yes {shlex.quote(str(settings.dir / 'wandb'))}/offline-run-*"


def announce(settings: WandbSettings, *, records: Path, console: Console) -> None:
    """Say once, before runs are made, where they are mirrored, and what is to be done then.

    Args:
        settings: As `WandbSettings.decided` gives them.
        records: The folder of the records.
        console: Where it is said.
    """
    if settings.mode == "disabled":
        return
    assert settings.dir is not None
    project = "/".join(filter(None, (settings.entity, settings.project)))
    lines = [f"W&B: {settings.mode}, project {project}, files in {settings.dir / 'wandb'}"]
    if settings.mode == "offline":
        again = f"python -m benchmarks wandb-sync {shlex.quote(str(records))} --wandb online"
        lines += [
            "W&B: nothing leaves this machine. Later, with a network and a key (`wandb login`), send these files:",
            f"  {sending(settings)}",
            f"or mirror the records themselves: {again}",
        ]
    for line in lines:
        say(console, line)


def _mode_of_environment() -> str | None:
    name = os.environ.get("WANDB_MODE")
    if not name:
        return None
    if name not in MODES:
        raise ConfigError(f"WANDB_MODE: unknown mode {name!r}{did_you_mean(name, MODES)}")
    return MODES[name]


def load_wandb() -> Any:
    """Return the package wandb.

    Raises:
        ConfigError: It is not installed, or is older than 0.31.
    """
    try:
        import wandb
        from wandb.sdk.lib import wbauth  # noqa: F401 - a folder named wandb has none, nor have older versions
    except ImportError as error:
        cure = "pip install 'src-plugin[wandb]'"
        raise ConfigError(f"mirroring runs in W&B needs wandb 0.31 or later: {cure}") from error
    return wandb


def quiet(settings: WandbSettings, **more: Any) -> Any:
    """Return wandb's own settings of a run: silent, and nothing of the machine, its user or the code is given away.

    Args:
        settings: How long it waits.
        more: Further fields of wandb.Settings.
    """
    return load_wandb().Settings(
        silent=True,
        console="off",
        program="benchmarks",  # else the path of the script, and with it the name of a user
        host="",
        disable_git=True,
        disable_code=True,
        save_code=False,
        label_disable=True,
        sagemaker_disable=True,  # it would give runs ids and groups of its own
        symlink=False,
        init_timeout=settings.init_timeout,
        finish_timeout=settings.finish_timeout,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
        **more,
    )


def _look_for_key(folder: Path) -> tuple[bool, str]:
    """Return whether wandb would find a key, and the mode of its settings files."""
    wandb = load_wandb()
    from wandb.sdk.lib import wbauth

    with discretion(folder):
        try:
            found = wandb.sdk.wandb_setup.singleton().settings
            key = wbauth.authenticate_session(
                host=found.base_url, source="src-plugin", prompt=False, update_session=False
            )
        except (wandb.Error, ValueError) as error:  # from None: a traceback that is kept must not hold a key
            raise ConfigError(f"wandb cannot use what is set for it: {without_key(str(error))}") from None
    return key is not None, MODES.get(found.mode, "online")


@contextmanager
def discretion(folder: Path) -> Iterator[None]:
    """Keep wandb quiet, its error reports at home, and files that wait to be sent beside the records; no lasting trace.

    What the user has set stands.
    """
    wanted = {
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_DATA_DIR": str(folder / "wandb" / "data"),
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def check_sweep(n_runs: int) -> None:
    """Refuse more than one run where an agent of a sweep is waiting for the one that bears its id.

    Args:
        n_runs: Runs that this process is going to make.

    Raises:
        ConfigError: There are several, and WANDB_SWEEP_ID is set.
    """
    if n_runs > 1 and os.environ.get("WANDB_SWEEP_ID"):
        raise ConfigError(
            f"a trial of a W&B sweep is one run, and this command makes {n_runs}; give one config, one name to "
            "--strategies and one to --seeds"
        )


def without_key(text: str) -> str:
    """Return a text in which the key of the environment, should it be there, is "<key>"."""
    key = os.environ.get("WANDB_API_KEY", "").strip()
    return text.replace(key, "<key>") if key else text
