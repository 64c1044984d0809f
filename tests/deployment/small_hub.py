"""A hub for tests, as a process of its own: as much of the Hugging Face hub's HTTP as huggingface_hub asks for.

It keeps repositories in memory, and prints its port when it is ready. `locked/...` is what it will not let anybody see.
"""

import base64
import json
import re
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPOSITORIES: dict[str, dict] = {}  # name to {"private": bool, "commits": [(id, {path: bytes})]}


class Hub(BaseHTTPRequestHandler):
    """Answers of the hub."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
        if found is None or found[1] not in REPOSITORIES:
            return self._refuse(404, "RepoNotFound")
        if found[2] == "preupload":
            files = [file["path"] for file in json.loads(body)["files"]]
            return self._json(
                {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in files]}
            )
        return self._commit(found[1], [json.loads(line) for line in body.splitlines() if line])

    def do_GET(self) -> None:
        """Metadata of a repository, or a file."""
        path = self.path.partition("?")[0]
        if path == "/private":
            return self._json({name: content["private"] for name, content in REPOSITORIES.items()})
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if found is None:
            return self._refuse(404, "RepoNotFound")
        repository, revision, name = found.groups()
        if repository not in REPOSITORIES:
            return self._refuse(401 if repository.startswith("locked/") else 404, "RepoNotFound")
        commits = REPOSITORIES[repository]["commits"]
        chosen = [one for one in commits if revision in ("main", one[0])]
        if not chosen:
            return self._refuse(404, "RevisionNotFound" if revision != "main" else "EntryNotFound")
        commit, files = chosen[-1]
        if name not in files:
            return self._refuse(404, "EntryNotFound", commit)
        content = files[name]
        headers = {"ETag": f'"{sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
        return self._send(200, content, "application/octet-stream", headers)

    def do_HEAD(self) -> None:
        """The same without the file."""
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _create(self, wanted: dict) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name.startswith("locked/"):
            return self._refuse(403, "Forbidden")
        if name in REPOSITORIES:
            return self._send(409, json.dumps({"url": f"{self._base}/{name}"}).encode(), "application/json", {})
        private = wanted.get("private", wanted.get("visibility") == "private")
        REPOSITORIES[name] = {"private": private, "commits": []}
        return self._json({"url": f"{self._base}/{name}", "name": name})

    def _commit(self, repository: str, lines: list[dict]) -> None:
        commits = REPOSITORIES[repository]["commits"]
        files = dict(commits[-1][1]) if commits else {}
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = sha1(repr((len(commits), sorted(files))).encode()).hexdigest()
        commits.append((commit, files))
        self._json({"commitUrl": f"{self._base}/{repository}/commit/{commit}", "commitOid": commit, "hookOutput": ""})

    @property
    def _base(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def _json(self, content: dict) -> None:
        self._send(200, json.dumps(content).encode(), "application/json", {})

    def _refuse(self, status: int, code: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, **({"X-Repo-Commit": commit} if commit else {})}
        self._send(status, json.dumps({"error": code}).encode(), "application/json", headers)

    def _send(self, status: int, content: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    print(server.server_address[1], flush=True)
    server.serve_forever()
