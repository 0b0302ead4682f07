// One record, opened: where it is, when it came, and its payload exactly as it was published.

import { useEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { CopyButton, Notice, html } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { headerPairs, pretty } from "../lib/json.js";
import { Key } from "./records.js";
import { recordHash } from "../lib/place.js";

const HEX_BYTES_MAX = 4096;

export function OpenRecord({ topic, opened, go }) {
  const { record, error, close } = opened;
  const place = useRef(null);
  useEffect(() => {
    // Only a record that opened out of sight is brought into it: what is being read must not move.
    const { top } = place.current.getBoundingClientRect();
    if (top < 0 || top > innerHeight - 120) place.current.scrollIntoView({ block: "nearest" });
  }, [record]);
  const title = record ? `Record ${record.offset === null ? "live" : format.count(record.offset)}` : "Record";
  return html`
    <div class="opened-record" ref=${place} id="opened-record">
      <${Notice} title=${title} id="record-title" aside=${html`<${Leaf} topic=${topic} record=${record} go=${go} close=${close} />`}>
        ${error ? html`<p class="trouble" role="alert">${error.message}</p>` : html`<${Facts} record=${record} />`}
      </${Notice}>
    </div>`;
}

function Leaf({ topic, record, go, close }) {
  const to = (by) => go(recordHash(topic.name, { partition: record.partition, offset: record.offset + by }), true);
  const own = record && topic.partitions.find((one) => one.partition === record.partition);
  const canLeaf = record !== null && record.offset !== null && own;
  return html`
    <div class="tools">
      ${canLeaf ? html`
        <button type="button" class="quiet small" disabled=${record.offset <= own.first_offset} onClick=${() => to(-1)} aria-label="The record before, in this partition">←</button>
        <button type="button" class="quiet small" disabled=${record.offset + 1 >= own.next_offset} onClick=${() => to(1)} aria-label="The record after, in this partition">→</button>` : null}
      <button type="button" class="small" onClick=${close}>Close</button>
    </div>`;
}

function Facts({ record }) {
  const headers = headerPairs(record);
  return html`
    <dl class="facts">
      <div><dt>Partition</dt><dd>p${record.partition}</dd></div>
      <div><dt>Offset</dt><dd>${record.offset === null ? "none: it was never stored" : format.count(record.offset)}</dd></div>
      <div class="wide"><dt>Time</dt><dd>${format.moment(record.timestamp)} <span class="faint">${record.timestamp}</span></dd></div>
      <div class="wide"><dt>Key</dt><dd><${Key} value=${record.key} /></dd></div>
      ${headers.length > 0 ? html`<div class="wide"><dt>Headers</dt><dd><dl class="headers">
        ${headers.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl></dd></div>` : null}
    </dl>
    ${record.base64 === null ? html`<${Payload} text=${record.payload ?? ""} />` : html`<${Binary} base64=${record.base64} />`}`;
}

function Payload({ text }) {
  const [isRaw, setRaw] = useState(false);
  return html`
    <div class="payload-head">
      <h3>Payload</h3> <span class="faint">${format.bytes(new TextEncoder().encode(text).length)}</span>
      <div class="tools">
        <button type="button" class="quiet small" aria-pressed=${isRaw} onClick=${() => setRaw(!isRaw)}>${isRaw ? "Indented" : "As sent"}</button>
        <${CopyButton} text=${text} what="payload as sent" />
      </div>
    </div>
    <pre class="payload" id="payload" tabindex="0">${isRaw ? text : html`<${Pretty} text=${text} />`}</pre>`;
}

function Pretty({ text }) {
  const { lines, cut } = pretty(text);
  return html`${lines.map((line) => html`<span class="line">${"  ".repeat(line.depth)}${line.tokens.map((token) => html`<span class=${`t-${token.kind}`}>${token.text}</span>${token.kind === "colon" ? " " : ""}`)}${"\n"}</span>`)}
    ${cut ? "… cut here; “As sent” shows all of it." : ""}`;
}

function Binary({ base64 }) {
  const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, HEX_BYTES_MAX); at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    const text = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${hex}  ${text}`);
  }
  return html`
    <div class="payload-head"><h3>Payload, binary</h3> <span class="faint">${format.bytes(bytes.length)}</span>
      <div class="tools"><${CopyButton} text=${base64} label="Copy Base64" /></div></div>
    <pre class="payload" tabindex="0">${lines.join("\n")}${bytes.length > HEX_BYTES_MAX ? "\n…" : ""}</pre>`;
}
