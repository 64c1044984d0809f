"""A server for one person on this machine: the page and the volumes on it, at an address that nobody can guess.

Every user of a machine can ask a port of it, so all addresses begin with a secret, as those of Jupyter do.
"""

import secrets
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from adnext_plugin.errors import AdnextError, PathsError
from adnext_plugin.viewer.cases import Viewed, as_nifti
from adnext_plugin.viewer.page import niivue, view_page

LOCAL = "127.0.0.1"
FAST = 1  # level of compression: a volume is sent once, and not far
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class ViewServer(ThreadingHTTPServer):
    """Serves what is viewed on this machine alone, once `serve_forever` is called.

    Args:
        viewed: what is shown.
        port: 0 for any that is free.

    Raises:
        PathsError: the port is taken, or may not be had.
    """

    daemon_threads = True

    def __init__(self, viewed: Viewed, port: int = 0) -> None:
        self.viewed, self.secret = viewed, secrets.token_urlsafe(16)
        try:
            super().__init__((LOCAL, port), _Handler)
        except (OSError, OverflowError) as error:
            raise PathsError(f"--port {port} cannot be had ({error}); give another, or 0 for any") from error

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{LOCAL}:{self.server_address[1]}/{self.secret}/"

    def content(self, path: str) -> tuple[str, bytes]:
        """Type and bytes of what is at a path.

        Raises:
            KeyError: nothing is.
            AdnextError: a volume cannot be read.
        """
        _, secret, *parts = path.split("/")
        if not secrets.compare_digest(secret.encode(), self.secret.encode()):
            raise KeyError(path)
        if parts == [""]:
            page = view_page(self.viewed, lambda case, layer: {"url": f"volume/{case}/{layer}"}, "niivue.js")
            return "text/html; charset=utf-8", page.encode()
        if parts == ["niivue.js"]:
            return "text/javascript; charset=utf-8", niivue().encode()
        if len(parts) != 3 or parts[0] != "volume" or not all(part.isdecimal() for part in parts[1:]):
            raise KeyError(path)
        case, layer = map(int, parts[1:])
        if case >= len(self.viewed.cases) or layer >= len(self.viewed.cases[case].layers):
            raise KeyError(path)
        return "application/octet-stream", as_nifti(self.viewed.cases[case].layers[layer], FAST)


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer

    def do_GET(self) -> None:  # by this name it is called
        """Answer a browser."""
        send = partial(self._send, HTTPStatus.OK)
        try:
            send(*self.server.content(urlsplit(self.path).path))
        except KeyError:
            self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"There is nothing here.")
        except AdnextError as error:  # which the page shows
            self._send(HTTPStatus.UNPROCESSABLE_ENTITY, "text/plain; charset=utf-8", str(error).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: addresses have the secret in them."""
