"""The icons of a built site: only those that its pages show, as a font of a few kilobytes.

The theme brings all of Font Awesome twice, as fonts and as a script of 1.5 MB that draws the same icons. The script
goes, the fonts keep the glyphs in use, and the style sheet keeps their rules.
"""

from __future__ import annotations

import re
from pathlib import Path

SCRIPT = "fontawesome.js"
SCRIPT_TAG = re.compile(rf"\s*<script[^>]*/{re.escape(SCRIPT)}[^>]*></script>")
RULE = re.compile(r"((?:\.fa-[a-z0-9-]+:before,?)+)\{content:\"[^\"]*\"\}")
GLYPH = re.compile(r"[\"']\\([0-9a-fA-F]{2,5})\s?[\"']")
OTHER_FORMAT = re.compile(r"url\([^)]*/fontawesome/[^)]*\.woff2\) format\(\"woff2\"\),")
FONTS = "vendor/fontawesome/webfonts"


def keep_used(static: Path, pages: list[Path]) -> None:
    """Reduce the icons in the folder ``static`` of a site to those that ``pages`` (and scripts) name."""
    for path in pages:
        text = path.read_text(encoding="utf-8")
        path.write_text(SCRIPT_TAG.sub("", text), encoding="utf-8")
    for path in static.rglob(f"{SCRIPT}*"):
        path.unlink()
    used = set()
    for path in [*pages, *static.rglob("*.js")]:
        used |= set(re.findall(r"\bfa-[a-z0-9-]+", path.read_text(encoding="utf-8")))
    glyphs = set()
    for path in static.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        shown = OTHER_FORMAT.sub("", RULE.sub(lambda rule: rule[0] if used & _names(rule[1]) else "", text))
        if shown != text:
            path.write_text(shown, encoding="utf-8")
        glyphs |= {int(code, 16) for code in GLYPH.findall(shown)}
    for path in (static / FONTS).glob("*.woff2"):
        path.unlink()
    for path in (static / FONTS).glob("*.ttf"):
        _subset(path, glyphs)


def _names(selector: str) -> set[str]:
    return {part.strip().removeprefix(".").removesuffix(":before") for part in selector.split(",")}


def _subset(font: Path, glyphs: set[int]) -> None:
    """Write the font again with these code points alone."""
    from fontTools import subset  # comes with matplotlib

    options = subset.Options()
    opened = subset.load_font(str(font), options)
    chosen = subset.Subsetter(options)
    chosen.populate(unicodes=sorted(glyphs))
    chosen.subset(opened)
    subset.save_font(opened, str(font), options)
