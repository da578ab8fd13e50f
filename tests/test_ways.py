"""Every way in and every way out has slept: cells of `tests/ways_script.py` equal the plain loop's."""

import os
import re
import subprocess
import sys

import pytest

from places import ROOT


@pytest.mark.slow
def test_what_each_way_keeps_is_as_good_as_the_plain_loop():
    places = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "ways_script.py"), "--tasks", "3", "--epochs", "3"],
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    rows = {name: cells for name, *cells in lines}
    plain = float(rows["plain loop"][0])
    for name in ("Avalanche", "pytorch_lightning"):
        assert re.fullmatch(r"\d+\.\d", rows[name][0])
    for name, cells in rows.items():
        for column, cell in enumerate(cells):
            if re.fullmatch(r"\d+\.\d", cell):
                averaged = column in (3, 4)  # another network: that of the last steps, or epochs
                assert abs(float(cell) - plain) <= (4 if averaged else 1), (name, column, cell, plain)
    assert [cell for cell in rows["pytorch_lightning"] if not re.fullmatch(r"\d+\.\d", cell)] == []
