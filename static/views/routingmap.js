// The picture of routing: exchanges on the left, topics on the right, and a wire for what is bound, as broad and as lively as what goes through it.

import { useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact-hooks.js";
import { Notice, Rate, html } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { layOut } from "../lib/layout.js";
import { topicHash } from "../lib/place.js";
import { MORE_ID, exchangeId, levelOf, topicId, wiring } from "../lib/routing.js";

/** Boxes drawn; further exchanges are named below, further topics stand together in one box. */
const LIMITS = { exchangesMax: 40, topicsMax: 80 };
/** Heights for up to so many topics: of a box, of the room between two, and of a wire where it arrives with its label. */
const SCALES = [
  { topics: 24, box: 34, gap: 12, port: 24 },
  { topics: 44, box: 27, gap: 7, port: 20 },
  { topics: Infinity, box: 23, gap: 4, port: 18 },
];
const LEAVE_PX = 9;
const LETTER_PX = 7.4;
/** Room over the boxes for the names of the sides. */
const TOP_PX = 26;

function useWidth(place) {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    setWidth(place.current.clientWidth);
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  return width;
}

/** Brings what `selector` finds into the window of a picture that is higher than it, unless some of it is there; again when `when` changes. */
function useInSight(place, selector, when) {
  useLayoutEffect(() => {
    const scroller = place.current;
    const found = [...scroller.querySelectorAll(selector)];
    const isSeen = (box) => box.offsetTop >= scroller.scrollTop && box.offsetTop + box.offsetHeight <= scroller.scrollTop + scroller.clientHeight;
    if (found.length > 0 && !found.some(isSeen)) scroller.scrollTop = found[0].offsetTop + found[0].offsetHeight / 2 - scroller.clientHeight / 2;
  }, when);
}

/** The boxes of a wiring: `{id, height, isEnd}`, as tall as the wires that arrive need. */
function boxesOf(plan, scale) {
  const arriving = new Map();
  for (const { to } of plan.wires) arriving.set(to, (arriving.get(to) ?? 0) + 1);
  const box = (id, least, isEnd) => {
    const wires = arriving.get(id) ?? 0;
    return { id, isEnd, height: Math.max(least, wires * scale.port + (wires > 1 ? 8 : 0)) };
  };
  return [
    ...plan.exchanges.map((one) => box(exchangeId(one.name), one.unroutable > 0 ? 70 : 52, false)),
    ...plan.topics.map((name) => box(topicId(name), scale.box, true)),
    ...(plan.isFolded ? [box(MORE_ID, scale.box, true)] : []),
  ];
}

/** Where in the height of a box its wires begin or end, by id of the wire, in the order of their other ends so that they do not cross there. */
function portsOf(plan, layout, end, other, spread) {
  const by = new Map();
  for (const wire of plan.wires) {
    if (!layout.passes.has(wire.id)) continue;
    if (!by.has(wire[end])) by.set(wire[end], []);
    by.get(wire[end]).push(wire);
  }
  const ports = new Map();
  for (const [id, wires] of by) {
    const box = layout.places.get(id);
    const middle = (wire) => {
      const passed = layout.passes.get(wire.id);
      const far = layout.places.get(wire[other]);
      return passed.length > 0 ? passed[end === "to" ? passed.length - 1 : 0].y : far.top + far.height / 2;
    };
    wires.sort((a, b) => middle(a) - middle(b));
    const step = Math.min(spread, (box.height - 10) / wires.length);
    wires.forEach((wire, at) => ports.set(wire.id, box.top + box.height / 2 + (at - (wires.length - 1) / 2) * step));
  }
  return ports;
}

/** Pixels for so much room; the picture is scrolled where they do not fit. */
function measure(width, columns) {
  const isNarrow = width < 560;
  const box = isNarrow ? 112 : columns > 3 ? 165 : 190;
  const least = isNarrow && columns < 3 ? 104 : 140;
  const gap = Math.max(least, Math.min(560, columns < 2 ? 0 : (width - columns * box) / (columns - 1)));
  const whole = columns * box + Math.max(0, columns - 1) * gap;
  const margin = Math.max(0, (width - whole) / 2);
  return { box, gap, left: (column) => margin + column * (box + gap), whole: Math.max(width, whole) };
}

const bend = (x, y, toX, toY) => `C${(x + toX) / 2} ${y} ${(x + toX) / 2} ${toY} ${toX} ${toY}`;

/** The wires with their ways as SVG paths and the places of their labels. */
function ways(plan, layout, size, scale) {
  const leaving = portsOf(plan, layout, "from", "to", LEAVE_PX);
  const arriving = portsOf(plan, layout, "to", "from", scale.port);
  return plan.wires.filter((wire) => layout.passes.has(wire.id)).map((wire) => {
    let x = size.left(layout.places.get(wire.from).column) + size.box;
    let y = leaving.get(wire.id);
    let path = `M${x} ${y}`;
    for (const pass of layout.passes.get(wire.id)) {
      const enter = size.left(pass.column);
      path += `${bend(x, y, enter, pass.y)}H${enter + size.box}`;
      [x, y] = [enter + size.box, pass.y];
    }
    const endX = size.left(layout.places.get(wire.to).column) - 5;
    const endY = arriving.get(wire.id);
    const room = Math.round(size.gap * 0.66);
    // Straight under its label, so that one sees which wire a label is of.
    const straight = wire.label === "" ? 12 : Math.min(room, wire.label.length * LETTER_PX + 24);
    path += `${bend(x, y, endX - straight, endY)}H${endX}`;
    return { ...wire, path, endX, endY, room };
  });
}

/** `near`: of the exchange that is looked at. `lit` and `dim`: what the dry run passes, and what not. */
function lightOf(wire, chosen, lit) {
  if (lit === null) return wire.from === exchangeId(chosen) ? "near" : "";
  if (wire.isAlternate) return lit.tookAlternate && [wire.from, wire.to].every((id) => lit.boxes.has(id)) ? "lit" : "dim";
  const isLit = wire.bindings.length > 0 ? wire.bindings.some((one) => lit.bindings.has(one.id)) : lit.boxes.has(wire.from) && lit.topics.size > 0;
  return isLit ? "lit" : "dim";
}

/** `children` stands between the heading and the picture. */
export function RoutingMap({ exchanges, chosen, lit, tookAlternate, onChoose, children }) {
  const place = useRef(null);
  const width = useWidth(place);
  const plan = useMemo(() => wiring(exchanges, chosen, LIMITS), [exchanges, chosen]);
  const scale = SCALES.find((one) => plan.topics.length <= one.topics);
  const boxes = boxesOf(plan, scale);
  const shape = JSON.stringify([boxes, plan.wires.map((one) => one.id)]);
  const layout = useMemo(() => layOut(boxes, plan.wires, { gap: scale.gap, lane: scale.port }), [shape]);
  const size = measure(width, layout.columns);
  const light = lit && { ...lit, tookAlternate, boxes: new Set([...lit.exchanges].map(exchangeId)) };
  const drawn = ways(plan, layout, size, scale).map((wire) => ({ ...wire, light: lightOf(wire, chosen, light), level: levelOf(wire.rate) }));
  const at = (id) => {
    const box = layout.places.get(id);
    return { left: `${size.left(box.column)}px`, top: `${box.top + TOP_PX}px`, width: `${size.box}px`, height: `${box.height}px` };
  };
  useInSight(place, '[aria-pressed="true"]', [chosen, shape, width > 0]);
  useInSight(place, ".box-topic.lit", [lit && [...lit.topics].join()]);
  const shade = (isLit) => (light === null ? "" : isLit ? "lit" : "dim");
  return html`
    <${Notice} title="Where publishes go" className="picture routing-map" aside=${html`<${Legend} plan=${plan} />`}>
      ${children}
      <div class="wires-scroll" ref=${place} tabindex="0" role="group" aria-label="Picture of exchanges, bindings and topics">
        <div class=${`wires ${scale.box < 30 ? "dense" : ""}`} id="wires" style=${{ height: `${layout.height + TOP_PX + 6}px`, width: `${size.whole}px` }}>
          ${width === 0 ? null : html`
            <span class="wires-side" style=${{ left: `${size.left(0)}px` }}>Exchanges</span><span class="wires-side" style=${{ left: `${size.left(layout.columns - 1)}px` }}>${plan.topics.length > 0 || plan.isFolded ? "Topics" : ""}</span>
            <svg width=${size.whole} height=${layout.height + TOP_PX + 6} role="img" aria-label=${words(plan)}>
              <g transform=${`translate(0 ${TOP_PX})`}>${drawn.map((wire) => html`<${Wire} key=${wire.id} wire=${wire} />`)}</g>
            </svg>
            ${drawn.map((wire) => html`<${Label} key=${wire.id} wire=${wire} />`)}
            ${plan.exchanges.map((one) => html`<${ExchangeBox} key=${one.name} one=${one} isChosen=${one.name === chosen} shade=${shade(light?.boxes.has(exchangeId(one.name)))}
              style=${at(exchangeId(one.name))} onChoose=${onChoose} />`)}
            ${plan.topics.map((name) => html`<${TopicBox} key=${name} name=${name} shade=${shade(light?.topics.has(name))} style=${at(topicId(name))} wires=${plan.wires} />`)}
            ${plan.isFolded ? html`<span class=${`box box-more ${shade(drawn.some((wire) => wire.to === MORE_ID && wire.light === "lit"))}`} style=${at(MORE_ID)}>${
              plan.hidden > 0 ? `${format.count(plan.hidden)} more topics` : "too many to draw"}</span>` : null}`}
        </div>
      </div>
      ${plan.left.length === 0 ? null : html`<p class="stage-note">Not drawn: ${plan.left.slice(0, 60).map((one) => html`<button type="button" class="link-like" key=${one.name}
        onClick=${() => onChoose(one.name)}>${one.name}</button> `)}${plan.left.length > 60 ? `and ${format.count(plan.left.length - 60)} more` : ""}</p>`}
    </${Notice}>`;
}

/** The picture in words. */
function words(plan) {
  const said = plan.wires.slice(0, 30).map(({ from, to, label }) => `${from} to ${to}${label === "" ? "" : `, ${label}`}`);
  return `${format.plural(plan.exchanges.length, "exchange")} and ${format.plural(plan.topics.length, "topic")}. ${said.join("; ")}.`;
}

function Legend({ plan }) {
  const busy = plan.wires.some((one) => one.rate > 0);
  return html`<p class="legend"><span>${busy ? "the broader, the more a second" : "nothing goes through right now"}</span></p>`;
}

function Wire({ wire }) {
  const classes = `wire level-${wire.level} ${wire.light} ${wire.isAlternate ? "alternate" : ""}`;
  return html`
    <g class=${classes} data-from=${wire.from} data-to=${wire.to}>
      <title>${`${wire.from} to ${wire.to}${wire.label === "" ? "" : `: ${wire.label}`}, ${format.rate(wire.rate)}/s`}</title>
      <path class="wire-line" d=${wire.path} />
      ${wire.level > 0 || wire.light === "lit" ? html`<path class="wire-pulse" d=${wire.path} />` : null}
      <path class="wire-tip" d=${`M${wire.endX - 4} ${wire.endY - 4.5}L${wire.endX + 4} ${wire.endY}L${wire.endX - 4} ${wire.endY + 4.5}Z`} />
    </g>`;
}

function Label({ wire }) {
  if (wire.label === "") return null;
  const title = [...wire.keys.slice(0, 30).map((key) => key || "(empty key)"), ...(wire.keys.length > 30 ? [`and ${wire.keys.length - 30} more`] : [])].join("\n");
  return html`<span class=${`wire-label ${wire.light} ${wire.bindings.length > 1 ? "bundle" : ""}`} aria-hidden="true" title=${title || null}
    style=${{ top: `${wire.endY + TOP_PX}px`, left: `${wire.endX - 9}px`, maxWidth: `${wire.room}px` }}>${wire.label}</span>`;
}

function ExchangeBox({ one, isChosen, shade, style, onChoose }) {
  return html`
    <button type="button" class=${`box box-exchange ${shade}`} style=${style} aria-pressed=${isChosen} data-exchange=${one.name} title=${one.name} onClick=${() => onChoose(one.name)}>
      <span class="box-name">${one.name}</span>
      <span class="box-facts"><i>${one.type}</i>${one.rates?.publishes_per_s > 0 ? html` <${Rate} value=${one.rates.publishes_per_s} />` : null}</span>
      ${one.unroutable > 0 ? html`<span class="tag tag-bad">${format.short(one.unroutable)} unroutable</span>` : null}
    </button>`;
}

function TopicBox({ name, shade, style, wires }) {
  const through = wires.reduce((total, wire) => (wire.to === topicId(name) ? total + wire.rate : total), 0);
  return html`<a class=${`box box-topic ${shade}`} style=${style} href=${topicHash(name)} data-topic=${name} title=${name}>
    <span class="box-name">${name}</span> ${through > 0 ? html`<span class="box-facts"><${Rate} value=${through} /></span>` : null}</a>`;
}
