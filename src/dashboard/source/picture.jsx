// The routing state as a picture: provider, webhook, command, agent, from left to right. The layout is four columns
// of boxes in the order of the list, which needs no library; the same facts stand in a list for whoever cannot see it.

import { useMemo, useState } from 'preact/hooks';

import { link } from './hooks.js';
import { standing, whyNot } from './words.js';

const BOX = { width: 190, height: 38 };
const GAP = { x: 90, y: 10 };
const NAMES = ['Provider', 'Webhook', 'Command', 'Agent'];
const CHARACTERS = 25;

/** Boxes by column, and which lead to which. */
export function layout(items) {
  const columns = [new Map(), new Map(), new Map(), new Map()];
  const edges = [];
  const put = (column, key, box) => columns[column].get(key) ?? columns[column].set(key, { key, column, ...box }).get(key);
  for (const item of items) {
    const state = standing(item);
    const provider = put(0, item.provider, { name: item.provider, to: link('providers') });
    const webhook = put(1, item.id, { name: item.id, state, note: state === 'ready' ? (item.is_builtin ? 'built in' : '') : state, why: whyNot(item), to: link('webhooks', item.id) });
    edges.push({ from: provider, to: webhook, state });
    for (const command of item.commands) {
      const origin = command.path ?? 'comes with the program';
      const box = put(2, `${item.id}/${command.name}`, { name: command.name, note: `from ${command.source}`, why: origin, to: link('files', 'skills', command.source) });
      edges.push({ from: webhook, to: box, state });
      const name = command.action === 'create_task' ? (command.agent ?? item.target_agent) : 'no agent: answers at once';
      const agent = put(3, name, { name, to: command.action === 'create_task' ? link('files', 'agents', name) : undefined });
      edges.push({ from: box, to: agent, state });
    }
  }
  const lists = columns.map((column) => [...column.values()]);
  const tallest = Math.max(...lists.map((list) => list.length));
  const height = tallest * (BOX.height + GAP.y) + GAP.y;
  for (const list of lists) place(list, edges, height);
  return { boxes: lists.flat(), edges, width: 4 * BOX.width + 3 * GAP.x + 4, height };
}

/** Even distances over the whole height, in the order in which they came. */
function place(list, edges, height) {
  const step = height / list.length;
  list.forEach((box, n) => {
    box.x = 2 + box.column * (BOX.width + GAP.x);
    box.y = step * (n + 0.5) - BOX.height / 2;
  });
}

function cut(text) {
  return text.length > CHARACTERS ? `${text.slice(0, CHARACTERS - 1)}…` : text;
}

export function Picture({ items }) {
  const { boxes, edges, width, height } = useMemo(() => layout(items), [items]);
  const [lit, setLit] = useState(null);
  const near = useMemo(() => related(lit, edges), [lit, edges]);
  return (
    <figure class="picture">
      <div class="scroll" tabIndex={0} role="region" aria-label="Picture of the routing state">
        <svg viewBox={`0 -24 ${width} ${height + 28}`} width={width} height={height + 28} role="group" aria-label="From provider to webhook to command to agent">
          {NAMES.map((name, n) => (
            <text key={name} class="column" x={2 + n * (BOX.width + GAP.x)} y={-8}>{name}</text>
          ))}
          {edges.map((edge, n) => (
            <path key={n} d={curve(edge)} class={`edge ${edge.state === 'ready' ? '' : 'off'} ${near && !near.edges.has(edge) ? 'dim' : ''}`} />
          ))}
          {boxes.map((box) => (
            <Box key={`${box.column}/${box.key}`} box={box} isDim={near !== null && !near.boxes.has(box)} setLit={setLit} />
          ))}
        </svg>
      </div>
      <figcaption class="hint">A dashed line leads through what is not ready. Point at a box, or reach it by Tab, to see what belongs to it.</figcaption>
    </figure>
  );
}

function Box({ box, isDim, setLit }) {
  // What can be read in the box comes first, as it stands there.
  const label = `${cut(box.name)}${box.note ? ` ${cut(box.note)}` : ''}, ${NAMES[box.column].toLowerCase()} ${box.name}${box.why ? `: ${box.why}` : ''}`;
  const tone = box.state && box.state !== 'ready' ? (box.state === 'disabled' ? 'quiet' : 'warn') : '';
  const content = (
    <>
      <title>{label}</title>
      <rect x={box.x} y={box.y} width={BOX.width} height={BOX.height} rx="7" />
      <text x={box.x + 10} y={box.y + (box.note ? 16 : 23)}>{cut(box.name)}</text>
      {' '}
      {box.note && <text class="note" x={box.x + 10} y={box.y + 30}>{cut(box.note)}</text>}
    </>
  );
  const lighting = { onMouseEnter: () => setLit(box), onMouseLeave: () => setLit(null), onFocus: () => setLit(box), onBlur: () => setLit(null) };
  const name = `box ${tone} ${isDim ? 'dim' : ''}`;
  return box.to ? (
    <a class={name} href={box.to} aria-label={label} {...lighting}>{content}</a>
  ) : (
    <g class={name} {...lighting}>{content}</g>
  );
}

function curve({ from, to }) {
  const [x1, y1, x2, y2] = [from.x + BOX.width, from.y + BOX.height / 2, to.x, to.y + BOX.height / 2];
  const middle = (x1 + x2) / 2;
  return `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
}

/** Everything before and behind a box. */
function related(box, edges) {
  if (!box) return null;
  const found = { boxes: new Set([box]), edges: new Set() };
  const walk = (start, here, there) => {
    for (const edge of edges.filter((one) => one[here] === start)) {
      found.edges.add(edge);
      if (!found.boxes.has(edge[there])) {
        found.boxes.add(edge[there]);
        walk(edge[there], here, there);
      }
    }
  };
  walk(box, 'from', 'to');
  walk(box, 'to', 'from');
  return found;
}
