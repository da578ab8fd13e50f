"""Commands: one file each, with `add`, which gives a parser its options, and `main`, which does what they ask.

A file imports what takes seconds inside its functions, after names, keys and folders were checked.
"""
