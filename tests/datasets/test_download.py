import gzip
import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.catalogue import Archive, Torchvision
from datasets.download import extract
from datasets.sources import Missing, find, present

ROOT = Path(__file__).parents[2]


def tar(path, files):
    with tarfile.open(path, "w:gz") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def release(tmp_path, noise, png):
    """A release of two classes, beside the data folder."""
    files = {f"Toy/{name}.png": png(noise(seed)) for seed, name in enumerate(("cat/1", "cat/2", "dog/1", "dog/2"))}
    return tar(tmp_path / "Toy.tar.gz", {**files, "Toy/cat/broken.png": b""})


@pytest.fixture
def toy(release, entry):
    def add(url=None, md5=None, **fields):
        md5 = md5 or hashlib.md5(release.read_bytes()).hexdigest()
        archive = Archive(url or release.as_uri(), {"test": "Toy"}, md5=md5, broken=("Toy/cat/broken.png",))
        return entry(archive=archive, **fields)

    return add


def files_below(folder):
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    )


def test_download_once(tmp_path, toy, release, noise, capsys):
    toy(licence="for tests")
    data = tmp_path / "data"
    with pytest.raises(Missing, match="toy is not here"):
        find("toy", "test", data)
    assert not data.exists()  # asking writes nothing
    found = find("toy", "test", data, download=True)
    assert "downloading Toy; its terms: for tests" in capsys.readouterr().err
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(np.stack(found.read(range(4))), np.stack([noise(seed) for seed in range(4)]))
    assert found.notes == ()
    assert present("toy", data)
    release.unlink()  # from now on there is nothing to download from
    assert find("toy", "test", data).fingerprint == found.fingerprint
    assert find("toy", "test", data, download=True).fingerprint == found.fingerprint
    assert files_below(data) == [
        f"toy/downloaded/{name}"
        for name in ("Toy/cat/1.png", "Toy/cat/2.png", "Toy/dog/1.png", "Toy/dog/2.png", "complete.json")
    ]


def test_a_split_that_the_archive_has_not(tmp_path, toy):
    toy()
    with pytest.raises(Missing, match="train split"):
        find("toy", "train", tmp_path / "data", download=True)


def test_a_wrong_checksum_leaves_nothing(tmp_path, toy):
    toy(md5="0" * 32)
    with pytest.raises(ValueError, match=r"Toy.tar.gz has the MD5 [0-9a-f]{32}, not 0{32}, and was thrown away"):
        find("toy", "test", tmp_path / "data", download=True)
    assert not present("toy", tmp_path / "data")
    assert files_below(tmp_path / "data") == []


def test_what_was_left_over_by_a_killed_download_is_no_data_set(tmp_path, toy, noise, png):
    toy()
    data = tmp_path / "data"
    for name in (".toy.part/Toy/cat/1.png", "toy/downloaded/Toy/cat/1.png"):
        (data / name).parent.mkdir(parents=True)
        (data / name).write_bytes(png(noise(9)))
    assert not present("toy", tmp_path / "data")
    with pytest.raises(Missing):
        find("toy", "test", tmp_path / "data")
    found = find("toy", "test", tmp_path / "data", download=True)
    assert len(found) == 4
    assert np.array_equal(found.read([0])[0], noise(0))
    assert not (data / ".toy.part").exists()


@pytest.fixture
def serve(release):
    """A server that sends the first half of the release, then waits or hangs up; later it sends all of it."""
    content = release.read_bytes()
    state = {"half": True, "hang": threading.Event(), "sent": threading.Event()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if state["half"] else content)
            self.wfile.flush()
            state["sent"].set()
            if state["half"]:
                state["hang"].wait(30)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state["url"] = f"http://127.0.0.1:{server.server_port}/Toy.tar.gz"
    yield state
    state["hang"].set()
    server.shutdown()
    server.server_close()


def test_killed_halfway_and_started_again(tmp_path, toy, serve):
    md5 = toy(url=serve["url"]).archive.md5
    data = tmp_path / "data"
    code = (
        "from pathlib import Path; from datasets.catalogue import Archive, Entry;"
        "from datasets.download import download;"
        f"archive = Archive({serve['url']!r}, {{'test': 'Toy'}}, md5={md5!r});"
        "entry = Entry('toy', 'Toy', {'test': 4}, '', '', '', '', archive=archive);"
        f"download(entry, Path({str(data)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    assert serve["sent"].wait(20)
    partial = data / ".toy.part" / "Toy.tar.gz"
    for _ in range(200):
        if partial.exists():
            break
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert partial.exists()
    assert not present("toy", data)
    with pytest.raises(Missing):
        find("toy", "test", data)

    serve["half"] = False
    assert len(find("toy", "test", data, download=True)) == 4
    assert files_below(data)[-1] == "toy/downloaded/complete.json"


def test_a_connection_that_ends_early(tmp_path, toy, serve):
    toy(url=serve["url"])
    serve["hang"].set()
    with pytest.raises(Missing, match=r"download failed \(it ended after \d+ of \d+ bytes\); draw them into"):
        find("toy", "test", tmp_path / "data", download=True)
    assert not present("toy", tmp_path / "data")


def test_no_way_to_the_archive(tmp_path, toy):
    toy(url=(tmp_path / "nothing.tar.gz").as_uri())
    with pytest.raises(Missing, match=r"toy is not here: the download failed \(.*\); draw them into"):
        find("toy", "test", tmp_path / "data", download=True)
    assert not (tmp_path / "data").exists()  # not even a lock


def test_a_data_folder_that_is_read_only_stays_as_it_is(tmp_path, toy):
    toy()
    data = tmp_path / "data"
    data.mkdir(mode=0o555)  # root could write there all the same
    with pytest.raises(Missing, match=rf"{data} is read-only, so nothing is downloaded; draw them into"):
        find("toy", "test", data, download=True)
    assert list(data.iterdir()) == []


def test_an_archive_of_something_else(tmp_path, release, toy):
    tar(release, {"Other/readme.txt": b"nothing"})
    toy(md5=hashlib.md5(release.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match="holds no images in Toy/: it is not what it should be"):
        find("toy", "test", tmp_path / "data", download=True)
    release.write_bytes(b"<html>too many requests</html>")
    toy()
    with pytest.raises(ValueError, match=r"Toy.tar.gz is no sound archive"):
        find("toy", "test", tmp_path / "data", download=True)
    assert not present("toy", tmp_path / "data")


@pytest.mark.parametrize("name", ["../evil.png", "Toy/../../evil.png", "/{tmp}/evil.png"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_cannot_leave_its_folder(tmp_path, name, kind, png, noise):
    name = name.format(tmp=str(tmp_path).lstrip("/"))
    content = png(noise(0))
    if kind == "tar":
        archive = tar(tmp_path / "evil.tar.gz", {name: content})
    else:
        archive = tmp_path / "evil.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr(name, content)
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    if kind == "tar" and name.startswith("/"):
        extract(archive, inside)  # tarfile takes the leading slash away
    else:
        with pytest.raises(ValueError, match="would write outside its folder"):
            extract(archive, inside)
    assert [path for path in tmp_path.rglob("evil.png") if inside not in path.parents] == []


def test_a_link_in_an_archive_cannot_leave_its_folder(tmp_path):
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as packed:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        packed.addfile(link)
    (tmp_path / "inside").mkdir()
    with pytest.raises(ValueError, match="would write outside its folder"):
        extract(archive, tmp_path / "inside")


def idx(values):
    return bytes([0, 0, 8, values.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in values.shape) + values.tobytes()


@pytest.fixture
def fake_mnist(monkeypatch):
    """torchvision's MNIST with a download that writes its files here instead of fetching them."""
    import torchvision

    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (6, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": np.array([0, 1, 2, 3, 4, 9], dtype=np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (4, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": np.array([3, 1, 2, 0], dtype=np.uint8),
    }

    def download(self):
        os.makedirs(self.raw_folder, exist_ok=True)
        for name, values in arrays.items():
            Path(self.raw_folder, name).write_bytes(idx(values))
            Path(self.raw_folder, f"{name}.gz").write_bytes(gzip.compress(idx(values)))

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    return arrays


def test_torchvisions_own_download(tmp_path, entry, fake_mnist):
    arguments = {"train": {"train": True}, "test": {"train": False}}
    entry(torchvision=Torchvision("MNIST", arguments, "targets"))
    assert not present("toy", tmp_path)
    found = find("toy", "test", tmp_path, download=True)
    assert present("toy", tmp_path)
    assert found.labels.tolist() == [3, 1, 2, 0]
    assert len(found.classes) == 10
    images = np.stack(found.read([2, 0]))
    assert np.array_equal(images, np.repeat(fake_mnist["t10k-images-idx3-ubyte"][[2, 0]][..., None], 3, axis=3))
    assert len(find("toy", "train", tmp_path)) == 6  # both splits came at once
    assert not any(name.endswith(".gz") for name in files_below(tmp_path))

    again = find("toy", "test", tmp_path)
    assert again.fingerprint == found.fingerprint
    raw = tmp_path / "toy" / "downloaded" / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = bytearray(raw.read_bytes())
    content[-1] ^= 1
    raw.write_bytes(content)
    assert find("toy", "test", tmp_path).fingerprint != found.fingerprint
    raw.write_bytes(content[:100])
    with pytest.raises(ValueError, match=rf"{tmp_path}/toy/downloaded is damaged .*; delete it and download again"):
        find("toy", "test", tmp_path)


@pytest.fixture
def downloaded(tmp_path, entry, fake_mnist):
    """torchvision's files of the set `toy`."""
    entry(torchvision=Torchvision("MNIST", {"train": {"train": True}, "test": {"train": False}}, "targets"), size=28)
    find("toy", "test", tmp_path, download=True)
    return tmp_path / "toy" / "downloaded" / "MNIST"


def spoiled(path, what):
    path.unlink()
    if isinstance(what, np.ndarray):
        path.write_bytes(idx(what))
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "link":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, (512 << 20) + 1)


@pytest.mark.parametrize(
    ("name", "what", "message"),
    [
        ("images-idx3", "fifo", "t10k-images-idx3-ubyte is a fifo, not a regular file"),
        ("images-idx3", "link", "t10k-images-idx3-ubyte is a device, not a regular file"),
        ("labels-idx1", "large", "t10k-labels-idx1-ubyte has 536,870,913 bytes; at most 536,870,912 are read"),
        ("labels-idx1", np.zeros(9, dtype=np.uint8), r"is damaged \(labels of shape \(9,\) for 4 images\)"),
        ("images-idx3", np.zeros((4, 28, 9), dtype=np.uint8), r"is damaged \(images of 9 x 28 pixels\)"),
    ],
)
def test_what_torchvision_opens_is_looked_at_before(tmp_path, downloaded, name, what, message):
    spoiled(downloaded / "raw" / f"t10k-{name}-ubyte", what)
    with pytest.raises(ValueError, match=message):
        find("toy", "test", tmp_path)


def test_a_copy_that_an_old_torchvision_would_unpickle_is_refused(tmp_path, downloaded):
    (downloaded / "processed").mkdir()
    (downloaded / "processed" / "test.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"MNIST/processed/test.pt is of an old version"):
        find("toy", "test", tmp_path)


class Places:
    """As torchvision's Places365: a list of files, which it would open itself."""

    def __init__(self, root, download=False):
        self.imgs = [(f"{root}/val/{name}.png", label) for label, name in enumerate("ab")]
        self.targets, self.classes = [0, 1], ["field", "forest"]
        if download:
            Path(root, "val").mkdir(parents=True)
            for path, label in self.imgs:
                Image.new("RGB", (4, 3), (label, 0, 0)).save(path)

    def __len__(self):
        return 2


def test_images_that_torchvision_lists_are_read_as_those_of_a_folder(tmp_path, entry, monkeypatch):
    import torchvision

    monkeypatch.setattr(torchvision.datasets, "Places", Places, raising=False)
    entry(torchvision=Torchvision("Places", {"test": {}}, "targets"))
    found = find("toy", "test", tmp_path, download=True)
    assert [image[0, 0, 0] for image in found.read([1, 0])] == [1, 0]
    files = sorted((tmp_path / "toy" / "downloaded" / "val").iterdir())
    assert found.digests.tolist() == [hashlib.sha256(path.read_bytes()).digest()[:16] for path in files]
    Image.new("1", (9_000, 9_000)).save(files[0])
    with pytest.raises(ValueError, match=r"toy \(test\): a.png has 9,000 x 9,000 pixels, more than 64 megapixels"):
        find("toy", "test", tmp_path).read([0])
    files[1].unlink()
    with pytest.raises(ValueError, match=r"is damaged \(b.png is not there\); delete it and download again"):
        find("toy", "test", tmp_path)


def test_torchvision_cannot_download(tmp_path, entry, monkeypatch):
    import torchvision

    def download(self):
        raise RuntimeError("Error downloading t10k-images-idx3-ubyte.gz")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    entry(torchvision=Torchvision("MNIST", {"test": {"train": False}}, "targets"))
    with pytest.raises(Missing, match=r"download failed \(Error downloading .*\); draw them into"):
        find("toy", "test", tmp_path, download=True)
    assert not present("toy", tmp_path)
