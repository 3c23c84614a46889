#!/usr/bin/env python3
"""huggingface_hub and tsubu share one cache: each finds what the other fetched.   hub_client.py TSUBU MODEL_DIR"""
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from hub_server import Hub  # noqa: E402

tsubu, model = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
files = {f.name: f.read_bytes() for f in model.iterdir() if f.suffix in (".json", ".model", ".safetensors", ".md")}
hub = Hub()
repo = hub.add("tester/grain", files)
work = pathlib.Path(tempfile.mkdtemp())
os.environ.update(HF_ENDPOINT=hub.address, HF_HOME=str(work / "python"), HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
import huggingface_hub  # noqa: E402  (after the environment, which it reads at once)


def run(*words, home, **variables):
    return subprocess.run([tsubu, *words], env={**os.environ, "HF_HOME": str(work / home), **variables}, check=True, capture_output=True, text=True).stdout


def expect(condition, what):
    print(("ok   " if condition else "FAIL ") + what)
    return 0 if condition else 1


failed = 0
print("huggingface_hub", huggingface_hub.__version__)

# What tsubu fetched, Python finds without a server, and does not fetch again with one.
run("hub", "get", "tester/grain", home="tsubu")
cache = work / "tsubu" / "hub"
hub_log, hub.log[:] = list(hub.log), []
for name in ("config.json", "model.safetensors", "tokenizer.model"):
    path = huggingface_hub.hf_hub_download("tester/grain", name, cache_dir=cache, local_files_only=True)
    failed += expect(pathlib.Path(path).read_bytes() == files[name], f"hf_hub_download finds {name} offline")
failed += expect(huggingface_hub.try_to_load_from_cache("tester/grain", "config.json", cache_dir=cache) is not None, "try_to_load_from_cache")
folder = huggingface_hub.snapshot_download("tester/grain", cache_dir=cache, local_files_only=True)
failed += expect(folder.endswith(repo.commit), "snapshot_download finds the snapshot offline")
scan = huggingface_hub.scan_cache_dir(cache)
found = {r.repo_id: r for r in scan.repos}["tester/grain"]
failed += expect(not scan.warnings and found.refs.keys() == {"main"}, "scan_cache_dir sees the model, its branch, and nothing odd")
failed += expect(not hub.log, "no request was made")
huggingface_hub.snapshot_download("tester/grain", cache_dir=cache, allow_patterns=["*.json", "*.safetensors", "*.model"])
failed += expect(not [r for r in hub.log if r["method"] == "GET" and "/resolve" in r["path"] or r["server"] == "store"], "online, no file is fetched again")

# What Python fetched, tsubu finds.
huggingface_hub.snapshot_download("tester/grain", cache_dir=work / "python" / "hub")
hub.log[:] = []
out = run("inspect", "tester/grain", home="python", HF_HUB_OFFLINE="1")
failed += expect("llama" in out, "tsubu opens a snapshot of Python's offline")
run("inspect", "tester/grain", home="python")
failed += expect(not hub.log, "and asks no server for it")
run("hub", "get", "tester/grain", home="python")
failed += expect(not [r for r in hub.log if "/resolve" in r["path"] or r["server"] == "store"], "hub get fetches no file that Python fetched")
ours, theirs = ({p.relative_to(work / who / "hub") for p in (work / who / "hub" / "models--tester--grain").rglob("*") if "trees" not in p.parts and "README.md" not in p.name}
                for who in ("tsubu", "python"))
readme = {p for p in theirs - ours if "blobs" in p.parts}
failed += expect(ours <= theirs and len(theirs - ours) == len(readme) <= 1, "both caches have the same names in them")

# One that Python has in part only.
part = work / "part" / "hub"
huggingface_hub.hf_hub_download("tester/grain", "config.json", cache_dir=part)
out = run("inspect", "tester/grain", home="part")
failed += expect("llama" in out, "a snapshot that Python has in part is completed")
hub.close()
sys.exit(1 if failed else 0)
