"""`--config FILE` for commands: options from a YAML (or JSON) file, and a copy of all that were used beside the output.

A key is an option's long name; what is typed on the command line wins over the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import write_atomically

_NOT_SAVED = {"config", "dry_run", "resume", "do"}


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="YAML or JSON file of these options; the command line wins")


def with_config(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """`arguments` with the options of their `--config` file put where they can still be overruled.

    Raises:
        ConfigError: the file cannot be read, or has an option that the command does not know.
    """
    given = list(arguments)
    at = next((i for i, a in enumerate(given) if a == "--config" or a.startswith("--config=")), None)
    if at is None:
        return given
    words, command = _command(parser, given)
    if not any("--config" in a.option_strings for a in command._actions):
        return given  # another command's own word, or its error to report
    joined = given[at].startswith("--config=")
    if not joined and at + 1 == len(given):
        return given
    path = Path(given[at].split("=", 1)[1] if joined else given[at + 1])
    rest = given[words:at] + given[at + (1 if joined else 2) :]
    typed = {word.partition("=")[0] for word in rest if word.startswith("--")}
    return [*given[:words], *_as_arguments(command, read_options(path), path, typed), *rest]


def read_options(path: Path) -> dict[str, Any]:
    """The options of a file, by name.

    Raises:
        ConfigError: it is missing, no YAML, or no mapping of names.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(found, dict) or not all(isinstance(k, str) for k in found):
        raise ConfigError(f"{path} must be a list of options, a line `name: value` each.")
    return found


def save_options(options: argparse.Namespace, path: Path) -> None:
    """Write all options of a command, defaults too; `--config` takes the file back."""
    import yaml

    plain = {
        name.replace("_", "-"): _plain(value)
        for name, value in sorted(vars(options).items())
        if name not in _NOT_SAVED and not name.endswith("command") and value is not None and value != []
    }
    write_atomically(path, yaml.safe_dump(plain, sort_keys=True, allow_unicode=True).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value if isinstance(value, (bool, int, float)) else str(value)


def _command(parser: argparse.ArgumentParser, given: Sequence[str]) -> tuple[int, argparse.ArgumentParser]:
    """The sub-command that `given` names, and how many words it took."""
    words = 0
    while words < len(given):
        choices = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), {})
        if given[words] not in choices:
            break
        parser = choices[given[words]]
        words += 1
    return words, parser


def _as_arguments(command: argparse.ArgumentParser, found: dict[str, Any], path: Path, typed: set[str]) -> list[str]:
    """typed: options of the command line; a list that is typed replaces the list of the file."""
    known = {o[2:]: a for a in command._actions for o in a.option_strings if o.startswith("--")}
    positionals = {a.dest.replace("_", "-"): a for a in command._actions if not a.option_strings}
    arguments: list[str] = []
    for name, value in found.items():
        action = known.get(name.replace("_", "-"))
        if action is None and name.replace("_", "-") in positionals:
            continue  # it was saved beside the output; it is typed on the command line
        if action is None:
            raise ConfigError(f"{path}: there is no option {name!r}; known are {', '.join(sorted(known))}.")
        flag = f"--{name.replace('_', '-')}"
        if action.nargs == 0:
            if not isinstance(value, bool):
                raise ConfigError(f"{path}: {name} is {value!r}; write true or false.")
            off = f"--no-{flag[2:]}"
            arguments += [flag] if value else [off] if off in action.option_strings else []
            continue
        values = value if isinstance(value, list) else [value]
        if any(isinstance(v, (dict, list)) or v is None for v in values):
            raise ConfigError(f"{path}: {name} is {value!r}; write a plain value.")
        if isinstance(action, argparse._AppendAction):
            if typed.intersection(action.option_strings):
                continue
            arguments += [f"{flag}={v}" for v in values]
        else:
            arguments.append(f"{flag}={','.join(str(v) for v in values)}")
    return arguments
