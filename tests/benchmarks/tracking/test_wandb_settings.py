"""Where a run is mirrored is decided without a question, and no key is ever said."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from benchmarks.__main__ import parse
from benchmarks.configs.files import load_config
from benchmarks.tracking.settings import WandbSettings, announce, check_sweep, sending, without_key
from benchmarks.tracking.sync import log_record, sync
from places import ROOT
from src_plugin.errors import ConfigError
from wandb_samples import KEY, SUMMARY, file_of, homeless, slept_record

LOGIN = "login user password " + KEY


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with homeless(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.mark.parametrize(
    ("environment", "netrc", "mode"),
    [
        ({}, "", "offline"),
        ({"WANDB_API_KEY": KEY}, "", "online"),
        ({}, f"machine api.wandb.ai {LOGIN}", "online"),
        ({}, f"machine example.org {LOGIN}", "offline"),
        ({"WANDB_BASE_URL": "https://example.org"}, f"machine example.org {LOGIN}", "online"),
        ({"WANDB_BASE_URL": "https://example.org"}, f"machine api.wandb.ai {LOGIN}", "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "", "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "dryrun"}, "", "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "", "disabled"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "online"}, "", "online"),
    ],
)
def test_the_mode_is_decided_without_a_question(
    home: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], netrc: str, mode: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (home / ".netrc").write_text(netrc, encoding="utf-8")
    before = dict(os.environ)
    settings = WandbSettings().decided(beside=Path("records"))
    assert settings.mode == mode
    assert (settings.project, settings.entity, settings.dir) == ("src-plugin", None, home / "records")
    assert os.environ == before
    assert [path.name for path in home.iterdir()] == [".netrc"]


def test_what_is_said_outright_comes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODE": "disabled", "PROJECT": "theirs", "ENTITY": "team", "DIR": str(home / "d")}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    theirs = WandbSettings().decided()
    assert (theirs.mode, theirs.project, theirs.entity, theirs.dir) == ("disabled", "theirs", "team", home / "d")
    ours = WandbSettings(mode="offline", project="ours", entity="me", dir=home / "e").decided()
    assert (ours.mode, ours.project, ours.entity, ours.dir) == ("offline", "ours", "me", home / "e")
    assert ours.decided() == ours


def test_what_wandb_offline_left_behind_is_heeded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".config" / "wandb").mkdir(parents=True)
    (home / ".config" / "wandb" / "settings").write_text("[default]\nmode = offline\n", encoding="utf-8")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert WandbSettings().decided().mode == "offline"


WRONG: dict[str, tuple[dict[str, str], WandbSettings, str]] = {
    "mode": ({"WANDB_MODE": "onlin"}, WandbSettings(), "WANDB_MODE: unknown mode 'onlin'; did you mean 'online'"),
    "no key": ({}, WandbSettings(mode="online"), "there is no key. Run `wandb login`"),
    "short key": ({"WANDB_API_KEY": "tooshort"}, WandbSettings(), "must have 40"),
    "spaced key": ({"WANDB_API_KEY": f"{KEY} "}, WandbSettings(), "whitespace"),
    "server": ({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "not a url"}, WandbSettings(), "wandb cannot use what is set"),
}


@pytest.mark.parametrize(("environment", "settings", "message"), WRONG.values(), ids=WRONG)
def test_wrong_settings_are_refused_and_no_key_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], settings: WandbSettings, message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message) as caught:
        settings.decided()
    assert environment.get("WANDB_API_KEY", KEY).strip() not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # a traceback shows no other


def test_offline_the_mode_the_folder_and_the_next_step_are_said(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=40)
    settings = WandbSettings(mode="offline", project="mine", entity="me", dir=tmp_path / "my runs")
    announce(settings, records=Path("runs"), console=console)
    assert console.file.getvalue().splitlines() == [
        f"W&B: offline, project me/mine, files in {tmp_path / 'my runs' / 'wandb'}",
        "W&B: nothing leaves this machine. Later, with a network and a key (`wandb login`), send these files:",
        f"  wandb sync --yes '{tmp_path / 'my runs' / 'wandb'}'/offline-run-*",
        "or mirror the records themselves: python -m benchmarks wandb-sync runs --wandb online",
    ]
    assert sending(settings) in console.file.getvalue()


@pytest.mark.parametrize(("mode", "n_lines"), [("online", 1), ("disabled", 0)])
def test_where_there_is_no_next_step_none_is_said(tmp_path: Path, mode: str, n_lines: int) -> None:
    console = Console(file=io.StringIO(), width=40)
    settings = WandbSettings.model_validate({"mode": mode, "project": "mine", "dir": tmp_path})
    announce(settings, records=Path("runs"), console=console)
    assert console.file.getvalue().count("\n") == n_lines
    assert "sync" not in console.file.getvalue()


def test_the_commands_that_are_said_are_those_of_the_command_line(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=40)
    announce(WandbSettings(mode="offline", dir=tmp_path), records=Path("my runs"), console=console)
    _, _, command = console.file.getvalue().partition("python -m benchmarks ")
    options = parse(shlex.split(command))
    assert (options.command, options.folder, options.wandb) == ("wandb-sync", Path("my runs"), "online")


def test_a_key_is_cut_out_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert without_key("as it was") == "as it was"
    monkeypatch.setenv("WANDB_API_KEY", f" {KEY}")
    assert without_key(f"bad key {KEY}!") == "bad key <key>!"


def test_a_missing_wandb_is_missed_only_where_it_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'src-plugin\[wandb\]'"):
        WandbSettings(mode="offline").decided()
    disabled = WandbSettings(mode="disabled", dir=tmp_path)
    record = slept_record()
    assert log_record(record, path=file_of(record, tmp_path / "out"), settings=disabled) is None
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(ConfigError, match="W&B is disabled"):
        sync(tmp_path, settings=disabled, console=Console(file=io.StringIO()))


def test_a_trial_of_a_sweep_is_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    check_sweep(30)
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    check_sweep(1)
    with pytest.raises(ConfigError, match="this command makes 2"):
        check_sweep(2)


def test_the_sweep_sets_what_the_config_has() -> None:
    sweep = yaml.safe_load((ROOT / "configs/sweeps/src_depth.yaml").read_text(encoding="utf-8"))
    ((name, parameter),) = sweep["parameters"].items()
    *command, last = sweep["command"]
    assert command[:5] == ["${env}", "${interpreter}", "-m", "benchmarks", "run"]
    assert last == "${args_no_hyphens}"  # wandb puts name=value there
    options = parse([*command[4:], f"{name}={parameter['values'][0]}"])
    (path,) = options.configs
    config = load_config(ROOT / path, changes=options.changes)
    assert config.sleep.build().sleep.depth == parameter["values"][0]
    assert (config.stream.validation, config.stream.first) == (True, 3)
    assert (len(options.strategies), len(options.seeds), options.wandb) == (1, 1, "auto")
    assert sweep["metric"]["name"] in SUMMARY
