"""Weights that come with the package, by name: `builtin:NAME` stands wherever a model or first weights may stand.

    NAME/card.json                    what they are, what they learned from, what they are worth
    NAME/MODEL_CARD.md                the same, to read
    NAME/model/                       the installed bundle that `adnext_predict` reads
    NAME/model/fold_0.safetensors     its networks, whose notes say whom they have seen
    key.json                          the key of those notes' digests

People whom such weights have seen are named by keyed digests like any others. The key is published with them, so that
every project can look its people up. This only makes sense for cohorts whose ids are public.
"""

import re
from functools import cache
from hashlib import sha256
from pathlib import Path

from adnext_plugin.builtin.card import ModelCard
from adnext_plugin.errors import PathsError, UnknownNameError, nearest_names
from adnext_plugin.files import read_object
from adnext_plugin.paths import file_of_fold
from adnext_plugin.records import from_json

PREFIX = "builtin:"
FOLDER = Path(__file__).parent
CARD, KEY, MODEL = "card.json", "key.json", "model"


def is_builtin(model_or_weights: str | Path | None) -> bool:
    """Whether something is named that comes with the package; not so in the notes of a run, which add a SHA-256."""
    return re.fullmatch(rf"{PREFIX}[^,/\\]*", str(model_or_weights)) is not None


def builtin_names() -> list[str]:
    """Names of what there is, without the prefix."""
    return sorted(card.parent.name for card in FOLDER.glob(f"*/{CARD}"))


def card_of(name: str) -> ModelCard:
    """The card of built-in weights.

    Args:
        name: with the prefix or without.

    Raises:
        UnknownNameError: there are none of this name.
        PathsError, SettingsError: the installation is damaged.
    """
    path = _folder(name) / CARD
    return from_json(ModelCard, read_object(path), str(path))


def model_folder(name: str) -> Path:
    """The folder of the bundle.

    Raises:
        UnknownNameError: there are none of this name.
    """
    return _folder(name) / MODEL


def weights_file(weights: str | Path, fold: int | str) -> Path:
    """The file that a network of a fold begins with, whether it comes with the package or not.

    Args:
        weights: `builtin:NAME`, or a path in which "{fold}" stands for the fold.
        fold: its number, or "all".

    Raises:
        UnknownNameError: there are no built-in weights of this name.
    """
    if is_builtin(weights):
        return model_folder(str(weights)) / card_of(str(weights)).encoder
    return file_of_fold(str(weights), fold)


def absolute(weights: str | Path) -> str:
    """First weights as they can be named from any folder."""
    return str(weights) if is_builtin(weights) else str(Path(weights).absolute())


def name_of_file(file: Path) -> str:
    """What first weights are called in notes and messages: `builtin:NAME`, or the name of the file."""
    is_own = file.parent.name == MODEL and file.parents[2:3] == (FOLDER,)
    return f"{PREFIX}{file.parents[1].name}" if is_own else file.name


@cache
def published_key() -> bytes:
    """The key that whom built-in weights have seen was digested with.

    Raises:
        PathsError: the installation is damaged.
    """
    content = read_object(FOLDER / KEY)
    try:
        return bytes.fromhex(content["key"])
    except (KeyError, TypeError, ValueError) as error:
        raise PathsError(f"{FOLDER / KEY} holds no key; install adnext_plugin again") from error


def is_published(key_digest: str) -> bool:
    """Whether a list of people was made with the published key, by the SHA-256 of the key that it states."""
    return key_digest == sha256(published_key()).hexdigest()


def _folder(name: str) -> Path:
    bare, known = name.removeprefix(PREFIX), builtin_names()
    if bare not in known:
        raise UnknownNameError(
            f"no built-in weights {PREFIX}{bare}{nearest_names(bare, known)}; adnext_weights lists what there is"
        )
    return FOLDER / bare
