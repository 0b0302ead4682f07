// What the page makes of exchanges and bindings: asking for them without asking for too much, and joining them into the wires of a picture.

import { useEffect, useRef, useState } from "../vendor/preact-hooks.js";
import * as api from "./api.js";
import { usePolled } from "./poll.js";

const POLL_MS = 1500;
/** Exchanges of which bindings are asked for at the same time, and in one look; the others have their turn in the next ones. */
const AT_ONCE = 6;
const LOOKS_MAX = 48;
/** Bindings of one exchange that the page lists; it says how many more there are, and the dry run works with all of them. */
export const BINDINGS_MAX = 2000;
/** Bindings of an exchange through which nothing goes are asked for again after so long, for their number does not tell everything. */
const STALE_MS = 10000;
const TYPING_MS = 150;

const isBusy = (exchange) => exchange.rates?.publishes_per_s > 0;

/** Whether what is known of an exchange's bindings (`{count, at, wasBusy}`) must be asked for again. */
export function isStale(known, exchange, now) {
  return !known || known.count !== exchange.bindings || isBusy(exchange) || known.wasBusy || now - known.at > STALE_MS;
}

async function lookAt(exchange, known) {
  const seen = { count: exchange.bindings, at: Date.now(), wasBusy: isBusy(exchange), list: [], isTooMany: exchange.bindings > BINDINGS_MAX };
  if (seen.isTooMany) return seen;
  try {
    seen.list = await api.listBindings(exchange.name);
  } catch (error) {
    if (error.status !== 404) throw error;
    return known ?? seen; // It was deleted between the two questions; the next answer leaves it out.
  }
  return seen;
}

/** Exchanges by name with their `bindings` (and `isTooMany`), and the last unroutable publishes: `{exchanges, unroutable}`. */
async function look(known) {
  const [exchanges, unroutable] = await Promise.all([api.listExchanges(), api.listUnroutable()]);
  exchanges.sort((a, b) => (a.name < b.name ? -1 : 1));
  const names = new Set(exchanges.map((one) => one.name));
  for (const name of known.keys()) if (!names.has(name)) known.delete(name);
  const seenAt = (one) => known.get(one.name)?.at ?? 0;
  const stale = exchanges.filter((one) => isStale(known.get(one.name), one, Date.now())).sort((a, b) => seenAt(a) - seenAt(b)).slice(0, LOOKS_MAX);
  for (let at = 0; at < stale.length; at += AT_ONCE) {
    const some = stale.slice(at, at + AT_ONCE);
    const answers = await Promise.all(some.map((one) => lookAt(one, known.get(one.name))));
    some.forEach((one, index) => known.set(one.name, answers[index]));
  }
  const withBindings = exchanges.map((one) => {
    const { list, isTooMany } = known.get(one.name) ?? { list: [], isTooMany: false };
    return { ...one, count: one.bindings, bindings: list, isTooMany };
  });
  return { exchanges: withBindings, unroutable };
}

/** The routing of the broker, asked for while the component lives: `{value, error, askAgain}` with `value` as of `look`. */
export function useRouting(opened) {
  const known = useRef(new Map());
  return usePolled(() => look(known.current), opened, POLL_MS);
}

/**
 * Where `key` would go through `exchange`, while somebody types it: `{key, answer, error}`, or null while nothing is asked (`key` null). What was
 * answered last stays until the next answer is there, and says of which key it is.
 */
export function useDryRun(exchange, key, bindingsSeen) {
  const [run, setRun] = useState(null);
  useEffect(() => {
    if (key === null || exchange === null) {
      setRun(null);
      return undefined;
    }
    let isGone = false;
    const done = (result) => isGone || setRun({ exchange, key, ...result });
    const timer = setTimeout(() => api.route(exchange, key).then((answer) => done({ answer, error: null }), (error) => done({ answer: null, error })), TYPING_MS);
    return () => {
      isGone = true;
      clearTimeout(timer);
    };
  }, [exchange, key, bindingsSeen]);
  return run;
}

/** What lights up in the picture: sets of ids of bindings, and of names; null while nothing was asked. */
export function litBy(run) {
  if (!run?.answer) return null;
  const { routes, bindings, exchanges } = run.answer;
  return { bindings: new Set(bindings), exchanges: new Set(exchanges ?? [run.exchange]), topics: new Set(routes.map((one) => one.topic)) };
}

export const exchangeId = (name) => `exchange ${name}`;
export const topicId = (name) => `topic ${name}`;
export const MORE_ID = "more topics";

const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);

/** How a wire is called: by its key, by two short ones, or by how many there are. */
export function labelOf(kind, keys) {
  if (kind === "fanout") return keys.length === 1 ? "" : `${keys.length} bindings`;
  if (keys.length === 1) return keys[0] === "" ? "(empty key)" : keys[0];
  const both = keys.join(", ");
  return keys.length === 2 && both.length <= 20 && !keys.includes("") ? both : `${keys.length} keys`;
}

/** Names as people sort them: line-2 before line-10. */
const { compare } = new Intl.Collator("en", { numeric: true });

/**
 * The picture's boxes and wires. Bindings between the same two are one wire `{id, from, to, label, keys, rate, bindings, isAlternate}`; topics
 * beyond `topicsMax` stand together in one box, and those of `chosen` are kept out of it as long as there is room.
 */
export function wiring(exchanges, chosen, { exchangesMax, topicsMax }) {
  const ordered = exchanges.slice().sort((a, b) => (b.name === chosen) - (a.name === chosen));
  const drawn = ordered.slice(0, exchangesMax).sort((a, b) => (a.name < b.name ? -1 : 1));
  const names = new Set(drawn.map((one) => one.name));
  const topics = new Map();
  for (const one of ordered.filter((each) => names.has(each.name))) for (const { topic } of one.bindings) if (topic !== undefined) topics.set(topic, null);
  const shown = new Set([...topics.keys()].slice(0, topics.size > topicsMax ? topicsMax - 1 : topicsMax));
  const hidden = topics.size - shown.size;
  const wires = new Map();
  const wire = (from, to, more) => {
    const id = `${from} > ${to}${more.isAlternate ? " otherwise" : ""}`;
    if (!wires.has(id)) wires.set(id, { id, from, to, bindings: [], ...more });
    return wires.get(id);
  };
  for (const one of drawn) {
    const from = exchangeId(one.name);
    for (const binding of one.bindings) {
      if (binding.exchange !== undefined && !names.has(binding.exchange)) continue;
      const to = binding.exchange !== undefined ? exchangeId(binding.exchange) : shown.has(binding.topic) ? topicId(binding.topic) : MORE_ID;
      wire(from, to, { kind: one.type, isAlternate: false }).bindings.push(binding);
    }
    if (one.isTooMany) wire(from, MORE_ID, { kind: one.type, isAlternate: false, count: one.count });
    if (names.has(one.alternate)) wire(from, exchangeId(one.alternate), { kind: one.type, isAlternate: true });
  }
  for (const one of wires.values()) {
    one.keys = one.bindings.map((binding) => binding.routing_key);
    one.rate = sum(one.bindings, (binding) => binding.rates?.publishes_per_s ?? 0);
    one.label = one.isAlternate ? "otherwise" : one.bindings.length === 0 ? `${one.count} bindings` : labelOf(one.kind, one.keys);
  }
  const isFolded = hidden > 0 || drawn.some((one) => one.isTooMany);
  return {
    exchanges: drawn,
    left: ordered.slice(exchangesMax),
    topics: [...shown].sort(compare),
    hidden,
    isFolded,
    wires: [...wires.values()].sort((a, b) => compare(a.id, b.id)),
  };
}

/** A level from 0 (nothing) to 5 for the breadth and the pace of a wire. */
export const levelOf = (rate) => (rate > 0 ? Math.min(5, Math.max(1, Math.floor(Math.log10(rate)) + 2)) : 0);
