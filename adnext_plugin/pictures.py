"""Planes of brains as JPEG files: each as large as its square allows, in the middle of it."""

import base64
import io
from collections.abc import Sequence

from PIL import Image


def fitted_size(rows: float, columns: float, edge_pixels: int) -> tuple[int, int]:
    """Width and height in pixels of a plane of a size in any unit, whose longer side is to be `edge_pixels`."""
    scale = edge_pixels / max(rows, columns)
    return max(1, round(columns * scale)), max(1, round(rows * scale))


def in_squares(planes: Sequence[Image.Image], edge_pixels: int) -> Image.Image:
    """Planes side by side on black, none larger than a square."""
    sheet = Image.new("RGB", (edge_pixels * len(planes), edge_pixels))
    for place, plane in enumerate(planes):
        left, top = (edge_pixels - plane.width) // 2, (edge_pixels - plane.height) // 2
        sheet.paste(plane.convert("RGB"), (edge_pixels * place + left, top))
    return sheet


def jpeg(picture: Image.Image, quality: int = 75) -> bytes:
    """A picture as a file."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def jpeg_uri(picture: Image.Image, quality: int) -> str:
    """A picture as a data URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(picture, quality)).decode()}"
