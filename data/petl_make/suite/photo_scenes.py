"""Natural: from which photograph is this piece? Colours are random; pieces of train and test do not overlap."""

from petl_make.suite import embedded_task
from petl_make.suite.draw import Array, Draw
from petl_make.suite.photos import cells, evened, patch

PHOTOS = {
    "astronaut": "skimage/astronaut.png",
    "cameraman": "skimage/camera.png",
    "cat": "skimage/chelsea.png",
    "coffee": "skimage/coffee.png",
    "brick wall": "skimage/brick.png",
    "rocket": "skimage/rocket.jpg",
    "pagoda": "sklearn/china.jpg",
    "flower": "sklearn/flower.jpg",
    "admiral": "matplotlib/grace_hopper.jpg",
    "coins": "skimage/coins.png",
}


@embedded_task(
    name="photo_scenes",
    group="natural",
    classes=tuple(PHOTOS),
    description="Which of ten photographs a piece is from. Tinted at random; contrast and brightness are random too.",
    source="scikit-image, scikit-learn and Matplotlib wheels",
    licence="CC0, public domain or none known; china.jpg and flower.jpg CC BY 2.0 (danielbuechele, vultilion)",
    colour="tinted",
)
def sample(draw: Draw, label: int) -> Array:
    pieces = cells(list(PHOTOS.values())[label], 75, draw.split)
    return evened(draw, patch(draw, pieces, (48, 75), turn=0.15))
