"""Natural: what material is this? Grey pieces of photographs, turned, scaled and evened in contrast."""

from petl_make.suite import embedded_task
from petl_make.suite.draw import Array, Draw
from petl_make.suite.photos import cells, evened, patch

# class: photograph, box (x0, y0, x1, y1) in its pixels or None for all of it
MATERIALS: dict[str, tuple[str, tuple[float, float, float, float] | None]] = {
    "brick": ("skimage/brick.png", None),
    "grass": ("skimage/grass.png", None),
    "gravel": ("skimage/gravel.png", None),
    "fur": ("skimage/chelsea.png", (0, 0, 451, 300)),
    "petals": ("sklearn/flower.jpg", (210, 110, 425, 335)),
    "foliage": ("sklearn/china.jpg", (0, 290, 640, 427)),
    "wood": ("skimage/coffee.png", (0, 0, 150, 400)),
    "cloth": ("skimage/astronaut.png", (90, 250, 360, 512)),
    "print": ("skimage/page.png", None),
    "handwriting": ("skimage/text.png", None),
    "coin relief": ("skimage/coins.png", None),
}


@embedded_task(
    name="textures",
    group="natural",
    classes=tuple(MATERIALS),
    description="Which of eleven materials fills the picture. Any rotation, mirrored or not, scale 1 to 2, grey.",
    source="scikit-image and scikit-learn wheels",
    licence="CC0, public domain or none known; page.png BSD-3-Clause; china.jpg and flower.jpg CC BY 2.0",
    colour="grey",
)
def sample(draw: Draw, label: int) -> Array:
    name, box = list(MATERIALS.values())[label]
    return evened(draw, patch(draw, cells(name, 64, draw.split, box), (32, 64)))
