// What happens in the broker, as its topic `$events` says it: read like any topic, and put into words.

import { signal } from "../vendor/signals-core.js";
import { useEffect, useMemo } from "../vendor/preact-hooks.js";
import * as api from "./api.js";
import { span } from "./format.js";
import { groupHash, routingHash, topicHash, webhookHash } from "./place.js";
import { clientOf, shortSession } from "./sessions.js";
import { reasonWords } from "./webhooks.js";

export const TOPIC = "$events";
/** Events that the page remembers. */
const KEPT_MAX = 500;
const REPAINT_MS = 150;

/** What somebody may want to see alone: the name of the choice, and the beginnings of the events in it. */
export const KINDS = {
  topics: ["topic_"],
  routing: ["exchange_", "binding_"],
  groups: ["member_", "group_"],
  sessions: ["session_"],
  webhooks: ["webhook_"],
  sources: ["source_"],
};

const topic = (name) => ({ text: name, href: topicHash(name) });
const exchange = (name) => ({ text: name, href: routingHash(name) });
const group = (one) => ({ text: one.group, href: groupHash(one.topic, one.group) });
const bound = (one) => (one.topic === undefined || one.topic === null ? exchange(one.to_exchange) : topic(one.topic));
const by = (key) => (key ? [" by ", { code: key }] : []);
const hook = (one) => ({ text: hostOf(one.url), href: webhookHash(one.webhook) });
const who = (session) => ({ code: shortSession(session) });

function hostOf(url) {
  try {
    return new URL(url).host;
  } catch {
    return url ?? "";
  }
}

/** Each event as parts: text, links `{text, href}`, and code `{code}`. Things that are gone are no links. */
const WORDS = {
  broker_started: (one) => [`The broker started, version ${one.version}`],
  topic_created: (one) => [one.temporary ? "Temporary topic " : "Topic ", topic(one.topic), " was made"],
  topic_deleted: (one) => ["Topic ", { code: one.topic }, " was deleted"],
  exchange_created: (one) => [`The ${one.kind} exchange `, exchange(one.exchange), " was made"],
  exchange_deleted: (one) => ["Exchange ", { code: one.exchange }, " was deleted"],
  binding_created: (one) => [exchange(one.exchange), " now leads to ", bound(one), ...by(one.routing_key)],
  binding_deleted: (one) => [exchange(one.exchange), " no longer leads to ", bound(one), ...by(one.routing_key)],
  session_joined: (one) => ["Session ", who(one.session), " connected", ...(one.client ? [`: ${clientOf(one.client)}`] : []), ...(one.remote ? [" from ", { code: one.remote }] : [])],
  session_left: (one) => ["Session ", who(one.session), " went"],
  member_joined: (one) => [{ code: one.member }, " joined ", group(one), " of ", topic(one.topic)],
  member_left: (one) => [{ code: one.member }, " left ", group(one), " of ", topic(one.topic)],
  group_rebalanced: (one) => [group(one), " of ", topic(one.topic), ` shares its partitions anew, generation ${one.generation}`],
  webhook_created: (one) => ["A webhook to ", hook(one), " takes from ", topic(one.topic)],
  webhook_deleted: (one) => ["The webhook ", { code: one.webhook }, " of ", topic(one.topic), " was deleted"],
  webhook_disabled: (one) => ["The webhook to ", hook(one), ` was disabled: ${reasonWords(one.reason)}`],
  webhook_enabled: (one) => ["The webhook to ", hook(one), " was enabled"],
  source_silent: (one) => [topic(one.topic), ` has been silent for ${span(one.silent_ms)}`],
  source_back: (one) => [topic(one.topic), " has records again"],
};

/** Events that somebody should see. */
const GRAVE = new Set(["webhook_disabled", "source_silent"]);

/** An event out of a record of `$events`; one of a later broker that the page does not know is shown by its name. */
export function eventOf(record) {
  let body;
  try {
    body = JSON.parse(record.payload ?? "null");
  } catch {
    body = null;
  }
  const name = String(body?.event ?? "unknown");
  const words = Object.hasOwn(WORDS, name) ? WORDS[name](body) : [`${name.replaceAll("_", " ")} `, { code: record.key ?? "" }];
  // A group that many join at once shares its partitions anew for each of them; the last time says all.
  const again = name === "group_rebalanced" ? `${body.topic} ${body.group}` : null;
  return { at: record.timestamp, name, words, isGrave: GRAVE.has(name), again };
}

/** The newest of `list` (newest first) without sessions, which would push out everything else, and without what a later one repeats. */
export function brief(list, most) {
  const said = new Set();
  return list.filter((one) => {
    if (isOfKind(one, "sessions") || said.has(one.again)) return false;
    if (one.again !== null) said.add(one.again);
    return true;
  }).slice(0, most);
}

export const isOfKind = (event, kind) => kind === "" || KINDS[kind].some((beginning) => event.name.startsWith(beginning));

/** The events as they come: `version` is bumped when there are new ones in `list`, newest first; `state` as of a feed. */
class Events {
  #repaint = 0;
  #seen = 0;
  #subscription = null;
  list = [];
  version = signal(0);
  state = signal({ phase: "starting" });

  start(connection, last) {
    this.#subscription = connection.follow({
      topic: TOPIC,
      from: { last },
      exists: () => api.getTopic(TOPIC).then(() => true, (error) => {
        if (error.status === 404) this.state.value = { phase: "missing" };
        return error.status !== 404;
      }),
      onRecords: (records) => this.#arrived(records),
      onSkipped: () => undefined,
      onState: (state) => (this.state.value = state),
    });
  }

  stop() {
    this.#subscription?.stop();
    clearTimeout(this.#repaint);
  }

  #arrived(records) {
    // Numbered here: after a restart of a broker that keeps nothing the offsets begin again.
    const events = records.map((record) => ({ ...eventOf(record), id: (this.#seen += 1) }));
    this.list = [...events.reverse(), ...this.list].slice(0, KEPT_MAX);
    if (this.#repaint) return;
    this.#repaint = setTimeout(() => {
      this.#repaint = 0;
      this.version.value += 1;
    }, REPAINT_MS);
  }
}

/** Follows `$events` from the `last` ones while the component lives. */
export function useEvents(connection, last) {
  const events = useMemo(() => new Events(), []);
  useEffect(() => {
    events.start(connection, last);
    return () => events.stop();
  }, [events]);
  return events;
}

