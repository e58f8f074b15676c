"""Sets that are made here, from what scikit-learn and matplotlib bring. Data."""

from datasets.entries.form import Entry

_DIGITS = "Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI 1998, https://doi.org/10.24432/C50P49"
_DIGITS_HOME = "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"
_NOTHING = "nothing to get: made from what scikit-learn and matplotlib bring"

ENTRIES = (
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
