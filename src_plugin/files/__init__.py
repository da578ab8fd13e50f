"""Copies of a network that a user keeps, files above all: each is put to sleep as the network itself was."""
