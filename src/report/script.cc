#include "report/script.h"

#include <algorithm>

#include "base/digest.h"

namespace tsubu {
namespace {

constexpr std::string_view kScript = R"js(
'use strict';
(() => {
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  document.body.append(tip);
  const show = (mark, x, y) => {
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 12, innerWidth - box.width - 8)) + 'px';
    tip.style.top = (y - box.height - 10 < 4 ? y + 14 : y - box.height - 10) + 'px';
  };
  for (const title of document.querySelectorAll('svg title')) {
    const mark = title.parentElement;
    mark.dataset.tip = title.textContent;
    mark.setAttribute('aria-label', title.textContent);
    mark.setAttribute('tabindex', '0');
    title.remove();
    mark.addEventListener('pointermove', e => show(mark, e.clientX, e.clientY));
    mark.addEventListener('pointerdown', e => show(mark, e.clientX, e.clientY));
    mark.addEventListener('pointerleave', e => { if (e.pointerType === 'mouse') tip.hidden = true; });
    mark.addEventListener('focus', () => { const b = mark.getBoundingClientRect(); show(mark, b.left + b.width / 2, b.top); });
    mark.addEventListener('blur', () => { tip.hidden = true; });
  }
  addEventListener('scroll', () => { tip.hidden = true; }, {passive: true});
  const series = e => [...e.classList].find(c => /^s\d$/.test(c));
  const names = new Map();
  for (const key of document.querySelectorAll('.m .key')) names.set(series(key), key.parentElement.textContent.trim());
  for (const figure of document.querySelectorAll('figure')) {
    const marks = new Map();
    for (const e of figure.querySelectorAll('svg [class]')) {
      const s = series(e);
      if (s) marks.set(s, [...(marks.get(s) || []), e]);
    }
    if (marks.size < 2) continue;
    const row = document.createElement('div');
    row.className = 'toggles';
    for (const [s, list] of [...marks].sort()) {
      const own = list.find(e => e.dataset.series);
      const button = document.createElement('button');
      button.type = 'button';
      button.setAttribute('aria-pressed', 'true');
      const key = document.createElement('span');
      key.className = 'key ' + s;
      button.append(key, own ? own.dataset.series : names.get(s) || s);
      button.addEventListener('click', () => {
        const on = button.getAttribute('aria-pressed') !== 'true';
        button.setAttribute('aria-pressed', String(on));
        for (const e of list) e.style.display = on ? '' : 'none';
      });
      row.append(button);
    }
    figure.prepend(row);
  }
})();
)js";

std::string base64(std::string_view hex) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto nibble = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
  std::string out;
  for (size_t i = 0; i < hex.size(); i += 6) {  // three bytes, four digits
    unsigned bits = 0;
    for (size_t k = 0; k < 6; ++k) bits = bits << 4 | (i + k < hex.size() ? nibble(hex[i + k]) : 0);
    const size_t n_bytes = std::min<size_t>(3, (hex.size() - i) / 2);
    for (size_t k = 0; k < 4; ++k) out += k <= n_bytes ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

}  // namespace

std::string_view page_script() { return kScript; }

std::string page_script_hash() { return "'sha256-" + base64(sha256_of(kScript)) + "'"; }

}  // namespace tsubu
