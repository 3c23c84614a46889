#!/usr/bin/env python3
"""Starts `tsubu serve` on the bundled model and asks it as clients do: well, badly, slowly, and not to the end.
serve_test.py TSUBU SOURCE_DIR"""
import http.client
import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

tsubu, source = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
problems, passed = [], 0


def check(ok, what):
    global passed
    if ok:
        passed += 1
    else:
        problems.append(what)


class Server:
    def __init__(self, work, *options, model=None, env=None):
        self.process = subprocess.Popen([tsubu, "serve", model or source / "models/grain-7m", "--port", "0", "--json", "--threads", "2", *options], cwd=work,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ, **(env or {})))
        text = ""
        while not text.endswith("\n}\n"):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("no start: " + self.process.stderr.read())
            text += line
        self.about = json.loads(text)
        self.port = self.about["port"]

    def ask(self, method, path, body=None, headers=None, raw=None):
        """Status, headers, body (parsed when it is JSON)."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = raw if raw is not None else json.dumps(body) if body is not None else None
        c.request(method, path, data, {**({"Content-Type": "application/json"} if data is not None else {}), **(headers or {})})
        r = c.getresponse()
        text = r.read()
        c.close()
        return r.status, r.headers, json.loads(text) if r.headers["Content-Type"] == "application/json" and text else text.decode()

    def post(self, path, **body):
        status, _, reply = self.ask("POST", path, body)
        return reply if status == 200 else (status, reply)

    def stream(self, path, **body):
        status, headers, text = self.ask("POST", path, {**body, "stream": True})
        events = [e for e in text.split("\n\n") if e]
        check(status == 200 and headers["Content-Type"] == "text/event-stream", f"stream: {status} {headers}")
        check(all(e.startswith("data: ") for e in events) and events[-1] == "data: [DONE]", f"stream: {text[:300]}")
        return [json.loads(e[6:]) for e in events[:-1]]

    def metric(self, name):
        for line in self.ask("GET", "/metrics")[2].splitlines():
            if line.rsplit(" ", 1)[0] == name:
                return float(line.rsplit(" ", 1)[1])
        return None

    def send(self, data, wait=20):
        """Bytes as they are; what comes back until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as s:
            s.sendall(data)
            out = b""
            try:
                while piece := s.recv(65536):
                    out += piece
            except (ConnectionResetError, TimeoutError) as e:
                return out + f"<{type(e).__name__}>".encode()
            return out

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


def error_of(reply):
    return reply[1]["error"] if isinstance(reply, tuple) else None


STORY = "Once upon a time there was a little girl"


def plain_requests(s):
    status, _, models = s.ask("GET", "/v1/models")
    check(status == 200 and [m["id"] for m in models["data"]] == ["grain-7m"], f"models: {models}")
    check(s.ask("GET", "/v1/models/grain-7m")[2]["id"] == "grain-7m", "one model")
    check(s.ask("GET", "/health")[::2] == (200, {"status": "ok"}), "health")
    status, headers, page = s.ask("GET", "/")
    check(status == 200 and "<title>tsubu</title>" in page and "connect-src 'self'" in headers["Content-Security-Policy"], "page")
    check("http://" not in page.replace("http://www.w3.org", "") and "https://" not in page, "the page loads nothing from elsewhere")

    a = s.post("/v1/completions", model="grain-7m", prompt=STORY, max_tokens=20, seed=5)
    check(a["object"] == "text_completion" and a["choices"][0]["finish_reason"] in ("length", "stop") and a["choices"][0]["text"], f"completion: {a}")
    check(a["usage"]["completion_tokens"] <= 20 and a["usage"]["total_tokens"] == a["usage"]["prompt_tokens"] + a["usage"]["completion_tokens"], "usage")
    again = s.post("/v1/completions", model="grain-7m", prompt=STORY, max_tokens=20, seed=5)
    check(a["choices"][0]["text"] == again["choices"][0]["text"], "same seed, same text")
    others = {s.post("/v1/completions", model="grain-7m", prompt=STORY, max_tokens=20, seed=i)["choices"][0]["text"] for i in range(4)}
    check(len(others) > 1, "other seeds, other texts")
    greedy = s.post("/v1/completions", model="grain-7m", prompt=STORY, max_tokens=20, temperature=0)["choices"][0]["text"]
    told = json.loads(subprocess.run([tsubu, "run", source / "models/grain-7m", "-p", STORY, "-n", "20", "--greedy", "--json"], capture_output=True,
                                     check=True).stdout)["text"]
    check(greedy == told, f"greedy: {greedy!r}, and `run` says {told!r}")
    n = s.post("/v1/completions", model="grain-7m", prompt=[STORY, "The dog"], max_tokens=5, n=2, seed=1)["choices"]
    check([c["index"] for c in n] == [0, 1, 2, 3], "two prompts, two choices each")
    ids = json.loads(subprocess.run([tsubu, "tokenize", source / "models/grain-7m", STORY, "--json"], capture_output=True, check=True).stdout)["tokens"]
    by_id = s.post("/v1/completions", model="grain-7m", prompt=[t["id"] for t in ids], max_tokens=20, temperature=0)["choices"][0]["text"]
    check(by_id == greedy, "a prompt of token ids")

    chat = s.post("/v1/chat/completions", model="grain-7m", messages=[{"role": "user", "content": STORY}], max_tokens=20, temperature=0)
    check(chat["object"] == "chat.completion" and chat["choices"][0]["message"]["role"] == "assistant", f"chat: {chat}")
    check(chat["choices"][0]["message"]["content"] == greedy, "the plain form: one message is continued")


def streams(s):
    whole = s.post("/v1/completions", model="grain-7m", prompt=STORY, max_tokens=30, seed=3)
    parts = s.stream("/v1/completions", model="grain-7m", prompt=STORY, max_tokens=30, seed=3, stream_options={"include_usage": True})
    check("".join(c["text"] for p in parts for c in p["choices"]) == whole["choices"][0]["text"], "a stream's text is the whole text")
    check(parts[-1]["choices"] == [] and parts[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"], f"usage of a stream: {parts[-1]}")
    check(len(parts) > 10 and len({p["id"] for p in parts}) == 1, "a stream comes in parts of one id")
    parts = s.stream("/v1/chat/completions", model="grain-7m", messages=[{"role": "user", "content": STORY}], max_tokens=30, seed=3)
    check(parts[0]["choices"][0]["delta"]["role"] == "assistant" and parts[-1]["choices"][0]["finish_reason"] in ("stop", "length"), "chat stream")
    check("".join(p["choices"][0]["delta"].get("content", "") for p in parts) == whole["choices"][0]["text"], "chat stream's text")

    # A stop string from the middle of the text, across the borders of tokens.
    text = whole["choices"][0]["text"]
    for begin, size in ((4, 5), (9, 11), (15, 2), (20, 1)):
        stop = text[begin:begin + size]
        want = text[:text.find(stop)]
        got = s.post("/v1/completions", model="grain-7m", prompt=STORY, max_tokens=30, seed=3, stop=[stop, "never to be seen"])["choices"][0]
        check(got["text"] == want and got["finish_reason"] == "stop", f"stop {stop!r}: {got} and not {want!r}")
        parts = s.stream("/v1/completions", model="grain-7m", prompt=STORY, max_tokens=30, seed=3, stop=stop)
        check("".join(c["text"] for p in parts for c in p["choices"]) == want, f"stop {stop!r} in a stream")


def logprobs(s):
    c = s.post("/v1/chat/completions", model="grain-7m", messages=[{"role": "user", "content": STORY}], max_tokens=8, temperature=0, logprobs=True,
               top_logprobs=3)["choices"][0]
    tokens = c["logprobs"]["content"]
    check(bytes(b for t in tokens for b in t["bytes"]).decode() == c["message"]["content"], "the tokens' bytes are the text")
    check(all(t["top_logprobs"][0]["token"] == t["token"] and t["top_logprobs"][0]["logprob"] == t["logprob"] for t in tokens), "greedy takes the first")
    check(all(t["logprob"] <= 0 and len(t["top_logprobs"]) == 3 for t in tokens), "logprobs")
    old = s.post("/v1/completions", model="grain-7m", prompt=STORY, max_tokens=8, temperature=0, logprobs=2)["choices"][0]["logprobs"]
    check(old["token_logprobs"] == [t["logprob"] for t in tokens] and all(len(t) == 2 for t in old["top_logprobs"]), "completions' logprobs")
    check(old["text_offset"][0] == 0 and old["text_offset"][1] == len(tokens[0]["bytes"]), "offsets")
    scored = s.post("/api/score", model="grain-7m", messages=[{"role": "user", "content": STORY}], tokens=[t["id"] for t in tokens])
    check([t["logprob"] for t in scored["tokens"]] == [t["logprob"] for t in tokens], "scores are the same numbers")
    c = s.post("/v1/completions", model="grain-7m", prompt=STORY, max_tokens=3, temperature=0, logit_bias={str(tokens[0]["id"]): -100}, logprobs=1)
    check(c["choices"][0]["logprobs"]["tokens"][0] != tokens[0]["token"], "a bias")


def refusals(s):
    def code(method, path, body=None, **more):
        return s.ask(method, path, body, **more)[0]

    ok = dict(model="grain-7m", prompt="x", max_tokens=1)
    check(code("GET", "/nothing") == 404 and code("POST", "/nothing", ok) == 404, "404")
    check(code("GET", "/../../etc/passwd") == 404 and code("GET", "/%2e%2e/%2e%2e/etc/passwd") == 404, "no files")
    status, headers, reply = s.ask("DELETE", "/v1/completions")
    check(status == 405 and headers["Allow"] == "POST" and reply["error"]["type"] == "invalid_request_error", f"405: {status} {reply}")
    check(code("GET", "/v1/chat/completions") == 405 and code("PUT", "/v1/completions", ok) == 405, "405")
    check(code("POST", "/v1/completions", ok, headers={"Content-Type": "text/plain"}) == 415, "415")
    check(code("POST", "/v1/completions", raw="", headers={"Content-Type": "application/json"}) == 400, "an empty body")
    for raw in ("{", "[]", "null", "{\"model\": \"grain-7m\", \"prompt\": \"x\"", "[" * 20000, b"\xff\xfe", "{\"model\": \"grain-7m\", \"prompt\": \"\\ud800\"}"):
        check(code("POST", "/v1/completions", raw=raw) == 400, f"400: {raw[:40]}")
    status, _, reply = s.ask("POST", "/v1/completions", {**ok, "model": "another"})
    check(status == 404 and reply["error"]["code"] == "model_not_found" and "'grain-7m'" in reply["error"]["message"], f"model: {reply}")
    status, _, reply = s.ask("POST", "/v1/completions", {**ok, "temperature": "hot"})
    check(status == 400 and reply["error"]["param"] == "temperature", f"param: {reply}")
    status, _, reply = s.ask("POST", "/v1/completions", {**ok, "prompt": "word " * 400})
    check(status == 400 and reply["error"]["code"] == "context_length_exceeded", f"context: {reply}")
    check(code("POST", "/v1/completions", {**ok, "prompt": "word " * 150000}) == 400, "a prompt far too long")
    check(code("POST", "/v1/completions", {**ok, "prompt": [999999]}) == 400, "a token that is not there")
    check(code("POST", "/v1/completions", {**ok, "prompt": "x" * (2 << 20)}) == 413, "413")
    check(code("GET", "/health", headers={"Host": "evil.example"}) == 403, "another name")
    check(code("GET", "/health", headers={"Host": "localhost:1"}) == 200, "this machine's name")
    check(code("POST", "/v1/completions", ok) == 200, "it still answers")


def bad_bytes(s):
    body = json.dumps(dict(model="grain-7m", prompt="x", max_tokens=1)).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    good = head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    check(s.send(good).startswith(b"HTTP/1.1 200"), "plain bytes")
    chunked = head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    check(s.send(chunked).startswith(b"HTTP/1.1 200"), "a chunked body")
    for name, data in {"nothing of HTTP": b"hello\r\n\r\n", "binary": bytes(range(256)) * 20, "no version": b"GET /\r\n\r\n", "an unknown method": b"FETCH / HTTP/1.1\r\n\r\n",
                       "endless headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 40000, "a long line": b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
                       "an endless chunked body": head + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * (3 << 20),
                       "a chunk size that is none": head + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "a huge length": head + b"Content-Length: 99999999999999\r\n\r\n{",
                       "a negative length": head + b"Content-Length: -5\r\n\r\n{}", "a length too short": head + b"Connection: close\r\nContent-Length: 5\r\n\r\n" + body,
                       "many ranges": b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nRange: bytes=" + b",".join(b"0-" for _ in range(500)) + b"\r\n\r\n",
                       "zip bomb": head + b"Connection: close\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + b"\x1f\x8b\x08" + b"\0" * 17}.items():
        began = time.time()
        reply = s.send(data)
        check(time.time() - began < 5, f"{name}: {time.time() - began:.1f} s")
        check(not reply.startswith(b"HTTP/1.1 5") and len(reply) < 200000 and (b" 200 " not in reply[:20] or name == "many ranges"), f"{name}: {reply[:200]}")
    for cut in range(1, len(good), 17):  # cut off anywhere
        with socket.create_connection(("127.0.0.1", s.port)) as c:
            c.sendall(good[:cut])
    check(s.send(good).startswith(b"HTTP/1.1 200"), "after cut-off requests")
    # A body that is refused unread is not taken for the next request.
    inner = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for start in (b"POST /nothing HTTP/1.1\r\nHost: localhost\r\n", b"DELETE /health HTTP/1.1\r\nHost: localhost\r\n", b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"):
        for framing in (b"Content-Length: %d\r\n\r\n" % len(inner) + inner, b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)):
            reply = s.send(start + framing)
            check(reply.count(b"HTTP/1.1 ") == 1 and b" 200 " not in reply, f"one answer: {reply[:300]}")
    # Two requests on one connection, sent together.
    two = s.send(good.replace(b"Connection: close\r\n", b"") + good)
    check(two.count(b"HTTP/1.1 200") == 2, f"two in one: {two[:400]}")
    # Slow: the head, or the body, a byte at a time.
    for name, start in (("head", b"GET /health HTTP/1.1\r\nX: "), ("body", head + b"Content-Length: 1000\r\n\r\n")):
        began = time.time()
        with socket.create_connection(("127.0.0.1", s.port), timeout=10) as c:
            c.sendall(start)
            try:
                while time.time() - began < 10:
                    c.sendall(b"x")
                    c.settimeout(0.05)
                    try:
                        if not c.recv(4096):
                            break
                        c.settimeout(1)
                    except TimeoutError:
                        pass
            except OSError:
                pass
        check(time.time() - began < 6, f"a slow {name} is cut off after {time.time() - began:.1f} s")


def slow_crowd(s):
    """Many clients that begin a request and do not go on: others are served meanwhile, and each of the slow is closed in time."""
    body = json.dumps(dict(model="grain-7m", prompt="x", max_tokens=1)).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    slow = []
    for i in range(120):
        c = socket.create_connection(("127.0.0.1", s.port), timeout=20)
        c.sendall((head[:7 + i % 60], head + body[:i % len(body)])[i % 2])
        slow.append(c)
    check(s.ask("GET", "/health")[0] == 200, "health beside 120 slow clients")
    check("choices" in s.post("/v1/completions", model="grain-7m", prompt="x", max_tokens=1), "a completion beside 120 slow clients")
    open_still = 0
    for c in slow:
        try:  # the end, or an error's answer and the end
            while c.recv(4096):
                pass
        except TimeoutError:
            open_still += 1
        except OSError:
            pass
        c.close()
    check(open_still == 0, f"{open_still} of 120 slow clients are kept")
    for _ in range(100):
        if s.metric("tsubu_connections") <= 1:  # the one that asks
            break
        time.sleep(0.05)
    check(s.metric("tsubu_connections") <= 1 and s.metric("tsubu_running") == 0, f"{s.metric('tsubu_connections')} connections are left")


def disconnects(s):
    for body in (dict(stream=True), dict(stream=False)):
        before = s.metric("tsubu_cancelled_total")
        c = http.client.HTTPConnection("127.0.0.1", s.port)
        c.request("POST", "/v1/completions", json.dumps(dict(model="grain-7m", prompt="The", max_tokens=240, ignore_eos=True, n=8, **body)),
                  {"Content-Type": "application/json"})
        if body["stream"]:
            c.getresponse().read(100)
        for _ in range(100):
            if s.metric("tsubu_running") > 0:
                break
            time.sleep(0.02)
        c.sock and c.sock.close()
        c.close()
        for _ in range(100):
            if s.metric("tsubu_running") == 0:
                break
            time.sleep(0.05)
        check(s.metric("tsubu_running") == 0 and s.metric("tsubu_cancelled_total") > before, f"a client that goes away ends its work: {body}")


def crowd(s):
    """More than there is room for: some are told 429, all others get what they get alone."""
    alone = [s.post("/v1/completions", model="grain-7m", prompt="The dog", max_tokens=100, seed=i, ignore_eos=True)["choices"][0]["text"] for i in range(3)]
    seen, lock = [], threading.Lock()

    def one(i):
        reply = s.post("/v1/completions", model="grain-7m", prompt="The dog", max_tokens=100, seed=i % 3, ignore_eos=True)
        with lock:
            seen.append((i, reply))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    refused = [r for _, r in seen if isinstance(r, tuple)]
    check(len(seen) == 40 and all(r[0] == 429 and r[1]["error"]["type"] == "rate_limit_error" for r in refused), f"only 429: {refused[:2]}")
    check(0 < len(refused) < 36, f"{len(refused)} of 40 refused")
    check(all(r["choices"][0]["text"] == alone[i % 3] for i, r in seen if not isinstance(r, tuple)), "neighbors change nothing")
    check(s.metric("tsubu_rejected_total") >= len(refused), "refusals are counted")


def main():
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        s = Server(work, "--max-body", "1MiB", "--head-seconds", "2", "--body-seconds", "2", "--parallel", "4", "--queue", "8")
        try:
            for part in (plain_requests, streams, logprobs, refusals, bad_bytes, slow_crowd, disconnects, crowd):
                began = time.time()
                part(s)
                print(f"{part.__name__}: {time.time() - began:.1f} s", file=sys.stderr)
            check(s.metric('tsubu_requests_total{path="/v1/completions",status="200"}') > 10, "requests are counted")
            check(s.process.poll() is None, "it still runs")
            # SIGTERM: what is open is finished, nothing new is taken, exit 0.
            c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60)
            c.request("POST", "/v1/completions", json.dumps(dict(model="grain-7m", prompt="The", max_tokens=200, ignore_eos=True, seed=1)), {"Content-Type": "application/json"})
            for _ in range(100):
                if s.metric("tsubu_running") == 1:
                    break
            s.process.send_signal(signal.SIGTERM)
            reply = json.loads(c.getresponse().read())
            check(reply["usage"]["completion_tokens"] == 200, "an open request is finished after SIGTERM")
            _, err = s.process.communicate(timeout=60)
            check(s.process.returncode == 0, f"SIGTERM: exit {s.process.returncode}: {err}")
        finally:
            s.process.kill()
        check(not list(work.iterdir()), f"a server without votes leaves no file: {list(work.iterdir())}")

        # With a key, two models, blind votes and the shadow.
        subprocess.run([tsubu, "quantize", source / "models/grain-7m", "-o", work / "small.gguf", "--to", "Q4_0", "--quiet"], check=True, stdout=subprocess.DEVNULL)
        s = Server(work, "--compare", str(source / "models/grain-7m"), "--shadow", "0.5", "--votes", "votes.sqlite3", model=work / "small.gguf",
                   env={"TSUBU_API_KEY": "secret"})
        try:
            for header in (None, "Bearer wrong", "Bearer ", "secret", "Bearer secretx"):
                status, _, reply = s.ask("GET", "/v1/models", headers={"Authorization": header} if header else {})
                check(status == 401 and reply["error"]["type"] == "authentication_error", f"401 with {header}: {status}")
            check(s.ask("GET", "/health")[0] == 200 and s.ask("GET", "/")[0] == 200 and s.ask("GET", "/metrics")[0] == 401, "what needs no key")
            key = {"Authorization": "Bearer secret"}
            ask = s.ask
            s.ask = lambda method, path, body=None, headers=None, raw=None: ask(method, path, body, {**key, **(headers or {})}, raw)
            check([m["id"] for m in s.ask("GET", "/v1/models")[2]["data"]] == ["small", "grain-7m"], "two models")
            question = [{"role": "user", "content": STORY}]
            texts = {}
            for model in ("small", "grain-7m"):
                texts[model] = s.post("/v1/chat/completions", model=model, messages=question, max_tokens=30, seed=1)["choices"][0]["message"]["content"]
            for choice in ("left", "right", "tie"):
                blind = s.post("/api/blind")
                check(error_of(s.post("/api/vote", id=blind["id"], choice=choice)) is not None, "a vote on nothing")
                sides = {}
                for side in ("left", "right"):
                    reply = s.post("/v1/chat/completions", model=blind[side], messages=question, max_tokens=30, seed=1)
                    check(reply["model"] == blind[side], "a blind reply does not say who wrote it")
                    sides[side] = reply["choices"][0]["message"]["content"]
                told = s.post("/api/vote", id=blind["id"], choice=choice)
                check({told["left"], told["right"]} == set(texts) and sides["left"] == texts[told["left"]] and sides["right"] == texts[told["right"]], f"sides: {told}")
                check(told["winner"] == (None if choice == "tie" else told[choice]), f"winner: {told}")
                check(error_of(s.post("/api/vote", id=blind["id"], choice=choice)) is not None, "one vote each")
            votes = s.ask("GET", "/api/votes")[2]
            check(votes["model_wins"] + votes["base_wins"] == 2 and votes["ties"] == 1 and votes["ci95"][0] < votes["share"] <= votes["ci95"][1] or votes["share"] == 0, f"{votes}")
            rows = sqlite3.connect(work / "votes.sqlite3").execute("SELECT winner, prompt_hash FROM votes").fetchall()
            check(len(rows) == 3 and len({h for _, h in rows}) == 1, f"votes are kept: {rows}")
            for seed in range(10):
                s.post("/v1/completions", model="small", prompt=STORY, max_tokens=20, seed=seed)
            for _ in range(100):
                if s.metric("tsubu_running") == 0 and s.metric("tsubu_queued") == 0:
                    break
                time.sleep(0.05)
            n, differ = s.metric("tsubu_shadow_tokens_total"), s.metric("tsubu_shadow_disagreements_total")
            check(n > 50 and 0 < differ < n / 3, f"the shadow: {differ} of {n} differ")
        finally:
            code, err = s.stop()
        check(code == 0, f"exit {code}: {err}")
        for options, said in ((["--compare", str(work / "small.gguf"), "--base-alias", "grain-7m"], "--alias"), (["--host", "999.1.1.1"], "cannot listen")):
            done = subprocess.run([tsubu, "serve", source / "models/grain-7m", "--port", "0", *options], capture_output=True, text=True, timeout=60, cwd=work)
            check(done.returncode in (2, 4) and said in done.stderr, f"{options}: {done.returncode} {done.stderr}")
    print("\n".join(problems))
    print(f"{passed} passed, {len(problems)} failed")
    sys.exit(1 if problems else 0)


main()
