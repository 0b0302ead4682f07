// What a group gave up on: the newest of its dead letters with why, when and how often, and the way back for all of them.

import { useEffect, useState } from "../vendor/preact-hooks.js";
import { Notice, Trouble, html, say, useSignal } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { elements, headerPairs, members, record as recordOf } from "../lib/json.js";
import { recordHash, topicHash } from "../lib/place.js";
import { topics } from "../lib/topics.js";
import { Key } from "./records.js";

const SHOWN_MAX = 20;
/** Read from each partition where other groups put their dead letters into the same topic. */
const READ_MAX = 100;
/** Partitions of a dead-letter topic that are read; it has one unless somebody made it with more. */
const PARTITIONS_MAX = 16;
const PREVIEW_CHARS = 200;

/** The newest dead letters of the group in `store`, its dead-letter topic, newest first. */
async function readLetters(store, topic, group) {
  const last = store.name === `${topic}.${group}.dlq` ? SHOWN_MAX : READ_MAX;
  const filled = store.partitions.filter((one) => one.next_offset > one.first_offset).slice(0, PARTITIONS_MAX);
  const pages = await Promise.all(filled.map(async ({ partition }) => {
    const answer = members(await api.readMessages(store.name, partition, { last }));
    return elements(answer.get("messages") ?? "[]").map((text) => recordOf(members(text), { topic: store.name, partition }));
  }));
  return pages.flat().map((record) => ({ record, headers: new Map(headerPairs(record)) }))
    .filter(({ headers }) => headers.get("callboard-group") === group && headers.get("callboard-topic") === topic)
    .sort((a, b) => b.record.timestamp - a.record.timestamp || b.record.offset - a.record.offset)
    .slice(0, SHOWN_MAX);
}

/** The letters, read again when their number or the end of their topic changes: `{letters, error}`. */
function useLetters(store, topic, group) {
  const [answer, setAnswer] = useState({ letters: null, error: null });
  const ends = store ? store.partitions.map((one) => `${one.partition}:${one.next_offset}`).join() : "";
  useEffect(() => {
    if (!store) return undefined;
    let isGone = false;
    readLetters(store, topic, group.group).then(
      (letters) => isGone || setAnswer({ letters, error: null }),
      (error) => isGone || setAnswer((before) => ({ ...before, error })),
    );
    return () => {
      isGone = true;
    };
  }, [ends, store?.epoch, group.dead_letters]);
  return answer;
}

export function DeadLetters({ topic, group, onRedriven }) {
  const { list } = useSignal(topics);
  const store = list?.find((one) => one.name === group.dead_letter_topic) ?? null;
  const { letters, error } = useLetters(store, topic, group);
  const [moved, setMoved] = useState(null);
  const [refusal, setRefusal] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const redrive = async () => {
    setBusy(true);
    setRefusal(null);
    try {
      const answer = await api.redriveGroup(topic, group.group);
      setMoved(answer.redriven);
      say(`${format.plural(answer.redriven, "record")} moved back to ${topic}.`);
    } catch (problem) {
      setRefusal(problem);
    }
    setBusy(false);
    onRedriven();
  };
  const waiting = group.dead_letters;
  // What was moved back stays in its log, which is never rewritten: what waits is the newest.
  const shown = (letters ?? []).slice(0, waiting);
  const tools = html`
    <div class="tools">
      ${moved === null ? null : html`<span class="faint" id="moved">${format.plural(moved, "record")} moved back</span>`}
      <button type="button" id="redrive" class=${waiting > 0 ? "primary" : ""} disabled=${isBusy || waiting === 0} onClick=${redrive}>
        Redrive${waiting > 0 ? ` ${waiting === 1 ? "it" : `all ${format.count(waiting)}`}` : ""}</button>
    </div>`;
  return html`
    <${Notice} title="Dead letters" id="dead-letters" className="flush" aside=${tools}>
      <${Trouble} error=${refusal ?? error} />
      ${waiting === 0 ? html`<${None} group=${group} store=${store} />` : html`<${Table} topic=${topic} shown=${shown} isReading=${letters === null} />`}
      ${waiting > shown.length && shown.length > 0 ? html`<p class="nothing">The newest ${format.count(shown.length)} of ${format.count(waiting)}.
        All of them are in <a href=${topicHash(store.name)}>${store.name}</a>.</p>` : null}
    </${Notice}>`;
}

function None({ group, store }) {
  const where = group.dead_letter_topic;
  return html`<p class="nothing">${group.dead_lettered > 0 ? "No dead letter waits." : "Nothing has failed for good."} A record that does comes to
    ${" "}${store ? html`<a href=${topicHash(where)}>${where}</a>` : html`<code>${where}</code>`}, with the reason.</p>`;
}

function Table({ topic, shown, isReading }) {
  if (shown.length === 0) return html`<p class="nothing">${isReading ? "Reading them…" : "Their records are not kept any more."}</p>`;
  return html`
    <table class="letters">
      <thead><tr>
        <th scope="col">Reason</th><th scope="col" class="number">Attempts</th><th scope="col">Failed</th><th scope="col">Record</th><th scope="col">Key</th><th scope="col">Payload</th>
      </tr></thead>
      <tbody>${shown.map((one) => html`<${Letter} key=${`${one.record.partition}:${one.record.offset}`} topic=${topic} ...${one} />`)}</tbody>
    </table>`;
}

function Letter({ topic, record, headers }) {
  const failedAt = Date.parse(headers.get("callboard-failed-at") ?? "");
  const origin = { partition: Number(headers.get("callboard-partition")), offset: Number(headers.get("callboard-offset")) };
  const at = Number.isNaN(failedAt) ? record.timestamp : failedAt;
  const text = record.base64 === null ? (record.payload ?? "") : `binary, ${format.bytes(Math.floor((record.base64.length * 3) / 4))}`;
  return html`
    <tr>
      <td data-label="Reason" class="reason">${headers.get("callboard-reason") || html`<span class="faint">none given</span>`}</td>
      <td data-label="Attempts" class="number">${headers.get("callboard-attempts") ?? "–"}</td>
      <td data-label="Failed" class="when" title=${format.moment(at)}>${format.ago(at)}</td>
      <td data-label="Record" class="when"><a href=${recordHash(topic, origin)} title="The record as it was published">p${origin.partition} @${format.count(origin.offset)}</a></td>
      <td data-label="Key"><${Key} value=${record.key} /></td>
      <td data-label="Payload" class="letter-payload"><a href=${recordHash(record.topic, record)} title="The dead letter, whole" class="mono">${text.slice(0, PREVIEW_CHARS)}</a></td>
    </tr>`;
}
