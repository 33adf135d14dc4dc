"""A small server that speaks as much of the Hugging Face Hub's API as pushing and pulling a repository takes."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

TOKEN, READER = "hf_of_the_owner", "hf_that_reads"


@dataclass
class Hub:
    """Repositories by name, a file's content by its path; `blobs` are those on their way. asked: every request."""

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    endless: set[str] = field(default_factory=set)

    def commit_of(self, name: str) -> str:
        content = sorted(self.repositories[name].items())
        return hashlib.sha1(
            repr([(path, hashlib.sha1(data).hexdigest()) for path, data in content]).encode()
        ).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty Hub on this machine."""
    hub = Hub()

    class Handler(Speaking):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class Speaking(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = self._parts()
        if parts[:2] == ["api", "models"]:
            self._info("/".join(parts[2:4]))
        elif parts[2:3] == ["resolve"]:
            self._file("/".join(parts[:2]), "/".join(parts[4:]))
        else:
            self._answer(404)

    def do_POST(self) -> None:
        body, parts = self.rfile.read(int(self.headers.get("Content-Length") or 0)), self._parts()
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token != TOKEN:
            self._answer(403 if token == READER else 401)
        elif parts == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif parts[-2] == "preupload":
            self._json({"files": [self._mode(each["path"]) for each in json.loads(body)["files"]]})
        elif parts[-1] == "batch":
            self._json({"transfer": "basic", "objects": [self._place(each) for each in json.loads(body)["objects"]]})
        else:
            self._commit("/".join(parts[2:4]), [json.loads(line) for line in body.splitlines()])

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(data).hexdigest() == self._parts()[-1]
        self.hub.blobs[self._parts()[-1]] = data
        self._answer(200)

    def _parts(self) -> list[str]:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.hub.asked.append(f"{self.command} {self.path}")
        return parts

    def _create(self, asked: dict[str, str]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        url = {"url": f"{self.hub.address}/{name}", "id": "1", "name": name}
        known = name in self.hub.repositories
        if not known:
            self.hub.repositories[name] = {".gitattributes": b"*.safetensors filter=lfs"}
            if asked.get("private") or asked.get("visibility") == "private":
                self.hub.private.add(name)
        self._json(url, 409 if known else 200)

    @staticmethod
    def _mode(path: str) -> dict[str, object]:
        large = path.endswith((".safetensors", ".mp4"))
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _place(self, asked: dict[str, str]) -> dict[str, object]:
        return {**asked, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{asked['oid']}"}}}

    def _commit(self, name: str, lines: list[dict[str, dict[str, str]]]) -> None:
        files = dict(self.hub.repositories[name])
        for line in lines:
            key, value = str(line["key"]), line["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        self.hub.repositories[name] = files
        commit = self.hub.commit_of(name)
        self._json({"success": True, "commitOid": commit, "commitUrl": f"{self.hub.address}/{name}/commit/{commit}"})

    def _info(self, name: str) -> None:
        files = self.hub.repositories.get(name)
        if files is None or (name in self.hub.private and self.headers.get("Authorization") is None):
            self._answer(401)
            return
        siblings = [{"rfilename": path} for path in files]
        self._json({"id": name, "modelId": name, "sha": self.hub.commit_of(name), "siblings": siblings, "tags": []})

    def _file(self, name: str, path: str) -> None:
        data = self.hub.repositories.get(name, {}).get(path)
        if data is None:
            self._answer(404)
        elif path in self.hub.endless:
            self._endless()
        else:
            self._send(200, data)

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        block = b"0" * 2**16
        try:
            while True:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
        except OSError:
            self.close_connection = True

    def _json(self, content: object, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode())

    def _answer(self, status: int) -> None:
        self._send(status, b"{}")

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
