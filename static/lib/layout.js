// Where the boxes of a picture of wires stand: in columns from left to right, so that every wire runs to the right, few of them cross, and
// no two boxes overlap. Pure: it knows nothing of what the boxes mean.
//
// Source: K. Sugiyama, S. Tagawa, M. Toda, "Methods for Visual Understanding of Hierarchical System Structures" (1981): columns by the longest
// way, stand-ins where a wire passes a column, and order by the mean of the neighbours. Heights by isotonic regression (pool adjacent violators).

const SWEEPS = 8;
const SETTLINGS = 6;

/** How many wires lie between a node and the furthest beginning; a wire that would close a circle counts as none. */
function depths(nodes, wires) {
  const into = new Map(nodes.map((node) => [node.id, []]));
  for (const wire of wires) into.get(wire.to)?.push(wire.from);
  const found = new Map();
  const open = new Set();
  const depth = (id) => {
    if (found.has(id)) return found.get(id);
    if (open.has(id)) return -1;
    open.add(id);
    const most = Math.max(-1, ...into.get(id).map((from) => (into.has(from) ? depth(from) : -1)));
    open.delete(id);
    found.set(id, most + 1);
    return most + 1;
  };
  nodes.forEach((node) => depth(node.id));
  return found;
}

/** Columns of slots `{id, height, before, after}`; a wire over several columns gets a slot of its own in each that it passes. */
function columnsOf(nodes, wires, { lane }) {
  const depth = depths(nodes, wires);
  const last = Math.max(0, ...nodes.filter((node) => !node.isEnd).map((node) => depth.get(node.id)));
  const columns = Array.from({ length: last + (nodes.some((node) => node.isEnd) ? 2 : 1) }, () => []);
  const slots = new Map();
  const put = (id, column, height) => {
    const slot = { id, column, height, before: [], after: [] };
    columns[column].push(slot);
    slots.set(id, slot);
    return slot;
  };
  for (const node of nodes) put(node.id, node.isEnd ? last + 1 : depth.get(node.id), node.height);
  const chains = new Map();
  for (const wire of wires) {
    const [from, to] = [slots.get(wire.from), slots.get(wire.to)];
    if (!from || !to || from.column >= to.column) continue;
    const chain = [from];
    for (let column = from.column + 1; column < to.column; column += 1) chain.push(put(`${wire.id} ${column}`, column, lane));
    chain.push(to);
    chain.slice(1).forEach((slot, at) => {
      slot.before.push(chain[at]);
      chain[at].after.push(slot);
    });
    chains.set(wire.id, chain);
  }
  return { columns, slots, chains };
}

const mean = (numbers) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;

function number(columns) {
  for (const column of columns) column.forEach((slot, at) => (slot.at = at));
}

/** Pairs of wires between neighbouring columns that cross. */
function crossings(columns) {
  let found = 0;
  for (const column of columns) {
    const pairs = column.flatMap((slot) => slot.after.map((next) => [slot.at, next.at]));
    for (const [index, [from, to]] of pairs.entries()) {
      for (const [otherFrom, otherTo] of pairs.slice(index + 1)) if ((from - otherFrom) * (to - otherTo) < 0) found += 1;
    }
  }
  return found;
}

/** Sorts each column by the mean place of its neighbours, forth and back, and keeps the best order that was seen. */
function untangle(columns) {
  number(columns);
  let best = { crossed: crossings(columns), order: columns.map((column) => column.slice()) };
  for (let sweep = 0; sweep < SWEEPS && best.crossed > 0; sweep += 1) {
    const isForth = sweep % 2 === 0;
    const side = isForth ? "before" : "after";
    for (const column of isForth ? columns : columns.slice().reverse()) {
      const wanted = new Map(column.map((slot) => [slot, slot[side].length === 0 ? slot.at : mean(slot[side].map((one) => one.at))]));
      column.sort((a, b) => wanted.get(a) - wanted.get(b) || a.at - b.at);
      column.forEach((slot, at) => (slot.at = at));
    }
    const crossed = crossings(columns);
    if (crossed < best.crossed) best = { crossed, order: columns.map((column) => column.slice()) };
  }
  number(best.order);
  return best.order;
}

/** The nearest numbers to `wanted` (least squares) that never fall. */
export function rising(wanted) {
  const pools = [];
  for (const value of wanted) {
    let pool = { sum: value, count: 1 };
    while (pools.length > 0 && pools.at(-1).sum / pools.at(-1).count > pool.sum / pool.count) {
      const last = pools.pop();
      pool = { sum: pool.sum + last.sum, count: pool.count + last.count };
    }
    pools.push(pool);
  }
  return pools.flatMap((pool) => new Array(pool.count).fill(pool.sum / pool.count));
}

/** Puts the slots of `column` as near to the height of their neighbours as they go without overlapping. */
function settle(column, sides, gap) {
  const offsets = [];
  let used = 0;
  for (const slot of column) {
    offsets.push(used);
    used += slot.height + gap;
  }
  const wanted = column.map((slot, index) => {
    const near = sides.flatMap((side) => slot[side]);
    const top = near.length === 0 ? slot.top : mean(near.map((one) => one.top + one.height / 2)) - slot.height / 2;
    return top - offsets[index];
  });
  rising(wanted).forEach((top, index) => (column[index].top = top + offsets[index]));
}

/**
 * Places `nodes` `[{id, height, isEnd}]` (an end stands in the last column) and `wires` `[{id, from, to}]`. `gap` is the least room between two
 * boxes, `lane` the height of a wire that passes a column. Gives `{columns, height, places, passes}`: the number of columns, the whole
 * height, `{column, top, height}` by id of a node, and for each wire the heights `[{column, y}]` at which it passes the columns in between. A
 * wire that would run to the left has no way, and is not in `passes`.
 */
export function layOut(nodes, wires, { gap, lane }) {
  const { columns: raw, slots, chains } = columnsOf(nodes, wires, { lane });
  const columns = untangle(raw);
  for (const column of columns) {
    let top = 0;
    for (const slot of column) {
      slot.top = top;
      top += slot.height + gap;
    }
  }
  // From the tallest column outwards: the others have room to move, it has not.
  for (let round = 0; round < SETTLINGS; round += 1) {
    const isForth = round % 2 === 1;
    for (const column of isForth ? columns : columns.slice().reverse()) settle(column, round < SETTLINGS - 2 ? [isForth ? "before" : "after"] : ["before", "after"], gap);
  }
  const all = columns.flat();
  const highest = all.length === 0 ? 0 : Math.min(...all.map((slot) => slot.top));
  for (const slot of all) slot.top = Math.round(slot.top - highest);
  const height = Math.max(0, ...all.map((slot) => slot.top + slot.height));
  const places = new Map(nodes.map((node) => [node.id, slots.get(node.id)]));
  const passes = new Map([...chains].map(([id, chain]) => [id, chain.slice(1, -1).map((slot) => ({ column: slot.column, y: slot.top + slot.height / 2 }))]));
  return { columns: columns.length, height, places, passes };
}
