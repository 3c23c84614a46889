#!/usr/bin/env python3
"""Every number that a report's tables and charts show stands in the JSON at the page's end, and every number of its charts in a table as
well.   page_numbers.py PAGE…"""
import bisect
import html
import json
import re
import sys

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
NUMBER = re.compile(r"(?<![\w.])([-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)(?:\s?(%|[KMGT]?iB|B\b|ms|s\b))?(?![\w])")


def numbers_of(document, found):
    if isinstance(document, dict):
        for v in document.values():
            numbers_of(v, found)
    elif isinstance(document, list):
        for v in document:
            numbers_of(v, found)
    elif isinstance(document, str):  # arguments of sentences, numbers in the protocol
        for m in NUMBER.finditer(document):
            found.append(float(m[1].replace("−", "-")))
    elif isinstance(document, (int, float)) and not isinstance(document, bool):
        found.append(float(document))


def shown(text, number, unit):
    """Half a unit of the last digit that is shown, in the number's own scale."""
    mantissa, _, exponent = number.partition("e")
    digits = len(mantissa.partition(".")[2])
    step = 10.0 ** (int(exponent or 0) - digits)
    return float(number), 0.5000001 * step


def values_of(chart):
    """The numbers that a chart draws."""
    for s in chart.get("series", []):
        for x, y, *more in s["points"]:
            yield x
            yield y
            yield from (v for v in more[:2] if v is not None)
    for r in chart["rows"] if chart["kind"] in ("bars", "intervals") else []:
        yield from (r[k] for k in ("value", "low", "high", "limit") if k in r)
    yield from (cell[2] for cell in chart.get("cells", []) if cell[2] is not None)
    yield from (v for k in ("before", "after") for v in chart.get(k, []))


def near(sorted_values, v, slack):
    at = bisect.bisect_left(sorted_values, v - slack)
    return at < len(sorted_values) and sorted_values[at] <= v + slack


bad = 0
for path in sys.argv[1:]:
    page = open(path, encoding="utf-8").read()
    runs = json.loads(html.unescape(re.search(r'(?s)<pre id="runs">(.*?)</pre>', page)[1]))
    known = []
    numbers_of(runs, known)
    known.sort()
    charts = json.loads(re.search(r'(?s)id="charts">(.*?)</script>', page)[1])["charts"]
    body = re.sub(r'(?s)<style>.*?</style>|<script.*?</script>|<pre id="runs">.*?</pre>|<code>.*?</code>', " ", page[page.index("<body>"):])
    cells = re.findall(r'(?s)<td class="n">(.*?)</td>', body) + re.findall(r'(?s)<p class="note">(.*?)</p>', body)
    n, said = 0, []
    for cell in cells:
        text = html.unescape(re.sub(r"<[^>]*>", " ", cell))
        for m in NUMBER.finditer(text):
            unit = m[2] or ""
            value, half = shown(text, m[1].replace("−", "-"), unit)
            scale = 0.01 if unit == "%" else UNITS.get(unit, 0.001 if unit == "ms" else 1)
            n += 1
            said.append((value * scale, half * scale))
            # Differences of shares are points; kept as shares.
            if not any(abs(v - value * k) <= half * k for k in (scale, 0.01) for v in known):
                bad += 1
                print(f"{path}: {m[0]!r} of {text.strip()[:100]!r} is not in the JSON")
    said.sort()
    drawn = [v for chart in charts for v in values_of(chart)]
    for v in drawn:
        if not any(near(known, v * k, 1e-9 * abs(v * k)) for k in (1, 0.01)):
            bad += 1
            print(f"{path}: {v!r} of a chart is not in the JSON")
        # Within what its digits leave open.
        slack = 0.02 * abs(v) + 1e-4
        if not any(abs(s - v) <= max(half, 1e-12) + 1e-9 for s, half in said[bisect.bisect_left(said, (v - slack - 1e-12,)):bisect.bisect_right(said, (v + slack + 1e-12, 9e99))]):
            bad += 1
            print(f"{path}: {v!r} of a chart is in no table")
    print(f"{path}: {len(drawn)} numbers of {len(charts)} charts")
    print(f"{path}: {n} numbers looked up among {len(known)}")
    assert n > 20
sys.exit(1 if bad else 0)
