"""Leaves out the docstrings of modules whose package, an extra, is not installed."""

from importlib.util import find_spec

NEEDS = {"src_plugin/trainer.py": "transformers"}

collect_ignore = [path for path, package in NEEDS.items() if find_spec(package) is None]
