"""What may reach a terminal or a table of names, reasons and file names that come from elsewhere."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from csv import writer as csv_writer
from json import dumps
from math import isnan
from typing import Any, TextIO, cast

_CURSOR_UP = re.compile(r"(\x1b\[A)+")  # of progress bars below each other
# control characters, marks that turn the direction of writing, line separators, and bytes that are no text
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""`text` with what a terminal obeys, or does not show, written out (`\x1b`); line feeds and tabs stay."""
    if text.isprintable():  # as most are: in a twentieth of the time
        return text
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def human_size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


def csv(lines: Iterable[Mapping[str, Any]], heads: Sequence[str] = ()) -> str:
    """A table as CSV: numbers with two decimals, nothing for NaN and None; no name in it that a spreadsheet would take
    for a formula. heads: of a table that may have no line."""
    lines = list(lines)
    heads = heads or list(dict.fromkeys(name for line in lines for name in line))
    file = io.StringIO()
    writer = csv_writer(file, lineterminator="\n")
    writer.writerow(map(_no_formula, heads))
    writer.writerows([_of_csv(line.get(name)) for name in heads] for line in lines)
    return file.getvalue()


def json(lines: Iterable[Mapping[str, Any]]) -> str:
    """A table as JSON: a list of its lines, one object a line; null for what is not there, and no NaN."""
    plain = ({name: None if value != value else value for name, value in line.items()} for line in lines)
    return "[\n" + ",\n".join(dumps(line, allow_nan=False) for line in plain) + "\n]"


def _of_csv(cell: Any) -> str:
    if isinstance(cell, float):
        return "" if isnan(cell) else f"{cell:.2f}"
    return "" if cell is None else _no_formula(str(cell))


def _no_formula(cell: str) -> str:
    shown = printable(cell)
    return f"'{shown}" if shown.lstrip().startswith(("=", "+", "-", "@")) and not _is_number(shown) else shown


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def printed() -> Iterator[None]:
    """Inside, all that goes to stdout and stderr is `printable`, as far as the terminal can show it.

    A reader that has gone (`| head`) or a stream that was closed stops nothing.
    """
    _open_streams()
    streams = sys.stdout, sys.stderr
    out, err = (cast(TextIO, _Printable(stream)) for stream in streams)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    finally:
        for stream in streams:
            try:  # so that Python need not do so at its end, where it would complain
                stream.flush()
            except (OSError, ValueError):
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def show(text: str) -> None:
    """Print, and let a terminal have the bold of a text that is `printable` but for that."""
    out = sys.stdout
    with contextlib.suppress(BrokenPipeError):
        print(text, file=out.stream if isinstance(out, _Printable) else out)


def _open_streams() -> None:
    """Closed ones are the null device: else the first file that is opened takes their place, and gets what is said."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Printable:
    """A stream that is written to as `printable`; a progress bar goes back to the start of its own line."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        if not _CURSOR_UP.fullmatch(text):
            back = "\r" * text.startswith("\r")
            text = back + printable(text.removeprefix("\r"))
        with contextlib.suppress(BrokenPipeError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
