#!/usr/bin/env python3
"""A server under parallel clients: errors, times, memory.   load.py TSUBU MODEL SECONDS CLIENTS THREADS"""
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

tsubu, model, seconds, clients, threads = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
work = tempfile.TemporaryDirectory()
subprocess.run([tsubu, "quantize", model, "-o", work.name + "/small.gguf", "--to", "Q4_K_M", "--quiet"], check=True, stdout=subprocess.DEVNULL)
server = subprocess.Popen([tsubu, "serve", work.name + "/small.gguf", "--compare", model, "--port", "0", "--json", "--quiet", "--threads", threads,
                           "--parallel", "16", "--queue", "32", "--head-seconds", "2", "--body-seconds", "2"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=work.name)
text = ""
while not text.endswith("\n}\n"):
    line = server.stdout.readline()
    if not line:
        sys.exit("no start: " + server.stderr.read())
    text += line
port = json.loads(text)["port"]


def memory():
    with open(f"/proc/{server.pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1]) / 1024


counts, times, failures, lock = {}, [], [], threading.Lock()
end = time.time() + seconds


def note(kind, failure=None):
    with lock:
        counts[kind] = counts.get(kind, 0) + 1
        if failure and len(failures) < 20:
            failures.append(failure)


def client(number):
    r = random.Random(number)
    connection = None
    while time.time() < end:
        stream, chat = r.random() < 0.5, r.random() < 0.5
        words = " ".join(r.choice(["the dog", "a girl", "the sun", "went", "to", "play", "and"]) for _ in range(r.randrange(1, 60)))
        body = dict(model=r.choice(["small", "small", "grain-7m"]), max_tokens=r.randrange(1, 60), stream=stream, seed=r.randrange(1000),
                    temperature=r.choice([0, 0.7, 1]))
        body.update(dict(messages=[{"role": "user", "content": words}], logprobs=r.random() < 0.3) if chat else dict(prompt=words))
        n_choices = r.randrange(8, 17) if r.random() < 0.05 else 1  # some ask for much at once
        if n_choices > 1:
            body["n"] = n_choices
        path = "/v1/chat/completions" if chat else "/v1/completions"
        what = r.random()
        began = time.time()
        try:
            if what < 0.03:  # a request that is none, or is cut off, or never ends
                with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
                    data = r.choice([b"rubbish\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Le", bytes(r.randrange(256) for _ in range(300)),
                                     b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"])
                    s.sendall(data)
                    if r.random() < 0.5:
                        s.settimeout(4)
                        s.recv(1000)
                note("malformed")
                continue
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            if what < 0.06:  # goes away
                time.sleep(r.random() * 0.2)
                connection.close()
                connection = None
                note("gone")
                continue
            reply = connection.getresponse()
            first = time.time() - began  # of a stream: its head, sent once the request is queued
            data = reply.read()
            with lock:
                times.append((time.time() - began, first, reply.status, body["model"], body["max_tokens"], n_choices))
            if reply.status == 429:
                note(429)
                time.sleep(0.2 + r.random() * 0.3)
            elif reply.status != 200:
                note(reply.status, f"{reply.status}: {data[:200]}")
            elif (b"data: [DONE]" not in data if stream else not json.loads(data)["choices"]) or (stream and b'"error"' in data):
                note("incomplete", f"{data[-300:]}")
            else:
                note(200)
            if reply.will_close:
                connection.close()
                connection = None
        except Exception as e:
            if what < 0.03:
                note("malformed")
                continue
            note("error", f"{type(e).__name__}: {e}")
            connection = None


begin = memory()
crew = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
for t in crew:
    t.start()
samples, began, cpu = [], time.time(), time.process_time()
while time.time() < end:
    time.sleep(min(5, max(0.1, end - time.time())))
    samples.append(memory())
for t in crew:
    t.join()
c = http.client.HTTPConnection("127.0.0.1", port)
c.request("GET", "/metrics")
metrics = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in c.getresponse().read().decode().splitlines() if not line.startswith("#")}
after = memory()
server.send_signal(signal.SIGTERM)
_, err = server.communicate(timeout=60)


def quantiles(values):
    values = sorted(values)
    return {f"{100 * q:g} %": round(values[min(len(values) - 1, int(len(values) * q))], 3) for q in (0.5, 0.9, 0.99, 1)} if values else None


good = [t for t in times if t[2] == 200]
settled = samples[len(samples) // 4:] or samples
generated = sum(v for k, v in metrics.items() if k.startswith("tsubu_generated_tokens_total"))
steps, step_tokens = (sum(v for k, v in metrics.items() if k.startswith(f"tsubu_{n}_total")) for n in ("steps", "step_tokens"))
print(json.dumps(dict(seconds=round(time.time() - began, 1), clients=clients, threads=int(threads), replies={str(k): v for k, v in sorted(counts.items(), key=str)},
                      generated_tokens=int(generated), tokens_per_second=round(generated / seconds, 1), tokens_per_step=round(step_tokens / max(1, steps), 2),
                      reply_seconds=quantiles(t[0] for t in good if t[5] == 1), reply_seconds_many_choices=quantiles(t[0] for t in good if t[5] > 1),
                      head_seconds=quantiles(t[1] for t in good), refusal_seconds=quantiles(t[0] for t in times if t[2] == 429),
                      reply_seconds_by_model={m: quantiles(t[0] for t in good if t[3] == m and t[5] == 1) for m in ("small", "grain-7m")},
                      slowest=[dict(seconds=round(t[0], 2), head=round(t[1], 2), model=t[3], tokens=t[4], choices=t[5]) for t in sorted(good)[-3:]],
                      memory_mib=dict(start=round(begin, 1), settled_min=round(min(settled), 1), settled_max=round(max(settled), 1), end=round(after, 1)),
                      shadow={k: v for k, v in metrics.items() if k.startswith("tsubu_shadow")}, exit=server.returncode, failures=failures), indent=1))
bad = bool(failures) or server.returncode != 0 or not counts.get(200)
# Flat: what it holds at the end is what it held after the first quarter, but for a tenth.
grown = max(settled[-3:]) > 1.1 * max(settled[:3]) + 2
sys.exit(1 if bad or grown else 0)
