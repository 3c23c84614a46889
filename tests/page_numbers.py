#!/usr/bin/env python3
"""Every number that a report's tables and marks show stands in the JSON at the page's end.   page_numbers.py PAGE…"""
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


bad = 0
for path in sys.argv[1:]:
    page = open(path, encoding="utf-8").read()
    runs = json.loads(html.unescape(re.search(r'(?s)<pre id="runs">(.*?)</pre>', page)[1]))
    known = []
    numbers_of(runs, known)
    known.sort()
    body = re.sub(r'(?s)<style>.*?</style>|<script>.*?</script>|<pre id="runs">.*?</pre>|<code>.*?</code>', " ", page[page.index("<body>"):])
    cells = re.findall(r'(?s)<td class="n">(.*?)</td>', body) + re.findall(r"(?s)<title>(.*?)</title>", body) + re.findall(r'(?s)<p class="note">(.*?)</p>', body)
    n = 0
    for cell in cells:
        text = html.unescape(re.sub(r"<[^>]*>", " ", cell))
        for m in NUMBER.finditer(text):
            unit = m[2] or ""
            value, half = shown(text, m[1].replace("−", "-"), unit)
            scale = 0.01 if unit == "%" else UNITS.get(unit, 0.001 if unit == "ms" else 1)
            n += 1
            # Differences of shares are points; kept as shares.
            if not any(abs(v - value * k) <= half * k for k in (scale, 0.01) for v in known):
                bad += 1
                print(f"{path}: {m[0]!r} of {text.strip()[:100]!r} is not in the JSON")
    print(f"{path}: {n} numbers looked up among {len(known)}")
    assert n > 20
sys.exit(1 if bad else 0)
