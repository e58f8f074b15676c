"""ImageNet, its parts, its shifted versions, and the sets that are measured against it. Data."""

from datasets.entries.form import Archive, Entry, folders, parquet

_ILSVRC = (
    "Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge, IJCV 2015, https://arxiv.org/abs/1409.0575"
)
_TERMS = "non-commercial research and education"
_HUB = "https://huggingface.co/datasets/torch-uncertainty"  # the archives of OpenOOD

ENTRIES = (
    Entry(
        "imagenet", "ImageNet", {"train": 1_281_167, "test": 50_000}, classes=1000,
        home="https://image-net.org/download.php", licence=_TERMS,
        citation=_ILSVRC,
        how_to_get="accept its terms on Hugging Face, then " + parquet("imagenet", "ILSVRC/imagenet-1k"),
        mapping="test = the validation split (the official test split has no labels)",
        files={"test": ("val", "validation", "test")},
    ),
    Entry(
        "imagenet100", "ImageNet-100", {"train": 128_856, "test": 5_000}, classes=100,
        home="https://image-net.org/download.php", licence=_TERMS,
        citation=_ILSVRC,
        how_to_get="link or copy 100 class folders of ImageNet into DATA/imagenet100/{train,val}/<class>/",
        mapping="100 classes of ImageNet of the user's choice; test = their validation images",
        files={"test": ("val", "validation", "test")},
    ),
    Entry(
        "imagenet200", "ImageNet-200", {"train": None, "test": 10_000}, classes=200,
        home="https://github.com/Jingkang50/OpenOOD", licence=_TERMS,
        citation=_ILSVRC + "; its classes: Hendrycks et al.: The Many Faces of Robustness, ICCV 2021, https://arxiv.org/abs/2006.16241",
        how_to_get="link or copy the folders of its classes out of ImageNet into DATA/imagenet200/{train,val}/<class>/",
        mapping="the 200 classes of ImageNet that ImageNet-R has; test = their validation images",
        files={"test": ("val", "validation", "test")},
    ),
    Entry(
        "imagenet_v2", "ImageNet-V2", {"test": 10_000}, classes=1000,
        home="https://github.com/modestyachts/ImageNetV2", licence="MIT; photographs belong to their owners",
        citation="Recht et al.: Do ImageNet Classifiers Generalize to ImageNet?, ICML 2019, https://arxiv.org/abs/1902.10811",
        how_to_get=folders("imagenet_v2", "https://huggingface.co/datasets/vaishaal/ImageNetV2 (matched-frequency)"),
        mapping="test = matched-frequency, 10 images of each class of ImageNet",
        archive=Archive(
            "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
            {"test": "imagenetv2-matched-frequency-format-val"},
        ),
    ),
    Entry(
        "imagenet_r", "ImageNet-R", {"test": 30_000}, classes=200,
        home="https://github.com/hendrycks/imagenet-r", licence="MIT; images belong to their owners",
        citation="Hendrycks et al.: The Many Faces of Robustness, ICCV 2021, https://arxiv.org/abs/2006.16241",
        how_to_get=folders("imagenet_r", "imagenet-r.tar of https://huggingface.co/datasets/axiong/imagenet-r"),
        mapping="renditions (paintings, toys, ...) of 200 classes of ImageNet",
        archive=Archive(
            "https://huggingface.co/datasets/axiong/imagenet-r/resolve/main/imagenet-r.tar", {"test": "imagenet-r"},
            md5="a61312130a589d0ca1a8fca1f2bd3337",
        ),
    ),
    Entry(
        "imagenet_c", "ImageNet-C", {"test": 10_000}, classes=1000,
        home="https://github.com/hendrycks/robustness", licence="CC BY 4.0; photographs belong to their owners",
        citation="Hendrycks, Dietterich: Benchmarking Neural Network Robustness to Common Corruptions, ICLR 2019, https://arxiv.org/abs/1903.12261",
        how_to_get="get imagenet_c and benchmark_imglist of OpenOOD (github.com/Jingkang50/OpenOOD) into DATA/",
        mapping="test = OpenOOD's sample of the release's 3,750,000 images, over its 75 corruptions and severities; "
        "that these are 10,000 is from memory: its list was not at hand",
    ),
    Entry(
        "ssb_hard", "SSB-hard", {"test": 49_000},
        home="https://github.com/sgvaze/SSB", licence="ImageNet's: " + _TERMS,
        citation="Vaze et al.: Open-Set Recognition: A Good Closed-Set Classifier is All You Need?, ICLR 2022, https://arxiv.org/abs/2110.06207",
        how_to_get=folders("ssb_hard", "ssb_hard.zip of https://huggingface.co/datasets/torch-uncertainty/SSB_hard"),
        mapping="test = 50 images of each of 980 classes of ImageNet-21K near ImageNet's, as OpenOOD has them",
        archive=Archive(f"{_HUB}/SSB_hard/resolve/main/ssb_hard.zip", {"test": "."}),
    ),
    Entry(
        "ninco", "NINCO", {"test": 5_879}, classes=64,
        home="https://github.com/j-cb/NINCO", licence="CC BY 4.0; photographs belong to their owners",
        citation="Bitterwolf et al.: In or Out? Fixing ImageNet Out-of-Distribution Detection Evaluation, ICML 2023, https://arxiv.org/abs/2306.00826",
        how_to_get=folders("ninco", "ninco.zip of https://huggingface.co/datasets/torch-uncertainty/Ninco"),
        mapping="test = the cleaned OOD classes of the release, without its unit tests and subsamples",
        archive=Archive(f"{_HUB}/Ninco/resolve/main/ninco.zip", {"test": "."}),
    ),
    Entry(
        "openimage_o", "OpenImage-O", {"test": 17_632},
        home="https://github.com/haoqiwang/vim", licence="CC BY 2.0 of the photographs, as listed by OpenImages",
        citation="Wang et al.: ViM: Out-of-Distribution with Virtual-logit Matching, CVPR 2022, https://arxiv.org/abs/2203.10807",
        how_to_get=folders("openimage_o", "openimage_o.zip of https://huggingface.co/datasets/torch-uncertainty/Openimage-O"),
        mapping="test = the whole release; OpenOOD tests on 15,869 of it and validates on the other 1,763",
        archive=Archive(f"{_HUB}/Openimage-O/resolve/main/openimage_o.zip", {"test": "."}),
    ),
)  # fmt: skip
