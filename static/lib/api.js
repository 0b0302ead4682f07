// The REST half of the public protocol, as far as the page needs it.

const TIMEOUT_MS = 10000;

/** An RFC 9457 problem, or (status 0) a broker that cannot be reached. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? `The broker answered ${status}.`);
    this.status = status;
    this.code = body.code ?? null;
    this.title = body.title ?? null;
  }
}

async function call(method, path, body) {
  const request = { method, signal: AbortSignal.timeout(TIMEOUT_MS), headers: { accept: "application/json" } };
  if (body !== undefined) {
    request.body = JSON.stringify(body);
    request.headers["content-type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(`api/v1${path}`, request);
  } catch {
    throw new Problem(0, { detail: "The broker cannot be reached." });
  }
  const text = await response.text();
  if (response.ok) return text;
  throw new Problem(response.status, problemOf(text, response.status));
}

function problemOf(text, status) {
  try {
    return JSON.parse(text);
  } catch {
    return { detail: text.slice(0, 300) || `The broker answered ${status}.` };
  }
}

const json = async (method, path, body) => {
  const text = await call(method, path, body);
  return text === "" ? null : JSON.parse(text);
};

const topicPath = (topic) => `/topics/${encodeURIComponent(topic)}`;

/** Everything of a listing; one that comes in pages is followed to its end. */
async function all(path, field) {
  const found = [];
  let next = null;
  do {
    const page = await json("GET", next === null ? path : `${path}?next=${encodeURIComponent(next)}`);
    found.push(...page[field]);
    next = page.next ?? null;
  } while (next !== null);
  return found;
}

export const listTopics = () => all("/topics", "topics");
export const getTopic = (topic) => json("GET", topicPath(topic));
export const createTopic = (config) => json("POST", "/topics", config);
export const deleteTopic = (topic) => json("DELETE", topicPath(topic));
const groupPath = (topic, group) => `${topicPath(topic)}/groups/${encodeURIComponent(group)}`;

export const listGroups = async (topic) => (await json("GET", `${topicPath(topic)}/groups`)).groups;
export const getGroup = (topic, group) => json("GET", groupPath(topic, group));
export const deleteGroup = (topic, group) => json("DELETE", groupPath(topic, group));
/** `from` as in a subscribe: `earliest`, `latest`, `{time}` or `{offsets}`; resolves to the group as it is then. */
export const seekGroup = (topic, group, from) => json("POST", `${groupPath(topic, group)}/offsets`, { from });
/** Moves the group's dead letters back; resolves to `{redriven, dead_letters}`. */
export const redriveGroup = (topic, group) => json("POST", `${groupPath(topic, group)}/redrive`, {});
export const listSessions = async () => (await json("GET", "/sessions")).sessions;
export const endSession = (id) => json("DELETE", `/sessions/${encodeURIComponent(id)}`);

/** Stored records as raw text, because their payloads must not be built; `query` is `{offset, limit}`, `{last}` or `{time}`. */
export function readMessages(topic, partition, query) {
  return call("GET", `${topicPath(topic)}/partitions/${partition}/messages?${new URLSearchParams(query)}`);
}

/** What is due later, first due first, as raw text because of the payloads. */
export const readScheduled = (topic, limit) => call("GET", `${topicPath(topic)}/scheduled?${new URLSearchParams({ limit })}`);
export const cancelScheduled = (topic, id) => json("DELETE", `${topicPath(topic)}/scheduled/${encodeURIComponent(id)}`);

const exchangePath = (exchange) => `/exchanges/${encodeURIComponent(exchange)}`;

export const listExchanges = () => all("/exchanges", "exchanges");
/** `{name, type, alternate?}` */
export const createExchange = (exchange) => json("POST", "/exchanges", exchange);
export const deleteExchange = (exchange) => json("DELETE", exchangePath(exchange));
export const listBindings = (exchange) => all(`${exchangePath(exchange)}/bindings`, "bindings");
/** `{topic, routing_key}`, or `exchange` for `topic`. */
export const bind = (exchange, binding) => json("POST", `${exchangePath(exchange)}/bindings`, binding);
export const unbind = (exchange, id) => json("DELETE", `${exchangePath(exchange)}/bindings/${encodeURIComponent(id)}`);
/** A dry run: `{routes: [{topic}], bindings, exchanges, alternate}`. */
export const route = (exchange, key) => json("GET", `${exchangePath(exchange)}/route?${new URLSearchParams({ routing_key: key })}`);
/** The last publishes that nothing matched, newest first. */
export const listUnroutable = async () => (await json("GET", "/unroutable")).unroutable;

const webhookPath = (id) => `/webhooks/${encodeURIComponent(id)}`;

export const listWebhooks = () => all("/webhooks", "webhooks");
export const getWebhook = (id) => json("GET", webhookPath(id));
/** Resolves to the webhook with its `secret`, which is said this once. */
export const createWebhook = (webhook) => json("POST", "/webhooks", webhook);
export const deleteWebhook = (id) => json("DELETE", webhookPath(id));
export const enableWebhook = (id) => json("POST", `${webhookPath(id)}/enable`, {});
export const disableWebhook = (id) => json("POST", `${webhookPath(id)}/disable`, {});
