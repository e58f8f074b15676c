"""The one way to open a file from outside: regular files, and nothing that could make a run wait."""

import os
import socket
from pathlib import Path

import pytest

from datasets.files import open_regular, read_regular


def test_a_regular_file_is_read_whole_and_by_its_links(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"twelve bytes")
    (tmp_path / "link").symlink_to(path)
    with open_regular(path) as file:
        assert file.read() == b"twelve bytes"
    assert read_regular(tmp_path / "link", 12) == b"twelve bytes"


@pytest.mark.parametrize("read", [lambda path: open_regular(path, 11), lambda path: read_regular(path, 11)])
def test_a_file_above_the_limit_is_refused_with_its_size(tmp_path: Path, read) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"twelve bytes")
    with pytest.raises(ValueError, match=rf"^{path} has 12 bytes; at most 11 are read$"):
        read(path)


def test_a_fifo_does_not_block_and_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="fifo is a fifo, not a regular file"):
        open_regular(tmp_path / "fifo")


def test_a_socket_a_device_and_a_folder_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for path, kind in (("socket", "a socket"), ("/dev/zero", "a device"), (str(tmp_path), "a folder")):
            with pytest.raises(ValueError, match=f"is {kind}, not a regular file"):
                read_regular(path, 100)


def test_what_is_absent_or_a_link_to_itself_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    for name in ("self", "dangling", "absent", "a" * 300):
        with pytest.raises(OSError):
            open_regular(tmp_path / name)


def test_a_refused_file_leaves_no_descriptor_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"xx")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(ValueError):
            open_regular(tmp_path / "fifo")
        with pytest.raises(ValueError):
            open_regular(tmp_path / "large", 1)
    assert len(os.listdir("/proc/self/fd")) == before
