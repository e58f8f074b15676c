"""Names from elsewhere in terminals and tables."""

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest

from benchmark import shown
from benchmark.reporting import markup


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("photos", "photos"),
        ("ä ↑ 图 😀\tx\n", "ä ↑ 图 😀\tx\n"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("a\rb", r"a\rb"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        (b"\xff.png".decode("utf-8", "surrogateescape"), r"\udcff.png"),
    ],
)
def test_what_a_terminal_obeys_is_written_out(name, seen):
    assert shown.printable(name) == seen
    seen.encode("utf-8")


def test_bytes_for_people():
    assert [shown.human_size(count) for count in (0, 3 << 19, (1 << 30) - 1, 1 << 30, 5 << 40)] == [
        "0.0 MiB", "1.5 MiB", "1,024.0 MiB", "1.0 GiB", "5,120.0 GiB",
    ]  # fmt: skip


def test_everything_printed_goes_through_it_and_progress_bars_stay():
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), shown.printed():
        print("a\x1b[31mb")
        import sys

        for part in ("\r 5 %\x1b[2J", "\n", "\x1b[A"):
            sys.stderr.write(part)
    assert out.getvalue() == "a\\x1b[31mb\n"
    assert err.getvalue() == "\r 5 %\\x1b[2J\n\x1b[A"


def test_no_cell_of_a_csv_is_a_formula():
    names = ["=1+1", "+x", "-LR", "@a", " =x", "-0.5", "plain", "a\x1b[31m"]
    lines = shown.csv({"row": name, "auroc": -1.234} for name in names).splitlines()
    assert lines[0] == "row,auroc"
    cells = ["'=1+1", "'+x", "'-LR", "'@a", "' =x", "-0.5", "plain", r"a\x1b[31m"]
    assert lines[1:] == [f"{cell},-1.23" for cell in cells]


def test_markup_shows_names_as_they_are():
    assert markup.md("a|b\n\x1b[x](http://y) <script> `c`") == r"a\|b \\x1b\[x\](http://y) \<script\> \`c\`"
    assert markup._tex("50% & $x_1$ \\input{a}\x1b") == (
        r"50\% \& \$x\_1\$ \textbackslash{}input\{a\}\textbackslash{}x1b"
    )
