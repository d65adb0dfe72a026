// A long list: only the rows that can be seen are in the document. Rows are as high as `--row` says, which differs on
// narrow screens; the page itself scrolls, so that keys, wheel and touch do what they always do.

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

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
 * `more()` is called when the end comes near; `isOpen` says that there may be more.
 */
export function Rows({ label, items, columns, keyOf = (item) => item.id, more, isOpen, children }) {
  const body = useRef(null);
  const { from, to, height } = useSlice(items.length, body);
  useEffect(() => {
    if (isOpen && to >= items.length - 20) more?.();
  }, [to, items.length, isOpen]);
  if (!items.length) return children ?? null;
  const template = columns.map((column) => column.width ?? '1fr').join(' ');
  return (
    <div class="rows" role="table" aria-label={label} aria-rowcount={isOpen ? -1 : items.length + 1}>
      <div role="rowgroup">
        <div class="row head" role="row" style={{ gridTemplateColumns: template }}>
          {columns.map((column) => (
            <div role="columnheader" key={column.name}>
              {column.name}
            </div>
          ))}
        </div>
      </div>
      <div class="body" role="rowgroup" ref={body} style={{ height: `${items.length * height}px` }}>
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
      </div>
    </div>
  );
}

/** How much of the list is here. */
export function Counted({ items, isOpen, what }) {
  return (
    <p class="counted" role="status">
      {items.length.toLocaleString('en')} {what}
      {isOpen ? ' loaded, more follow as you scroll' : ''}
    </p>
  );
}
