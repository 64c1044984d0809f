"""A page in a real browser, where there is one: a script of a test looks at it and says what it sees."""

import base64
import html
import json
import re
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on the path")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--proxy-server=127.0.0.1:9",  # the browser's own calls home go nowhere
)
NO_GPU = ("--disable-gpu",)
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


def seen(page: str, folder: Path, script: str, size: str = "1280,900", options: tuple[str, ...] = NO_GPU) -> Any:
    """What a script returns that runs in a page once it is loaded.

    The page's content security policy holds, but that it also allows this script.

    Args:
        page: HTML.
        folder: for a copy of the page, and what the browser keeps.
        script: the body of an asynchronous function; what it returns must be JSON.
        size: of the window in pixels, "WIDTH,HEIGHT".
        options: further options of the browser.
    """
    code = (
        f"addEventListener('load', async () => {{ let said; try {{ said = await (async () => {{ {script} }})() }} "
        "catch (error) { said = {error: String(error)} } document.title = 'said ' + JSON.stringify(said) })"
    )
    digest = base64.b64encode(sha256(code.encode()).digest()).decode()
    allowed = re.sub(r"script-src ", f"script-src 'sha256-{digest}' ", page, count=1)
    copy = folder / "seen.html"
    before, end, after = allowed.rpartition("</body>")  # a script of the page may have that text, too
    copy.write_text(f"{before}<script>{code}</script>{end}{after}", encoding="utf-8")
    dumped = run(folder, size, "--virtual-time-budget=20000", *options, "--dump-dom", copy.as_uri())
    found = re.search(r"<title>said (.*?)</title>", dumped, re.DOTALL)
    assert found, dumped[-2000:]
    return json.loads(html.unescape(found[1]))


def run(folder: Path, size: str, *options: str) -> str:
    """Run the browser and give what it prints."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--window-size={size}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
