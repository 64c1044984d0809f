"""Bundles on the Hugging Face hub: where one is, fetching it, and pushing one.

Nothing but the bundle and a page on it leaves this machine; what is fetched is checked like a bundle from anywhere.
`HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE` and the log-in are those of the package huggingface_hub.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.errors import PathsError, SettingsError

if TYPE_CHECKING:
    from adnext_plugin.prediction.description import ModelDescription

PREFIX = "hf://"
BUNDLE, PAGE = "model.zip", "README.md"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
REPOSITORY = re.compile(rf"{NAME}/{NAME}")
PLACE = re.compile(rf"hf://(?P<repository>{NAME}/{NAME})(/(?P<file>[^@]+\.zip))?(@(?P<revision>[\w./-]+))?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class HubPlace:
    """A bundle on the hub; `revision` is a branch, a tag or a commit, None for the newest."""

    repository: str
    file: str = BUNDLE
    revision: str | None = None

    @classmethod
    def of(cls, text: str) -> "HubPlace":
        """Read `hf://OWNER/REPO[/FILE.zip][@REVISION]`.

        Raises:
            SettingsError: it is no such address.
        """
        found = PLACE.fullmatch(text)
        if found is None:
            raise SettingsError(f"{text} is no bundle on the hub; write hf://OWNER/REPO, and @REVISION if you want one")
        parts = {name: part for name, part in found.groupdict().items() if part}
        return cls(**parts)

    @property
    def name(self) -> str:
        """Of the repository, without its owner."""
        return self.repository.partition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A bundle in the cache of huggingface_hub, and of which commit it is."""

    file: Path
    commit: str


def fetch(place: HubPlace) -> Fetched:
    """Bring a bundle onto this machine; one that is in the cache already is not fetched again.

    Raises:
        PathsError: there is no such repository, revision or file, or the hub does not answer.
        SettingsError: the package huggingface_hub is not installed.
    """
    hub = require_hub()
    with _in_one_line(place.repository, f"name the bundle: hf://{place.repository}/FILE.zip"):
        found = Path(hub.hf_hub_download(place.repository, place.file, revision=place.revision, **_who_asks()))
    # cache/models--OWNER--REPO/snapshots/COMMIT/FILE
    return Fetched(file=found, commit=found.parents[len(Path(place.file).parts) - 1].name)


def push(bundle: Path, sha256: str, model: "ModelDescription", repository: str, *, is_public: bool) -> str:
    """Put a bundle into a repository, which is made where there is none, private unless `is_public`.

    A page is written where the repository has none.

    Returns:
        Where the bundle is, with the commit.

    Raises:
        PathsError: the hub refuses, or does not answer.
        SettingsError: the package huggingface_hub is not installed.
    """
    hub = require_hub()
    with _in_one_line(repository, "log in with `hf auth login`, or check the name"):
        api = hub.HfApi(**_who_asks())
        api.create_repo(repository, private=not is_public, exist_ok=True)
        files = [hub.CommitOperationAdd(BUNDLE, str(bundle))]
        if not api.file_exists(repository, PAGE):
            files.append(hub.CommitOperationAdd(PAGE, _page(sha256, model, repository).encode()))
        commit = api.create_commit(repository, files, commit_message=f"{BUNDLE} of adnext_plugin, SHA-256 {sha256}")
    return f"{PREFIX}{repository}@{commit.oid}"


def require_repository(name: str) -> None:
    """Make sure that a name is OWNER/REPO.

    Raises:
        SettingsError: it is not.
    """
    if REPOSITORY.fullmatch(name) is None:
        raise SettingsError(f"--push {name}: name a repository of the hub as OWNER/REPO")


def require_hub() -> Any:
    """The package that speaks with the hub.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise SettingsError("the hub needs another package: pip install 'adnext_plugin[hub]'") from error
    return huggingface_hub


def _who_asks() -> dict[str, str]:
    return {"library_name": "adnext_plugin", "library_version": version("adnext_plugin")}


@contextmanager
def _in_one_line(repository: str, remedy: str) -> Iterator[None]:
    """Whatever the hub's package says goes wrong, as one line."""
    from huggingface_hub import errors

    try:
        yield
    # `HTTPError` is of what it speaks HTTP with, which versions differ in
    except (errors.HfHubHTTPError, errors.HTTPError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.filename is not None:  # of this machine
            raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise PathsError(f"{PREFIX}{repository}: {reason.strip()}; {remedy}") from error


def _page(sha256: str, model: "ModelDescription", repository: str) -> str:
    from adnext_plugin.prediction.results import NOTICE

    stamps = "".join(f"**{stamp}**\n\n" for stamp in model.stamps)
    return f"""---
library_name: adnext_plugin
tags:
- neuroimaging
- MRI
---
# {repository.partition("/")[2]}

{model.in_words}.

{stamps}```bash
adnext_install {PREFIX}{repository}
adnext_predict -i scans/ -o predictions/ -m {repository.partition("/")[2]}
```
SHA-256 of `{BUNDLE}`: `{sha256}`

{NOTICE}
"""
