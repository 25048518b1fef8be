"""YAML that a stranger may have written: of bounded size, once all its aliases are written out."""

from pathlib import Path

import yaml  # type: ignore[import-untyped]

from datamodules.errors import InputError

MOST_BYTES = 1 << 20
MOST_VALUES = 100_000
MOST_LEVELS = 50

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml_text(file: Path, most_bytes: int = MOST_BYTES, most_values: int = MOST_VALUES) -> str:
    """Reads a YAML file as a text that can be parsed in little time and memory.

    A few lines of aliases to aliases stand for billions of values, and lists in lists for a stack that overflows: it is
    gone through once without making anything of it. What tags ask for is up to whoever parses it: with a safe loader,
    no object is made.

    Args:
        file: The file.
        most_bytes: A larger one is refused.
        most_values: Likewise one of more values.

    Raises:
        InputError: It cannot be read, is no YAML, or is larger than it may be.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise InputError(f"{file} has more than {most_bytes} bytes", "Settings are shorter: give another file.")
        text = content.decode()
        if why := _too_large(text, most_values):
            raise InputError(f"{file} {why}", "Write it plainly, without aliases (&, *).")
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{file} cannot be read as YAML: {error}", "Repair the file.") from error
    return text


def _too_large(text: str, most_values: int) -> str | None:
    """What is too large in a text, once aliases are written out."""
    sizes: dict[str, int] = {}
    levels: list[tuple[str | None, int]] = []  # of each that is open: its anchor, and the values before it
    values = 0
    for event in yaml.parse(text, Loader=_Loader):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            levels.append((anchor, values))
            if len(levels) > MOST_LEVELS:
                return f"has more than {MOST_LEVELS} levels"
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = levels.pop()
            if anchor:
                sizes[anchor] = values - before
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == open_one for open_one, _ in levels):
                return f"has an alias *{anchor} within what it stands for"
            values += sizes.get(str(anchor), 1)
        values += 1
        if values > most_values:
            return f"stands for more than {most_values} values"
    return None
