"""Pages of HTML that need nothing beside themselves: templates of this package, and the scripts a browser may run."""

import base64
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def templates(part: str) -> Environment:
    """What lies in the folder `templates` of a part of this package; to give a template too little is an error."""
    loader = PackageLoader(f"adnext_plugin.{part}")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def script(environment: Environment, name: str) -> Markup:
    """A script among the templates, as it stands in a page."""
    assert environment.loader is not None
    code, _, _ = environment.loader.get_source(environment, name)
    return Markup(code)


def digest(code: str) -> str:
    """What a page's Content-Security-Policy calls a script in it that a browser may run; any other it will not."""
    return f"sha256-{base64.b64encode(sha256(code.encode()).digest()).decode()}"
