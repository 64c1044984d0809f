"""A model bundle, checked as a file from a stranger, becomes a model to predict with."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import BundleError, SettingsError
from adnext_plugin.files import require_file
from adnext_plugin.paths import BUNDLES, results_dir
from adnext_plugin.workflows.common import Tell
from adnext_plugin.workflows.hub import PREFIX, HubPlace, fetch

if TYPE_CHECKING:
    from adnext_plugin.prediction.description import ModelDescription

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """The archive, a file or `hf://OWNER/REPO[@REVISION]`, and where it goes.

    `into`: a folder of models (None: that of installed ones). `name`: of the model (None: that of the file or of the
    repository). `sha256`: of the archive, as its sender says it; None where nobody has.
    """

    bundle: str
    into: Path | None = None
    name: str | None = None
    overwrite: bool = False
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.model_name):
            raise SettingsError(
                f"a model cannot be called {self.model_name!r}; give letters, digits, '-', '_' and '.' with --name"
            )
        if self.sha256 is not None and SHA256.fullmatch(self.sha256.lower()) is None:
            raise SettingsError(f"--sha256 {self.sha256}: give the 64 hexadecimal digits that adnext_export prints")

    @property
    def hub(self) -> HubPlace | None:
        """Where on the hub it is; None for a file."""
        return HubPlace.of(self.bundle) if self.bundle.startswith(PREFIX) else None

    @property
    def model_name(self) -> str:
        """What the model's folder is called."""
        return self.name or (Path(self.bundle).stem if self.hub is None else self.hub.name)


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
        PathsError: a model of that name is there already, or the hub has no such bundle.
        BundleError: the archive is refused, with the reason.
    """
    folder = (request.into or results_dir() / BUNDLES) / request.model_name

    from adnext_plugin.images import file_sha256
    from adnext_plugin.prediction.bundle import install_bundle

    file = Path(request.bundle)
    if request.hub is not None:
        fetched = fetch(request.hub)
        file = fetched.file
        tell(f"{request.hub.file} of {request.hub.repository}, commit {fetched.commit}")
    if request.sha256 is not None:
        found = file_sha256(require_file(file, "give a file written by adnext_export"))
        if found != request.sha256.lower():
            raise BundleError(f"{request.bundle} is not the bundle that was meant: its SHA-256 is {found}")
    model = install_bundle(file, folder, overwrite=request.overwrite).description
    tell(model.in_words)
    sha256 = file_sha256(file)
    tell(f"SHA-256 {sha256}")
    found_by = request.model_name if request.into is None else str(folder)
    return Result(folder=folder, found_by=found_by, description=model, sha256=sha256)
