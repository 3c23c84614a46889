#!/usr/bin/env python3
"""The charts of the pages in Chromium: everything is drawn, says how it was measured, follows the theme, fits phones and paper. Without
Chromium the test is skipped (exit code 77).   charts_test.py TSUBU SOURCE_DIR [FOLDER_FOR_PICTURES]"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import zlib

import browser

SKIPPED = 77
ENGLISH = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,} [A-Za-z]{2,}")

# In the page: what a chart has drawn, and where its marks are.
PROBE = """
const instance = i => echarts.getInstanceByDom(document.querySelector(`[data-chart="${i}"]`));
const drawn = i => instance(i).getModel().getSeries().map(s => {
  let n = 0;
  for (let k = 0; k < s.getData().count(); ++k) n += Boolean(s.getData().getItemGraphicEl(k));
  return {type: s.subType, name: s.name, n};
});
const place = (i, series, k) => {
  const e = instance(i).getModel().getSeriesByIndex(series).getData().getItemGraphicEl(k), b = e.getBoundingRect();
  const at = e.transformCoordToGlobal(b.x + b.width / 2, b.y + b.height / 2), box = document.querySelector(`[data-chart="${i}"]`);
  box.scrollIntoView({block: 'center'});
  const r = box.getBoundingClientRect();
  return [r.x + at[0], r.y + at[1]];
};
const tip = i => { const e = document.querySelector(`[data-chart="${i}"] .tip`); return e && e.checkVisibility({visibilityProperty: true, opacityProperty: true}) ? e.textContent : ''; };
const paths = i => document.querySelectorAll(`[data-chart="${i}"] svg path`).length;
const ink = i => [...document.querySelectorAll(`[data-chart="${i}"] svg text`)].map(e => e.getAttribute('fill') || e.style.fill);
"""


def marks_of(chart):
    """How many values a chart shows."""
    if chart["kind"] == "xy":
        return sum(len(s["points"]) for s in chart["series"])
    if chart["kind"] == "pairs":
        return 2 * len(chart["before"])
    return len(chart["cells"] if chart["kind"] == "heat" else chart["rows"])


def protocols_of(chart):
    if chart["kind"] == "xy":
        return [s["protocol"] for s in chart["series"]]
    return [r["protocol"] for r in chart["rows"]] if chart["kind"] in ("bars", "intervals") else [chart["protocol"]]


def texts_of(document):
    if isinstance(document, dict):
        return [t for v in document.values() for t in texts_of(v)]
    if isinstance(document, list):
        return [t for v in document for t in texts_of(v)]
    return [document] if isinstance(document, str) else []


def data_of(page):
    return json.loads(re.search(r'(?s)id="charts">(.*?)</script>', pathlib.Path(page).read_text())[1])


def wait_for(b, expression, seconds=20):
    until = time.monotonic() + seconds
    while not (value := b.evaluate(expression)):
        if time.monotonic() > until:
            raise AssertionError(f"{expression} stays {value!r}")
        time.sleep(0.05)
    return value


def luminance(color):
    """Of '#rrggbb', '#rgb' or 'rgb(…)', 0 … 1."""
    if color.startswith("#"):
        digits = color[1:] if len(color) == 7 else "".join(c * 2 for c in color[1:])
        parts = [int(digits[i:i + 2], 16) for i in (0, 2, 4)]
    else:
        parts = [float(x) for x in re.findall(r"[\d.]+", color)[:3]]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), parts)) / 255


def check_drawn(b, page):
    data = data_of(page)
    b.width(1000)
    b.theme("light")
    b.open(page)
    b.evaluate(PROBE)
    assert b.complaints() == [], b.complaints()
    assert len(b.requests()) == 1, b.requests()  # the page, nothing else
    kinds = set()
    for i, chart in enumerate(data["charts"]):
        series = b.evaluate(f"drawn({i})")
        n, wanted = sum(s["n"] for s in series if s["type"] != "custom" and s["name"] != chart.get("front")), marks_of(chart)
        assert n == wanted and b.evaluate(f"paths({i})") >= wanted, f"{page}: chart {i} ({chart['title']}): {n} of {wanted} marks drawn"
        protocol = next((p for p in protocols_of(chart) if p is not None), None)
        if chart["kind"] in kinds and protocol is None:
            continue
        kinds.add(chart["kind"])
        # The pointer on a mark, and the keyboard.
        x, y = b.evaluate(f"place({i}, 0, 0)")
        b.point(1, 1)
        b.point(x, y)
        said = wait_for(b, f"tip({i})")
        if protocol is not None:
            assert data["protocols"][protocols_of(chart)[0] or 0] in said, (chart["title"], said)
        b.point(1, 1)
        b.evaluate(f"document.querySelector('[data-chart=\"{i}\"]').focus()")
        b.key("ArrowRight")
        spoken = wait_for(b, "document.querySelector('.said').textContent")
        wait_for(b, f"tip({i}).replaceAll('; ', '') === {json.dumps(spoken.replace('; ', ''))}")
        b.key("Escape")
        label, described = b.evaluate(f"(e => [e.getAttribute('aria-label'), e.getAttribute('aria-description')])(document.querySelector('[data-chart=\"{i}\"]'))")
        assert label == chart["title"] and described == data["words"]["keys"]
    assert b.complaints() == [], b.complaints()
    return kinds


def check_answers(b, page):
    """The legend hides a model; an area is zoomed into and back."""
    data = data_of(page)
    i = next(i for i, c in enumerate(data["charts"]) if c["kind"] == "xy" and len(c["series"]) > 1 and len(c["series"][0]["points"]) > 5)
    name = data["charts"][i]["series"][0]["name"]
    b.evaluate(f"document.querySelector('[data-chart=\"{i}\"]').scrollIntoView({{block: 'center'}})")
    x, y, w, h = b.evaluate(f"(r => [r.x, r.y, r.width, r.height])([...document.querySelectorAll('[data-chart=\"{i}\"] svg text')]"
                            f".find(e => e.textContent === {json.dumps(name)}).getBoundingClientRect())")

    def click(x, y):
        b.point(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            b.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    click(x + w / 2, y + h / 2)
    wait_for(b, f"instance({i}).getOption().legend[0].selected[{json.dumps(name)}] === false")
    click(x + w / 2, y + h / 2)
    wait_for(b, f"instance({i}).getOption().legend[0].selected[{json.dumps(name)}] === true")
    labels = f"[...document.querySelectorAll('[data-chart=\"{i}\"] svg text')].map(e => e.textContent).join('|')"
    before = b.evaluate(labels)
    b.evaluate(f"instance({i}).dispatchAction({{type: 'takeGlobalCursor', key: 'dataZoomSelect', dataZoomSelectActive: true}})")
    left, top, width, height = b.evaluate(f"(r => [r.x, r.y, r.width, r.height])(document.querySelector('[data-chart=\"{i}\"]').getBoundingClientRect())")
    corners = [(left + width * 0.35, top + height * 0.4), (left + width * 0.6, top + height * 0.7)]
    b.point(*corners[0])
    b.call("Input.dispatchMouseEvent", type="mousePressed", x=corners[0][0], y=corners[0][1], button="left", clickCount=1)
    for share in (0.3, 0.7, 1):
        b.call("Input.dispatchMouseEvent", type="mouseMoved", button="left", buttons=1, x=corners[0][0] + share * (corners[1][0] - corners[0][0]),
               y=corners[0][1] + share * (corners[1][1] - corners[0][1]))
    b.call("Input.dispatchMouseEvent", type="mouseReleased", x=corners[1][0], y=corners[1][1], button="left", clickCount=1)
    wait_for(b, f"{labels} !== {json.dumps(before)}")
    assert b.complaints() == [], b.complaints()


def check_theme(b, page):
    b.theme("light")
    b.open(page)
    b.evaluate(PROBE)
    light = [luminance(c) for c in b.evaluate("ink(0)")]
    b.evaluate("window.before = JSON.stringify(ink(0))")
    b.theme("dark")  # while the page is open
    wait_for(b, "JSON.stringify(ink(0)) !== before")
    dark = [luminance(c) for c in b.evaluate("ink(0)")]
    assert light and max(light) < 0.5 < min(dark), (light, dark)


def check_phone(b, page):
    b.width(360, 740, True)
    b.open(page)
    b.evaluate(PROBE)
    assert b.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360], page
    outside = b.evaluate("[...document.querySelectorAll('[data-chart] svg')].filter(s => { const r = s.getBoundingClientRect(); return r.right > 360 || r.left < 0 || r.width < 250; }).length")
    assert outside == 0, f"{page}: {outside} charts do not fit"
    # Words of a chart stay inside of it.
    cut = b.evaluate("""[...document.querySelectorAll('[data-chart] svg')].flatMap(s => { const r = s.getBoundingClientRect();
      return [...s.querySelectorAll('text')].filter(t => { const q = t.getBoundingClientRect(); return q.width && (q.left < r.left - 2 || q.right > r.right + 2 || q.top < r.top - 2 || q.bottom > r.bottom + 2); }).map(t => t.textContent); })""")
    assert cut == [], f"{page}: cut off: {cut}"
    b.width(1000)


def check_touch(b, page):
    """How a number was measured, for a finger and for the keyboard: at the foot of the window, cut off by nothing."""
    b.width(360, 740, True)
    b.call("Emulation.setTouchEmulationEnabled", enabled=True)
    b.open(page)
    b.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    shown = """(e => { const s = getComputedStyle(e, '::after'), t = e.getAttribute('title');
      return t && s.content === JSON.stringify(t) && s.position === 'fixed' && s.display !== 'none' && parseFloat(s.left) === 0 && parseFloat(s.bottom) === 0
        && parseFloat(s.width) > 300 && parseFloat(s.height) > 10 ? t : ''; })"""
    hidden = "getComputedStyle(document.querySelector('[title]'), '::after').content === 'none'"
    assert b.evaluate(hidden), f"{page}: shown unasked"
    x, y = b.evaluate("(e => { e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); return [r.x + Math.min(r.width, 300) / 2, r.y + r.height / 2]; })"
                      "(document.querySelector('main [title]'))")
    b.tap(x, y)
    assert wait_for(b, f"{shown}(document.activeElement)"), page
    b.tap(180, 5)
    # Every table of numbers has them within it or for all of it, or stands behind a figure that says it.
    assert b.evaluate("document.querySelectorAll('main [title]:not([tabindex=\"0\"])').length") == 0, f"{page}: notes that no finger reaches"
    b.evaluate("document.querySelector('main [title]').focus()")
    assert b.evaluate(f"{shown}(document.activeElement)"), f"{page}: not by keyboard"
    b.call("Emulation.setTouchEmulationEnabled", enabled=False)
    b.width(1000)


def check_language(b, page):
    """Japanese but for names: no three English words in a row, in what is read and in what charts say."""
    b.open(page)
    said = b.evaluate("[...document.querySelectorAll('main h1,main h2,main h3,main p,main li,main th,main td,main figcaption,main summary,main [title]')]"
                      ".flatMap(e => [e.textContent, e.getAttribute('title') || ''])")
    english = sorted({t for t in [*said, *texts_of(data_of(page))] if ENGLISH.search(t)})
    assert english == [], f"{page}: English on a Japanese page: {english}"
    assert b.evaluate("document.documentElement.lang") == "ja"


def check_paper(b, page, pdf):
    b.theme("dark")
    b.open(page)
    b.evaluate(PROBE)
    b.evaluate("""var seen; addEventListener('beforeprint', () => { const s = document.querySelector('[data-chart] svg');
      seen = {box: s.getAttribute('viewBox'), width: s.getAttribute('width'), ink: ink(0)}; })""")
    b.pdf(pdf, paperWidth=8.27, paperHeight=11.69)
    seen = b.evaluate("seen")
    assert seen["width"] == "690" and max(luminance(c) for c in seen["ink"]) < 0.5, seen  # for paper: its width, dark on light
    assert min(luminance(c) for c in wait_for(b, "ink(0)")) > 0.5  # and back
    data = pathlib.Path(pdf).read_bytes()
    assert data.startswith(b"%PDF") and len(data) > 20000
    drawn = 0
    for m in re.finditer(rb"stream\r?\n", data):
        try:
            drawn += len(re.findall(rb"\b[clmhre]+\n|\bf\b|\bS\b", zlib.decompressobj().decompress(data[m.end():])))
        except zlib.error:
            pass
    assert drawn > 500, drawn  # vectors, not pictures


def check_without_scripts(b, page):
    b.call("Emulation.setScriptExecutionDisabled", value=True)
    b.open(page)
    b.call("Emulation.setScriptExecutionDisabled", value=False)
    shown = b.evaluate("[...document.querySelectorAll('[data-chart]')].filter(e => e.checkVisibility()).length")
    assert shown == 0 and b.evaluate("document.querySelectorAll('td.n').length") > 20


def make_pages(tsubu, source, work):
    model = source / "models/grain-7m"

    def run(*args, output=None, codes=(0,)):
        done = subprocess.run([tsubu, *args], cwd=work, capture_output=True, text=True)
        assert done.returncode in codes, f"{args}: exit {done.returncode}\n{done.stderr}"
        if output:
            (work / output).write_text(done.stdout)

    run("convert", str(model), "-o", "base.gguf", "--dtype", "F16", "--quiet")
    candidates = ["Q3_K", "Q4_K", "Q8_0"]
    for name in candidates:
        run("quantize", "base.gguf", "-o", f"grain-{name}.gguf", "--to", name, "--quiet", "--json", output=f"{name}.json")
    questions = [{"query": "The little girl had a", "choices": [" dog", " table", " cat"], "gold": i % 3} for i in range(12)]
    (work / "own.jsonl").write_text("\n".join(map(json.dumps, questions)))
    # Fails its limits, which is an answer.
    run("certify", "base.gguf", *[f"grain-{n}.gguf" for n in candidates], "--text", str(model / "heldout.txt"), "--ctx", "128", "--chunks", "6", "--tasks",
        "own.jsonl", "--margin", "0.1", "--max-memory", "60MiB", "--max-kld", "0.01", "--threads", "1", "--quiet", "-o", "run.json", codes=(0, 1))
    run("lens", "base.gguf", "--text", str(model / "heldout.txt"), "--ctx", "32", "--windows", "1", "--seeds", "2", "--minutes", "0.2", "--threads", "1", "-o",
        "lens.html", "--json", "--quiet", output="lens.json")
    # All of it, of one layer.
    run("lens", "base.gguf", "--text", str(model / "heldout.txt"), "--ctx", "16", "--windows", "1", "--seeds", "1", "--minutes", "5", "--threads", "1", "--where",
        "blk.2", "--gradients", "--types", "Q4_K", "--held-windows", "1", "--held-out", str(model / "calib.txt"), "-o", "lens.ja.html", "--lang", "ja", "--quiet")
    for language, page in (("en", "plan.html"), ("ja", "plan.ja.html")):
        run("plan", "base.gguf", "--text", str(model / "calib.txt"), "--ctx", "64", "--chunks", "16", "--probes", "2", "--verify", "2", "--allow", "Q4_K,Q6_K,Q8_0",
            "--effort", "fast", "--bpw", "6", "--costs", "costs.json", "--page", page, "--lang", language, "--quiet", "--threads", "1")
    tune = {"source_bytes": 9, "size_bytes": 3, "bits_per_weight": 2.6, "tensors": [], "notes": [], "output": "a/q2.gguf", "training": {
        "best": 2, "judged_tokens": 8192, "seconds": 90, "tokens_per_second": 2345.6, "curve": [
            {"step": 7 * i, "tokens": 14336 * i, "loss": 0 if i == 0 else 0.12 / i, "divergence": 0.168 / (i + 1), "cross_entropy": 4.25, "rate": 0.001} for i in range(4)]}}
    (work / "tune.json").write_text(json.dumps(tune))
    runs = ["run.json", "Q4_K.json", "lens.json", "tune.json"]
    run("report", *runs, "-o", "report.html", "--price-hour", "0.8", "--quiet")
    run("report", *runs, "-o", "report.ja.html", "--lang", "ja", "--price-hour", "0.8", "--quiet")
    return [work / name for name in ("report.html", "report.ja.html", "lens.html", "lens.ja.html", "plan.html", "plan.ja.html")]


def main():
    program = browser.find()
    if not program:
        print("skipped: Chromium is not installed")
        return SKIPPED
    tsubu, source = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    pictures = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with tempfile.TemporaryDirectory() as folder, browser.Browser(program) as b:
        work, kinds = pathlib.Path(folder), set()
        pages = make_pages(tsubu, source, work)
        for page in pages:
            kinds |= check_drawn(b, page)
            check_answers(b, page) if not page.name.startswith("plan") else None
            check_theme(b, page)
            check_phone(b, page)
            check_touch(b, page)
            check_paper(b, page, work / (page.stem + ".pdf"))
            check_without_scripts(b, page)
            print(f"{page.name}: {len(data_of(page)['charts'])} charts, {os.path.getsize(page)} bytes")
            if pictures:
                pictures.mkdir(parents=True, exist_ok=True)
                for name, width, theme in (("light", 1000, "light"), ("dark", 1000, "dark"), ("phone", 360, "light")):
                    b.width(width, 900, width < 500)
                    b.theme(theme)
                    b.open(page)
                    b.picture(pictures / f"{page.stem}-{name}.png")
                (pictures / f"{page.stem}.pdf").write_bytes((work / (page.stem + ".pdf")).read_bytes())
        assert kinds == {"xy", "bars", "intervals", "heat", "pairs"}, kinds
        english = [t for t in texts_of(data_of(pages[1])) if ENGLISH.search(t)]
        assert english == [], f"English on the Japanese page: {english}"
        for page in pages:
            if page.name in ("lens.ja.html", "plan.ja.html"):
                check_language(b, page)
    print("the charts are drawn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
