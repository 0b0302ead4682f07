// The slip to publish with. The payload leaves as it was typed: it is checked, never rebuilt.

import { useState } from "../vendor/preact-hooks.js";
import { Notice, Stamp, Trouble, html, useSignal } from "../lib/ui.js";
import { FrameError } from "../lib/socket.js";
import * as format from "../lib/format.js";
import { fault, oneLine } from "../lib/json.js";
import { recordHash } from "../lib/place.js";

const REPLIES_SHOWN = 4;

/** Header lines `name: value` as an object; the first line that is none is refused in words. */
function headersOf(text) {
  const headers = {};
  for (const line of text.split("\n").filter((one) => one.trim() !== "")) {
    const colon = line.indexOf(":");
    if (colon < 1) throw new Error(`“${line.trim()}” is not of the form name: value.`);
    headers[line.slice(0, colon).trim()] = line.slice(colon + 1).trim();
  }
  return headers;
}

function frameOf(topic, form) {
  const fields = { type: "publish", topic: topic.name, ack: form.ack };
  if (form.key !== "") fields.key = form.key;
  if (form.partition !== "") fields.partition = Number(form.partition);
  const headers = headersOf(form.headers);
  if (Object.keys(headers).length > 0) fields.headers = headers;
  return { fields, raw: { payload: oneLine(form.payload) } };
}

/** Sends what the form says, `form.copies` times; resolves to one line for the list of replies. */
async function send(connection, topic, form) {
  const copies = Math.min(1000, Math.max(1, Number(form.copies) || 1));
  const frame = frameOf(topic, form);
  const begun = performance.now();
  if (form.ack === "none") {
    connection.sendAll(Array.from({ length: copies }, () => frame));
    return { copies, ms: null, reply: null, key: begun };
  }
  const replies = await connection.requestAll(Array.from({ length: copies }, () => frame));
  const ms = performance.now() - begun;
  const refusal = replies.find((reply) => reply instanceof FrameError);
  if (refusal) throw refusal;
  return { copies, ms, reply: replies.at(-1), key: begun };
}

export function Publish({ connection, topic, go }) {
  const { phase } = useSignal(connection.state);
  const [form, setForm] = useState({ key: "", partition: "", headers: "", payload: '{"total": 12.50}', ack: "durable", copies: "1" });
  const [error, setError] = useState(null);
  const [sent, setSent] = useState([]);
  const set = (field) => (event) => setForm((now) => ({ ...now, [field]: event.target.value }));
  const wrong = fault(form.payload);
  const submit = async (event) => {
    event?.preventDefault();
    setError(null);
    if (wrong) return;
    try {
      const one = await send(connection, topic, form);
      setSent((now) => [one, ...now].slice(0, REPLIES_SHOWN));
    } catch (refusal) {
      setError(refusal);
    }
  };
  const keys = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
    if (event.key === "Escape") event.target.blur();
  };
  return html`
    <${Notice} title="Publish" className="publish">
      <form onSubmit=${submit} onKeyDown=${keys}>
        <div class="fields">
          <label class="field grow">Key <input class="mono" name="key" value=${form.key} onInput=${set("key")} placeholder="none" autocomplete="off" autocapitalize="off" spellcheck=${false} /></label>
          <label class="field narrow">Partition <select name="partition" value=${form.partition} onChange=${set("partition")}>
            <option value="">${form.key === "" ? "in turn" : "by key"}</option>
            ${topic.partitions.map((one) => html`<option key=${one.partition} value=${one.partition}>p${one.partition}</option>`)}</select></label>
        </div>
        <label class="field">Payload, JSON
          <textarea id="publish-payload" name="payload" class="mono" rows="4" spellcheck=${false} value=${form.payload} onInput=${set("payload")}
            aria-invalid=${wrong !== null} aria-describedby="payload-fault"></textarea>
          <small id="payload-fault" class=${wrong ? "bad" : ""}>${wrong ?? "Goes out byte for byte, numbers too."}
            ${wrong && form.payload.trim() !== "" ? html` <button type="button" class="link-like" onClick=${() => setForm((now) => ({ ...now, payload: JSON.stringify(now.payload) }))}>Make it a string</button>` : null}</small>
        </label>
        <details class="more"><summary>Headers${form.headers.trim() ? " ·" : ""}</summary>
          <label class="field">One a line, name: value
            <textarea class="mono" name="headers" rows="2" spellcheck=${false} value=${form.headers} onInput=${set("headers")}></textarea></label>
        </details>
        <div class="fields send">
          <label class="field">Ack <select name="ack" value=${form.ack} onChange=${set("ack")}>
            <option>durable</option><option>accepted</option><option>none</option></select></label>
          <label class="field narrow">Copies <input type="number" name="copies" min="1" max="1000" value=${form.copies} onInput=${set("copies")} /></label>
          <button class="primary" disabled=${wrong !== null || phase !== "open"} title="Ctrl Enter">Publish</button>
        </div>
      </form>
      <${Trouble} error=${error} />
      <ul class="replies" aria-live="polite">${sent.map((one) => html`<${Reply} key=${one.key} one=${one} topic=${topic} go=${go} />`)}</ul>
    </${Notice}>`;
}

function Reply({ one, topic, go }) {
  if (one.reply === null) return html`<li>${one.copies === 1 ? "Sent" : `${format.count(one.copies)} sent`}, no reply was asked for.</li>`;
  const { partition, offset, durability } = one.reply;
  const isStored = typeof offset === "number";
  return html`
    <li>
      ${isStored ? html`<button type="button" class="link-like mono" onClick=${() => go(recordHash(topic.name, one.reply))}>p${partition} @${format.count(offset)}</button>` : "taken"}
      ${one.copies > 1 ? html` <span class="faint">last of ${format.count(one.copies)}</span>` : null}
      <${Stamp} durability=${durability} />
      <span class="figure faint">${one.ms < 10 ? one.ms.toFixed(1) : Math.round(one.ms)} ms</span>
    </li>`;
}
