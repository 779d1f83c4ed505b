"""Errors that are meant for the user: each names the value that is wrong and what to do about it.

InterleaveError
├── PlanError        a plan that cannot be executed
├── AgentError       a chat model that cannot be loaded, reached or understood
├── GeneratorError   an image that could not be made
├── RunError         a run folder or attempt store that cannot be used
└── ConfigError      a setting, a prompt file or an endpoint that is missing or wrong
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


class InterleaveError(Exception):
    """Base of all errors raised on purpose; `str(error)` is shown to the user as it is."""


class PlanError(InterleaveError):
    """A plan that cannot be executed."""


class AgentError(InterleaveError):
    """A chat model that cannot be loaded, reached or understood."""


class GeneratorError(InterleaveError):
    """An image that could not be made."""


class RunError(InterleaveError):
    """A run folder or attempt store that cannot be used."""


class ConfigError(InterleaveError):
    """A setting, a prompt file or an endpoint that is missing or wrong."""


def write_failed(doing: str, path: Path, error: OSError) -> RunError:
    """The error for the user: what could not be done, why, and what helps."""
    return RunError(
        f"Cannot {doing} {path}: {error.strerror or error}. {_advice(path, error)}Everything finished before is kept."
    )


def _advice(path: Path, error: OSError) -> str:
    number = error.errno
    if number == errno.ENAMETOOLONG or (os.name == "nt" and number == errno.ENOENT and len(str(path)) > 250):
        return "The name is too long for the file system: choose a shorter name or a folder with a shorter path. "
    if number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return "The disk is full: free some space and queue again. "
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "The folder or the file in it is read-only for this user: choose a writable folder. "
    if number == errno.ENOENT:
        return "The folder is missing: somebody removed it. Queue again. "
    if number in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
        return "A file lies where a folder is needed, or a folder where a file is needed: move it away. "
    if number == errno.EIO:
        return "The disk reports a fault: check it or choose a folder on another one. "
    if number == errno.ELOOP:
        return "A symbolic link lies there, and links are not followed: remove it. "
    return ""
