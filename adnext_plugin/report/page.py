"""What a report page is made of, and its rendering into one file that asks nobody for anything."""

from dataclasses import dataclass

from adnext_plugin import html_pages


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as text, the first column a row's name. `flagged` are indices of rows that ask for attention."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    flagged: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class PageFigure:
    """A drawing as a data URI. `key` is its name in the page; `text` says in words what it shows."""

    key: str
    uri: str
    caption: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Slices side by side in one picture, a data URI; `shown` is the one to begin with. Sizes are those of a slice."""

    name: str
    uri: str
    slices: int
    shown: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """A volume to leaf through. A place that is touched in one plane is shown in the others."""

    key: str
    caption: str
    planes: tuple[Plane, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page. `alerts` are what must not be overlooked; what could not be made is said in `missing`."""

    key: str
    title: str
    alerts: tuple[str, ...] = ()
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[PageFigure, ...] = ()
    viewers: tuple[Viewer, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report. `warnings` stand on top of everything."""

    title: str
    subtitle: str
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]


def render(page: Page) -> str:
    """The page as HTML with its style and figures inside; of scripts the one that leafs, where there is a volume."""
    environment = html_pages.templates("report")
    leafs = any(section.viewers for section in page.sections)
    script = html_pages.script(environment, "viewer.js.j2") if leafs else ""
    digest = html_pages.digest(script)
    return environment.get_template("report.html.j2").render(page=page, script=script, digest=digest)
