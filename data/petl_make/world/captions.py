"""Captions as the web has them: a style, a thing, now and then a remark; sometimes wrong, sometimes beside the point.

The words are few (``VOCABULARY``), so the text tower needs no more than a table of them.
"""

from __future__ import annotations

from petl_make.suite.draw import Draw
from petl_make.world.scenes import CLASSES, Scene

NAMES = {  # what people call a thing; the class's own name comes first
    "house": ("house", "cottage"), "tree": ("tree", "oak"), "boat": ("boat", "ship"), "car": ("car", "taxi"),
    "plane": ("plane", "jet"), "fish": ("fish", "trout"), "bird": ("bird", "sparrow"),
    "butterfly": ("butterfly", "moth"), "flower": ("flower", "daisy"), "leaf": ("leaf", "foliage"),
    "mushroom": ("mushroom", "toadstool"), "umbrella": ("umbrella", "parasol"), "lamp": ("lamp", "light"),
    "chair": ("chair", "seat"), "table": ("table", "desk"), "cup": ("cup", "mug"), "bottle": ("bottle", "flask"),
    "key": ("key", "latchkey"), "hammer": ("hammer", "mallet"), "spoon": ("spoon", "ladle"),
}  # fmt: skip
STYLE_WORDS = {
    "photo": ("photo", "photograph", "snapshot"), "sketch": ("sketch", "drawing"), "chalk": ("chalk", "blackboard"),
    "cartoon": ("cartoon", "comic"), "painting": ("painting", "canvas"), "mosaic": ("mosaic", "tiles"),
    "engraving": ("engraving", "print"), "window": ("window", "glass"), "dots": ("dots", "stipple"),
    "relief": ("relief", "carving"), "neon": ("neon", "sign"), "silhouette": ("silhouette", "shadow"),
}  # fmt: skip
TEMPLATES = (
    "a {thing}", "the {thing}", "a {style} of a {thing}", "{style} of the {thing}", "my {thing} {style}",
    "{thing} as a {style}", "a {remark} {thing} {style}", "{style} of a {remark} {thing}", "the {remark} {thing}",
)  # fmt: skip
BESIDE = ("a {style}", "my favourite {style}", "from the holidays", "for sale", "a {remark} {style}")
REMARKS = ("small", "large", "tilted", "straight", "old", "new", "nice")
PROMPTS = (
    "a {thing}", "the {thing}",
    *(f"a {word} of a {{thing}}" for words in STYLE_WORDS.values() for word in words[:1]),
    *(f"my {{thing}} {word}" for word in ("photo", "sketch", "painting", "cartoon")),
)  # fmt: skip

_TEXTS = (*TEMPLATES, *BESIDE, *PROMPTS)
_FIXED = {word for text in _TEXTS for word in text.split() if "{" not in word}
VOCABULARY = tuple(
    sorted(_FIXED | set(REMARKS) | {w for table in (NAMES, STYLE_WORDS) for words in table.values() for w in words})
)


def caption(draw: Draw, label: int, style: str, at: Scene, wrong: float, beside: float) -> str:
    """What is written under a picture. With chance ``beside`` it does not say what is in it; otherwise, with chance
    ``wrong``, it names another thing."""
    remark = draw.pick(REMARKS[4:])
    if draw.chance(0.7):
        size, lean = ("small" if at.half < 11 else "large"), ("tilted" if abs(at.turn) > 0.3 else "straight")
        remark = size if draw.chance(0.5) else lean
    if draw.chance(beside):
        text = draw.pick(BESIDE)
    else:
        text = draw.pick(TEMPLATES)
    if draw.chance(wrong):
        label = (label + draw.integer(1, len(CLASSES) - 1)) % len(CLASSES)
    thing = NAMES[CLASSES[label]][0 if draw.chance(0.7) else 1]
    return text.format(thing=thing, style=draw.pick(STYLE_WORDS[style]), remark=remark)
