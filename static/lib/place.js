// Where a topic, a record or a group is found in this page.

export const topicHash = (name) => `#/topics/${encodeURIComponent(name)}`;

/** A record by `{partition, offset}`. */
export const recordHash = (name, { partition, offset }) => `${topicHash(name)}/${partition}/${offset}`;

export const groupHash = (topic, group) => `${topicHash(topic)}/groups/${encodeURIComponent(group)}`;

export const isSame = (a, b) => a !== null && b !== null && a.partition === b.partition && a.offset === b.offset;
