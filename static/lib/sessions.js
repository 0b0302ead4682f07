// What the page says of who is at the other end of a connection.

/** A browser by its name, out of what it calls itself; anything else as it is. */
export function clientOf(client) {
  if (!client) return "";
  const [, name] = client.match(/(Firefox|Edg|OPR|Chrome|Safari)\/\d+/) ?? [];
  return { Edg: "Edge", OPR: "Opera" }[name] ?? name ?? client.slice(0, 40);
}

/** A session by the end of its id, which is what differs. */
export const shortSession = (id) => `…${String(id ?? "").slice(-6)}`;
