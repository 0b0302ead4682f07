// One topic: the picture of its records as they travel, the records themselves, its groups and partitions, and a slip to publish with.

import { useEffect, useMemo, useState } from "../vendor/preact-hooks.js";
import { Notice, Rate, Stamp, html, useSignal } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { elements, members, record as recordOf } from "../lib/json.js";
import { bytesKept, isInternal, recordsEver, recordsKept, refresh, topics } from "../lib/topics.js";
import { Feed } from "../lib/feed.js";
import { useKeys } from "../lib/keys.js";
import { isSame, recordHash, topicHash } from "../lib/place.js";
import { DeleteTopic } from "./delete.js";
import { GroupSum, Groups, goToGroups, useGroups } from "./groups.js";
import { Partitions } from "./partitions.js";
import { Picture } from "./picture.js";
import { Publish } from "./publish.js";
import { Rates } from "./rates.js";
import { OpenRecord } from "./record.js";
import { Records } from "./records.js";
import { Scheduled, ScheduledSum, useScheduled } from "./scheduled.js";

export function Topic({ connection, name, asked, go }) {
  const { list, error, at } = useSignal(topics);
  const [mountedAt] = useState(() => Date.now());
  useEffect(() => {
    refresh();
  }, []);
  const topic = list?.find((one) => one.name === name);
  if (topic) return html`<${Board} key=${topic.epoch} connection=${connection} topic=${topic} asked=${asked} go=${go} />`;
  const isKnown = list !== null && at > mountedAt;
  return html`
    <div class="board-head"><h1><a href="#/" class="up">Topics</a> ${name}</h1></div>
    ${isKnown ? html`<${Missing} name=${name} />` : html`<p class="on-board-text">${error ? error.message : "Looking for it…"}</p>`}`;
}

function Missing({ name }) {
  const [error, setError] = useState(null);
  const create = () => api.createTopic({ name }).then(refresh, setError);
  return html`
    <${Notice} title="There is no such topic" className="slim">
      <p>It was deleted, or it has not been made yet. The page only looks: it does not make topics by looking at them.</p>
      ${error ? html`<p class="trouble" role="alert">${error.message}</p>` : null}
      <p class="actions"><button type="button" class="primary" onClick=${create}>Create ${name}</button> <a href="#/">All topics</a></p>
    </${Notice}>`;
}

/** The feed of `topic`, subscribed while the component lives, and the picture that it drives (set by the picture itself). */
function useFeed(connection, topic) {
  const stage = useMemo(() => ({ flow: null }), []);
  const feed = useMemo(() => new Feed(connection, topic, {
    onArrival: (records) => stage.flow?.add(records),
    onSkipped: (partition, count) => stage.flow?.addSkipped(partition, count),
  }), []);
  useEffect(() => {
    feed.start();
    return () => feed.stop();
  }, [feed]);
  return { feed, stage };
}

/** The record at one offset, by REST; a message in words when it is not there. */
async function fetchRecord(topic, { partition, offset }) {
  const answer = members(await api.readMessages(topic, partition, { offset, limit: 1 }));
  const [first] = elements(answer.get("messages") ?? "[]").map((text) => recordOf(members(text), { topic, partition }));
  if (!first || first.offset !== offset) throw new Error(`Partition ${partition} has no record at offset ${offset} any more.`);
  return first;
}

/** Which record is open: `{record, error, open(record), close()}`. The address names it, so that it can be shared and Back closes it. */
function useOpened(feed, name, asked, go) {
  const [opened, setOpened] = useState({ record: null, error: null });
  useEffect(() => {
    if (asked === null || isSame(opened.record, asked)) {
      if (asked === null && opened.record?.offset !== null) setOpened({ record: null, error: null });
      return;
    }
    const known = feed.rows.find((one) => isSame(one, asked));
    if (known) setOpened({ record: known, error: null });
    else fetchRecord(name, asked).then((record) => setOpened({ record, error: null }), (error) => setOpened({ record: null, error }));
  }, [asked?.partition, asked?.offset]);
  const open = (record) => {
    setOpened({ record, error: null });
    if (record.offset !== null) go(recordHash(name, record), asked !== null);
  };
  const close = () => {
    setOpened({ record: null, error: null });
    if (asked !== null) go(topicHash(name), true);
  };
  return { ...opened, open, close };
}

function Board({ connection, topic, asked, go }) {
  const { feed, stage } = useFeed(connection, topic);
  const opened = useOpened(feed, topic.name, asked, go);
  const groups = useGroups(topic.name);
  const scheduled = useScheduled(topic.name);
  const [doomed, setDoomed] = useState(null);
  useKeys({
    "g g": ["Go to the topic's groups", goToGroups],
    Escape: ["Close the record", opened.close],
    p: ["Write a record", () => document.querySelector("#publish-payload")?.focus()],
  });
  const isOpen = opened.record !== null || opened.error !== null;
  return html`
    <${Head} topic=${topic} groups=${groups.list} scheduled=${scheduled} onDelete=${() => setDoomed(topic)} />
    <div class="topic-grid">
      <${Picture} feed=${feed} stage=${stage} topic=${topic} onPick=${opened.open} />
      <${Rates} topic=${topic} />
      <div class="topic-main">
        <${Records} feed=${feed} topic=${topic} opened=${opened.record} onOpen=${opened.open} />
        <${Scheduled} topic=${topic} scheduled=${scheduled} />
        <${Groups} topic=${topic} groups=${groups} />
        <${Partitions} topic=${topic} />
      </div>
      <div class="topic-side">
        ${isOpen ? html`<${OpenRecord} topic=${topic} opened=${opened} go=${go} />` : null}
        ${isInternal(topic) ? html`<${Internal} />` : html`<${Publish} connection=${connection} topic=${topic} go=${go} onSent=${scheduled.askAgain} />`}
      </div>
    </div>
    <${DeleteTopic} topic=${doomed} onClose=${() => setDoomed(null)} onDeleted=${() => go("#/")} />`;
}

const CONFIG_WORDS = {
  retention_ms: (value) => `kept for ${format.duration(value, 2)}`,
  retention_bytes: (value) => `kept below ${format.bytes(value)} a partition`,
  ttl_ms: (value) => `records live for ${format.duration(value, 2)}`,
  records_max: (value, config) => `at most ${format.count(value)} unfinished, then ${config.when_full === "wait" ? "publishers wait" : "refused"}`,
  temporary: (value) => (value ? "deleted with its last subscriber" : null),
  silent_after_ms: (value) => `silent after ${format.duration(value, 2)}`,
};

const Internal = () => html`
  <${Notice} title="The broker's own">
    <p class="side-text">Only the broker writes to this topic. It can be followed and read like any other.</p>
  </${Notice}>`;

function Head({ topic, groups, scheduled, onDelete }) {
  const config = topic.config ?? {};
  const words = Object.entries(CONFIG_WORDS)
    .filter(([field]) => config[field] !== undefined && config[field] !== null)
    .map(([field, say]) => say(config[field], config)).filter((one) => one !== null);
  return html`
    <div class="board-head">
      <h1><a href="#/" class="up">Topics</a> ${topic.name}</h1>
      <p class="sums">
        <${Stamp} durability=${config.durability ?? "fsync"} />
        <span><b><${Rate} value=${topic.measured.records} /></b> in</span>
        <span><b>${format.count(recordsKept(topic))}</b> ${recordsKept(topic) === 1 ? "record" : "records"} kept${recordsEver(topic) > recordsKept(topic) ? ` of ${format.count(recordsEver(topic))}` : ""}</span>
        <span><b>${format.bytes(bytesKept(topic))}</b></span>
        <${GroupSum} list=${groups} />
        <${ScheduledSum} scheduled=${scheduled} />
        ${words.map((one) => html`<span key=${one}>${one}</span>`)}
      </p>
      ${isInternal(topic) ? null : html`<div class="board-tools"><button type="button" class="on-board" onClick=${onDelete}>Delete</button></div>`}
    </div>`;
}
