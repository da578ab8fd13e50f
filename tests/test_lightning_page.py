"""What docs/lightning.md shows works, with either package of Lightning, and with its command line."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from places import ROOT

PAGE = (ROOT / "docs" / "lightning.md").read_text("utf-8")
CLI = """
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.cli import LightningCLI
from page import Digits, task

class Task(LightningDataModule):
    def train_dataloader(self):
        return task(0, 1)

cli = LightningCLI(Digits, Task)
kept = torch.load(cli.trainer.checkpoint_callback.best_model_path, weights_only=True)["state_dict"]
assert all(torch.equal(kept[name], weight) for name, weight in cli.model.state_dict().items())
print([report.decision for c in cli.trainer.callbacks if type(c).__name__ == "SRCCallback" for report in c.reports])
"""
needs_lightning = pytest.mark.skipif(find_spec("lightning") is None, reason="the package lightning is not installed")
PACKAGES = ["pytorch_lightning", pytest.param("lightning.pytorch", marks=needs_lightning)]


def block(language):
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]


def run(folder, package, *command, **files):
    for name, text in files.items():
        (folder / name.replace("_py", ".py")).write_text(text.replace("pytorch_lightning", package), "utf-8")
    places = [str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_the_script_of_the_page_runs_and_keeps_the_slept_network(tmp_path, package):
    check = "\n    assert all(torch.equal(v, model.state_dict()[n]) for n, v in slept.state_dict().items())\n"
    out = run(tmp_path, package, "page.py", page_py=block("python").rstrip() + check)
    assert len(re.findall(r"^slept: ", out, re.MULTILINE)) == 5


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_the_command_line_takes_the_yaml_of_the_page(tmp_path, package):
    pytest.importorskip("jsonargparse", reason="LightningCLI needs jsonargparse[signatures]")
    (tmp_path / "sleep.yaml").write_text(block("yaml"), "utf-8")
    files = {"page_py": block("python"), "train_py": CLI}
    assert run(tmp_path, package, "train.py", "fit", "--config", "sleep.yaml", **files).endswith("['slept']\n")
