"""The classes of sets whose releases number them: the name at a place is that of the label. Data."""

from functools import cache
from pathlib import Path

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster "
    "man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
    "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk "
    "skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger "
    "tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm "
)
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_DIGITS = tuple("0123456789")
_ORDERS = {
    "cifar10": tuple(_CIFAR10.split()),
    "cifar10_c": tuple(_CIFAR10.split()),
    "cifar100": tuple(_CIFAR100.split()),
    "svhn": _DIGITS,
    "mnist": _DIGITS,
    "fashion_mnist": _CLOTHES,
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "notmnist": tuple("ABCDEFGHIJ"),
    "digits": _DIGITS,
}
_ALL, _OF_R = "imagenet_wnids.txt", "imagenet200_wnids.txt"
_WNIDS = {"imagenet": _ALL, "imagenet_v2": _ALL, "imagenet_c": _ALL, "imagenet200": _OF_R, "imagenet_r": _OF_R}


@cache
def order(name: str) -> tuple[str, ...]:
    """The class names of a set of the catalogue, index = label; none where its release numbers none.

    ImageNet's are its wnids, as the English names repeat (two are "crane").
    """
    if (wnids := _WNIDS.get(name)) is not None:
        return tuple((Path(__file__).parent / wnids).read_text(encoding="ascii").split())
    return _ORDERS.get(name, ())


def spelled(names: tuple[str, ...], known: tuple[str, ...], *, numbered: bool) -> tuple[str, ...]:
    """`names` (index = label) as `known` spells them, where they are the same but for spelling or are its numbers.

    `numbered`: the labels are the release's own numbers, so that as many other names are other words for the same.
    """
    plain = {_plain(name): name for name in known}
    if names and all(_plain(name) in plain for name in names):
        return tuple(plain[_plain(name)] for name in names)
    if names and all(name.isdecimal() and int(name) < len(known) for name in names):
        return tuple(known[int(name)] for name in names)
    return known if numbered and len(names) in (0, len(known)) else names


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
