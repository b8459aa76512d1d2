"""Specialised: what did the instrument look at? Microscope, telescope, fundus and elevation images, in grey."""

from petl_make.suite import embedded_task
from petl_make.suite.draw import Array, Draw
from petl_make.suite.photos import cells, evened, patch

# class: image, side of its cells, sides of patches (in pixels of the image), box or None
SUBJECTS: dict[str, tuple[str, int, tuple[float, float], tuple[float, float, float, float] | None]] = {
    "gland": ("skimage/ihc.png", 64, (40, 64), (0, 0, 350, 250)),
    "connective tissue": ("skimage/ihc.png", 64, (40, 64), (150, 230, 512, 512)),
    "retina": ("skimage/retina.jpg", 100, (60, 100), (300, 200, 1150, 1200)),
    "capillaries": ("skimage/microaneurysms.png", 25, (18, 25), None),
    "cell culture": ("skimage/cell.png", 64, (40, 64), None),
    "deep field": ("skimage/hubble_deep_field.jpg", 64, (40, 64), None),
    "moon": ("skimage/moon.png", 64, (40, 64), None),
    "terrain": ("elevation", 48, (32, 48), None),
}


@embedded_task(
    name="science",
    group="specialised",
    classes=tuple(SUBJECTS),
    description="Which of eight subjects of scientific imaging; any rotation, mirrored or not, grey, contrast evened.",
    source="scikit-image's wheel (histology, fundus, cell, Hubble, moon); Matplotlib's elevation model, shaded",
    licence="CC0, public domain, or none known; moon.png BSD-3-Clause with scikit-image",
    colour="grey",
)
def sample(draw: Draw, label: int) -> Array:
    name, side, sides, box = list(SUBJECTS.values())[label]
    return evened(draw, patch(draw, cells(name, side, draw.split, box), sides, least=0.01))
