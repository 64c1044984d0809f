"""A film through the brain: axial, coronal and sagittal slices side by side, coloured by the class that was called."""

import io
from collections.abc import Sequence
from typing import Literal

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from adnext_plugin.explanations.slices import grey_levels, paste_middle, tile
from adnext_plugin.explanations.thresholds import PLANES

Form = Literal["gif", "png", "webp"]  # PNG as APNG, which browsers play; other viewers show its first picture
FORMS: tuple[Form, ...] = ("gif", "png", "webp")
EDGE_PIXELS = 176
HEADER_PIXELS = 44
MOST_FRAMES = 64
FRAME_MILLISECONDS = 100
OPACITY = 0.5
QUANTITY_COLOUR = (255, 140, 0)
# as Cozzoli, Crippa and Taddei 2025 colour two and three classes, from well to ill
GREEN, YELLOW, RED = (0, 200, 0), (255, 220, 0), (255, 40, 40)

Colour = tuple[int, int, int]


def class_colours(classes: Sequence[str]) -> dict[str, Colour]:
    """A colour for each class, from green of the first to red of the last."""
    if len(classes) < 4:
        known = {1: (GREEN,), 2: (GREEN, RED), 3: (GREEN, YELLOW, RED)}.get(len(classes), ())
        return dict(zip(classes, known, strict=True))
    ramp = matplotlib.colormaps["RdYlGn_r"]
    shades = [ramp(index / (len(classes) - 1))[:3] for index in range(len(classes))]
    return {name: _colour(shade) for name, shade in zip(classes, shades, strict=True)}


def animation(
    image_zyx: np.ndarray,
    map_zyx: np.ndarray,
    mask_zyx: np.ndarray,
    *,
    title: str,
    called: str | None,
    classes: Sequence[str],
    form: Form,
) -> bytes:
    """Draw the film; the picture i has the i-th slice of each plane, from one end of the brain to the other.

    Args:
        image_zyx: the network's input, in RAS orientation.
        map_zyx: importance; its size is how strong the colour is, relative to the largest of the map.
        mask_zyx: voxels to colour.
        title: above the slices.
        called: the class, whose colour is taken; None of a quantity.
        classes: all of them, for the legend.
        form: of the file.
    """
    colours = class_colours(classes)
    colour = QUANTITY_COLOUR if called is None else colours[called]
    grey_zyx = grey_levels(image_zyx)
    sizes = np.where(mask_zyx, np.abs(map_zyx), 0)
    strength = (OPACITY * (0.5 + 0.5 * sizes / (float(sizes.max()) or 1.0)) * mask_zyx)[..., None]
    shown_zyxc = grey_zyx[..., None] * 255 * (1 - strength) + np.array(colour) * strength
    ways = [_way(image_zyx, axis) for axis in PLANES.values()]
    frames = [
        _frame(shown_zyxc, [way[round(share * (len(way) - 1))] for way in ways], title, colours)
        for share in np.linspace(0, 1, min(MOST_FRAMES, max(map(len, ways))))
    ]
    stream = io.BytesIO()
    frames[0].save(stream, form.upper(), save_all=True, append_images=frames[1:], duration=FRAME_MILLISECONDS, loop=0)
    return stream.getvalue()


def _way(image_zyx: np.ndarray, axis: int) -> range:
    """The slices that hold anything but the darkest voxels' value."""
    others = tuple(other for other in range(3) if other != axis)
    found = np.flatnonzero(image_zyx.max(axis=others) > image_zyx.min(axis=others))
    return range(int(found[0]), int(found[-1]) + 1) if len(found) else range(image_zyx.shape[axis])


def _frame(shown_zyxc: np.ndarray, indices: Sequence[int], title: str, colours: dict[str, Colour]) -> Image.Image:
    sheet = Image.new("RGB", (EDGE_PIXELS * len(indices), EDGE_PIXELS + HEADER_PIXELS))
    for column, (axis, index) in enumerate(zip(PLANES.values(), indices, strict=True)):
        picture = tile(shown_zyxc.take(index, axis=axis), EDGE_PIXELS)
        paste_middle(sheet, picture, EDGE_PIXELS * column, HEADER_PIXELS, EDGE_PIXELS)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((6, 4), title, fill="white", font=font)
    left = 6
    for name, colour in colours.items():
        draw.rectangle((left, 27, left + 10, 37), fill=colour)
        draw.text((left + 15, 24), name, fill="white", font=font)
        left += 15 + round(draw.textlength(name, font=font)) + 14
    return sheet


def _colour(shade: Sequence[float]) -> Colour:
    red, green, blue = (round(255 * value) for value in shade)
    return red, green, blue
