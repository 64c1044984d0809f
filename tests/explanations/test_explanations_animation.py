"""Films through the brain: what every picture shows, and in which colour."""

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from adnext_plugin.explanations.animation import EDGE_PIXELS, FORMS, HEADER_PIXELS, animation, class_colours
from adnext_plugin.workflows.explanation_files import FILMS

CLASSES = ("CN", "MCI", "AD")


def _film(called: str | None, classes: tuple[str, ...] = CLASSES, form: str = "png") -> list[np.ndarray]:
    """Of a brain of 20 slices within 32, a bright spot of the map in the upper left front quarter."""
    image = np.zeros((32, 32, 32), dtype=np.float32)
    # slices differ, for pictures that are alike are merged
    image[6:26, 6:26, 6:26] = 1 + np.random.default_rng(0).random((20, 20, 20))
    map_zyx = np.zeros_like(image)
    map_zyx[18:24, 18:24, 8:14] = 1
    made = animation(image, map_zyx, map_zyx > 0, title="case", called=called, classes=classes, form=form)
    return [
        np.asarray(frame.convert("RGB"), dtype=int) for frame in ImageSequence.Iterator(Image.open(io.BytesIO(made)))
    ]


def _coloured(picture: np.ndarray) -> np.ndarray:
    """Where it is not grey, below the header."""
    return np.ptp(picture[HEADER_PIXELS:], axis=2) > 25


def test_a_film_goes_through_the_slices_of_the_brain() -> None:
    pictures = _film("AD")
    assert len(pictures) == 20
    assert pictures[0].shape == (EDGE_PIXELS + HEADER_PIXELS, 3 * EDGE_PIXELS, 3)
    tiles = np.array([[_coloured(p)[:, EDGE_PIXELS * i :][:, :EDGE_PIXELS].any() for i in range(3)] for p in pictures])
    # from the sixth slice on: 18 to 23 from below and from behind, 8 to 13 from the left
    assert np.flatnonzero(tiles[:, 0]).tolist() == np.flatnonzero(tiles[:, 1]).tolist() == list(range(12, 18))
    assert np.flatnonzero(tiles[:, 2]).tolist() == list(range(2, 8))
    # in the axial slice the front is on top and the patient's left on the left
    rows, columns = np.nonzero(_coloured(pictures[14])[:, :EDGE_PIXELS])
    assert rows.mean() < EDGE_PIXELS / 2 and columns.mean() < EDGE_PIXELS / 2


def test_the_colour_is_that_of_the_class_that_was_called() -> None:
    def hue(called: str | None, classes: tuple[str, ...] = CLASSES) -> np.ndarray:
        picture = _film(called, classes)[14]
        return picture[HEADER_PIXELS:][_coloured(picture)].mean(axis=0)

    red, green, blue = hue("AD")
    assert red > green + 50 and red > blue + 50
    red, green, blue = hue("CN")
    assert green > red + 50 and green > blue + 50
    red, green, blue = hue("MCI")
    assert min(red, green) > blue + 50
    red, green, blue = hue(None, ())
    assert red > green > blue


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_a_film_that_loops(form: str) -> None:
    image = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    made = animation(image, image, image > 0.9, title="case", called="AD", classes=("CN", "AD"), form=form)
    film = Image.open(io.BytesIO(made))
    assert film.n_frames == 12 and film.format.lower() == form and film.info["loop"] == 0
    assert FILMS == FORMS


def test_classes_have_colours_of_their_own_however_many_there_are() -> None:
    assert list(class_colours(CLASSES)) == list(CLASSES) and class_colours(()) == {}
    assert len(set(class_colours(tuple("abcdefg")).values())) == 7
