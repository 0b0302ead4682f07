// The frame around the moving picture: its canvas, its legend, and its words for those who do not see it.

import { useEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { Notice, html, useSignal } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { Flow } from "../lib/flow.js";
import { theme } from "../lib/theme.js";

const isStill = matchMedia("(prefers-reduced-motion: reduce)");

export function Picture({ feed, stage, topic, onPick }) {
  const canvas = useRef(null);
  const pick = useRef(onPick);
  pick.current = onPick;
  const [perDot, setPerDot] = useState(1);
  const shown = useSignal(theme);
  useSignal(feed.version);
  useEffect(() => {
    const flow = new Flow(canvas.current, { onPick: (record) => pick.current(record), onScale: setPerDot });
    flow.setPartitions(topic.partitions);
    stage.flow = flow;
    return () => {
      stage.flow = null;
      flow.stop();
    };
  }, []);
  useEffect(() => stage.flow.setPartitions(topic.partitions), [topic]);
  useEffect(() => stage.flow.setColours(), [shown]);
  const words = `Records travelling into ${topic.partitions.length} partitions, ${format.rate(topic.measured.records)} a second.`;
  return html`
    <${Notice} title="Live flow" className="picture" aside=${html`<${Legend} perDot=${perDot} feed=${feed} />`}>
      <div class="stage"><canvas ref=${canvas} id="flow" role="img" aria-label=${words}></canvas></div>
      <${State} feed=${feed} />
    </${Notice}>`;
}

function Legend({ perDot, feed }) {
  return html`
    <p class="legend">
      <span class="legend-dot" aria-hidden="true"></span>
      <span>${isStill.matches ? "one cell, one second" : perDot === 1 ? "one dot, one record" : `one dot, up to ${format.count(perDot)} records`}</span>
      ${isStill.matches ? null : html`<span>colour: key</span>`}
      <span id="received"><b>${format.count(feed.received)}</b> seen</span>
      ${feed.skipped > 0 ? html`<span id="skipped" title="They came faster than this page reads, or while it was hidden. Subscribers without overflow skip get them all.">
        <b>${format.count(feed.skipped)}</b> skipped for this page</span>` : null}
    </p>`;
}

const WORDS = {
  starting: "Subscribing…",
  waiting: "The connection is away. The picture goes on where it stopped.",
  ended: "This topic was deleted.",
};

function State({ feed }) {
  const state = useSignal(feed.state);
  if (state.phase === "live" && !state.hasGap) return null;
  if (state.phase === "live") return html`<p class="stage-note">Records were lost or removed while the page was away; it goes on from what is kept.</p>`;
  return html`<p class="stage-note" role="status">${state.phase === "refused" ? state.error.message : WORDS[state.phase]}</p>`;
}
