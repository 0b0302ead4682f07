// Looking back into the log without consuming it: a page of one partition from an offset, from a time, or its newest.

import { useState } from "../vendor/preact-hooks.js";
import { html } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { elements, members, record as recordOf } from "../lib/json.js";

const PAGE = 100;

async function read(topic, partition, query) {
  const answer = members(await api.readMessages(topic, partition, query));
  const records = elements(answer.get("messages") ?? "[]").map((text) => recordOf(members(text), { topic, partition }));
  return { partition, records, next: Number(answer.get("next_offset")) };
}

/** `{page, error, isOpen, go(partition, query), live()}`; `page` is null while the table is live. */
export function useLookBack(topic) {
  const [state, setState] = useState({ page: null, error: null, isOpen: false });
  const go = async (partition, query) => {
    try {
      const page = await read(topic.name, partition, query);
      setState({ page, error: null, isOpen: true });
    } catch (error) {
      setState((now) => ({ ...now, error }));
    }
  };
  return {
    ...state,
    go,
    live: () => setState({ page: null, error: null, isOpen: false }),
    open: () => setState((now) => ({ ...now, isOpen: true })),
  };
}

export function LookBack({ back, topic }) {
  const [partition, setPartition] = useState(topic.partitions[0].partition);
  const [kind, setKind] = useState("offset");
  const [value, setValue] = useState("");
  if (!back.isOpen) {
    return html`<p class="look-closed"><button type="button" class="link-like" onClick=${back.open}>Look back into the log</button></p>`;
  }
  const one = topic.partitions.find((candidate) => candidate.partition === partition) ?? topic.partitions[0];
  const submit = (event) => {
    event.preventDefault();
    if (kind === "last") return back.go(partition, { last: PAGE });
    if (kind === "time") return back.go(partition, { time: new Date(value).toISOString(), limit: PAGE });
    return back.go(partition, { offset: value === "" ? one.first_offset : Number(value), limit: PAGE });
  };
  return html`
    <form class="look" onSubmit=${submit}>
      <label>Partition <select value=${partition} onChange=${(event) => setPartition(Number(event.target.value))}>
        ${topic.partitions.map((each) => html`<option key=${each.partition} value=${each.partition}>p${each.partition}</option>`)}</select></label>
      <label>from <select value=${kind} onChange=${(event) => setKind(event.target.value)}>
        <option value="offset">offset</option><option value="time">time</option><option value="last">the newest ${PAGE}</option></select></label>
      ${kind === "offset" ? html`<input type="number" aria-label="Offset" min="0" placeholder=${one.first_offset} value=${value} onInput=${(event) => setValue(event.target.value)} />` : null}
      ${kind === "time" ? html`<input type="datetime-local" step="1" required aria-label="Time" onInput=${(event) => setValue(event.target.value)} />` : null}
      <button class="small">Read</button>
      <button type="button" class="small primary" onClick=${back.live}>Back to live</button>
      ${back.page ? html`<${Leaf} back=${back} one=${one} />` : null}
    </form>`;
}

function Leaf({ back, one }) {
  const { page } = back;
  const first = page.records[0]?.offset ?? page.next;
  return html`
    <p class="leaf">
      <span>p${page.partition}, in the order of the log: ${page.records.length === 0 ? "nothing" : `${format.count(first)} to ${format.count(page.records.at(-1).offset)}`}</span>
      <button type="button" class="quiet small" disabled=${first <= one.first_offset}
        onClick=${() => back.go(page.partition, { offset: Math.max(one.first_offset, first - PAGE), limit: Math.min(PAGE, Math.max(1, first - one.first_offset)) })}>Older</button>
      <button type="button" class="quiet small" onClick=${() => back.go(page.partition, { offset: page.next, limit: PAGE })}>Newer</button>
    </p>`;
}
