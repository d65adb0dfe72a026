// A long list: only the rows that can be seen are in the document. Rows are as high as `--row` says, which differs on
// narrow screens; the page itself scrolls, so that keys, wheel and touch do what they always do.

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

import { nameOf } from './hooks.js';
import { Fault } from './parts.jsx';

const AROUND = 8;

function useSlice(total, node) {
  const [slice, setSlice] = useState({ from: 0, to: 40, height: 48 });
  useLayoutEffect(() => {
    let frame = 0;
    const look = () => {
      frame = 0;
      if (!node.current) return;
      const height = parseFloat(getComputedStyle(node.current).getPropertyValue('--row')) || 48;
      const top = node.current.getBoundingClientRect().top;
      const from = Math.max(0, Math.floor(-top / height) - AROUND);
      const to = Math.min(total, Math.ceil((innerHeight - top) / height) + AROUND);
      setSlice((old) => (old.from === from && old.to === to && old.height === height ? old : { from, to, height }));
    };
    const soon = () => {
      frame ||= requestAnimationFrame(look);
    };
    look();
    addEventListener('scroll', soon, { passive: true });
    addEventListener('resize', soon);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener('scroll', soon);
      removeEventListener('resize', soon);
    };
  }, [total]);
  return slice;
}

/**
 * `columns`: `[{name, width, cell(item), kind}]`; the first one is what the row is called.
 * `more()` is called when the end of what is loaded comes near; `isOpen` says that there may be more. With `total` the
 * list is as long as it will be from the beginning, and rows that are not loaded yet stand there empty.
 */
export function Rows({ label, items, total, columns, keyOf = nameOf, more, isOpen, children }) {
  const body = useRef(null);
  const length = isOpen && total !== undefined ? Math.max(total, items.length) : items.length;
  const { from, to, height } = useSlice(length, body);
  useEffect(() => {
    if (isOpen && to >= items.length - 20) more?.();
  }, [to, items.length, isOpen]);
  if (!items.length) return children ?? null;
  const template = columns.map((column) => column.width ?? '1fr').join(' ');
  return (
    <div class="rows" role="table" aria-label={label} aria-rowcount={isOpen && total === undefined ? -1 : length + 1}>
      <div role="rowgroup">
        <div class="row head" role="row" style={{ gridTemplateColumns: template }}>
          {columns.map((column) => (
            <div role="columnheader" key={column.name}>
              {column.name}
            </div>
          ))}
        </div>
      </div>
      <div class="body" role="rowgroup" ref={body} style={{ height: `${length * height}px` }}>
        {items.slice(from, to).map((item, n) => (
          <div
            class="row"
            role="row"
            key={keyOf(item)}
            aria-rowindex={from + n + 2}
            style={{ gridTemplateColumns: template, transform: `translateY(${(from + n) * height}px)` }}
          >
            {columns.map((column) => (
              <div role="cell" class={column.kind} key={column.name} data-name={column.name}>
                {column.cell(item)}
              </div>
            ))}
          </div>
        ))}
        {to > items.length && <p class="loading" style={{ transform: `translateY(${Math.max(items.length, from) * height}px)` }}>Loading…</p>}
      </div>
    </div>
  );
}

/** How much of the list is here: `what` for one, and for others with an `s`. */
export function Counted({ items, total, isOpen, what, many = `${what}s` }) {
  const count = total ?? items.length;
  return (
    <p class="counted" role="status">
      {count.toLocaleString('en')} {count === 1 ? what : many}
      {isOpen && total === undefined ? ' loaded, more follow as you scroll' : ''}
    </p>
  );
}

/** A list that comes in pages (`usePages`), with how much of it there is; `children` where there is nothing. */
export function Listed({ list, label, columns, keyOf, what, many, children }) {
  const isOpen = Boolean(list.next);
  return (
    <>
      <Fault error={list.error} reload={list.reload} />
      {list.items.length > 0 && <Counted items={list.items} total={list.total} isOpen={isOpen} what={what} many={many} />}
      <Rows label={label} items={list.items} total={list.total} columns={columns} keyOf={keyOf} more={list.more} isOpen={isOpen}>
        {list.loading ? <p class="loading">Loading…</p> : !list.error && children}
      </Rows>
    </>
  );
}
