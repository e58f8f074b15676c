"""Sets of small images: of CIFAR's size, and of letters and digits. Data."""

from typing import Any

from datasets.entries.form import Archive, Entry, Torchvision, folders, parquet

_TRAIN_TEST: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_ONLY_SPLIT = {"test": ("test", "train")}  # Hugging Face calls the one split of an OOD set `train`
_ODIN = "Liang, Li, Srikant: Enhancing the Reliability of Out-of-distribution Image Detection, ICLR 2018, https://arxiv.org/abs/1706.02690"

ENTRIES = (
    Entry(
        "cifar10", "CIFAR-10", {"train": 50_000, "test": 10_000}, classes=10, size=32,
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; from 80 Million Tiny Images, which its authors withdrew in 2020",
        citation="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009, https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf",
        how_to_get=parquet("cifar10", "uoft-cs/cifar10"), hub_folder="plain_text",
        torchvision=Torchvision("CIFAR10", _TRAIN_TEST, "targets"),
    ),
    Entry(
        "cifar100", "CIFAR-100", {"train": 50_000, "test": 10_000}, classes=100, size=32,
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; from 80 Million Tiny Images, which its authors withdrew in 2020",
        citation="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009, https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf",
        how_to_get=parquet("cifar100", "uoft-cs/cifar100"), hub_folder="cifar100",
        torchvision=Torchvision("CIFAR100", _TRAIN_TEST, "targets"),
    ),
    Entry(
        "cifar10_c", "CIFAR-10-C", {"test": 10_000}, classes=10, size=32,
        home="https://github.com/hendrycks/robustness", licence="CC BY 4.0",
        citation="Hendrycks, Dietterich: Benchmarking Neural Network Robustness to Common Corruptions, ICLR 2019, https://arxiv.org/abs/1903.12261",
        how_to_get="get cifar10c and benchmark_imglist of OpenOOD (github.com/Jingkang50/OpenOOD) into DATA/",
        mapping="test = OpenOOD's 10,000 of the release's 950,000 images",
    ),
    Entry(
        "svhn", "SVHN", {"train": 73_257, "test": 26_032}, classes=10, size=32,
        home="http://ufldl.stanford.edu/housenumbers/",
        licence="non-commercial use only",
        citation="Netzer et al.: Reading Digits in Natural Images with Unsupervised Feature Learning, 2011, http://ufldl.stanford.edu/housenumbers/nips2011_housenumbers.pdf",
        how_to_get=parquet("svhn", "ufldl-stanford/svhn"), hub_folder="cropped_digits",
        mapping="test = the whole test split of cropped digits; DICE and ASH use its first 1,000 images of each digit",
        torchvision=Torchvision("SVHN", {"train": {"split": "train"}, "test": {"split": "test"}}, "labels"),
    ),
    Entry(
        "lsun_crop", "LSUN (crop)", {"test": 10_000},
        home="https://github.com/facebookresearch/odin",
        licence="none stated", citation=_ODIN,
        how_to_get=parquet("lsun_crop", "detectors/lsun_c-ood"),
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
        how_to_get=parquet("lsun_resize", "detectors/lsun_r-ood"),
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
        how_to_get=parquet("isun", "detectors/isun-ood"),
        mapping="test = the 8,925 scaled images that ODIN released, the only split",
        files=_ONLY_SPLIT,
        archive=Archive(
            "https://www.dropbox.com/s/ssz7qxfqae0cca5/iSUN.tar.gz?dl=1", {"test": "iSUN"},
            md5="be77b0f2c26fda898afac5f99645ee70",
        ),
    ),
    Entry(
        "tiny_imagenet", "TinyImageNet", {"train": 100_000, "test": 10_000}, classes=200, size=64,
        home="http://cs231n.stanford.edu/", licence="ImageNet's: non-commercial research and education",
        citation="Le, Yang: Tiny ImageNet Visual Recognition Challenge, 2015, http://cs231n.stanford.edu/reports/2015/pdfs/yle_project.pdf",
        how_to_get=parquet("tiny_imagenet", "zh-plus/tiny-imagenet"),
        mapping="test = the validation split (the official test split has no labels)",
        files={"test": ("val", "valid", "validation", "test")},
        archive=Archive(
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            {"train": "tiny-imagenet-200/train", "test": "tiny-imagenet-200/val"},
            md5="90528d7ca1a48142e341f4ef8d21d0de",
        ),
    ),
    Entry(
        "mnist", "MNIST", {"train": 60_000, "test": 10_000}, classes=10, size=28, shareable=True,
        home="http://yann.lecun.com/exdb/mnist/", licence="CC BY-SA 3.0, as generally stated",
        citation="LeCun et al.: Gradient-Based Learning Applied to Document Recognition, 1998, https://doi.org/10.1109/5.726791",
        how_to_get=parquet("mnist", "ylecun/mnist"), hub_folder="mnist",
        torchvision=Torchvision("MNIST", _TRAIN_TEST, "targets"),
    ),
    Entry(
        "fashion_mnist", "Fashion-MNIST", {"train": 60_000, "test": 10_000}, classes=10, size=28, shareable=True,
        home="https://github.com/zalandoresearch/fashion-mnist", licence="MIT",
        citation="Xiao, Rasul, Vollgraf: Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747",
        how_to_get=parquet("fashion_mnist", "zalando-datasets/fashion_mnist"), hub_folder="fashion_mnist",
        torchvision=Torchvision("FashionMNIST", _TRAIN_TEST, "targets"),
    ),
    Entry(
        "kmnist", "KMNIST", {"train": 60_000, "test": 10_000}, classes=10, size=28, shareable=True,
        home="https://github.com/rois-codh/kmnist", licence="CC BY-SA 4.0",
        citation="Clanuwat et al.: Deep Learning for Classical Japanese Literature, 2018, https://arxiv.org/abs/1812.01718",
        how_to_get=folders("kmnist", "http://codh.rois.ac.jp/kmnist/"),
        torchvision=Torchvision("KMNIST", _TRAIN_TEST, "targets"),
    ),
    Entry(
        "omniglot", "Omniglot", {"test": 13_180}, classes=659, size=105,
        home="https://github.com/brendenlake/omniglot", licence="MIT",
        citation="Lake et al.: Human-level concept learning, Science 2015, https://doi.org/10.1126/science.aab3050",
        how_to_get=folders("omniglot", "https://github.com/brendenlake/omniglot/raw/master/python/images_evaluation.zip"),
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
        how_to_get=folders("notmnist", "http://yaroslavvb.com/upload/notMNIST/notMNIST_small.tar.gz"),
        mapping="test = notMNIST_small without its two empty files",
        archive=Archive(
            "http://yaroslavvb.com/upload/notMNIST/notMNIST_small.tar.gz", {"test": "notMNIST_small"},
            broken=(
                "notMNIST_small/A/RGVtb2NyYXRpY2FCb2xkT2xkc3R5bGUgQm9sZC50dGY=.png",
                "notMNIST_small/F/Q3Jvc3NvdmVyIEJvbGRPYmxpcXVlLnR0Zg==.png",
            ),
        ),
    ),
)  # fmt: skip
