#!/usr/bin/env python3
"""`tsubu hub` and MODEL arguments that are names of the hub, against a local server (hub_server.py).   hub_test.py TSUBU SOURCE_DIR"""
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hub_server import Hub, git_sha1  # noqa: E402

TSUBU, SOURCE = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
MODEL = SOURCE / "models" / "grain-7m"
GRAIN = {f.name: f.read_bytes() for f in MODEL.iterdir() if f.suffix in (".json", ".model", ".safetensors", ".md")}
PICKLE = b"PK\x03\x04" + bytes(20_000)
WEIGHTS = hashlib.sha256(GRAIN["model.safetensors"]).hexdigest()


class HubTest(unittest.TestCase):
    def setUp(self):
        self.hub = Hub()
        self.addCleanup(self.hub.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.work = pathlib.Path(folder.name)
        self.home = self.work / "home"
        self.repo = self.hub.add("tester/grain", {**GRAIN, "pytorch_model.bin": PICKLE, "onnx/model.onnx": b"x" * 20_000}, downloads=50)
        self.cache = self.home / "hub" / "models--tester--grain"

    def environment(self, **variables):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS", "http", "HTTP", "XDG_"))}
        return {**env, "HF_ENDPOINT": self.hub.address, "HF_HOME": str(self.home), "HF_HUB_DOWNLOAD_TIMEOUT": "5", "TSUBU_HUB_WAIT": "0.02", **variables}

    def tsubu(self, *words, code=0, **variables):
        done = subprocess.run([TSUBU, *words], cwd=self.work, env=self.environment(**variables), capture_output=True, text=True)
        self.assertEqual(done.returncode, code, f"tsubu {' '.join(words)}\n{done.stdout}{done.stderr}")
        self.assertNotIn(self.hub.token, done.stdout + done.stderr)
        self.assertNotIn("signedSecret", done.stdout + done.stderr)
        return done

    def json(self, *words, **rest):
        return json.loads(self.tsubu(*words, "--json", **rest).stdout)

    # The cache

    def test_a_directory_is_fetched_into_the_cache_as_others_lay_it_out(self):
        got = self.json("hub", "get", "tester/grain")
        names = {"config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.model", "model.safetensors"}
        self.assertEqual({f["name"] for f in got["files"]}, names)
        self.assertEqual({f["name"]: f["checked"] for f in got["files"]}["model.safetensors"], "sha256")
        self.assertEqual({f["name"]: f["checked"] for f in got["files"]}["config.json"], "git sha1")
        self.assertEqual([f["name"] for f in got["left_out"]], ["pytorch_model.bin"])
        self.assertIn("pickle", got["left_out"][0]["why"])
        snapshot = self.cache / "snapshots" / self.repo.commit
        self.assertEqual(got["path"], str(snapshot))
        for name in names:
            link = os.readlink(snapshot / name)
            etag = WEIGHTS if name == "model.safetensors" else hashlib.sha256(GRAIN[name]).hexdigest() if len(GRAIN[name]) >= 10_000 else git_sha1(GRAIN[name])
            self.assertEqual(link, f"../../blobs/{etag}")
            self.assertEqual((snapshot / name).read_bytes(), GRAIN[name])
        self.assertEqual((self.cache / "refs" / "main").read_text(), self.repo.commit)
        self.assertFalse(list((self.cache / "blobs").glob("*.incomplete")))
        # Nothing but what was asked for was fetched.
        self.assertFalse([r for r in self.hub.log if "pytorch" in r["path"] or "README" in r["path"] or "onnx" in r["path"]])

    def test_a_cached_model_needs_no_server(self):
        self.tsubu("hub", "get", "tester/grain")
        n = len(self.hub.log)
        self.assertEqual(self.json("inspect", "tester/grain")["name"], "tester/grain")
        self.json("inspect", "tester/grain", HF_HUB_OFFLINE="1")
        self.assertEqual(len(self.hub.log), n)
        again = self.json("hub", "get", "tester/grain")  # asks for the newest commit, fetches no file
        self.assertEqual(again["fetched_bytes"], 0)
        self.assertEqual(len(self.hub.log), n + 1)

    def test_a_model_argument_is_fetched_and_used(self):
        self.tsubu("quantize", "tester/grain", "-o", "a.gguf", "--to", "Q4_0", "--quiet")
        self.tsubu("quantize", str(MODEL), "-o", "b.gguf", "--to", "Q4_0", "--quiet")
        a, b = self.json("inspect", "a.gguf", "--tensors"), self.json("inspect", "b.gguf", "--tensors")
        self.assertEqual(a["tensors"], b["tensors"])
        self.assertEqual(a["name"], "tester/grain")
        self.tsubu("eval", "tester/grain", "--ref", "a.gguf", "--text", str(MODEL / "heldout.txt"), "--ctx", "64", "--chunks", "1", "--quiet")
        self.tsubu("tokenize", "tester/grain", "Once")

    def test_what_is_not_cached_is_said_when_offline(self):
        done = self.tsubu("inspect", "tester/grain", code=4, HF_HUB_OFFLINE="1")
        self.assertRegex(done.stderr, "not in the hub cache .*HF_HUB_OFFLINE is set")
        self.assertRegex(self.tsubu("hub", "search", "grain", code=4, HF_HUB_OFFLINE="1").stderr, "HF_HUB_OFFLINE")
        self.assertEqual(self.hub.log, [])

    def test_revisions(self):
        first = self.repo.commit
        self.repo.tag("v1")
        self.json("hub", "get", "tester/grain")
        self.repo.files["config.json"] = GRAIN["config.json"] + b"\n"
        second = self.repo.commit_now()
        self.assertEqual(self.json("inspect", "tester/grain")["path"].rsplit("/", 1)[-1], first)  # as it was fetched
        got = self.json("hub", "get", "tester/grain")
        self.assertEqual(got["commit"], second)
        self.assertEqual(got["fetched_bytes"], len(GRAIN["config.json"]) + 1)
        self.assertEqual(self.json("hub", "get", "tester/grain@v1")["commit"], first)
        self.assertEqual(self.json("hub", "get", "tester/grain@" + first)["commit"], first)
        self.assertFalse((self.cache / "refs" / first).exists())
        self.assertEqual((self.cache / "refs" / "v1").read_text(), first)
        self.repo.tag("refs/pr/1", first)
        self.json("hub", "get", "hf://tester/grain@refs/pr/1")
        self.assertEqual((self.cache / "refs" / "refs" / "pr" / "1").read_text(), first)
        listed = {r["commit"]: r["refs"] for r in self.json("hub", "list")["models"][0]["revisions"]}
        self.assertEqual(listed, {first: ["refs/pr/1", "v1"], second: ["main"]})
        self.assertRegex(self.tsubu("hub", "get", "tester/grain@v9", code=4).stderr, "no such revision")

    def test_a_cache_elsewhere(self):
        self.json("hub", "get", "tester/grain", HF_HUB_CACHE=str(self.work / "elsewhere"))
        self.assertTrue((self.work / "elsewhere" / "models--tester--grain").is_dir())
        self.assertFalse(self.home.exists())

    def test_list(self):
        self.assertEqual(self.json("hub", "list")["models"], [])
        self.tsubu("hub", "get", "tester/grain")
        got = self.json("hub", "list")
        self.assertEqual(got["models"][0]["id"], "tester/grain")
        size = sum(len(GRAIN[n]) for n in GRAIN if n != "README.md")
        self.assertEqual((got["size_bytes"], got["models"][0]["revisions"][0]["size_bytes"]), (size, size))
        self.assertRegex(self.tsubu("hub", "list").stdout, r"tester/grain +main +" + self.repo.commit[:12])

    # Connections that break

    def test_a_connection_that_breaks_is_resumed(self):
        self.hub.breaks["model.safetensors"] = [1_000_000, 2_000_000, 0, 3_000_000]
        got = self.json("hub", "get", "tester/grain")
        weights = next(f for f in got["files"] if f["name"] == "model.safetensors")
        self.assertEqual(weights["fetched_bytes"], len(GRAIN["model.safetensors"]))
        ranges = [r["headers"].get("Range") for r in self.hub.requests(server="store") if WEIGHTS in r["path"]]
        self.assertEqual(ranges, [None, "bytes=1000000-", "bytes=3000000-", "bytes=3000000-", "bytes=6000000-"])
        self.assertEqual((pathlib.Path(got["path"]) / "model.safetensors").read_bytes(), GRAIN["model.safetensors"])

    def test_what_came_before_the_end_is_kept_for_the_next_run(self):
        self.hub.breaks["model.safetensors"] = [4_000_000] + [0] * 10
        done = self.tsubu("hub", "get", "tester/grain", code=4)
        self.assertRegex(done.stderr, "5 times in a row .*the same command goes on from there")
        part = self.cache / "blobs" / f"{WEIGHTS}.incomplete"
        self.assertEqual(part.stat().st_size, 4_000_000)
        self.assertFalse((self.cache / "refs" / "main").exists())
        self.assertEqual(self.json("hub", "list")["models"][0]["incomplete_bytes"], 4_000_000)
        self.hub.breaks.clear()
        got = self.json("hub", "get", "tester/grain")
        weights = next(f for f in got["files"] if f["name"] == "model.safetensors")
        self.assertEqual((weights["resumed_bytes"], weights["fetched_bytes"]), (4_000_000, len(GRAIN["model.safetensors"]) - 4_000_000))
        self.assertFalse(part.exists())

    def test_an_interrupt_keeps_what_came(self):
        self.hub.slow.add("model.safetensors")
        process = subprocess.Popen([TSUBU, "hub", "get", "tester/grain"], cwd=self.work, env=self.environment(), stderr=subprocess.PIPE)
        part = self.cache / "blobs" / f"{WEIGHTS}.incomplete"
        until = time.time() + 30
        while time.time() < until and not (part.exists() and part.stat().st_size > 0):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)
        kept = part.stat().st_size
        self.assertGreater(kept, 0)
        self.hub.slow.clear()
        got = self.json("hub", "get", "tester/grain")
        self.assertEqual(next(f for f in got["files"] if f["name"] == "model.safetensors")["resumed_bytes"], kept)

    def test_a_server_without_ranges_starts_again(self):
        self.hub.no_ranges = True
        self.hub.breaks["model.safetensors"] = [1_000_000]
        got = self.json("hub", "get", "tester/grain")
        self.assertEqual((pathlib.Path(got["path"]) / "model.safetensors").read_bytes(), GRAIN["model.safetensors"])

    def test_a_range_from_elsewhere_is_refused(self):
        self.hub.wrong_range = True
        self.hub.breaks["model.safetensors"] = [1_000_000]
        self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=3).stderr, "expected bytes from 1000000 on, the server sends them from 1000007")

    def test_no_server(self):
        self.hub.close()
        self.assertRegex(self.tsubu("inspect", "tester/grain", code=4).stderr, "no such file or directory; and on the hub: .*5 times in a row")

    def test_a_busy_server(self):
        self.hub.busy = [(429, 1), (503, None)]
        begin = time.time()
        self.assertRegex(self.tsubu("hub", "get", "tester/grain").stderr, "answers 429; trying again in 1 s")
        self.assertGreater(time.time() - begin, 1)
        self.hub.busy = [(429, 4000)]
        self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=4).stderr, "asked again in 1h06m")

    def test_two_at_once_fetch_once(self):
        words = [TSUBU, "hub", "get", "tester/grain", "--quiet"]
        both = [subprocess.Popen(words, cwd=self.work, env=self.environment(), stdout=subprocess.DEVNULL) for _ in range(2)]
        self.assertEqual([p.wait(60) for p in both], [0, 0])
        self.assertEqual(len([r for r in self.hub.requests(server="store") if WEIGHTS in r["path"]]), 1)

    # Damage and malice

    def test_damaged_bytes_are_found(self):
        for name in ("config.json", "model.safetensors"):
            self.hub.spoiled = {name}
            self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=3).stderr, "checksum: expected")
            blobs = [b.name for b in (self.cache / "blobs").iterdir()]
            self.assertNotIn(WEIGHTS, blobs)
        self.hub.spoiled = set()
        self.tsubu("hub", "get", "tester/grain")

    def test_a_foreign_beginning_is_found_and_fetched_again(self):
        (self.cache / "blobs").mkdir(parents=True)
        (self.cache / "blobs" / f"{WEIGHTS}.incomplete").write_bytes(b"not this" * 1000)
        done = self.tsubu("hub", "get", "tester/grain")
        self.assertRegex(done.stderr, "fetching it from the start")
        self.assertEqual((self.cache / "blobs" / WEIGHTS).read_bytes(), GRAIN["model.safetensors"])
        longer = self.cache / "blobs" / WEIGHTS
        longer.rename(str(longer) + ".incomplete")
        with open(str(longer) + ".incomplete", "ab") as f:
            f.write(b"more")
        self.tsubu("hub", "get", "tester/grain")
        self.assertEqual(longer.read_bytes(), GRAIN["model.safetensors"])

    def test_file_names_that_lead_out_are_refused(self):
        for name in ("../../../evil.json", "/etc/evil.json", "a//b.json", "a/./b.json", "a\\b.json", "a\nb.json", "", "x" * 300):
            self.repo.listed = [*GRAIN, name]
            self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=3).stderr, "file name .*refused", name)
        self.repo.listed = ["config.json", "config.json"]
        self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=3).stderr, "listed twice")
        self.assertEqual(list(self.work.rglob("*evil*")), [])

    def test_odd_answers(self):
        self.repo.facts = {"sha": "../../evil"}
        self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=3).stderr, "sha: expected a commit")
        self.repo.facts = {"siblings": {"a": 1}}
        self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=3).stderr, "siblings, the list of files")
        self.repo.facts = {}
        self.hub.redirect_loop = {"config.json"}
        self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=3).stderr, "more than 5 redirects")

    def test_a_listing_without_digests(self):
        self.repo.lists_blobs = False
        got = self.json("hub", "get", "tester/grain")
        self.assertEqual({f["checked"] for f in got["files"]}, {"sha256", "git sha1"})
        self.assertEqual((self.cache / "blobs" / WEIGHTS).read_bytes(), GRAIN["model.safetensors"])

    def test_pickles_are_refused_with_the_reason(self):
        self.hub.add("tester/pickled", {"config.json": b"{}", "pytorch_model.bin": PICKLE})
        for words in (("hub", "get", "tester/pickled"), ("inspect", "tester/pickled"), ("hub", "get", "tester/pickled:pytorch_model.bin")):
            self.assertRegex(self.tsubu(*words, code=5).stderr, "running code out of it")
        self.hub.add("tester/nothing", {"README.md": b"hello"})
        self.assertRegex(self.tsubu("hub", "get", "tester/nothing", code=5).stderr, "found neither")

    # Access

    def test_the_token_goes_to_the_hub_alone(self):
        self.repo.gated = "manual"
        self.tsubu("hub", "get", "tester/grain", HF_TOKEN=self.hub.token)
        self.assertTrue(all(r["headers"].get("Authorization") == f"Bearer {self.hub.token}" for r in self.hub.requests(server="hub")))
        self.assertTrue(self.hub.requests(server="store"))
        self.assertFalse([r for r in self.hub.requests(server="store") if "Authorization" in r["headers"]])

    def test_tokens_from_files(self):
        self.repo.private = True
        self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=4).stderr, "no such model on .*private ones need HF_TOKEN")
        self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=4, HF_TOKEN="wrong").stderr, "that the token does not open")
        self.home.mkdir(exist_ok=True)
        (self.home / "token").write_text(self.hub.token + "\n")
        self.tsubu("hub", "get", "tester/grain")
        self.tsubu("hub", "get", "tester/grain", code=4, HF_HUB_DISABLE_IMPLICIT_TOKEN="1")
        self.tsubu("hub", "get", "tester/grain", code=2, HF_TOKEN="one\r\nHost: two")

    def test_gated_models(self):
        self.repo.gated = "manual"
        self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=4).stderr, "gated: ask for it, then set HF_TOKEN, at http.*/tester/grain")
        self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=4, HF_TOKEN="wrong").stderr, "the token's owner has to be granted it")

    def test_models_that_are_not_there(self):
        self.assertRegex(self.tsubu("inspect", "tester/none", code=4).stderr, "tester/none: no such file or directory; and on the hub: .*no such model")
        self.hub.renamed["old/grain"] = "tester/grain"
        self.assertEqual(self.json("hub", "get", "old/grain")["commit"], self.repo.commit)

    # Names

    def test_a_path_wins_over_a_name(self):
        (self.work / "tester").mkdir()
        (self.work / "tester" / "grain").symlink_to(MODEL)
        self.json("inspect", "tester/grain")
        for slip in ("tester/grian", "other/model.gguf", "./a/b", "/a/b", "a/b/c", "single"):
            self.assertRegex(self.tsubu("inspect", slip, code=4).stderr, "[Nn]o such file or directory")
        self.assertEqual(self.hub.log, [])
        self.json("inspect", "hf://tester/grain")
        self.assertTrue(self.hub.log)
        for bad in ("hf://single", "hf://a/b/c", "hf://a/../b", "hf://a/b@", "hf://a/b@../x", "hf://a/b:", "hf://-a/b", "hf://a/b--c"):
            self.assertRegex(self.tsubu("inspect", bad, code=2).stderr, "expected a model of the hub")
        self.tsubu("hub", "get", "tester/../grain", code=2)

    def test_one_gguf_file_of_several(self):
        self.tsubu("quantize", str(MODEL), "-o", "q.gguf", "--to", "Q4_0", "--quiet")
        real = (self.work / "q.gguf").read_bytes()
        repo = self.hub.add("tester/grain-GGUF", {
            "grain-Q4_0.gguf": real, "grain-Q8_0.gguf": b"8" * 30_000, "grain-Q4_K_M.gguf": b"k" * 20_000, "grain-UD-Q4_K_M.gguf": b"u" * 21_000,
            "grain-IQ4_XS.gguf": b"i" * 15_000, "mmproj-grain-Q8_0.gguf": b"m" * 20_000,
            "big/grain-F16-00001-of-00002.gguf": b"1" * 40_000, "big/grain-F16-00002-of-00002.gguf": b"2" * 40_001, "README.md": b"hello"})
        self.assertEqual(self.json("inspect", "tester/grain-GGUF:q4_0")["layout"], "gguf")
        n = len(self.hub.log)
        self.json("inspect", "tester/grain-GGUF:Q4_0")
        self.assertEqual(len(self.hub.log), n)  # from the cache
        done = self.tsubu("hub", "get", "tester/grain-GGUF", code=2)
        self.assertRegex(done.stderr, r"several GGUF files: name one, as tester/grain-GGUF:IQ4_XS\n")
        for line in (r"IQ4_XS +14.65 KiB +grain-IQ4_XS.gguf", r"F16 +78.13 KiB +big/grain-F16-00001-of-00002.gguf and 1 more shards"):
            self.assertRegex(done.stderr, line)
        self.assertNotIn("mmproj", done.stderr)
        self.assertEqual([f["name"] for f in self.json("hub", "get", "tester/grain-GGUF:Q4_K_M")["files"]], ["grain-Q4_K_M.gguf"])
        self.assertEqual([f["name"] for f in self.json("hub", "get", "tester/grain-GGUF:UD-Q4_K_M")["files"]], ["grain-UD-Q4_K_M.gguf"])
        both = self.json("hub", "get", "tester/grain-GGUF:F16")
        self.assertEqual([f["name"] for f in both["files"]], [f"big/grain-F16-0000{i}-of-00002.gguf" for i in (1, 2)])
        self.assertTrue(both["path"].endswith("/big/grain-F16-00001-of-00002.gguf"))
        self.assertEqual(os.readlink(both["path"]).count("../"), 3)
        self.assertEqual(pathlib.Path(both["path"]).read_bytes(), b"1" * 40_000)
        self.assertRegex(self.tsubu("hub", "get", "tester/grain-GGUF:Q9", code=2).stderr, r"none of the GGUF files has 'Q9': name one")
        self.assertRegex(self.tsubu("hub", "get", "tester/grain:Q4_0", code=2).stderr, "the model has none")
        self.assertIn("main", self.json("hub", "list")["models"][0]["revisions"][0]["refs"])
        self.assertEqual(repo.commit, both["commit"])

    def test_shards_of_safetensors(self):
        data = GRAIN["model.safetensors"]
        header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
        body = data[8 + int.from_bytes(data[:8], "little"):]
        names = sorted(k for k in header if k != "__metadata__")
        files, index = {k: v for k, v in GRAIN.items() if k != "model.safetensors"}, {}
        for part, chosen in enumerate((names[::2], names[1::2]), 1):
            at, head, out = 0, {}, b""
            for name in chosen:
                begin, end = header[name]["data_offsets"]
                head[name] = {**header[name], "data_offsets": [at, at + end - begin]}
                out += body[begin:end]
                at += end - begin
            text = json.dumps(head).encode()
            text += b" " * (-len(text) % 8)
            file = f"model-{part:05}-of-00002.safetensors"
            files[file] = len(text).to_bytes(8, "little") + text + out
            index.update({name: file for name in chosen})
        files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": index}).encode()
        files["consolidated.safetensors"] = b"another copy" * 1000
        self.hub.add("tester/sharded", files)
        got = self.json("hub", "get", "tester/sharded")
        self.assertIn("model-00002-of-00002.safetensors", [f["name"] for f in got["files"]])
        self.assertEqual([f["name"] for f in got["left_out"]], ["consolidated.safetensors"])
        self.assertEqual(self.json("inspect", "tester/sharded")["n_weights"], self.json("inspect", str(MODEL))["n_weights"])
        # A shard that is gone from the cache is fetched again.
        os.remove(pathlib.Path(got["path"]) / "model-00001-of-00002.safetensors")
        self.json("inspect", "tester/sharded")
        bad = {**files, "model.safetensors.index.json": json.dumps({"weight_map": {"a": "../../etc/passwd"}}).encode()}
        self.hub.add("tester/bad", bad)
        self.assertRegex(self.tsubu("hub", "get", "tester/bad", code=3).stderr, "expected a safetensors file of the model")

    # Search

    def test_search(self):
        def quantized(**values):
            config = json.loads(GRAIN["config.json"])
            return {**GRAIN, "config.json": json.dumps({**config, "quantization_config": values}).encode()}

        self.hub.add("tester/grain-GPTQ", quantized(quant_method="gptq", bits=4, group_size=128), downloads=40, tags=["gptq", "4-bit"])
        self.hub.add("tester/grain-AWQ", quantized(quant_method="awq", bits=4, group_size=64), downloads=30, tags=["awq"])
        self.hub.add("tester/grain-CT", quantized(quant_method="compressed-tensors", format="pack-quantized", config_groups={"group_0": {"weights": {"num_bits": 8, "group_size": 32}}}),
                     downloads=25, tags=["compressed-tensors"])
        self.hub.add("tester/grain-GGUF", {"g-Q4_0.gguf": b"4" * 20_000, "g-Q8_0.gguf": b"8" * 40_000}, downloads=20, tags=["gguf"],
                     facts={"gguf": {"total": 40_000, "architecture": "llama"}})
        self.hub.add("tester/grain-old", {"config.json": b"{}", "pytorch_model.bin": PICKLE}, downloads=10)
        self.hub.add("other/thing", dict(GRAIN))
        found = {m["id"]: m for m in self.json("hub", "search", "grain")["models"]}
        self.assertEqual(list(found), [f"tester/grain{x}" for x in ("", "-GPTQ", "-AWQ", "-CT", "-GGUF", "-old")])
        self.assertEqual({m: found[m]["layout"] for m in found}, {"tester/grain": "hf", "tester/grain-GPTQ": "gptq", "tester/grain-AWQ": "awq",
                         "tester/grain-CT": "compressed-tensors", "tester/grain-GGUF": "gguf", "tester/grain-old": "pickle"})
        size = sum(len(GRAIN[n]) for n in GRAIN if n != "README.md")
        self.assertEqual(found["tester/grain"]["files"][0]["size_bytes"], size)
        self.assertEqual(found["tester/grain-GPTQ"]["files"][0]["type"], "4 bits, group 128")
        self.assertEqual(found["tester/grain-CT"]["files"][0]["type"], "pack-quantized, 8 bits, group 32")
        self.assertEqual([(f["model"], f["type"], f["size_bytes"], f["bits_per_weight"]) for f in found["tester/grain-GGUF"]["files"]],
                         [("tester/grain-GGUF:g-Q4_0.gguf", "Q4_0", 20_000, 4.0), ("tester/grain-GGUF:g-Q8_0.gguf", "Q8_0", 40_000, 8.0)])
        self.assertIn("pickles", found["tester/grain-old"]["problem"])
        for layout, ids in (("gptq", ["tester/grain-GPTQ"]), ("gguf", ["tester/grain-GGUF"]), ("hf", ["tester/grain"]), ("fp8", [])):
            self.assertEqual([m["id"] for m in self.json("hub", "search", "grain", "--layout", layout)["models"]], ids)
        small = self.json("hub", "search", "grain", "--layout", "gguf", "--max-size", "30kB")["models"]
        self.assertEqual([f["type"] for f in small[0]["files"]], ["Q4_0"])
        text = self.tsubu("hub", "search", "tester", "grain").stdout
        self.assertRegex(text, r"tester/grain-GGUF:g-Q8_0.gguf +gguf +Q8_0 +39.06 KiB +8.00 +20")
        self.assertRegex(self.tsubu("hub", "search", "no such thing").stdout, "nothing found")
        self.assertEqual(len(self.json("hub", "search", "grain", "--limit", "2")["models"]), 2)
        # What was found can be fetched by its name.
        self.json("hub", "get", "tester/grain-GGUF:g-Q4_0.gguf")

    def test_usage(self):
        for words in (("hub",), ("hub", "put", "a/b"), ("hub", "get"), ("hub", "get", "a/b", "c/d"), ("hub", "list", "x"), ("hub", "search"),
                      ("hub", "get", "a/b", "--layout", "gguf")):
            self.tsubu(*words, code=2)
        self.assertRegex(self.tsubu("hub", "get", "tester/grain", code=2, HF_ENDPOINT="ftp://x").stderr, "HF_ENDPOINT: .*https or http")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:], verbosity=1)
