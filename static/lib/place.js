// Where a topic, a record, a group, an exchange or a webhook is found in this page.

export const topicHash = (name) => `#/topics/${encodeURIComponent(name)}`;

/** A record by `{partition, offset}`. */
export const recordHash = (name, { partition, offset }) => `${topicHash(name)}/${partition}/${offset}`;

export const groupHash = (topic, group) => `${topicHash(topic)}/groups/${encodeURIComponent(group)}`;

export const routingHash = (exchange) => `#/routing/${encodeURIComponent(exchange)}`;

export const webhookHash = (id) => `#/webhooks/${encodeURIComponent(id)}`;

export const isSame = (a, b) => a !== null && b !== null && a.partition === b.partition && a.offset === b.offset;
