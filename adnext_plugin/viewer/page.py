"""The viewer's page: NiiVue, which comes with the package, and what it is to show."""

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from adnext_plugin import html_pages
from adnext_plugin.viewer.cases import Viewed

# what gives the page a volume: {"data": base64} or {"url": address}, by numbers of case and layer
Place = Callable[[int, int], dict[str, str]]


def niivue() -> str:
    """NiiVue's program; it makes `niivue` in the window."""
    return (files("adnext_plugin.viewer") / "niivue" / "niivue.umd.js").read_text(encoding="utf-8")


def view_page(viewed: Viewed, place: Place, niivue_url: str | None = None) -> str:
    """The page as HTML.

    Args:
        viewed: what it shows.
        place: where the page finds each volume.
        niivue_url: where it finds NiiVue; None to write it into the page.
    """
    environment = html_pages.templates("viewer")
    script = html_pages.script(environment, "view.js.j2")
    program = niivue() if niivue_url is None else ""
    scripts = [script, program] if program else [script]
    return environment.get_template("view.html.j2").render(
        viewed=viewed,
        facts=Markup(_in_script(_facts(viewed, place))),
        script=script,
        program=Markup(program),
        niivue_url=niivue_url or "",
        # the only scripts that a browser may run, and the only addresses that it may ask
        allowed=" ".join([f"'{html_pages.digest(code)}'" for code in scripts] + (["'self'"] if niivue_url else [])),
    )


def _facts(viewed: Viewed, place: Place) -> list[dict[str, Any]]:
    return [
        {
            "name": case.name,
            "layers": [
                {"name": layer.name, "kind": layer.kind, **place(number, index)}
                for index, layer in enumerate(case.layers)
            ],
            "said": [list(row) for row in case.said],
            "missing": list(case.missing),
        }
        for number, case in enumerate(viewed.cases)
    ]


def _in_script(content: Any) -> str:
    """JSON that can stand in a script element: no name in it ends that."""
    return json.dumps(content).replace("<", "\\u003c")
