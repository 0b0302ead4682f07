// What the page makes of a topic's groups: their recent past for the small charts, who holds what, and what moved.

/** As often as the topics are asked for. */
export const POLL_MS = 1500;
/** Points kept for each group: five minutes. */
const HISTORY_MAX = 200;
/** After so long without a look a line through the points would be made up. */
const GAP_MS = 60000;
const GROUPS_MAX = 500;

const histories = new Map();

/** The recent points `{at, lag, lagMs, finished}` of a group, oldest first. */
export const history = (topic, group) => histories.get(`${topic} ${group}`) ?? [];

const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);

/** Records that the group has behind it: the sum of its positions, and for a shared group what was finished beyond them. */
const finishedOf = (group) => sum(group.partitions, (one) => one.next_offset - one.lag);

/** Remembers how `groups` of `topic` stand at `at`. */
export function note(topic, groups, at) {
  for (const group of groups) {
    const key = `${topic} ${group.group}`;
    let points = histories.get(key) ?? [];
    if (points.length > 0 && at - points.at(-1).at > GAP_MS) points = [];
    points.push({ at, lag: group.lag, lagMs: group.lag_ms, finished: finishedOf(group) });
    if (points.length > HISTORY_MAX) points.shift();
    histories.delete(key);
    histories.set(key, points);
  }
  for (const key of histories.keys()) {
    if (histories.size <= GROUPS_MAX) break;
    histories.delete(key);
  }
}

/** Records a second that the group got done over the last looks, or null before the second one and after a seek back. */
export function pace(points) {
  const recent = points.slice(-5);
  if (recent.length < 2) return null;
  const [first, last] = [recent[0], recent.at(-1)];
  const seconds = (last.at - first.at) / 1000;
  return seconds < 0.2 || last.finished < first.finished ? null : (last.finished - first.finished) / seconds;
}

export const leasedOf = (group) => sum(group.partitions, (one) => one.leased ?? 0);
export const waitingOf = (group) => sum(group.partitions, (one) => one.waiting ?? 0);

/** Numbers as runs: `p0–p3, p7`; after `most` of them only how many partitions are left. */
export function runs(numbers, most = Infinity) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const found = [];
  for (const number of sorted) {
    const last = found.at(-1);
    if (last && number === last[1] + 1) last[1] = number;
    else found.push([number, number]);
  }
  const said = found.slice(0, most).map(([from, to]) => (from === to ? `p${from}` : to === from + 1 ? `p${from}, p${to}` : `p${from}–p${to}`)).join(", ");
  const left = found.slice(most).reduce((total, [from, to]) => total + to - from + 1, 0);
  return left === 0 ? said : `${said} and ${left} more`;
}

/** A member as people say it: its name, or the end of the session's id where it has none. */
export function callOf(member) {
  const unnamed = member?.match(/^([0-9a-f-]{20,})(\/\d+)$/i);
  return unnamed ? `…${unnamed[1].slice(-6)}${unnamed[2]}` : member;
}

const COLOURS = 8;

/** Gives each member one of eight colours, and leaves it that one while it is there; the least used colour is next. */
export class Palette {
  #given = new Map();

  /** A map from each of `names` to its colour, 0 to 7. */
  paint(names) {
    const present = new Set(names);
    for (const name of this.#given.keys()) if (!present.has(name)) this.#given.delete(name);
    const uses = new Array(COLOURS).fill(0);
    for (const colour of this.#given.values()) uses[colour] += 1;
    for (const name of present) {
      if (this.#given.has(name)) continue;
      const colour = uses.indexOf(Math.min(...uses));
      uses[colour] += 1;
      this.#given.set(name, colour);
    }
    return this.#given;
  }
}

/** Who owns each partition: a map from its number to the member, or to null. */
export const ownersOf = (group) => new Map(group.partitions.map((one) => [one.partition, one.member ?? null]));

/** What moved between two such maps, joined by the way it went: `[{from, to, partitions}]`. */
export function movesBetween(before, after) {
  const found = new Map();
  for (const [partition, to] of after) {
    const from = before.get(partition) ?? null;
    if (from === to) continue;
    const way = JSON.stringify([from, to]);
    if (!found.has(way)) found.set(way, { from, to, partitions: [] });
    found.get(way).partitions.push(partition);
  }
  return [...found.values()];
}

/** A move in words. */
export function moveWords({ from, to, partitions }) {
  const what = runs(partitions, 12);
  if (from === null) return `${what} to ${callOf(to)}`;
  return to === null ? `${what} away from ${callOf(from)}` : `${what} from ${callOf(from)} to ${callOf(to)}`;
}

/** How to join, typed into the console of any page that may connect: `{title, text}`. */
export function joinSnippet(topic, group, mode) {
  const socket = `${new URL(".", location.href.split("#")[0]).href.replace(/^http/, "ws")}ws`;
  const done = mode === "shared" ? '{ type: "ack", deliveries: [frame.delivery] }' : `{
    type: "commit", topic: "${topic}", group: "${group}",
    offsets: { [frame.partition]: frame.offset + 1 },
  }`;
  return {
    title: mode === "shared" ? "Share the work: a record to one member" : "Share the partitions: each has one owner",
    text: `const ws = new WebSocket("${socket}");
ws.onmessage = (event) => {
  const frame = JSON.parse(event.data);
  console.log(frame);
  if (frame.type !== "message") return;
  ws.send(JSON.stringify(${done}));
};
ws.onopen = () => ws.send(JSON.stringify({
  type: "subscribe", id: 1, topic: "${topic}",
  group: "${group}", mode: "${mode}",
}));`,
  };
}
