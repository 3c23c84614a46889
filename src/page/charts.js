// Draws the page's charts with Apache ECharts, from the JSON in #charts (page/chart.cc writes it): into every [data-chart] the chart of
// that number. Colors are the style sheet's, read when drawing: again when the reader's theme changes, when the width does, and for
// paper. What a mark says of itself is its `tip`: {head, lines: [[name, value]…], why, how}.
'use strict';
(() => {
  const block = document.getElementById('charts');
  if (!block) return;
  const {charts, protocols, words} = JSON.parse(block.textContent);
  const root = document.documentElement, font = getComputedStyle(document.body).fontFamily;
  const PAPER = 690, SIZE = 12, NARROW = 480;  // px; A4 is as wide as 718 px between its margins
  const TOP = 34;                              // for the tools
  let printing = false, colors;

  const palette = () => {
    const style = getComputedStyle(root), color = name => style.getPropertyValue('--' + name).trim();
    return Object.fromEntries(['ink', 'soft', 'paper', 'card', 'line', 'bad', 'heat0', 'heat1', ...Array(8).keys()].map(n => [n, color(typeof n === 'number' ? 'c' + n : n)]));
  };
  const width = (text, size = SIZE) => Math.ceil(echarts.format.getTextRect(String(text), `${size}px ${font}`).width);
  const widest = list => list.reduce((most, text) => Math.max(most, width(text)), 0);
  const number = (v, digits = 4) => {
    const a = Math.abs(v), short = Number(v.toPrecision(digits));
    return v === 0 ? '0' : a >= 1e6 || a < 1e-3 ? short.toExponential().replace('e+', 'e') : String(short);
  };
  const written = (axis, v, digits) => axis.share ? `${number(100 * v, digits)} %` : number(v, digits);
  const how = at => at === null || at === undefined ? '' : protocols[at];
  const has = v => v !== null && v !== undefined;

  const tipElement = tip => {
    const box = document.createElement('div');
    const line = (cls, text) => {
      const e = document.createElement('div');
      e.className = cls;
      e.textContent = text;
      box.append(e);
    };
    box.className = 'tip';
    const head = document.createElement('b');
    head.textContent = tip.head;
    box.append(head);
    for (const [name, value] of tip.lines || []) line('', name ? `${name}: ${value}` : value);
    if (tip.why) line('why', tip.why);
    if (tip.how) line('how', `${words.protocol}: ${tip.how}`);
    return box;
  };

  // ---- axes
  const linearTicks = (low, high, room) => {
    const raw = (high - low) / Math.max(1, room), power = 10 ** Math.floor(Math.log10(raw));
    const step = power * ([1, 2, 2.5, 5].find(m => raw / power <= m) || 10), list = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) list.push(Number((i * step).toPrecision(12)));
    return list;
  };
  const ticks = (axis, low, high, room) => {
    if (axis.ticks) {
      const inside = axis.ticks.map(t => t[0]).filter(v => v >= low * 0.999 && v <= high * 1.001);
      if (inside.length > 1) return inside;
    }
    if (!axis.log) return linearTicks(low, high, room);
    const steps = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 5], [1]], powers = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); ++e) powers.push(e);
    const lists = steps.map(set => powers.flatMap(e => set.map(m => Number(`${m}e${e}`))).filter(v => v >= low * 0.9999 && v <= high * 1.0001));
    const found = lists.find(list => list.length <= room);
    if (!found) return lists[2].filter((_, i) => i % Math.ceil(lists[2].length / room) === 0);
    return found.length >= 3 ? found : linearTicks(low, high, Math.min(room, 4)).filter(v => v > 0);
  };
  const extent = (axis, values, exact) => {
    let low = Math.min(...values), high = Math.max(...values);
    if (axis.log) {
      const room = exact ? 1.06 : high > low ? Math.max(1.05, (high / low) ** 0.07) : 1.4;
      return [axis.low ?? low / room, axis.high ?? high * room];
    }
    const room = high > low ? (exact ? 0.02 : 0.06) * (high - low) : Math.max(0.5, 0.1 * Math.abs(high));
    return [axis.low ?? (low >= 0 && low < room ? 0 : low - room), axis.high ?? high + room];
  };
  const axisOption = (axis, [low, high], list, more) => ({
    type: axis.log ? 'log' : 'value', min: low, max: high, name: axis.name, nameLocation: 'middle',
    nameTextStyle: {color: colors.soft, fontSize: SIZE}, axisLine: {show: false}, axisTick: {show: false, customValues: list}, minorTick: {show: false},
    splitLine: {lineStyle: {color: colors.line}},
    axisLabel: {color: colors.ink, fontSize: SIZE, hideOverlap: true, customValues: list, formatter: v => {
      const own = (axis.ticks || []).find(t => Math.abs(t[0] - v) <= 1e-9 * Math.abs(v));
      return own ? own[1] : written(axis, v, 3);
    }}, ...more});
  const plain = () => ({
    animation: false, textStyle: {fontFamily: font, fontSize: SIZE, color: colors.ink},
    tooltip: {confine: true, backgroundColor: colors.paper, borderColor: colors.line, borderWidth: 1, padding: [6, 10], textStyle: {color: colors.ink, fontFamily: font},
      formatter: p => p.data && p.data.tip ? tipElement(p.data.tip) : ''}});
  // The library's legend, and the height that its lines take.
  const legend = (names, w) => {
    let lines = 1, x = 0;
    for (const name of names) {
      const need = width(name) + 44;
      if (x && x + need > w) [lines, x] = [lines + 1, 0];
      x += need;
    }
    return {height: lines * 24, option: {data: names, left: 4, top: 4, width: w, itemGap: 12, itemWidth: 18, itemHeight: 10, textStyle: {color: colors.ink, fontSize: SIZE}, inactiveColor: colors.line}};
  };

  // ---- values over values
  const whisker = (params, api) => {
    const [x, y0] = api.coord([api.value(0), api.value(1)]), y1 = api.coord([api.value(0), api.value(2)])[1];
    const style = {stroke: api.visual('color'), lineWidth: 2, fill: null};
    return {type: 'group', children: [[x, y0, x, y1], [x - 4, y0, x + 4, y0], [x - 4, y1, x + 4, y1]].map(([x1, y1, x2, y2]) => ({type: 'line', shape: {x1, y1, x2, y2}, style}))};
  };
  const xy = (chart, w) => {
    const all = chart.series.flatMap(s => s.points), isLog = chart.y.log;
    const lines = chart.series.filter(s => !s.dots);
    const X = extent(chart.x, [...all.map(p => p[0]), ...(chart.marks || []).map(m => m[0])], lines.length > 0);
    const Y = extent(chart.y, all.flatMap(p => [p[1], ...(has(p[2]) ? [p[2]] : []), ...(has(p[3]) ? [p[3]] : [])]), false);
    if (isLog && Y[0] <= 0) Y[0] = Math.min(...all.map(p => p[1])) / 1.4;
    const names = [...chart.series.map(s => s.name), ...(chart.front ? [chart.front] : [])];
    const tools = all.length > 3 && !printing ? 64 : 0;
    const key = legend(names, w - tools - 8), marks = chart.marks || [];
    const markLines = Math.min(4, marks.length);
    const height = (w < NARROW ? 300 : 360) + Math.max(0, key.height - 24) + 12 * markLines;
    const top = Math.max(TOP, key.height + 12) + 12 * markLines, bottom = 50, right = 18;
    const yTicks = ticks(chart.y, ...Y, Math.floor((height - top - bottom) / 34));
    const left = widest(yTicks.map(v => written(chart.y, v, 3))) + 36;
    const xRoom = (w - left - right) / (chart.x.ticks ? 34 : 46);
    const view = {left, right: w - right, top, bottom: height - bottom};
    const series = [];
    for (const s of chart.series) {
      const color = colors[s.color], item = {itemStyle: {color}, emphasis: {focus: 'series'}};
      const data = s.points.map(p => ({value: [p[0], p[1]], name: p[4] || '', tip: {
        head: p[4] || s.name,
        lines: [[chart.x.name, ((chart.x.ticks || []).find(t => t[0] === p[0]) || [])[1] || written(chart.x, p[0])],
          [chart.y.name, written(chart.y, p[1]) + (has(p[3]) ? ` [${has(p[2]) ? written(chart.y, p[2]) : '0'}, ${written(chart.y, p[3])}]` : '')]],
        how: how(s.protocol)}}));
      const between = s.points.filter(p => has(p[3])).map(p => [p[0], has(p[2]) ? Math.max(p[2], isLog ? Y[0] : -Infinity) : Y[0], p[3]]);
      if (s.dots) {
        const middle = X[0] + (X[1] - X[0]) * 0.62, isRight = v => (chart.x.log ? Math.log(v / X[0]) / Math.log(X[1] / X[0]) > 0.62 : v > middle);
        for (const d of data)
          if (d.name) d.label = {position: isRight(d.value[0]) ? 'left' : 'right'};
        series.push({type: 'scatter', name: s.name, data, symbolSize: 11, z: 4, ...item, itemStyle: {color, opacity: 1},
          label: {show: !(w < NARROW && data.length === 1 && chart.series.length > 4), formatter: p => p.name, color: colors.ink, fontSize: SIZE, distance: 7, textBorderColor: colors.card, textBorderWidth: 3}, labelLayout: {hideOverlap: true}});
        if (between.length) series.push({type: 'custom', name: s.name, silent: true, renderItem: whisker, data: between, encode: {x: 0, y: [1, 2]}, clip: true, z: 3, ...item});
      } else {
        series.push({type: 'line', name: s.name, data, symbol: 'circle', symbolSize: s.points.length > 60 ? 4 : 6, showSymbol: true, showAllSymbol: true, lineStyle: {color, width: 2}, z: 3, ...item});
        if (between.length > 1)
          series.push({type: 'custom', name: s.name, silent: true, data: between, encode: {x: 0, y: [1, 2]}, clip: true, z: 1, itemStyle: {color}, renderItem: (params, api) => params.dataIndexInside > 0 ? null : {
            type: 'polygon', style: {fill: color, opacity: 0.16}, shape: {points: [...between.map(p => api.coord([p[0], p[2]])), ...[...between].reverse().map(p => api.coord([p[0], p[1]]))]}}});
      }
    }
    if (chart.front) {
      let reached = Infinity;
      const best = [...all].sort((a, b) => a[0] - b[0] || a[1] - b[1]).filter(p => p[1] < reached && ((reached = p[1]), true));
      series.push({type: 'line', name: chart.front, data: best.map(p => [p[0], p[1]]), symbol: 'none', silent: true, lineStyle: {color: colors.soft, width: 1.5, type: 'dashed'}, itemStyle: {color: colors.soft}, z: 2});
    }
    if (marks.length)
      series[0].markLine = {silent: true, symbol: 'none', lineStyle: {color: colors.soft, type: 'dashed'}, data: [...marks].sort((a, b) => a[0] - b[0]).map(([at, name], i) => ({
        xAxis: at, label: {formatter: name, position: 'end', distance: 2 + 12 * (i % 4), color: colors.soft, fontSize: 11}}))};
    return {height, view, option: {...plain(), series,
      grid: {left, right, top, bottom, outerBoundsMode: 'none'},
      legend: names.length > 1 ? {...key.option, data: names.map(n => n === chart.front ? {name: n, itemStyle: {opacity: 0}} : n)} : {show: false},
      toolbox: tools ? {right: 6, top: 6, padding: 0, itemSize: 15, iconStyle: {borderColor: colors.soft}, emphasis: {iconStyle: {borderColor: colors.ink, textAlign: 'right', textFill: colors.ink}},
        feature: {dataZoom: {filterMode: 'none', title: {zoom: words.zoom, back: words.back}, brushStyle: {color: colors.line, opacity: 0.5}}}} : {show: false},
      xAxis: axisOption(chart.x, X, ticks(chart.x, ...X, xRoom), {nameGap: 28}),
      yAxis: axisOption(chart.y, Y, yTicks, {nameGap: left - 22, nameTextStyle: {color: colors.soft, fontSize: SIZE, width: height - top - bottom + 40, overflow: 'truncate'}})}};
  };
  // Ticks for what is to be seen after zooming.
  const retick = (place, chart) => {
    const {left, right, top, bottom} = place.view, at = (x, y) => place.instance.convertFromPixel({gridIndex: 0}, [x, y]);
    const [low, high] = [at(left, bottom), at(right, top)];
    const set = (axis, from, to, room) => {
      const list = ticks(axis, from, to, room);
      return {axisTick: {customValues: list}, axisLabel: {customValues: list}};
    };
    place.instance.setOption({xAxis: set(chart.x, low[0], high[0], (right - left) / 46), yAxis: set(chart.y, low[1], high[1], (bottom - top) / 34)});
  };

  // ---- one value in each row
  const rows = (chart, w) => {
    const isBars = chart.kind === 'bars', step = isBars ? 48 : 44, list = chart.rows;
    const values = list.flatMap(r => [r.value, r.low, r.high, r.limit].filter(has)), axis = {name: chart.axis};
    const X = isBars ? [0, Math.max(...values)] : extent(axis, [...values, 0, ...(has(chart.margin) ? [-chart.margin] : [])], false);
    const texts = isBars ? widest(list.map(r => r.text)) + 18 : 0;
    const top = (isBars ? 8 : 2) + (has(chart.margin) ? 16 : 0), bottom = isBars ? 0 : 46, left = 12, right = isBars ? 8 + texts : 16;
    const height = top + bottom + step * list.length, list_x = ticks(axis, ...X, (w - left - right) / 56);
    const tips = list.map(r => ({head: r.name, lines: [[chart.axis, r.text], ...(has(r.low) ? [[words.interval, `${number(r.low)} … ${number(r.high)}`]] : []),
      ...(has(r.limit) ? [[chart.limit_name || words.limit, r.limit_text]] : [])], how: how(r.protocol)}));
    const drawn = (params, api) => {
      const r = list[params.dataIndex], [x, y] = api.coord([r.value, params.dataIndex]), at = v => api.coord([v, params.dataIndex])[0];
      const middle = y + (isBars ? 0 : 8), children = [], line = (x1, y1, x2, y2, stroke, lineWidth = 2, dash) => children.push({type: 'line', shape: {x1, y1, x2, y2}, style: {stroke, lineWidth, lineDash: dash}});
      const text = (string, tx, ty, fill, verticalAlign) => children.push({type: 'text', style: {text: string, x: tx, y: ty, fill, font: `${SIZE}px ${font}`, verticalAlign, stroke: colors.card, lineWidth: 3}});
      text(r.name, left, middle - 12, colors.ink, 'bottom');
      if (has(r.low)) {
        const color = isBars ? colors.ink : colors[r.color];
        line(at(r.low), middle, at(r.high), middle, color);
        for (const v of [r.low, r.high]) line(at(v), middle - 4, at(v), middle + 4, color);
      }
      if (has(r.limit)) line(at(r.limit), middle - 13, at(r.limit), middle + 13, colors.bad, 2, [5, 3]);
      if (isBars) {
        let end = Math.max(x, has(r.high) ? at(r.high) : x);
        if (has(r.limit) && at(r.limit) >= end && at(r.limit) - end < width(r.text) + 14) end = at(r.limit);
        text(r.text, end + 7, middle, colors.ink, 'middle');
      }
      return {type: 'group', children};
    };
    const data = list.map((r, i) => ({value: [r.value, i], itemStyle: {color: colors[r.color]}, tip: tips[i]}));
    const main = isBars ? {type: 'bar', data: data.map(d => ({...d, value: d.value[0]})), barWidth: 18, itemStyle: {borderRadius: 3}, z: 2}
      : {type: 'scatter', data, symbolSize: 12, symbolOffset: [0, 8], itemStyle: {opacity: 1}, z: 4};
    const line = (at, color, type, name) => ({xAxis: at, lineStyle: {color, type, width: 1.5}, label: {show: Boolean(name), formatter: name || '', position: 'start', distance: 3, color, fontSize: 11}});
    if (!isBars) main.markLine = {silent: true, symbol: 'none', data: [line(0, colors.ink, 'solid'), ...(has(chart.margin) ? [line(-chart.margin, colors.bad, 'dashed', chart.limit_name)] : [])]};
    return {height, option: {...plain(), grid: {left, right, top, bottom, outerBoundsMode: 'none'},
      xAxis: axisOption(axis, X, list_x, isBars ? {show: false, splitLine: {show: false}} : {nameGap: 28}),
      yAxis: {type: 'category', inverse: true, data: list.map(r => r.name), show: false},
      series: [main, {type: 'custom', silent: true, renderItem: drawn, data: data.map(d => d.value), encode: {x: 0, y: 1}, z: 5}]}};
  };

  // ---- rows and columns
  const heat = (chart, w) => {
    const {cells, columns} = chart, names = chart.rows, values = cells.map(c => c[2]).filter(v => v > 0);
    let low = Math.min(...values), high = Math.max(...values);
    if (high < low * 2) low = high / 2;
    const left = widest(names) + 14, right = 6, cell = (w - left - right) / columns.length, tall = Math.min(34, Math.max(15, 440 / names.length));
    const turned = widest(columns) + 8 > cell, top = turned ? widest(columns) + 16 : 26, bottom = 46;
    const height = top + bottom + Math.round(tall * names.length);
    const share = v => v > 0 ? Math.log(v / low) / Math.log(high / low) : 0;
    const fits = tall >= 15 && widest(values.map(v => number(v, 3))) + 6 <= cell;
    const data = cells.map(([x, y, v, name, note, bad]) => ({
      value: [x, y, has(v) ? Math.log10(Math.min(high, Math.max(low, v))) : Math.log10(high)], tip: {head: name || `${columns[x]} ${names[y]}`, lines: [[chart.value_name, has(v) ? number(v) : '–'], ...(note && !bad ? [['', note]] : [])], why: bad ? note : '', how: how(chart.protocol)},
      itemStyle: {borderColor: bad ? colors.bad : colors.card, borderWidth: bad ? 3 : 1.5},
      label: {show: fits && has(v), formatter: has(v) ? number(v, 3) : '', color: share(v) > 0.5 ? colors.paper : colors.ink, fontSize: 11, fontWeight: bad ? 'bold' : 'normal'}}));
    return {height, option: {...plain(), grid: {left, right, top, bottom, outerBoundsMode: 'none'},
      xAxis: {type: 'category', data: columns, position: 'top', axisLine: {show: false}, axisTick: {show: false}, axisLabel: {color: colors.ink, fontSize: SIZE, interval: 0, rotate: turned ? 90 : 0}},
      yAxis: {type: 'category', data: names, inverse: true, axisLine: {show: false}, axisTick: {show: false}, axisLabel: {color: colors.ink, fontSize: SIZE, interval: tall < 13 ? 'auto' : 0}},
      visualMap: {type: 'continuous', min: Math.log10(low), max: Math.log10(high), dimension: 2, orient: 'horizontal', left: 'center', bottom: 4, itemWidth: 12, itemHeight: Math.min(220, w * 0.5), calculable: false, hoverLink: true,
        text: [number(high, 3), number(low, 3)], textStyle: {color: colors.soft, fontSize: 11}, inRange: {color: [colors.heat0, colors.heat1]}},
      series: [{type: 'heatmap', data, emphasis: {itemStyle: {borderColor: colors.ink}}}]}};
  };

  // ---- before and after
  const pairs = (chart, w) => {
    const n = chart.before.length, most = Math.max(...chart.before.map(Math.abs), ...chart.after.map(Math.abs), 1e-12) * 1.08;
    const y = {name: ''}, list = ticks(y, -most, most, 6), left = widest(list.map(v => number(v, 3))) + 14;
    const key = legend(chart.names, w - 8), top = key.height + 10, height = top + 222;
    const tip = i => ({head: `${chart.item} ${i + 1}`, lines: [[chart.names[0], number(chart.before[i], 5)], [chart.names[1], number(chart.after[i], 5)]], how: how(chart.protocol)});
    const dots = values => values.map((v, i) => ({value: [i + 1, v], tip: tip(i)}));
    const moved = (params, api) => {
      const [x1, y1] = api.coord([api.value(0), api.value(1)]), [x2, y2] = api.coord([api.value(0), api.value(2)]);
      return {type: 'line', shape: {x1, y1, x2, y2}, style: {stroke: colors[2], lineWidth: 2}};
    };
    return {height, option: {...plain(), legend: key.option, grid: {left, right: 10, top, bottom: 12, outerBoundsMode: 'none'},
      xAxis: {type: 'value', min: 0, max: n + 1, show: false}, yAxis: axisOption(y, [-most, most], list, {}),
      series: [{type: 'scatter', name: chart.names[0], data: dots(chart.before), symbolSize: Math.min(9, w / n - 1), itemStyle: {color: 'transparent', borderColor: colors[1], borderWidth: 2}, z: 3,
        markLine: {silent: true, symbol: 'none', label: {show: false}, lineStyle: {color: colors.soft, type: 'solid'}, data: [{yAxis: 0}]}},
        {type: 'scatter', name: chart.names[1], data: dots(chart.after), symbolSize: Math.min(6, w / n - 2), itemStyle: {color: colors[2], opacity: 1}, z: 4},
        {type: 'custom', silent: true, data: chart.before.map((v, i) => [i + 1, v, chart.after[i]]), encode: {x: 0, y: [1, 2]}, renderItem: moved, z: 2}]}};
  };

  // ---- the page
  const kinds = {xy, bars: rows, intervals: rows, heat, pairs}, places = [];
  const said = document.createElement('div');
  said.className = 'said';
  said.setAttribute('aria-live', 'polite');
  document.body.append(said);
  const draw = (place, w) => {
    if (w < 40) return;  // inside of something closed
    const {height, option, view} = kinds[place.chart.kind](place.chart, w), before = place.instance?.getOption();
    if (before?.legend?.[0] && option.legend?.data) option.legend.selected = before.legend[0].selected;
    Object.assign(place, {width: w, view});
    place.element.style.height = height + 'px';
    if (!place.instance) {
      place.instance = echarts.init(place.element, null, {renderer: 'svg', width: w, height});
      if (view) place.instance.on('datazoom', () => retick(place, place.chart));
    } else {
      place.instance.resize({width: w, height});
    }
    place.instance.setOption(option, true);
    place.marks = option.series.flatMap((s, seriesIndex) => s.data.map((d, dataIndex) => d.tip && {seriesIndex, dataIndex, tip: d.tip})).filter(Boolean);
    const svg = place.element.querySelector('svg');
    svg.setAttribute('viewBox', `0 0 ${w} ${height}`);
    svg.setAttribute('aria-hidden', 'true');
  };
  const drawAll = () => {
    colors = palette();
    const widths = places.map(p => printing ? PAPER : p.element.clientWidth);  // first all of them: one layout of the page
    places.forEach((p, i) => draw(p, widths[i]));
  };
  const walk = (place, event) => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key === 'Escape') place.instance.dispatchAction({type: 'hideTip'});
    if (!step || !place.marks.length) return;
    event.preventDefault();
    const n = place.marks.length;
    place.at = place.at === undefined ? (step > 0 ? 0 : n - 1) : (place.at + step + n) % n;
    const {seriesIndex, dataIndex, tip} = place.marks[place.at];
    place.instance.dispatchAction({type: 'showTip', seriesIndex, dataIndex});
    said.textContent = [...tipElement(tip).children].map(e => e.textContent).join('; ');
  };
  const sizes = new ResizeObserver(entries => {
    if (printing) return;
    for (const {target} of entries) {
      const place = places.find(p => p.element === target);
      if (target.clientWidth !== place.width) draw(place, target.clientWidth);
    }
  });
  for (const element of document.querySelectorAll('[data-chart]')) {
    const place = {element, chart: charts[element.dataset.chart]};
    element.hidden = false;
    element.closest('figure').hidden = false;
    element.setAttribute('aria-description', words.keys);
    element.addEventListener('keydown', event => walk(place, event));
    element.addEventListener('blur', () => place.instance?.dispatchAction({type: 'hideTip'}));
    places.push(place);
  }
  drawAll();
  places.forEach(p => sizes.observe(p.element));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
  const paper = on => () => {
    printing = on;
    root.classList.toggle('printing', on);
    drawAll();
  };
  addEventListener('beforeprint', paper(true));
  addEventListener('afterprint', paper(false));
})();
