// The table of records: live and newest first, or a page of the log in its own order. Only the rows in sight are in the document.

import { useEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { Notice, Trouble, html, useSignal } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { matches } from "../lib/feed.js";
import { LookBack, useLookBack } from "./lookback.js";
import { isSame } from "../lib/place.js";

const ROW_PX = 34;
const VIEW_ROWS = 15;
const PREVIEW_CHARS = 200;

export function Records({ feed, topic, opened, onOpen }) {
  useSignal(feed.version);
  const [filter, setFilter] = useState(feed.filter);
  const back = useLookBack(topic);
  const filterBox = useRef(null);
  const narrow = (change) => {
    const next = { ...filter, ...change };
    setFilter(next);
    feed.narrow(next);
  };
  const toggle = () => (feed.isPaused ? feed.resume() : feed.pause());
  useKeys({
    " ": ["Pause or resume the table", toggle],
    "/": ["Filter the records", () => filterBox.current.focus()],
    j: ["Next record", () => step(1)],
    k: ["Previous record", () => step(-1)],
  });
  const rows = back.page ? back.page.records.filter((record) => matches(record, filter)) : feed.rows.slice().reverse();
  const step = (by) => {
    const at = rows.findIndex((record) => isSame(record, opened));
    const next = rows[at < 0 ? 0 : at + by];
    if (!next) return;
    if (!back.page) feed.pause();
    onOpen(next);
  };
  return html`
    <${Notice} title="Records" className="flush records" aside=${html`<${Tools} ...${{ feed, topic, filter, narrow, toggle, filterBox, isLive: !back.page }} />`}>
      <${LookBack} back=${back} topic=${topic} />
      <${Trouble} error=${back.error} />
      <${Rows} rows=${rows} opened=${opened} onOpen=${onOpen} isLive=${!back.page} feed=${feed} />
      ${rows.length === 0 ? html`<${Nothing} filter=${filter} isLive=${!back.page} />` : null}
    </${Notice}>`;
}

function Nothing({ filter, isLive }) {
  if (filter.text !== "" || filter.partition !== null) return html`<p class="nothing">No record here matches. New ones that do will show up.</p>`;
  return html`<p class="nothing">${isLive ? "No record yet. What is published shows up here at once." : "Nothing is kept there."}</p>`;
}

function Tools({ feed, topic, filter, narrow, toggle, filterBox, isLive }) {
  const held = feed.heldBack;
  return html`
    <div class="tools">
      <input type="search" ref=${filterBox} placeholder="Filter key and payload" aria-label="Filter by text in key, headers or payload"
        value=${filter.text} onInput=${(event) => narrow({ text: event.target.value })} spellcheck=${false} />
      ${topic.partitions.length > 1 ? html`
        <select aria-label="Filter by partition" value=${filter.partition ?? ""}
          onChange=${(event) => narrow({ partition: event.target.value === "" ? null : Number(event.target.value) })}>
          <option value="">all partitions</option>
          ${topic.partitions.map((one) => html`<option key=${one.partition} value=${one.partition}>p${one.partition}</option>`)}
        </select>` : null}
      ${isLive ? html`
        <button type="button" id="pause" class=${feed.isPaused ? "primary" : ""} aria-pressed=${feed.isPaused} onClick=${toggle}>
          ${feed.isPaused ? `Resume${held > 0 ? ` · ${format.count(held)} new` : ""}` : "Pause"}
        </button>` : null}
    </div>`;
}

function Rows({ rows, opened, onOpen, isLive, feed }) {
  const scroller = useRef(null);
  const [top, setTop] = useState(0);
  const isPaused = feed.isPaused;
  useEffect(() => {
    // Back to live means back to the newest.
    if (isLive && !isPaused) scroller.current.scrollTop = 0;
  }, [isLive, isPaused]);
  const scrolled = () => {
    const now = scroller.current.scrollTop;
    // Who scrolls down reads: rows must not slide away under them.
    if (isLive && now > ROW_PX / 2 && !feed.isPaused) feed.pause();
    setTop(now);
  };
  const first = Math.max(0, Math.min(Math.floor(top / ROW_PX) - 4, rows.length - VIEW_ROWS));
  const shown = rows.slice(first, first + VIEW_ROWS + 8);
  const below = rows.length - first - shown.length;
  const hold = () => isLive && feed.pause();
  return html`
    <div class="rows" ref=${scroller} onScroll=${scrolled} tabindex="-1">
      <table class="log" aria-rowcount=${rows.length} onKeyDown=${moveFocus}>
        <thead><tr>
          <th scope="col" class="c-place">Record</th><th scope="col" class="c-time">Time</th><th scope="col" class="c-key">Key</th><th scope="col">Payload</th>
        </tr></thead>
        <tbody>
          <${Spacer} rows=${first} />
          ${shown.map((record, index) => html`
            <${Row} key=${`${record.partition}:${record.offset ?? `live-${rows.length - first - index}`}`} record=${record}
              isOpened=${isSame(record, opened)} onOpen=${onOpen} onFocus=${hold} isEntry=${index === 0} />`)}
          <${Spacer} rows=${below} />
        </tbody>
      </table>
    </div>`;
}

function Spacer({ rows }) {
  return rows > 0 ? html`<tr aria-hidden="true" class="spacer"><td colspan="4" style=${{ height: `${rows * ROW_PX}px` }}></td></tr>` : null;
}

function moveFocus(event) {
  const row = event.target.closest("tr");
  const next = event.key === "ArrowDown" ? row.nextElementSibling : event.key === "ArrowUp" ? row.previousElementSibling : null;
  if (!next) return;
  event.preventDefault();
  if (next.tabIndex >= -1 && !next.classList.contains("spacer")) next.focus();
}

/** A key with its colour in the picture. */
export const Key = ({ value }) => (value === null
  ? html`<span class="no-key">no key</span>`
  : html`<span class=${`key key-${format.hue(value)}`}>${value}</span>`);

function Row({ record, isOpened, onOpen, onFocus, isEntry }) {
  const text = record.base64 === null ? (record.payload ?? "") : `binary, ${format.bytes(Math.floor((record.base64.length * 3) / 4))}`;
  const press = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    onOpen(record);
  };
  return html`
    <tr class=${isOpened ? "opened" : ""} tabindex=${isEntry || isOpened ? 0 : -1} aria-selected=${isOpened}
      aria-label=${`Record ${record.offset ?? "live"} of partition ${record.partition}; Enter opens it`}
      onClick=${() => onOpen(record)} onKeyDown=${press} onFocus=${onFocus}>
      <td class="c-place"><span class="part">p${record.partition}</span>${record.offset === null ? "live" : format.count(record.offset)}</td>
      <td class="c-time">${format.clock(record.timestamp)}</td>
      <td class="c-key"><${Key} value=${record.key} /></td>
      <td class="c-payload">${text.slice(0, PREVIEW_CHARS)}</td>
    </tr>`;
}
