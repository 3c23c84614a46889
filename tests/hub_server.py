"""A server that answers as the model hub does, for tests: /api/models, /api/models/ORG/NAME[/revision/REV], and
/ORG/NAME/resolve/REV/FILE. Large files are redirected to a second server, as the hub's are to where their bytes lie.

What real answers have and this has, too: X-Repo-Commit, ETag, X-Linked-Etag and X-Linked-Size, ranges, relative redirects
(renamed models, small files), 401, 403 and 404 with X-Error-Code, 429 with Retry-After."""
import hashlib
import http.server
import json
import re
import threading
import time
import urllib.parse

LARGE = 10_000  # bytes from which a file is a large one here (on the hub: 10 MB, or the kind of file)


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repo:
    def __init__(self, name, files, **options):
        """files: name → bytes. options: see the attributes."""
        self.name, self.files = name, dict(files)
        self.gated = options.get("gated", False)            # "manual": 401 without a token, 403 with a wrong one
        self.private = options.get("private", False)
        self.downloads = options.get("downloads", 0)
        self.tags = options.get("tags", [])
        self.facts = options.get("facts", {})                # more keys of its description
        self.lists_blobs = options.get("lists_blobs", True)  # sizes and digests in the listing
        self.listed = options.get("listed")                  # names that the listing has instead of the true ones
        self.revisions = {}
        self.commit = self.commit_now()

    def commit_now(self):
        """The files as they are become the newest commit of main."""
        digest = hashlib.sha1()
        for name in sorted(self.files):
            digest.update(name.encode() + hashlib.sha256(self.files[name]).digest())
        self.commit = digest.hexdigest()
        self.revisions[self.commit] = dict(self.files)
        self.revisions["main"] = self.revisions[self.commit]
        self.commits = getattr(self, "commits", {})
        self.commits["main"] = self.commits[self.commit] = self.commit
        return self.commit

    def tag(self, name, commit=None):
        commit = commit or self.commit
        self.revisions[name], self.commits[name] = self.revisions[commit], commit

    def description(self, revision, blobs):
        siblings = []
        files = self.revisions[revision]
        for name in self.listed or sorted(files):
            item = {"rfilename": name}
            if blobs and self.lists_blobs and name in files:
                data = files[name]
                item.update(size=len(data), blobId=git_sha1(data))
                if len(data) >= LARGE:
                    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(data).hexdigest()}\nsize {len(data)}\n".encode()
                    item["blobId"] = git_sha1(pointer)
                    item["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": len(pointer)}
            siblings.append(item)
        return {"_id": "0", "id": self.name, "modelId": self.name, "sha": self.commits[revision], "private": self.private,
                "gated": self.gated, "downloads": self.downloads, "likes": self.downloads // 10, "tags": self.tags,
                "lastModified": "2026-11-01T12:00:00.000Z", "siblings": siblings, **self.facts}


class Hub:
    """repos: by name. renamed: old name → new name. Faults: lists that requests take entries from."""

    def __init__(self, token="hf_secretOfTheTest"):
        self.repos, self.renamed, self.token = {}, {}, token
        self.log = []          # {"server", "path", "query", "headers", "method"}
        self.breaks = {}       # file name → list of numbers of bytes after which the connection breaks
        self.busy = []         # (status, Retry-After or None): what the next requests get
        self.no_ranges = False
        self.wrong_range = False
        self.spoiled = set()   # file names whose bytes are sent with one of them changed
        self.redirect_loop = set()
        self.slow = set()      # file names whose bytes trickle
        self.lock = threading.Lock()
        self.store = self._serve("store")
        self.hub = self._serve("hub")
        self.address = f"http://127.0.0.1:{self.hub.server_address[1]}"
        # Another name for the same machine: another origin.
        self.store_address = f"http://localhost:{self.store.server_address[1]}"

    def _serve(self, kind):
        handler = type("Handler", (Handler,), {"world": self, "kind": kind})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def add(self, name, files, **options):
        self.repos[name] = Repo(name, files, **options)
        return self.repos[name]

    def requests(self, **wanted):
        return [r for r in self.log if all(r[k] == v for k, v in wanted.items())]

    def close(self):
        for server in (self.hub, self.store):
            server.shutdown()
            server.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world = kind = None

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def send(self, status, body=b"", with_body=True, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def refuse(self, status, code, message):
        self.send(status, b'{"error":"%s"}' % message.encode(), X_Error_Code=code, X_Error_Message=message)

    def answer(self, with_body):
        world, url = self.world, urllib.parse.urlsplit(self.path)
        path, query = urllib.parse.unquote(url.path), urllib.parse.parse_qs(url.query)
        with world.lock:
            world.log.append({"server": self.kind, "path": path, "query": query, "headers": dict(self.headers), "method": self.command})
            busy = world.busy.pop(0) if world.busy else None
        if busy:
            self.send(busy[0], b"busy", **({"Retry_After": str(busy[1])} if busy[1] is not None else {}))
        elif self.kind == "store":
            digest = path.rsplit("/", 1)[-1]
            for repo in world.repos.values():
                for files in repo.revisions.values():
                    for name, data in files.items():
                        if hashlib.sha256(data).hexdigest() == digest:
                            return self.send_file(name, data, with_body, ETag='"0123456789abcdef"')
            self.send(404, b"no such object")
        elif path == "/api/models":
            self.search(query)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^?]+))?", path):
            self.describe(match[1], match[2] or "main", "blobs" in query, url.query)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self.tree(match[1], match[2])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(match[1], match[2], match[3], with_body)
        elif match := re.fullmatch(r"/api/resolve-cache/models/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            self.small(match[1], match[2], match[3], with_body)
        else:
            self.refuse(404, "NotFound", "no such page")

    def repo_for(self, name, revision):
        """The repository, or None after an answer that says why not."""
        world, repo = self.world, self.world.repos.get(name)
        has_token = self.headers.get("Authorization") == f"Bearer {world.token}"
        if repo is None or (repo.private and not has_token):
            self.refuse(404 if self.headers.get("Authorization") else 401, "RepoNotFound", "Repository not found")
        elif revision not in repo.revisions:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repo
        return None

    def describe(self, name, revision, blobs, query):
        if name in self.world.renamed:
            path = self.path.replace(name, self.world.renamed[name])
            return self.send(307, Location=path)
        if repo := self.repo_for(name, revision):
            self.send(200, json.dumps(repo.description(revision, blobs)).encode(), Content_Type="application/json")

    def tree(self, name, revision):
        """As huggingface_hub lists files."""
        if not (repo := self.repo_for(name, revision)):
            return
        items = []
        for file in repo.description(revision, True)["siblings"]:
            item = {"type": "file", "oid": file["blobId"], "size": file["size"], "path": file["rfilename"]}
            if "lfs" in file:
                item["lfs"] = {"oid": file["lfs"]["sha256"], "size": file["lfs"]["size"], "pointerSize": file["lfs"]["pointerSize"]}
            items.append(item)
        self.send(200, json.dumps(items).encode(), Content_Type="application/json")

    def resolve(self, name, revision, file, with_body):
        world = self.world
        if name in world.renamed:
            return self.send(307, Location=self.path.replace(name, world.renamed[name]))
        if not (repo := self.repo_for(name, revision)):
            return
        if repo.gated and self.headers.get("Authorization") != f"Bearer {world.token}":
            if self.headers.get("Authorization"):
                return self.refuse(403, "GatedRepo", f"Access to model {name} is restricted")
            return self.refuse(401, "GatedRepo", f"Access to model {name} is restricted. You must be authenticated to access it.")
        if file not in repo.revisions[revision]:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        if file in world.redirect_loop:
            return self.send(302, Location=self.path)
        data, commit = repo.revisions[revision][file], repo.commits[revision]
        if len(data) < LARGE:
            return self.send(307, Location=f"/api/resolve-cache/models/{name}/{commit}/{urllib.parse.quote(file)}", X_Repo_Commit=commit,
                             ETag=f'"{git_sha1(data)}"', X_Linked_Size=str(len(data)))
        digest = hashlib.sha256(data).hexdigest()
        self.send(302, b"Found. Redirecting", with_body, Location=f"{world.store_address}/repos/xx/{digest}?X-Amz-Signature=signedSecret", X_Repo_Commit=commit,
                  X_Linked_Etag=f'"{digest}"', X_Linked_Size=str(len(data)), ETag='"not the one"')

    def small(self, name, commit, file, with_body):
        data = self.world.repos[name].revisions[commit][file]
        self.send_file(file, data, with_body, X_Repo_Commit=commit, ETag=f'"{git_sha1(data)}"')

    def send_file(self, name, data, with_body, **headers):
        world, begin, status = self.world, 0, 200
        if name in world.spoiled:
            data = data[:-1] + bytes([data[-1] ^ 1])
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and not world.no_ranges:
            begin, status = int(match[1]), 206
            if begin >= len(data):
                return self.send(416, Content_Range=f"bytes */{len(data)}")
        self.send_response(status)
        if status == 206:
            first = begin + 7 if world.wrong_range else begin
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if not with_body:
            return
        breaks = world.breaks.get(name)
        if breaks:
            self.wfile.write(data[begin:begin + breaks.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        step = 50_000 if name in world.slow else len(data)
        for at in range(begin, len(data), max(1, step)):
            try:
                self.wfile.write(data[at:at + step])
            except OSError:
                return  # the client went away
            if name in world.slow:
                time.sleep(0.1)

    def search(self, query):
        words = query.get("search", [""])[0].lower().split()
        found = [r for r in self.world.repos.values() if all(w in r.name.lower() for w in words)
                 and all(f in r.tags for f in query.get("filter", []))]
        found.sort(key=lambda r: -r.downloads)
        found = found[:int(query.get("limit", ["1000"])[0])]
        keys = ("_id", "id", "modelId", "private", "gated", "downloads", "likes", "tags", "lastModified")
        body = [{k: v for k, v in r.description("main", False).items() if k in keys} for r in found if not r.private]
        self.send(200, json.dumps(body).encode(), Content_Type="application/json")
