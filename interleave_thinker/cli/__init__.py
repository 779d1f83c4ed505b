"""The command line, `interleave-thinker`: one module a command group; `research` holds those that the archive lacks."""

from .command_line import main

__all__ = ["main"]
