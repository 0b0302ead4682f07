// What the broker has, asked for once a second or two while somebody looks, and remembered for the small charts.

import { effect, signal } from "../vendor/signals-core.js";
import * as api from "./api.js";

const POLL_MS = 1500;
/** Points kept for each topic: five minutes. */
const HISTORY_MAX = 200;

/** `{list, error, at}`: `list` is null until the first answer, and stays while later ones fail. */
export const topics = signal({ list: null, error: null, at: 0 });

const histories = new Map();
let previous = new Map();

/** The recent points `{at, records, bytes}` (each a second) of a topic, oldest first. */
export function history(topic) {
  const key = `${topic.name} ${topic.epoch}`;
  if (!histories.has(key)) histories.set(key, []);
  return histories.get(key);
}

const sum = (partitions, of) => partitions.reduce((total, partition) => total + of(partition), 0);

export const recordsKept = (topic) => sum(topic.partitions, (one) => one.next_offset - one.first_offset);
export const recordsEver = (topic) => sum(topic.partitions, (one) => one.next_offset);
/** Whether it is one of the broker's own, which everybody may read and nobody else may write or delete. */
export const isInternal = (topic) => topic.name.startsWith("$");
export const bytesKept = (topic) => sum(topic.partitions, (one) => one.bytes ?? 0);

/**
 * Rates from what changed between two looks at a topic: `{records, bytes}` a second, and `partitions` by number. Null before the second look
 * and across epochs. The broker's own figures win where it gives them.
 */
function measure(topic, now) {
  const last = previous.get(topic.name);
  const seconds = last ? (now - last.at) / 1000 : 0;
  const isComparable = last?.topic.epoch === topic.epoch && seconds > 0.2;
  const partitions = new Map();
  if (isComparable) {
    const before = new Map(last.topic.partitions.map((one) => [one.partition, one]));
    for (const one of topic.partitions) {
      const then = before.get(one.partition)?.next_offset ?? 0;
      partitions.set(one.partition, Math.max(0, one.next_offset - then) / seconds);
    }
  }
  const counted = isComparable ? [...partitions.values()].reduce((total, rate) => total + rate, 0) : null;
  const grown = isComparable ? Math.max(0, bytesKept(topic) - bytesKept(last.topic)) / seconds : null;
  return { records: topic.rates?.records_in_per_s ?? counted, bytes: topic.rates?.bytes_in_per_s ?? grown, partitions };
}

function note(list, now) {
  const seen = new Map();
  for (const topic of list) {
    topic.measured = measure(topic, now);
    seen.set(topic.name, { topic, at: now });
    if (topic.measured.records === null) continue;
    const points = history(topic);
    points.push({ at: now, records: topic.measured.records, bytes: topic.measured.bytes ?? 0 });
    if (points.length > HISTORY_MAX) points.shift();
  }
  previous = seen;
  for (const key of histories.keys()) if (!list.some((topic) => key === `${topic.name} ${topic.epoch}`)) histories.delete(key);
}

let isAsking = false;
let timer = 0;

/** Asks now; the regular questions go on from here. */
export async function refresh() {
  if (isAsking) return;
  isAsking = true;
  clearTimeout(timer);
  try {
    const list = await api.listTopics();
    list.sort((a, b) => isInternal(a) - isInternal(b) || (a.name < b.name ? -1 : 1));
    const now = Date.now();
    note(list, now);
    topics.value = { list, error: null, at: now };
  } catch (error) {
    topics.value = { ...topics.value, error };
  } finally {
    isAsking = false;
    if (!document.hidden) timer = setTimeout(refresh, POLL_MS);
  }
}

/** Starts the regular questions, and asks at once when the page is looked at again or `connection` has come back. */
export function watchTopics(connection) {
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  effect(() => {
    if (connection.opened.value >= 0) refresh();
  });
}
