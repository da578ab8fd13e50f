"""Configs: their types, their files, their words."""
