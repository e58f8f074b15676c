"""Photographs of textures, scenes, plants and faces. Data."""

from datasets.entries.form import Archive, Entry, Torchvision, folders

_MOS = "Huang, Li: MOS: Towards Scaling Out-of-distribution Detection for Large Semantic Space, CVPR 2021, https://arxiv.org/abs/2105.01879"
_PLACES = "Zhou et al.: Places: A 10 Million Image Database for Scene Recognition, TPAMI 2018, http://places2.csail.mit.edu/PAMI_places.pdf"

ENTRIES = (
    Entry(
        "textures", "Textures", {"test": 5_640}, classes=47,
        home="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        licence="made available to the computer vision community for research purposes",
        citation="Cimpoi et al.: Describing Textures in the Wild, CVPR 2014, https://arxiv.org/abs/1311.3618",
        how_to_get=folders("textures", "dtd/images of https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz"),
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
        how_to_get=folders("places365", "http://data.csail.mit.edu/places/places365/val_256.tar"),
        mapping="test = the validation split at 256 x 256; DICE, ASH and the paper use lists of their own",
        files={"test": ("test", "val", "validation")},
        torchvision=Torchvision("Places365", {"test": {"split": "val", "small": True}}, "targets"),
    ),
    Entry(
        "sun", "SUN", {"test": 10_000},
        home="https://vision.princeton.edu/projects/2010/SUN/",
        licence="research use; photographs belong to their owners",
        citation="Xiao et al.: SUN Database, CVPR 2010, https://doi.org/10.1109/CVPR.2010.5539970; " + _MOS,
        how_to_get=folders("sun", "http://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset/SUN.tar.gz"),
        mapping="test = the 10,000 images of 50 categories without those of ImageNet (Huang and Li 2021)",
        archive=Archive("http://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset/SUN.tar.gz", {"test": "SUN"}),
    ),
    Entry(
        "inaturalist", "iNaturalist", {"test": 10_000},
        home="https://github.com/visipedia/inat_comp/tree/master/2017",
        licence="each photograph has its own Creative Commons licence, often non-commercial",
        citation="Van Horn et al.: The iNaturalist Dataset, CVPR 2018, https://arxiv.org/abs/1707.06642; " + _MOS,
        how_to_get=folders("inaturalist", "inaturalist.zip of https://huggingface.co/datasets/torch-uncertainty/inaturalist"),
        mapping="test = the 10,000 images of 110 plant species without those of ImageNet (Huang and Li 2021)",
        archive=Archive(
            "https://huggingface.co/datasets/torch-uncertainty/inaturalist/resolve/main/inaturalist.zip", {"test": "."}
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
        "miniplaces", "MiniPlaces", {"train": 100_000, "test": 10_000}, classes=100, size=128,
        home="http://6.869.csail.mit.edu/fa17/miniplaces.html",
        licence="research and education; photographs belong to their owners", citation=_PLACES,
        how_to_get=folders("miniplaces", "the validation images of the MIT Mini Places Challenge"),
        mapping="test = the validation split of 100 categories of Places2 at 128 x 128",
        stands_in_for="places365",
    ),
    Entry(
        "miniplaces_scenes_resize", "MiniPlaces scenes (resize)", {"test": 8_100}, classes=9, size=32,
        home="http://6.869.csail.mit.edu/fa17/miniplaces.html",
        licence="research and education; photographs belong to their owners", citation=_PLACES,
        how_to_get=folders("miniplaces_scenes_resize", "MiniPlaces images of LSUN's categories, scaled to 32 x 32,"),
        mapping="test = training images of the nine LSUN scene categories that MiniPlaces has, scaled to 32 x 32",
        stands_in_for="lsun_resize",
    ),
)  # fmt: skip
