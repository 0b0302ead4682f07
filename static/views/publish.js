// The slip to publish with: to one topic, or through an exchange to all that match; now, or later.

import { useState } from "../vendor/preact-hooks.js";
import { Notice, Stamp, Trouble, html, useSignal } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { fault } from "../lib/json.js";
import { recordHash } from "../lib/place.js";
import { usePolled } from "../lib/poll.js";
import { DELAYS, placesOf, send } from "../lib/publish.js";

const REPLIES_SHOWN = 4;
const PLACES_SHOWN = 6;
const EXCHANGES_MS = 15000;

const EMPTY = {
  exchange: "", routingKey: "", key: "", partition: "", headers: "", messageId: "", ttl: "", payload: '{"total": 12.50}', ack: "durable", copies: "1",
  when: "now", amount: "10", unit: "seconds", at: "",
};

/** `topic` as listed, with a choice of exchanges beside it; or null, and then everything goes through `exchange`. `onSent` is told after each reply. */
export function Publish({ connection, topic, exchange = "", go, onSent }) {
  const { phase } = useSignal(connection.state);
  const [form, setForm] = useState({ ...EMPTY, exchange });
  const [error, setError] = useState(null);
  const [sent, setSent] = useState([]);
  const set = (field) => (event) => setForm((now) => ({ ...now, [field]: event.target.value }));
  const wrong = fault(form.payload);
  const submit = async (event) => {
    event?.preventDefault();
    setError(null);
    if (wrong) return;
    try {
      const one = await send(connection, topic?.name, form);
      setSent((now) => [one, ...now].slice(0, REPLIES_SHOWN));
      onSent?.();
    } catch (refusal) {
      setError(refusal);
    }
  };
  const keys = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
    if (event.key === "Escape") event.target.blur();
  };
  const isRouted = form.exchange !== "";
  return html`
    <${Notice} title=${topic === null ? `Publish through ${exchange}` : "Publish"} id="publish-title" className="publish">
      <form onSubmit=${submit} onKeyDown=${keys}>
        ${topic === null ? html`<${RoutingKey} form=${form} set=${set} />` : html`<${Through} form=${form} set=${set} />`}
        <div class="fields">
          <label class="field grow">Key <input class="mono" name="key" value=${form.key} onInput=${set("key")} placeholder="none" autocomplete="off" autocapitalize="off" spellcheck=${false} /></label>
          ${isRouted ? null : html`<label class="field narrow">Partition <select name="partition" value=${form.partition} onChange=${set("partition")}>
            <option value="">${form.key === "" ? "in turn" : "by key"}</option>
            ${topic.partitions.map((one) => html`<option key=${one.partition} value=${one.partition}>p${one.partition}</option>`)}</select></label>`}
        </div>
        <label class="field">Payload, JSON
          <textarea id="publish-payload" name="payload" class="mono" rows="4" spellcheck=${false} value=${form.payload} onInput=${set("payload")}
            aria-invalid=${wrong !== null} aria-describedby="payload-fault"></textarea>
          <small id="payload-fault" class=${wrong ? "bad" : ""}>${wrong ?? "Goes out byte for byte, numbers too."}
            ${wrong && form.payload.trim() !== "" ? html` <button type="button" class="link-like" onClick=${() => setForm((now) => ({ ...now, payload: JSON.stringify(now.payload) }))}>Make it a string</button>` : null}</small>
        </label>
        <${When} form=${form} set=${set} />
        <details class="more"><summary>Headers${form.headers.trim() ? " ·" : ""}</summary>
          <label class="field">One a line, name: value
            <textarea class="mono" name="headers" rows="2" spellcheck=${false} value=${form.headers} onInput=${set("headers")}></textarea></label>
        </details>
        <details class="more"><summary>More${form.messageId || form.ttl ? " ·" : ""}</summary>
          <div class="fields">
            <label class="field grow">Message id <input class="mono" name="message_id" value=${form.messageId} onInput=${set("messageId")} autocomplete="off" autocapitalize="off" spellcheck=${false} />
              <small>A repeat stores nothing.</small></label>
            <label class="field">Lives for (ms) <input type="number" name="ttl" min="0" placeholder="no end" value=${form.ttl} onInput=${set("ttl")} />
              <small>0 is never stored.</small></label>
          </div>
        </details>
        <div class="fields send">
          <label class="field">Ack <select name="ack" value=${form.ack} onChange=${set("ack")}>
            <option>durable</option><option>accepted</option><option>none</option></select></label>
          <label class="field narrow">Copies <input type="number" name="copies" min="1" max="1000" value=${form.copies} onInput=${set("copies")} /></label>
          <button class="primary" disabled=${wrong !== null || phase !== "open"} title="Ctrl Enter">${form.when === "now" ? "Publish" : "Schedule"}</button>
        </div>
      </form>
      <${Trouble} error=${error} />
      <ul class="replies" aria-live="polite">${sent.map((one) => html`<${Reply} key=${one.key} one=${one} topic=${topic} go=${go} />`)}</ul>
    </${Notice}>`;
}

const RoutingKey = ({ form, set }) => html`
  <label class="field">Routing key
    <input class="mono" name="routing_key" value=${form.routingKey} onInput=${set("routingKey")} placeholder="plant.boiler.temp" autocomplete="off" autocapitalize="off" spellcheck=${false} /></label>`;

/** The choice between this topic and an exchange, where there is one. */
function Through({ form, set }) {
  const { value: exchanges } = usePolled(api.listExchanges, "exchanges", EXCHANGES_MS);
  if (!exchanges || exchanges.length === 0) return null;
  return html`
    <div class="fields">
      <label class="field">To
        <select name="exchange" value=${form.exchange} onChange=${set("exchange")}>
          <option value="">this topic</option>
          ${exchanges.map((one) => html`<option key=${one.name} value=${one.name}>exchange ${one.name}</option>`)}</select></label>
      ${form.exchange === "" ? null : html`<${RoutingKey} form=${form} set=${set} />`}
    </div>`;
}

function When({ form, set }) {
  return html`
    <div class="fields when-fields">
      <label class="field">Deliver
        <select name="when" value=${form.when} onChange=${set("when")}>
          <option value="now">now</option><option value="after">after</option><option value="at">at</option></select></label>
      ${form.when !== "after" ? null : html`
        <label class="field narrow">How many <input type="number" name="amount" min="0" step="any" value=${form.amount} onInput=${set("amount")} /></label>
        <label class="field narrow">Of <select name="unit" value=${form.unit} onChange=${set("unit")}>
          ${DELAYS.map(([unit]) => html`<option key=${unit}>${unit}</option>`)}</select></label>`}
      ${form.when !== "at" ? null : html`
        <label class="field grow">Date and time, as on this clock <input type="datetime-local" name="at" step="1" required value=${form.at} onInput=${set("at")} /></label>`}
    </div>`;
}

function Reply({ one, topic, go }) {
  if (one.reply === null) return html`<li>${one.copies === 1 ? "Sent" : `${format.count(one.copies)} sent`}, no reply was asked for.</li>`;
  const places = placesOf(one.reply, topic?.name);
  const isHere = places.length === 1 && places[0].topic === topic?.name;
  return html`
    <li>
      ${places.slice(0, PLACES_SHOWN).map((place) => html`<${Place} key=${place.topic} place=${place} isHere=${isHere} go=${go} />`)}
      ${places.length > PLACES_SHOWN ? html`<span class="faint">and ${format.count(places.length - PLACES_SHOWN)} more</span>` : null}
      ${one.copies > 1 ? html` <span class="faint">last of ${format.count(one.copies)}</span>` : null}
      <${Stamp} durability=${one.reply.durability} />
      <span class="figure faint">${one.ms < 10 ? one.ms.toFixed(1) : Math.round(one.ms)} ms</span>
    </li>`;
}

function Place({ place, isHere, go }) {
  const { topic, partition, offset, scheduled } = place;
  const name = isHere ? "" : `${topic} `;
  if (scheduled !== undefined) return html`<span>${name}due <b>${format.clock(place.deliver_at).slice(0, 8)}</b> <code class="faint">${scheduled}</code></span>`;
  if (typeof offset !== "number") return html`<span>${name}taken</span>`;
  return html`
    <button type="button" class="link-like mono" onClick=${() => go(recordHash(topic, place))}>${name}p${partition} @${format.count(offset)}</button>
    ${place.duplicate ? html`<span class="tag" title="Its message id was there before, so nothing was stored">seen before</span>` : null}`;
}
