// How much came in over the last minutes.

import uPlot from "../vendor/uplot.js";
import { useEffect, useRef } from "../vendor/preact-hooks.js";
import { Notice, Rate, html, useSignal } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { history } from "../lib/topics.js";
import { theme } from "../lib/theme.js";

const HEIGHT = 118;
/** Steps of an axis of records: whole ones. */
export const RECORD_STEPS = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();
/** Steps of an axis of bytes: powers of two, so that its labels are round. */
const BYTE_STEPS = Array.from({ length: 42 }, (_, power) => 2 ** power);

function options(style, width, { of, show, steps, least }) {
  const colour = (name) => style.getPropertyValue(name).trim();
  const font = `11px ${colour("--mono")}`;
  const axis = { stroke: colour("--faint"), font, grid: { stroke: colour("--rule"), width: 1 }, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    padding: [8, 20, 0, 0],
    cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
    legend: { show: false },
    scales: { x: { time: true }, y: { range: (_, __, top) => [0, Math.max(least, top * 1.1)] } },
    axes: [
      { ...axis, size: 22, gap: 2, space: 70, grid: { show: false }, values: (_, times) => times.map((at) => format.clock(at * 1000).slice(0, 8)) },
      { ...axis, size: 52, gap: 4, space: 28, incrs: steps, values: (_, values) => values.map(show) },
    ],
    series: [{}, { stroke: colour(of), width: 1.5, fill: colour(`${of}-wash`), points: { show: false } }],
  };
}

export function Chart({ label, points, value, of, show, steps, least }) {
  const place = useRef(null);
  const plot = useRef(null);
  const shown = useSignal(theme);
  useEffect(() => {
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(getComputedStyle(place.current), place.current.clientWidth, { of, show, steps, least }), [[], []], place.current);
    };
    make();
    const observer = new ResizeObserver(([entry]) => plot.current?.setSize({ width: Math.floor(entry.contentRect.width), height: HEIGHT }));
    observer.observe(place.current);
    return () => {
      observer.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [shown]);
  const last = points.at(-1)?.at ?? Date.now();
  useEffect(() => {
    // The scale covers at least a minute, so that the first points do not stretch over the whole width.
    const times = points.map((point) => point.at / 1000);
    const first = Math.min(times[0] ?? last / 1000, last / 1000 - 60);
    if (times.length === 0) plot.current?.setData([[first, last / 1000], [null, null]]);
    else plot.current?.setData([[first, ...times], [null, ...points.map(value)]]);
  }, [last, shown]);
  return html`<div class="chart" ref=${place} role="img" aria-label=${label}></div>`;
}

export function Rates({ topic }) {
  const points = history(topic);
  return html`
    <${Notice} title="Rates" className="rates">
      <p class="chart-head"><span>Records in</span> <${Rate} value=${topic.measured.records} /></p>
      <${Chart} label="Records a second over the last minutes" points=${points} value=${(point) => point.records} of="--chart-a" show=${format.short} steps=${RECORD_STEPS} least=${4} />
      <p class="chart-head"><span>Bytes in</span> <span class="figure">${topic.measured.bytes === null ? "–" : format.bytes(Math.round(topic.measured.bytes))}<span class="unit">/s</span></span></p>
      <${Chart} label="Bytes a second over the last minutes" points=${points} value=${(point) => point.bytes} of="--chart-b" show=${(value) => format.bytes(Math.round(value))} steps=${BYTE_STEPS} least=${256} />
    </${Notice}>`;
}
