"""Downloads: an archive of images, or what torchvision fetches itself. Either lands in `<data>/<set>/downloaded`.

The work is done in a temporary folder, whose last file is a marker; the folder is then renamed. So a download that
was killed is no download, and there is no half of one.
"""

import fcntl
import hashlib
import http.client
import json
import os
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from datasets.catalogue import Archive, Entry
from datasets.images import Missing
from datasets.walking import has_images

MARKER = "complete.json"
FOLDER = "downloaded"
_BLOCK = 1 << 20
_TIMEOUT = 60  # seconds without a byte
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z")


def complete(folder: Path) -> bool:
    """Whether `folder` holds a download whose marker was written."""
    try:
        return isinstance(json.loads((folder / MARKER).read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def download(entry: Entry, data: Path) -> None:
    """Fetch a data set into its `downloaded` folder below `data`, unless it is there. One process works, others wait.

    Missing where there is nothing to download or no way to it; ValueError for a wrong checksum, an archive that would
    write outside its folder or does not hold what it should.
    """
    if entry.archive is None and entry.torchvision is None:
        raise Missing(entry.name, entry.how_to_get)
    if data.is_dir() and not (data.stat().st_mode & 0o222 and os.access(data, os.W_OK)):
        # the mode as well: root may write where it says no, and should not
        raise Missing(entry.name, f"{data} is read-only, so nothing is downloaded; {entry.how_to_get}")
    with _work(entry.name, data) as part:
        if part is None:
            return
        print(f"downloading {entry.title}; its terms: {entry.licence}", file=sys.stderr)
        try:
            if entry.archive is not None:
                source = entry.archive.url
                archive = part / PurePosixPath(source.partition("?")[0]).name
                _fetch(entry.archive, archive)
                extract(archive, part)
                archive.unlink()
                _check_content(entry.archive, part)
            else:
                source = f"torchvision.datasets.{_fetch_with_torchvision(entry, part)}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = " ".join(str(getattr(error, "reason", error)).split())
            raise Missing(entry.name, f"the download failed ({reason}); {entry.how_to_get}") from None
        md5 = None if entry.archive is None else entry.archive.md5
        (part / MARKER).write_text(json.dumps({"source": source, "md5": md5}), encoding="utf-8")


@contextmanager
def _work(name: str, data: Path) -> Iterator[Path | None]:
    """An empty folder that becomes the set's if all goes well; None where another process has done the work.

    A download that fails leaves nothing, not even the lock.
    """
    folder, part = data / name / FOLDER, data / f".{name}.part"
    made = [path for path in (data, *data.parents) if not path.exists()]
    data.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(data / ".download.lock"):
            if complete(folder):
                yield None
                return
            for left_over in (part, folder):
                shutil.rmtree(left_over, ignore_errors=True)
            part.mkdir()
            try:
                yield part
                folder.parent.mkdir(exist_ok=True)
                part.rename(folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    finally:
        with suppress(OSError):  # they hold something
            for empty in made:
                empty.rmdir()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A lock whose file goes when it is released (filelock's stays); who waited for that file waits for the next."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(path, descriptor):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        finally:
            os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _fetch(archive: Archive, path: Path) -> None:
    from tqdm import tqdm

    request = urllib.request.Request(archive.url, headers={"User-Agent": "ood-benchmark"})
    md5 = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response, path.open("wb") as file:
        length = response.headers.get("Content-Length")
        total = int(length) if length and length.isdigit() else None
        with tqdm(desc=path.name, total=total, unit="B", unit_scale=True, delay=2) as bar:
            while block := response.read(_BLOCK):
                file.write(block)
                md5.update(block)
                bar.update(len(block))
    if total is not None and path.stat().st_size != total:
        raise ConnectionError(f"it ended after {path.stat().st_size:,} of {total:,} bytes")
    if archive.md5 is not None and md5.hexdigest() != archive.md5:
        raise ValueError(
            f"{archive.url} has the MD5 {md5.hexdigest()}, not {archive.md5}, and was thrown away; get it elsewhere"
        )


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip file into `folder`. ValueError for a file that would land outside it, or is broken."""
    from tqdm import tqdm

    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                for info in tqdm(packed.infolist(), f"unpacking {archive.name}", delay=2):
                    path = PurePosixPath(info.filename.replace("\\", "/"))
                    if path.is_absolute() or ".." in path.parts:
                        raise ValueError(f"{archive.name} would write outside its folder ({info.filename}): refused")
                    packed.extract(info, folder)
        else:
            with tarfile.open(archive) as packed:
                for member in tqdm(packed, f"unpacking {archive.name}", delay=2):
                    packed.extract(member, folder, filter="data")
    except tarfile.FilterError as error:
        raise ValueError(f"{archive.name} would write outside its folder ({error}): refused") from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the archive
            raise
        raise ValueError(f"{archive.name} is no sound archive ({error}); try again") from None


def _check_content(archive: Archive, folder: Path) -> None:
    for file in archive.broken:
        (folder / file).unlink(missing_ok=True)
    for inside in archive.folders.values():
        if not has_images(folder / inside):
            raise ValueError(f"{archive.url} holds no images in {inside}/: it is not what it should be")


def _fetch_with_torchvision(entry: Entry, folder: Path) -> str:
    """Have torchvision download every split, and check its checksums; the archives go once they are unpacked."""
    from datasets.torchvision_sets import build

    assert entry.torchvision is not None
    try:
        for split in entry.torchvision.arguments:
            build(entry.torchvision, split, folder, download=True)
    except RuntimeError as error:  # torchvision: a wrong checksum, or no mirror answers
        raise ConnectionError(str(error)) from None
    except ImportError as error:
        raise Missing(entry.name, f"{error}; {entry.how_to_get}") from None
    for path in folder.rglob("*"):
        if path.suffix in _ARCHIVES and path.is_file():
            path.unlink()
    return entry.torchvision.cls
