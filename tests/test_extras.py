"""What the base installation leaves out, says so in one line with the command; either package of Lightning will do."""

import subprocess
import sys
import tomllib
from importlib.util import find_spec

import pytest

from places import ROOT

WITHOUT = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Block())
"""
TINY = """
import torch
from {package} import LightningModule, Trainer
from src_plugin import SRCCallback

class Tiny(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    def forward(self, x):
        return self.net(x)
    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

torch.manual_seed(0)
model, callback = Tiny(), SRCCallback()
for task in ([0, 1], [2, 3]):
    data = torch.utils.data.TensorDataset(torch.rand(8, 4), torch.tensor(4 * task))
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = Trainer(max_epochs=1, accelerator="cpu", callbacks=[callback], **quiet)
    trainer.fit(model, torch.utils.data.DataLoader(data))
print([report.decision for report in callback.reports])
"""


def run(code, *blocked):
    code = WITHOUT.format(blocked=blocked) + code
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


MISSING = {
    "Avalanche": (
        "from src_plugin import SRCPlugin",
        ["avalanche"],
        "SRCPlugin needs Avalanche: pip install 'src-plugin[avalanche]'",
    ),
    "transformers": (
        "from src_plugin import SRCTrainerCallback",
        ["transformers"],
        "SRCTrainerCallback needs Hugging Face's Trainer: pip install 'src-plugin[transformers]'",
    ),
    "wandb": (
        "from src_plugin import WandBLogger",
        ["wandb"],
        "WandBLogger needs Weights & Biases: pip install 'src-plugin[wandb]'",
    ),
    "matplotlib": (
        "from src_plugin import plot_sleeps",
        ["matplotlib"],
        "plot_sleeps needs matplotlib: pip install 'src-plugin[plot]'",
    ),
    "Lightning": (
        "from src_plugin import SRCCallback",
        ["lightning", "pytorch_lightning"],
        "SRCCallback needs Lightning, and neither lightning nor pytorch_lightning is installed: "
        "pip install 'src-plugin[lightning]'",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("code", "blocked", "message"), MISSING.values(), ids=MISSING)
def test_what_is_missing_is_said_in_one_line_with_the_command(code, blocked, message):
    done = run(code, *blocked)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: {message}"
    assert "During handling" not in done.stderr


@pytest.mark.slow
def test_a_sleep_needs_no_extra():
    done = run(
        "import torch\nfrom src_plugin import sleep\n"
        "head = torch.nn.Sequential(torch.nn.Linear(6, 20), torch.nn.ReLU(), torch.nn.Linear(20, 2))\n"
        "print(sleep(head, torch.ones(6)).decision)",
        *("avalanche", "lightning", "pytorch_lightning", "transformers"),
    )
    assert (done.returncode, done.stdout) == (0, "slept\n"), done.stderr


def test_every_extra_that_a_message_names_is_one_and_the_base_has_four_dependencies_at_most():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"avalanche", "lightning", "plot", "transformers", "wandb"} <= set(project["optional-dependencies"])
    assert len(project["dependencies"]) <= 4


PACKAGES = {
    "pytorch_lightning alone": ("pytorch_lightning", "lightning"),
    "lightning alone": ("lightning.pytorch", "pytorch_lightning"),
    "lightning beside the other": ("lightning.pytorch", None),
}


@pytest.mark.slow
@pytest.mark.parametrize(("package", "blocked"), PACKAGES.values(), ids=PACKAGES)
def test_a_callback_sleeps_in_the_trainer_of_either_package(package, blocked):
    if "lightning." in package and find_spec("lightning") is None:
        pytest.skip("the package lightning is not installed; pytorch_lightning is tested")
    done = run(TINY.format(package=package), *([blocked] if blocked else []))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['slept', 'slept']"
