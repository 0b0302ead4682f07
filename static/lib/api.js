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

/** Every topic; a listing in pages is followed to its end. */
export async function listTopics() {
  const topics = [];
  let next = null;
  do {
    const page = await json("GET", next === null ? "/topics" : `/topics?next=${encodeURIComponent(next)}`);
    topics.push(...page.topics);
    next = page.next ?? null;
  } while (next !== null);
  return topics;
}

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
