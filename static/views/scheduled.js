// What a topic has to deliver later: first due first, with the time that is left, and the way to call it off.

import { useRef, useState } from "../vendor/preact-hooks.js";
import { Notice, Trouble, html, say, useTick } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { elements, members, plainString, record as recordOf } from "../lib/json.js";
import { usePolled } from "../lib/poll.js";
import { Key } from "./records.js";

const POLL_MS = 1500;
const ROWS_MAX = 50;
const PREVIEW_CHARS = 200;
/** What is due within this time counts down in tenths of a second. */
const SOON_MS = 60000;

async function read(name) {
  const answer = members(await api.readScheduled(name, ROWS_MAX));
  const list = elements(answer.get("scheduled") ?? "[]").map((text) => {
    const fields = members(text);
    return { ...recordOf(fields), id: plainString(fields.get("id")), dueAt: Number(fields.get("deliver_at")) };
  });
  return { list, total: Number(answer.get("total") ?? list.length) };
}

/** What is scheduled for a topic, asked for while the component lives: `{value: {list, total}, error, askAgain}`. */
export const useScheduled = (name) => usePolled(() => read(name), name, POLL_MS);

/** The number of them in the topic's head; pressing it leads to them. */
export function ScheduledSum({ scheduled }) {
  const total = scheduled.value?.total ?? 0;
  if (total === 0) return null;
  const lead = () => document.querySelector("#scheduled")?.scrollIntoView({ block: "center" });
  return html`<span><button type="button" class="link-like on-head" onClick=${lead}><b id="scheduled-sum">${format.count(total)}</b> scheduled</button></span>`;
}

/** Nothing while nothing is scheduled, and was not since the page was opened. */
export function Scheduled({ topic, scheduled }) {
  const [error, setError] = useState(null);
  const wasUsed = useRef(false);
  const { value, askAgain } = scheduled;
  if (value !== null && value.total > 0) wasUsed.current = true;
  if (!wasUsed.current) return null;
  const cancel = async (one) => {
    setError(null);
    try {
      await api.cancelScheduled(topic.name, one.id);
      say("Called off. It will not be delivered.");
    } catch (problem) {
      if (problem.status === 404) say("Too late: it is not scheduled any more.", "bad");
      else setError(problem);
    }
    askAgain();
  };
  return html`
    <${Notice} title="Scheduled" id="scheduled" className="flush" aside=${html`<span class="faint">${format.plural(value.total, "record")}</span>`}>
      <${Trouble} error=${error ?? scheduled.error} />
      ${value.total === 0 ? html`<p class="nothing">Everything that was due has been delivered.</p>` : html`<${Table} list=${value.list} onCancel=${cancel} />`}
      ${value.total > value.list.length ? html`<p class="nothing">The first ${format.count(value.list.length)} of ${format.count(value.total)} are shown.</p>` : null}
    </${Notice}>`;
}

function Table({ list, onCancel }) {
  const first = list[0]?.dueAt ?? Infinity;
  useTick(first - Date.now() < SOON_MS ? 100 : 1000);
  const now = Date.now();
  return html`
    <div class="scroll-x" tabindex="0" role="group" aria-label="Scheduled records">
    <table class="scheduled">
      <thead><tr>
        <th scope="col">Due in</th><th scope="col">At</th><th scope="col">Key</th><th scope="col">Payload</th><th scope="col"><span class="unseen">Call off</span></th>
      </tr></thead>
      <tbody>${list.map((one) => html`<${Row} key=${one.id} one=${one} now=${now} onCancel=${onCancel} />`)}</tbody>
    </table>
    </div>`;
}

function Row({ one, now, onCancel }) {
  const left = one.dueAt - now;
  const text = one.base64 === null ? (one.payload ?? "") : `binary, ${format.bytes(Math.floor((one.base64.length * 3) / 4))}`;
  return html`
    <tr data-scheduled=${one.id}>
      <td data-label="Due in" class=${`due ${left < 10000 ? "soon" : ""}`}>${left <= 0 ? "now" : format.countdown(left)}</td>
      <td data-label="At" class="when" title=${format.moment(one.dueAt)}>${format.day(one.dueAt, now)}</td>
      <td data-label="Key"><${Key} value=${one.key} /></td>
      <td data-label="Payload" class="letter-payload mono">${text.slice(0, PREVIEW_CHARS)}</td>
      <td class="row-end"><button type="button" class="quiet small" aria-label=${`Call off ${one.id}`} onClick=${() => onCancel(one)}>Call off</button></td>
    </tr>`;
}
