"""The laboratory: typed configs in, one record per run out, tables and pictures from records only.

Start with `python -m benchmarks run configs/split_digits.yaml`. Not part of the installed package.
"""
