"""Every data set, one entry each. This file is data, and so longer than others.

A split is `train` or `test`; where a set's own splits are other ones, `mapping` says which is meant.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import classes


@dataclass(frozen=True)
class Archive:
    """A tar or zip file of images. `md5`: only where one is published. `folders`: split -> folder in the archive.

    `broken`: files of the release that are no images; they are taken out.
    """

    url: str
    folders: dict[str, str]
    md5: str | None = None
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Torchvision:
    """A class of torchvision.datasets: it downloads, and checks its own checksums.

    `arguments`: split -> what the class is called with. `labels`: the attribute that holds them.
    """

    cls: str
    arguments: dict[str, dict[str, Any]]
    labels: str | None = None


@dataclass(frozen=True)
class Entry:
    """One data set.

    `splits`: split -> official number of images. `classes`: their number, None where unlabelled. `size`: height and
    width in pixels, None where images differ. `how_to_get`: one line, with DATA for the folder that --data names.
    `files`: split -> the names under which its files may lie, best first (default: the split's own).
    `hub_folder`: where the set's Hugging Face repository has its shards. `class_depth`: how many levels of folders
    name a class. `stands_in_for`: the name of the set whose place this one takes. `shareable`: its images may stand
    in a page that is passed on.
    """

    name: str
    title: str
    splits: dict[str, int]
    home: str
    licence: str
    citation: str
    how_to_get: str
    classes: int | None = None
    size: int | None = None
    mapping: str = ""
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hub_folder: str = "data"
    class_depth: int = 1
    archive: Archive | None = None
    torchvision: Torchvision | None = None
    stands_in_for: str | None = None
    embedded: bool = False
    shareable: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, index = label, where the release numbers them; else none."""
        return classes.order(self.name)

    def file_names(self, split: str) -> tuple[str, ...]:
        return self.files.get(split, (split,))


def _folders(name: str, source: str) -> str:
    return f"get {source} and put its images into DATA/{name}/test/"


def _parquet(name: str, repository: str) -> str:
    return f"hf download {repository} --repo-type dataset --local-dir DATA/{name}"


_TRAIN_TEST: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_ONLY_SPLIT = {"test": ("test", "train")}  # Hugging Face calls the one split of an OOD set `train`
_ODIN = "Liang, Li, Srikant: Enhancing the Reliability of Out-of-distribution Image Detection, ICLR 2018, https://arxiv.org/abs/1706.02690"
_MOS = "Huang, Li: MOS: Towards Scaling Out-of-distribution Detection for Large Semantic Space, CVPR 2021, https://arxiv.org/abs/2105.01879"
_PLACES = "Zhou et al.: Places: A 10 Million Image Database for Scene Recognition, TPAMI 2018, http://places2.csail.mit.edu/PAMI_places.pdf"
_DIGITS = "Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI 1998, https://doi.org/10.24432/C50P49"
_DIGITS_HOME = "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"
_NOTHING = "nothing to get: made from what scikit-learn and matplotlib bring"

_ENTRIES = (
    Entry(
        "cifar10", "CIFAR-10", {"train": 50_000, "test": 10_000}, classes=10, size=32,
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; from 80 Million Tiny Images, which its authors withdrew in 2020",
        citation="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009, https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf",
        how_to_get=_parquet("cifar10", "uoft-cs/cifar10"), hub_folder="plain_text",
        torchvision=Torchvision("CIFAR10", _TRAIN_TEST, "targets"),
    ),
    Entry(
        "cifar100", "CIFAR-100", {"train": 50_000, "test": 10_000}, classes=100, size=32,
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; from 80 Million Tiny Images, which its authors withdrew in 2020",
        citation="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009, https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf",
        how_to_get=_parquet("cifar100", "uoft-cs/cifar100"), hub_folder="cifar100",
        torchvision=Torchvision("CIFAR100", _TRAIN_TEST, "targets"),
    ),
    Entry(
        "svhn", "SVHN", {"train": 73_257, "test": 26_032}, classes=10, size=32,
        home="http://ufldl.stanford.edu/housenumbers/",
        licence="non-commercial use only",
        citation="Netzer et al.: Reading Digits in Natural Images with Unsupervised Feature Learning, 2011, http://ufldl.stanford.edu/housenumbers/nips2011_housenumbers.pdf",
        how_to_get=_parquet("svhn", "ufldl-stanford/svhn"), hub_folder="cropped_digits",
        mapping="test = the whole test split of cropped digits; DICE and ASH use its first 1,000 images of each digit",
        torchvision=Torchvision("SVHN", {"train": {"split": "train"}, "test": {"split": "test"}}, "labels"),
    ),
    Entry(
        "lsun_crop", "LSUN (crop)", {"test": 10_000},
        home="https://github.com/facebookresearch/odin",
        licence="none stated", citation=_ODIN,
        how_to_get=_parquet("lsun_crop", "detectors/lsun_c-ood"),
        mapping="test = the 10,000 random crops that ODIN released, the only split",
        files=_ONLY_SPLIT,
        archive=Archive(
            "https://www.dropbox.com/s/fhtsw1m3qxlwj6h/LSUN.tar.gz?dl=1", {"test": "LSUN"},
            md5="458a0a0ab8e5f1cb4516d7400568e460",
        ),
    ),
    Entry(
        "lsun_resize", "LSUN (resize)", {"test": 10_000}, size=32,
        home="https://github.com/facebookresearch/odin",
        licence="none stated", citation=_ODIN,
        how_to_get=_parquet("lsun_resize", "detectors/lsun_r-ood"),
        mapping="test = the 10,000 scaled images that ODIN released, not antialiased; there is only this one split",
        files=_ONLY_SPLIT,
        archive=Archive(
            "https://www.dropbox.com/s/moqh2wh8696c3yl/LSUN_resize.tar.gz?dl=1", {"test": "LSUN_resize"},
            md5="278b7b31c8cb7e804a1465a8ce03a2dc",
        ),
    ),
    Entry(
        "isun", "iSUN", {"test": 8_925}, size=32,
        home="https://github.com/facebookresearch/odin",
        licence="images of the SUN database; research use",
        citation="Xu et al.: TurkerGaze, 2015, https://arxiv.org/abs/1504.06755; as released with " + _ODIN,
        how_to_get=_folders("isun", "https://www.dropbox.com/s/ssz7qxfqae0cca5/iSUN.tar.gz"),
        mapping="test = the 8,925 scaled images that ODIN released, the only split",
        files=_ONLY_SPLIT,
        archive=Archive(
            "https://www.dropbox.com/s/ssz7qxfqae0cca5/iSUN.tar.gz?dl=1", {"test": "iSUN"},
            md5="be77b0f2c26fda898afac5f99645ee70",
        ),
    ),
    Entry(
        "textures", "Textures", {"test": 5_640}, classes=47,
        home="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        licence="made available to the computer vision community for research purposes",
        citation="Cimpoi et al.: Describing Textures in the Wild, CVPR 2014, https://arxiv.org/abs/1311.3618",
        how_to_get=_folders("textures", "dtd/images of https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz"),
        mapping="test = the whole of DTD: its train, val and test splits together",
        archive=Archive(
            "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz", {"test": "dtd/images"},
            md5="fff73e5086ae6bdbea199a49dfb8a4c1",
        ),
    ),
    Entry(
        "places365", "Places365", {"test": 36_500}, classes=365, size=256,
        home="http://places2.csail.mit.edu/",
        licence="research and education; photographs belong to their owners", citation=_PLACES,
        how_to_get=_folders("places365", "http://data.csail.mit.edu/places/places365/val_256.tar"),
        mapping="test = the validation split at 256 x 256; DICE, ASH and the paper use lists of their own",
        files={"test": ("test", "val", "validation")},
        torchvision=Torchvision("Places365", {"test": {"split": "val", "small": True}}, "targets"),
    ),
    Entry(
        "sun", "SUN", {"test": 10_000},
        home="https://vision.princeton.edu/projects/2010/SUN/",
        licence="research use; photographs belong to their owners",
        citation="Xiao et al.: SUN Database, CVPR 2010, https://doi.org/10.1109/CVPR.2010.5539970; " + _MOS,
        how_to_get=_folders("sun", "http://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset/SUN.tar.gz"),
        mapping="test = the 10,000 images of 50 categories without those of ImageNet (Huang and Li 2021)",
        archive=Archive("http://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset/SUN.tar.gz", {"test": "SUN"}),
    ),
    Entry(
        "inaturalist", "iNaturalist", {"test": 10_000},
        home="https://github.com/visipedia/inat_comp/tree/master/2017",
        licence="each photograph has its own Creative Commons licence, often non-commercial",
        citation="Van Horn et al.: The iNaturalist Dataset, CVPR 2018, https://arxiv.org/abs/1707.06642; " + _MOS,
        how_to_get=_folders("inaturalist", "http://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset/iNaturalist.tar.gz"),
        mapping="test = the 10,000 images of 110 plant species without those of ImageNet (Huang and Li 2021)",
        archive=Archive(
            "http://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset/iNaturalist.tar.gz", {"test": "iNaturalist"}
        ),
    ),
    Entry(
        "celeba", "CelebA", {"train": 162_770, "test": 19_962},
        home="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        licence="non-commercial research only; its agreement forbids further distribution",
        citation="Liu et al.: Deep Learning Face Attributes in the Wild, ICCV 2015, https://arxiv.org/abs/1411.7766",
        how_to_get="ask at its page for the aligned images; put them into DATA/celeba/train/ and DATA/celeba/test/",
        mapping="the official splits, without the 19,867 validation images; the paper tests on 60,780 images",
        torchvision=Torchvision("CelebA", {"train": {"split": "train"}, "test": {"split": "test"}}),
    ),
    Entry(
        "mnist", "MNIST", {"train": 60_000, "test": 10_000}, classes=10, size=28, shareable=True,
        home="http://yann.lecun.com/exdb/mnist/", licence="CC BY-SA 3.0, as generally stated",
        citation="LeCun et al.: Gradient-Based Learning Applied to Document Recognition, 1998, https://doi.org/10.1109/5.726791",
        how_to_get=_parquet("mnist", "ylecun/mnist"), hub_folder="mnist",
        torchvision=Torchvision("MNIST", _TRAIN_TEST, "targets"),
    ),
    Entry(
        "fashion_mnist", "Fashion-MNIST", {"train": 60_000, "test": 10_000}, classes=10, size=28, shareable=True,
        home="https://github.com/zalandoresearch/fashion-mnist", licence="MIT",
        citation="Xiao, Rasul, Vollgraf: Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747",
        how_to_get=_parquet("fashion_mnist", "zalando-datasets/fashion_mnist"), hub_folder="fashion_mnist",
        torchvision=Torchvision("FashionMNIST", _TRAIN_TEST, "targets"),
    ),
    Entry(
        "kmnist", "KMNIST", {"train": 60_000, "test": 10_000}, classes=10, size=28, shareable=True,
        home="https://github.com/rois-codh/kmnist", licence="CC BY-SA 4.0",
        citation="Clanuwat et al.: Deep Learning for Classical Japanese Literature, 2018, https://arxiv.org/abs/1812.01718",
        how_to_get=_folders("kmnist", "http://codh.rois.ac.jp/kmnist/"),
        torchvision=Torchvision("KMNIST", _TRAIN_TEST, "targets"),
    ),
    Entry(
        "omniglot", "Omniglot", {"test": 13_180}, classes=659, size=105,
        home="https://github.com/brendenlake/omniglot", licence="MIT",
        citation="Lake et al.: Human-level concept learning, Science 2015, https://doi.org/10.1126/science.aab3050",
        how_to_get=_folders("omniglot", "https://github.com/brendenlake/omniglot/raw/master/python/images_evaluation.zip"),
        mapping="test = the evaluation set, 20 drawings of each of 659 characters",
        class_depth=2,
        archive=Archive(
            "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/images_evaluation.zip",
            {"test": "images_evaluation"}, md5="6b91aef0f799c5bb55b94e3f2daec811",
        ),
    ),
    Entry(
        "notmnist", "notMNIST", {"test": 18_724}, classes=10, size=28,
        home="http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html", licence="none stated",
        citation="Bulatov: notMNIST dataset, 2011, http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html",
        how_to_get=_folders("notmnist", "http://yaroslavvb.com/upload/notMNIST/notMNIST_small.tar.gz"),
        mapping="test = notMNIST_small without its two empty files",
        archive=Archive(
            "http://yaroslavvb.com/upload/notMNIST/notMNIST_small.tar.gz", {"test": "notMNIST_small"},
            broken=(
                "notMNIST_small/A/RGVtb2NyYXRpY2FCb2xkT2xkc3R5bGUgQm9sZC50dGY=.png",
                "notMNIST_small/F/Q3Jvc3NvdmVyIEJvbGRPYmxpcXVlLnR0Zg==.png",
            ),
        ),
    ),
    Entry(
        "tiny_imagenet", "TinyImageNet", {"train": 100_000, "test": 10_000}, classes=200, size=64,
        home="http://cs231n.stanford.edu/", licence="ImageNet's: non-commercial research and education",
        citation="Le, Yang: Tiny ImageNet Visual Recognition Challenge, 2015, http://cs231n.stanford.edu/reports/2015/pdfs/yle_project.pdf",
        how_to_get=_folders("tiny_imagenet", "tiny-imagenet-200/val/images of http://cs231n.stanford.edu/tiny-imagenet-200.zip"),
        mapping="test = the validation split (the official test split has no labels)",
        files={"test": ("val", "valid", "validation", "test")},
        archive=Archive(
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            {"train": "tiny-imagenet-200/train", "test": "tiny-imagenet-200/val"},
            md5="90528d7ca1a48142e341f4ef8d21d0de",
        ),
    ),
    Entry(
        "imagenet", "ImageNet", {"train": 1_281_167, "test": 50_000}, classes=1000,
        home="https://image-net.org/download.php", licence="non-commercial research and education",
        citation="Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge, IJCV 2015, https://arxiv.org/abs/1409.0575",
        how_to_get="ask for access at its page, and unpack into DATA/imagenet/{train,val}/<class>/",
        mapping="test = the validation split (the official test split has no labels)",
        files={"test": ("val", "validation", "test")},
    ),
    Entry(
        "imagenet100", "ImageNet-100", {"train": 128_856, "test": 5_000}, classes=100,
        home="https://image-net.org/download.php", licence="non-commercial research and education",
        citation="Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge, IJCV 2015, https://arxiv.org/abs/1409.0575",
        how_to_get="link or copy 100 class folders of ImageNet into DATA/imagenet100/{train,val}/<class>/",
        mapping="100 classes of ImageNet of the user's choice; test = their validation images",
        files={"test": ("val", "validation", "test")},
    ),
    Entry(
        "miniplaces", "MiniPlaces", {"train": 100_000, "test": 10_000}, classes=100, size=128,
        home="http://6.869.csail.mit.edu/fa17/miniplaces.html",
        licence="research and education; photographs belong to their owners", citation=_PLACES,
        how_to_get=_folders("miniplaces", "the validation images of the MIT Mini Places Challenge"),
        mapping="test = the validation split of 100 categories of Places2 at 128 x 128",
        stands_in_for="places365",
    ),
    Entry(
        "miniplaces_scenes_resize", "MiniPlaces scenes (resize)", {"test": 8_100}, classes=9, size=32,
        home="http://6.869.csail.mit.edu/fa17/miniplaces.html",
        licence="research and education; photographs belong to their owners", citation=_PLACES,
        how_to_get=_folders("miniplaces_scenes_resize", "MiniPlaces images of LSUN's categories, scaled to 32 x 32,"),
        mapping="test = training images of the nine LSUN scene categories that MiniPlaces has, scaled to 32 x 32",
        stands_in_for="lsun_resize",
    ),
    Entry(
        "digits", "Digits", {"train": 1_000, "test": 797}, classes=10, size=32, embedded=True, shareable=True,
        home=_DIGITS_HOME, licence="CC BY 4.0", citation=_DIGITS, how_to_get=_NOTHING,
        mapping="scikit-learn's 1,797 digits (the test part of the UCI set), split here, stratified by class",
    ),
    Entry(
        "letters", "Letters", {"test": 800}, classes=10, size=32, embedded=True, shareable=True,
        home="https://matplotlib.org/", licence="drawn from DejaVu and STIX fonts (Bitstream Vera and OFL licences)",
        citation="the letters A to J in matplotlib's text fonts, https://matplotlib.org/", how_to_get=_NOTHING,
    ),
    Entry(
        "halves", "Halves", {"test": 797}, size=32, embedded=True, shareable=True,
        home=_DIGITS_HOME, licence="CC BY 4.0", citation=_DIGITS, how_to_get=_NOTHING,
        mapping="the top half of each test digit on the bottom half of one of another class",
    ),
    Entry(
        "scans", "Scans", {"test": 800}, size=32, embedded=True, shareable=True,
        home="https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_sample_images.html",
        licence="CC BY 2.0, photographs by danielbuechele and vultilion (flickr)",
        citation="patches of scikit-learn's two sample photographs, https://scikit-learn.org/", how_to_get=_NOTHING,
    ),
    Entry(
        "shuffled", "Shuffled", {"test": 797}, size=32, embedded=True, shareable=True,
        home=_DIGITS_HOME, licence="CC BY 4.0", citation=_DIGITS, how_to_get=_NOTHING,
        mapping="the pixels of each test digit, in an order of its own",
    ),
)  # fmt: skip

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def names() -> list[str]:
    """Every data set, in the order of the catalogue."""
    return list(CATALOGUE)


def get(name: str) -> Entry:
    """The entry of a data set; ValueError naming the nearest one where there is none."""
    if name not in CATALOGUE:
        close = difflib.get_close_matches(name, CATALOGUE, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(sorted(CATALOGUE))}"
        raise ValueError(f"no data set {name!r}; {hint}")
    return CATALOGUE[name]
