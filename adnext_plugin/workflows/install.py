"""A model bundle, checked as a file from a stranger, becomes a model to predict with."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import SettingsError
from adnext_plugin.paths import BUNDLES, results_dir
from adnext_plugin.workflows.common import Tell

if TYPE_CHECKING:
    from adnext_plugin.prediction.description import ModelDescription

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Request:
    """The archive, and where it goes: a folder of models (None: that of installed ones), a name (None: the file's)."""

    bundle: Path
    into: Path | None = None
    name: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.model_name):
            raise SettingsError(
                f"a model cannot be called {self.model_name!r}; give letters, digits, '-', '_' and '.' with --name"
            )

    @property
    def model_name(self) -> str:
        """What the model's folder is called."""
        return self.name or self.bundle.stem


@dataclass(frozen=True, kw_only=True)
class Result:
    """The installed model; `found_by` is what names it to a command."""

    folder: Path
    found_by: str
    description: "ModelDescription"
    sha256: str


def install(request: Request, tell: Tell) -> Result:
    """Check a bundle and put it where models are found.

    Raises:
        PathsError: a model of that name is there already.
        BundleError: the archive is refused, with the reason.
    """
    folder = (request.into or results_dir() / BUNDLES) / request.model_name

    from adnext_plugin.images import file_sha256
    from adnext_plugin.prediction.bundle import install_bundle

    model = install_bundle(request.bundle, folder, overwrite=request.overwrite).description
    tell(model.in_words)
    sha256 = file_sha256(request.bundle)
    tell(f"SHA-256 {sha256}")
    found_by = request.model_name if request.into is None else str(folder)
    return Result(folder=folder, found_by=found_by, description=model, sha256=sha256)
