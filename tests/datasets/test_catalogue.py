import subprocess
import sys

import pytest

from datasets import catalogue
from datasets.sources import find, present

PAPER = ("cifar10", "cifar100", "svhn", "lsun_crop", "lsun_resize", "isun", "textures", "places365", "sun")
PAPER += (
    "inaturalist",
    "celeba",
    "mnist",
    "fashion_mnist",
    "kmnist",
    "omniglot",
    "notmnist",
    "tiny_imagenet",
    "imagenet",
)
OPENOOD = ("cifar10_c", "imagenet200", "imagenet_v2", "imagenet_r", "imagenet_c", "ssb_hard", "ninco", "openimage_o")
EMBEDDED = ("digits", "letters", "halves", "scans", "shuffled")


def test_every_set_of_the_field_is_there():
    others = {"miniplaces", "miniplaces_scenes_resize", "imagenet100"}
    assert {*PAPER, *OPENOOD, *EMBEDDED} | others == set(catalogue.names())


@pytest.mark.parametrize("name", catalogue.names())
def test_an_entry_is_whole(name):
    entry = catalogue.get(name)
    assert entry.name == name
    assert entry.home.startswith("http")
    assert "http" in entry.citation
    assert entry.licence
    assert entry.how_to_get.count("\n") == 0
    assert "test" in entry.splits
    assert set(entry.splits) <= {"train", "test"}
    assert entry.stands_in_for is None or entry.stands_in_for in catalogue.CATALOGUE
    if entry.archive is not None:
        assert set(entry.archive.folders) <= set(entry.splits)
    if entry.torchvision is not None:
        assert set(entry.torchvision.arguments) <= set(entry.splits)


def test_the_counts_add_up_to_the_papers_total():
    # Appendix B.1 of the paper: the OOD images of table 1 are 97,936
    sets = ("svhn", "lsun_resize", "mnist", "fashion_mnist", "kmnist", "omniglot", "notmnist")
    assert sum(catalogue.get(name).splits["test"] for name in sets) == 97_936


def test_checksums_are_those_that_torchvision_and_pytorch_ood_check():
    from pytorch_ood.dataset.img import LSUNCrop, LSUNResize, Textures, TinyImageNet
    from torchvision.datasets import DTD, Omniglot

    def md5(name):
        return catalogue.get(name).archive.md5

    assert md5("lsun_crop") == LSUNCrop.tgz_md5
    assert md5("lsun_resize") == LSUNResize.tgz_md5
    assert md5("tiny_imagenet") == TinyImageNet.tgz_md5
    assert md5("textures") == DTD._MD5 == Textures.tgz_md5
    assert md5("omniglot") == Omniglot.zips_md5["images_evaluation"]


def test_torchvision_takes_the_arguments(tmp_path):
    # without its files every class must say that they are not there, not that it does not know an argument
    from datasets.torchvision_sets import build

    for name in catalogue.names():
        spec = catalogue.get(name).torchvision
        for split in spec.arguments if spec else ():
            with pytest.raises(RuntimeError, match=r"not found|corrupted"):
                build(spec, split, tmp_path)


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match=r"no data set 'cifar_10'; did you mean 'cifar10'\?"):
        catalogue.get("cifar_10")
    with pytest.raises(ValueError, match=r"no data set 'qqqqqq'; valid: .*svhn"):
        find("qqqqqq", "test", None)


def test_a_split_that_a_set_has_not():
    with pytest.raises(ValueError, match=r"letters has no split 'train'; valid: test"):
        find("letters", "train", None)


def test_listing_needs_no_heavy_library(tmp_path):
    code = (
        "import sys; from pathlib import Path; from datasets import catalogue; from datasets.sources import present;"
        f"print([n for n in catalogue.names() if present(n, Path({str(tmp_path)!r}))],"
        "[m for m in ('torch', 'torchvision', 'pyarrow', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"{list(EMBEDDED)} []"


def test_present_without_a_data_folder():
    assert present("digits", None)
    assert not present("svhn", None)


def test_the_order_of_classes_is_that_of_timm_and_torchvision():
    from timm.data import ImageNetInfo
    from torchvision.datasets import KMNIST, MNIST, FashionMNIST

    assert list(catalogue.get("imagenet").class_names) == ImageNetInfo().label_names()
    assert catalogue.get("fashion_mnist").class_names == tuple(FashionMNIST.classes)
    assert catalogue.get("kmnist").class_names == tuple(KMNIST.classes)
    assert catalogue.get("mnist").class_names == tuple(name[0] for name in MNIST.classes)
    for name in catalogue.names():
        entry = catalogue.get(name)
        assert len(entry.class_names) in (0, entry.classes)
        assert len(set(entry.class_names)) == len(entry.class_names)
    assert catalogue.get("cifar100").class_names == tuple(sorted(catalogue.get("cifar100").class_names))
