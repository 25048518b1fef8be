"""What the command lines share: settings of their own among others, and how they end."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping

from callbacks.interruption import INTERRUPTED, Interrupted
from datamodules.errors import FULL, GONE, InputError

BAD_INPUT = 2
"""Exit code of programs that cannot use what they were given."""


def own_settings(settings: Iterable[str], defaults: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Takes a command's own settings out of those that it is given.

    Args:
        settings: ``key=value``.
        defaults: The command's own, by key.

    Returns:
        Its own, by key, and the others as they are.
    """
    own, others = dict(defaults), []
    for setting in settings:
        key, equals, value = setting.partition("=")
        if equals and key in own:
            own[key] = value
        else:
            others.append(setting)
    return own, others


def number(name: str, text: str, low: float, high: float, whole: bool = False) -> float:
    """Reads a setting that is a number.

    Args:
        name: Of the setting.
        text: What was given.
        low: The least that it may be.
        high: The most.
        whole: Whether it has to be a whole number.

    Raises:
        InputError: It is none of these.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{name} is {text!r}", f"Give {kind} from {low:g} to {high:g}.")
    return value


def switch(name: str, text: str) -> bool:
    """Reads a setting that is true or false.

    Raises:
        InputError: It is neither.
    """
    if text not in ("true", "false"):
        raise InputError(f"{name} is {text!r}", "Give true or false.")
    return text == "true"


def finish(command: Callable[[], int | None], interrupted: str = "interrupted") -> int:
    """Carries out a command, and tells in one message what it could not use.

    Args:
        command: Returns its exit code; none is 0.
        interrupted: What to tell where ctrl-C ended it.

    Returns:
        The exit code: 2 where the input, or a full disk, cannot be used, and those of ``Interrupted``.
    """
    try:
        return command() or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return BAD_INPUT
    except OSError as error:
        where = f" while writing {error.filename}" if error.filename else ""
        remedy = "set output and data.cache to folders on another disk; `make resume` goes on with a run."
        if error.errno in FULL:
            print(f"error: the disk is full{where}\n  Free some space, or {remedy}", file=sys.stderr)
        elif error.errno in GONE:
            print(f"error: {error.strerror}{where}\n  Have the disk repaired, or {remedy}", file=sys.stderr)
        else:
            raise
        return BAD_INPUT
    except Interrupted as error:
        if error.text:
            print(error.text, file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED
