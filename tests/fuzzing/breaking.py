"""Ways to break a file: what disks, programs, people and enemies do to it, drawn from a seed."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
WORDS = (
    *(
        "",
        " ",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "-1",
        "0",
        "1e309",
        "-0",
        "9" * 30,
        "9" * 5000,
        "1.5.2",
        "0x10",
        "null",
        "~",
    ),
    *("true", "None", "[]", "{}", "é", "\u202e", "\ufeff", "\ud800", "\x00", "\x1b[31m", "[/red]", "%s", "${x}", "\t"),
    *(
        "../../outside/file",
        "/etc/passwd",
        "..",
        ".",
        "/",
        "a" * 300,
        "\\..\\..\\x",
        "con",
        "%[1-9]:;,'\"",
        "2024-99-99",
    ),
    *("!!python/object/apply:os.system [id]", "${oc.env:HOME}", "${oc.env:HOME,x}", "${oc.decode:x}", "${seed}", "${"),
    *("&a [*a]", "*x", "<<: *x", "- - - -", "? [a]", "!!binary x", "!!int x", "!!timestamp 1", "? {a: b}\n: c"),
)
"""What stands where something else is expected."""

Change = Callable[[bytes, random.Random], bytes]


def flip(content: bytes, draw: random.Random) -> bytes:
    """A few bytes, or only one bit, are others."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        if changed:
            place = draw.randrange(len(changed))
            changed[place] = changed[place] ^ (1 << draw.randrange(8)) if draw.random() < 0.5 else draw.randrange(256)
    return bytes(changed)


def flip_early(content: bytes, draw: random.Random) -> bytes:
    """The same among the first bytes, where headers are."""
    end = draw.choice((16, 64, 256))
    return flip(content[:end], draw) + content[end:]


def truncate(content: bytes, draw: random.Random) -> bytes:
    """The end is missing."""
    return content[: draw.randrange(len(content) + 1)]


def take_out(content: bytes, draw: random.Random) -> bytes:
    """A piece is missing."""
    first = draw.randrange(len(content) + 1)
    return content[:first] + content[first + draw.choice((1, 2, 4, 7, 64, 1000)) :]


def repeat(content: bytes, draw: random.Random) -> bytes:
    """A piece is there several times."""
    first = draw.randrange(len(content) + 1)
    piece = content[first : first + draw.choice((1, 4, 16, 200, 5000))]
    return content[:first] + piece * draw.choice((2, 3, 20)) + content[first + len(piece) :]


def insert(content: bytes, draw: random.Random) -> bytes:
    """Something is there that does not belong there."""
    place = draw.randrange(len(content) + 1)
    pieces = (b"\x00", b"\x00" * 1000, b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\n", b"\r", b'"', b"A" * 300_000)
    return content[:place] + (draw.choice(pieces) or draw.randbytes(8)) + content[place:]


def numbers(content: bytes, draw: random.Random) -> bytes:
    """A number is another, as processors store them: sizes, counts, rates, offsets."""
    size = draw.choice((1, 2, 4, 4, 8))
    place = draw.randrange(max(1, min(len(content), draw.choice((64, 512, 1 << 30)))))
    number = draw.choice(NUMBERS) % (1 << (8 * size))
    return content[:place] + number.to_bytes(size, draw.choice(("little", "big"))) + content[place + size :]


def nothing(content: bytes, draw: random.Random) -> bytes:
    """All of it is something else."""
    return draw.choice((b"", b"\x00" * len(content), b"\n", b"PK\x05\x06" + bytes(18), draw.randbytes(len(content))))


def lines(content: bytes, draw: random.Random) -> bytes:
    """Lines are missing, doubled, in another order or of another end."""
    found = content.splitlines(keepends=True) or [b""]
    place, other = draw.randrange(len(found)), draw.randrange(len(found))
    way = draw.randrange(5)
    if way == 0:
        del found[place]
    elif way == 1:
        found.insert(other, found[place])
    elif way == 2:
        found[place], found[other] = found[other], found[place]
    elif way == 3:
        found[place] = found[place].rstrip(b"\r\n") + draw.choice((b"\r", b"\r\n", b"", b"\x0b", b"\xe2\x80\xa8"))
    else:
        times = draw.choice((2, 50, 5000))
        found[place] = found[place].rstrip(b"\r\n")[: 2_000_000 // times] * times + b"\n"
    return b"".join(found)


def fields(content: bytes, draw: random.Random) -> bytes:
    """In a line, fields are missing, doubled, swapped or something else."""
    found = content.split(b"\n")
    place = draw.randrange(len(found))
    mark = max(b",\t; :=", key=lambda one: found[place].count(one)).to_bytes(1, "big")
    parts = found[place].split(mark)
    one, other = draw.randrange(len(parts)), draw.randrange(len(parts))
    way = draw.randrange(5)
    if way == 0:
        del parts[one]
    elif way == 1:
        parts.insert(one, parts[other])
    elif way == 2:
        parts[one], parts[other] = parts[other], parts[one]
    else:
        parts[one] = draw.choice(WORDS).encode("utf-8", "surrogatepass")
    found[place] = mark.join(parts)
    return b"\n".join(found)


def encoding(content: bytes, draw: random.Random) -> bytes:
    """The text is in another encoding."""
    text = content.decode("latin-1")
    return text.encode(
        draw.choice(("utf-16", "utf-16-le", "utf-32", "utf-8", "utf-8-sig", "cp500", "utf-7")), "replace"
    )


BYTES: tuple[Change, ...] = (flip, flip_early, truncate, take_out, repeat, insert, numbers, numbers, nothing)
TEXT: tuple[Change, ...] = (flip, truncate, take_out, repeat, insert, lines, lines, fields, fields, fields, encoding)


def broken(content: bytes, draw: random.Random, ways: Sequence[Change]) -> bytes:
    """Breaks the content of a file in one to three of some ways."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        content = draw.choice(ways)(content, draw)
    return content


def other(value: Any, draw: random.Random) -> Any:
    """Something of another kind, or of the same and out of all bounds."""
    if isinstance(value, bool | int | float) and draw.random() < 0.5:
        return draw.choice((-1, 0, 0.5, 1e308, -1e308, float("nan"), float("inf"), *NUMBERS, 10**5000))
    return draw.choice((None, True, 0, -1, 1.5, float("nan"), [], {}, [value], {"a": value}, [[[]]], "", *WORDS))


def broken_tree(tree: Any, draw: random.Random) -> Any:
    """Breaks nested dicts and lists in one place: something is missing, doubled or of another kind."""
    if isinstance(tree, dict) and tree and draw.random() < 0.85:
        changed = dict(tree)
        key = draw.choice(list(changed))
        way = draw.random()
        if way < 0.12:
            del changed[key]
        elif way < 0.2:
            changed[draw.choice((*WORDS, 3, None))] = changed.pop(key)
        else:
            changed[key] = broken_tree(changed[key], draw)
        return changed
    if isinstance(tree, list) and tree and draw.random() < 0.85:
        place = draw.randrange(len(tree))
        if draw.random() < 0.2:
            return tree[:place] + tree[place + 1 :]
        return [*tree[:place], broken_tree(tree[place], draw), *tree[place + 1 :]]
    return other(tree, draw)


def broken_json(content: bytes, draw: random.Random) -> bytes:
    """Breaks JSON as a text, or what it says."""
    if draw.random() < 0.3:
        return broken(content, draw, TEXT)
    tree = json.loads(content)
    for _ in range(draw.choice((1, 1, 2))):
        tree = broken_tree(tree, draw)
    try:
        return json.dumps(tree).encode("utf-8", "surrogatepass")
    except ValueError:  # more digits than Python writes
        return b'{"a": ' + b"9" * 10_000 + b"}"
