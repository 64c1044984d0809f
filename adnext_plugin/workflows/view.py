"""A look at scans in a browser: what lies over them and what was predicted, from this machine alone."""

import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import SettingsError
from adnext_plugin.files import refuse_existing, replacing
from adnext_plugin.workflows.common import Tell
from adnext_plugin.workflows.view_cases import cases_of, only

if TYPE_CHECKING:
    from adnext_plugin.viewer.cases import Viewed

MOST_IN_A_FILE = 20  # cases; a browser has to read all of the file before it shows anything
SMALL = 6  # level of compression of what is kept


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to view: a scan, or the folder of a run or of predictions.

    `masks`, `maps`: files that lie over a scan. `cases`: of a run or of predictions, none for all. `output`: a file to
    write instead of serving the page. `port`: 0 for any that is free. `open_browser`: or else only say the address.
    """

    place: Path
    masks: tuple[Path, ...] = ()
    maps: tuple[Path, ...] = ()
    cases: tuple[str, ...] = ()
    output: Path | None = None
    overwrite: bool = False
    port: int = 0
    open_browser: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"--port {self.port}: a port is 0 to 65535, where 0 means any that is free")
        if self.output is not None and self.output.suffix != ".html":
            raise SettingsError(f"-o {self.output}: the name of a page ends in .html")


@dataclass(frozen=True, kw_only=True)
class Result:
    """How many cases were to be seen, and the file they are in; None where they were served."""

    cases: int
    page: Path | None


def view(request: Request, tell: Tell) -> Result:
    """Write the page, or serve it until Ctrl-C.

    Raises:
        PathsError: there is nothing to view, the file exists, or the port is taken.
        ImageError: a scan cannot be read.
        UnknownNameError: there is no such case.
        SettingsError: there are too many cases for one file.
    """
    if request.output is not None:
        refuse_existing(request.output, request.overwrite)
    viewed = cases_of(request.place, request.masks, request.maps)
    if request.cases:
        viewed = only(viewed, request.cases)
    if request.output is not None:
        _write(viewed, request.output)
        tell(f"{len(viewed.cases)} cases are in {request.output}, which needs nothing beside itself")
    else:
        _serve(viewed, request, tell)
    return Result(cases=len(viewed.cases), page=request.output)


def _write(viewed: "Viewed", path: Path) -> None:
    import base64

    from adnext_plugin.viewer.cases import as_nifti
    from adnext_plugin.viewer.page import view_page

    if len(viewed.cases) > MOST_IN_A_FILE:
        raise SettingsError(
            f"-o {path}: {len(viewed.cases)} cases are too many for one file, which holds {MOST_IN_A_FILE}; choose "
            "with --cases, or leave out -o"
        )

    def place(case: int, layer: int) -> dict[str, str]:
        return {"data": base64.b64encode(as_nifti(viewed.cases[case].layers[layer], SMALL)).decode()}

    page = view_page(viewed, place)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _serve(viewed: "Viewed", request: Request, tell: Tell) -> None:
    from adnext_plugin.viewer.server import ViewServer

    with ViewServer(viewed, request.port) as server:
        tell(f"{len(viewed.cases)} cases are at {server.address}, for this machine alone; Ctrl-C ends it")
        if request.open_browser:
            # beside the server, since a browser without windows takes the terminal until it is closed
            threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # as one ends it
            tell("ended")
