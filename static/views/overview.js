// All topics of the broker, and what an empty one says to somebody who has just come.

import { useRef, useState } from "../vendor/preact-hooks.js";
import { Notice, Rate, Snippet, Sparkline, Stamp, Trouble, html, useSignal } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { bytesKept, history, isInternal, recordsKept, refresh, topics } from "../lib/topics.js";
import { useKeys } from "../lib/keys.js";
import { topicHash } from "../lib/place.js";
import { CreateTopic } from "./create.js";
import { DeleteTopic } from "./delete.js";
import { Lately } from "./events.js";
import { Newcomer, snippets } from "./newcomer.js";

/** Rows drawn at once; a broker may have thousands of topics, and the filter finds the rest. */
const ROWS_MAX = 200;

export function Overview({ connection, go }) {
  const { list, error } = useSignal(topics);
  const [filter, setFilter] = useState("");
  const [isCreating, setCreating] = useState(false);
  const [doomed, setDoomed] = useState(null);
  const filterBox = useRef(null);
  useKeys({
    n: ["New topic", () => setCreating(true)],
    "/": ["Find a topic", () => filterBox.current?.focus()],
  });
  const openCreated = (topic) => {
    setCreating(false);
    refresh();
    go(topicHash(topic.name));
  };
  const create = isCreating ? html`<${CreateTopic} onCreated=${openCreated} onClose=${() => setCreating(false)} />` : null;
  if (list === null) return html`<${Waiting} error=${error} />`;
  if (list.every(isInternal)) return html`${create}<${Newcomer} connection=${connection} go=${go} onCreate=${() => setCreating(true)} />`;
  const found = list.filter((topic) => topic.name.toLowerCase().includes(filter.toLowerCase()));
  return html`
    <div class="board-head">
      <h1>Topics</h1>
      <p class="sums"><${Sums} list=${list.filter((topic) => !isInternal(topic))} /></p>
      <div class="board-tools">
        ${list.length > 5 || filter ? html`
          <input type="search" ref=${filterBox} placeholder="Find a topic" aria-label="Find a topic" value=${filter}
            onInput=${(event) => setFilter(event.target.value)} />` : null}
        <button type="button" class="primary" onClick=${() => setCreating(true)}>New topic</button>
      </div>
    </div>
    <${Trouble} error=${error} />
    ${create}
    <${Notice} title="On the board" id="topics-title" className="flush">
      <${TopicTable} found=${found} onDelete=${setDoomed} />
      ${found.length === 0 ? html`<p class="nothing">No topic has “${filter}” in its name.</p>` : null}
      ${found.length > ROWS_MAX ? html`<p class="nothing">${ROWS_MAX} of ${format.count(found.length)} topics are shown. Narrow them by name.</p>` : null}
    </${Notice}>
    <${Lately} connection=${connection} />
    <details class="speak">
      <summary>Speak to this broker from elsewhere</summary>
      <div class="columns">${snippets().map((one) => html`<${Snippet} ...${one} />`)}</div>
    </details>
    <${DeleteTopic} topic=${doomed} onClose=${() => setDoomed(null)} />`;
}

function Sums({ list }) {
  const total = (of) => list.reduce((sum, topic) => sum + (of(topic) ?? 0), 0);
  return html`
    <span><b>${format.count(list.length)}</b> ${list.length === 1 ? "topic" : "topics"}</span>
    <span><b>${format.rate(total((topic) => topic.measured.records))}</b> records/s in</span>
    <span><b>${format.count(total(recordsKept))}</b> records kept</span>
    <span><b>${format.bytes(total(bytesKept))}</b></span>`;
}

function Waiting({ error }) {
  return html`<div class="board-head"><h1>Topics</h1></div>
    ${error ? html`<${Notice} title="No answer yet"><${Trouble} error=${error} /><p>The page goes on trying.</p></${Notice}>`
      : html`<p class="on-board-text">Reading the board…</p>`}`;
}

function TopicTable({ found, onDelete }) {
  return html`
    <table class="topics">
      <thead><tr>
        <th scope="col">Topic</th><th scope="col">Durability</th><th scope="col" class="number">Partitions</th><th scope="col" class="number">Records</th>
        <th scope="col" class="number">Size</th><th scope="col" class="number">In</th><th scope="col">Last minutes</th>
        <th scope="col"><span class="unseen">Delete</span></th>
      </tr></thead>
      <tbody>${found.slice(0, ROWS_MAX).map((topic) => html`<${TopicRow} key=${topic.name} topic=${topic} onDelete=${onDelete} />`)}</tbody>
    </table>`;
}

function TopicRow({ topic, onDelete }) {
  return html`
    <tr>
      <th scope="row"><a class="topic-name" href=${topicHash(topic.name)}>${topic.name}</a>${isInternal(topic) ? html` <span class="tag">the broker's own</span>` : null}${topic.config?.temporary ? html` <span class="tag">temporary</span>` : null}</th>
      <td data-label="Durability"><${Stamp} durability=${topic.config?.durability ?? "fsync"} /></td>
      <td data-label="Partitions" class="number">${topic.partitions.length}</td>
      <td data-label="Records" class="number">${format.count(recordsKept(topic))}</td>
      <td data-label="Size" class="number">${format.bytes(bytesKept(topic))}</td>
      <td data-label="In" class="number"><${Rate} value=${topic.measured.records} /></td>
      <td class="spark-cell"><${Sparkline} points=${history(topic)} of=${(point) => point.records} label=${`Records a second into ${topic.name}`} /></td>
      <td class="row-end">${isInternal(topic) ? null : html`<button type="button" class="quiet small" aria-label=${`Delete ${topic.name}`} onClick=${() => onDelete(topic)}>Delete</button>`}</td>
    </tr>`;
}
