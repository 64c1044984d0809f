"""What the documentation site takes from outside `docs/`: pages and files of the repository, help of the commands.

MkDocs calls these functions while it builds (`hooks` in `mkdocs.yml`). Pages keep links that work in the repository,
so that they read alike there and on the site; here the links are turned to where the site has their target.
"""

import io
import os
import re
from contextlib import redirect_stdout, suppress
from importlib.metadata import entry_points
from pathlib import Path
from unittest.mock import patch

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
LINK_OUT_OF_DOCS = re.compile(r"\]\(\.\./([^)#\s]+)")


def on_files(files: Files, config) -> Files:
    """Add the repository's own pages, the files that pages of `docs/` link to, and the commands' help."""
    for source, target in PAGES.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    linked = {
        name for page in Path(config.docs_dir).glob("*.md") for name in LINK_OUT_OF_DOCS.findall(page.read_text())
    }
    for name in sorted(linked - set(PAGES)):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "commands.md", content=commands_page()))
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Turn links between pages of the repository into links between pages of the site."""
    if page.file.src_uri in PAGES.values():
        return markdown.replace("](docs/", "](").replace("](README.md", "](index.md")
    return markdown.replace("](../README.md", "](index.md").replace("](../", "](")


def commands_page() -> str:
    """Every command that the package declares, with what it says for `--help`."""
    sections = ["# Commands\n\nEvery command prints this text with `--help`."]
    scripts = [script for script in entry_points(group="console_scripts") if script.module.startswith("adnext_plugin.")]
    for script in sorted(scripts, key=lambda script: script.name):
        said = io.StringIO()
        with patch.dict(os.environ, COLUMNS="100", NO_COLOR="1"), redirect_stdout(said), suppress(SystemExit):
            script.load()(["--help"])
        sections.append(f"## {script.name}\n\n```text\n{said.getvalue()}```")
    return "\n\n".join(sections) + "\n"
