"""The head: the layers that sleep, found, read and written."""
