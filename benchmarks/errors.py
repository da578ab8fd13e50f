"""Errors of the laboratory that a user can meet; those of the library are in `src_plugin.errors`."""

from __future__ import annotations

from src_plugin.errors import ConfigError, SRCError


class DataError(SRCError, ValueError):
    """The images are not where they were looked for, or are not what they should be."""


class ImageError(DataError):
    """One image cannot be read. It passes from a DataLoader's worker to its parent as what it is.

    Attributes:
        index: Which image of its split; None where torch made the error again from its text alone.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class FullDiskError(DataError):
    """There is no room for a file."""


class RecordError(SRCError, ValueError):
    """A record file cannot be read, or what it says cannot be true."""


class NewerRecordError(RecordError):
    """A record, or a file of records, is of a form that newer code wrote; it is not touched."""


class ModelFileError(SRCError, ValueError):
    """A model file cannot be read, or does not go with the backbone that is here."""


class SubmitError(SRCError, ValueError):
    """Records cannot be submitted as they are, or not to this place; nothing was written."""


class ClusterError(SRCError, ConnectionError):
    """A cluster cannot be reached, or one of its nodes cannot make runs; none was begun."""


class WorkerError(SRCError, RuntimeError):
    """A process of the suite ended without an answer, twice."""


class ImpossibleError(ConfigError):
    """A strategy does not go with this network, optimizer, stream or memory; nothing was trained."""


class DiskFullError(SRCError, OSError):
    """What a run leaves does not fit on the disk any more."""


class TrainingError(SRCError, RuntimeError):
    """A pretraining cannot go on: it diverged, or the state it would go on from is of another one."""
