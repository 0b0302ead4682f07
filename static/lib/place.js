// Where a topic or a record is found in this page.

export const topicHash = (name) => `#/topics/${encodeURIComponent(name)}`;

/** A record by `{partition, offset}`. */
export const recordHash = (name, { partition, offset }) => `${topicHash(name)}/${partition}/${offset}`;

export const isSame = (a, b) => a !== null && b !== null && a.partition === b.partition && a.offset === b.offset;
