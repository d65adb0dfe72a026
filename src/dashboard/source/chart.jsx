// Charts by uPlot. Each has a sentence that says the same, and a table behind a button: a picture alone tells nothing
// to whoever cannot see it.

import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';

const HEIGHT = 190;
const DAY_SECONDS = 86_400;

/** The value of a colour, as the canvas needs it: which of two it is depends on light and dark. */
function colour(name) {
  const probe = document.createElement('span');
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** Called again when light turns to dark. */
export function useScheme() {
  const [scheme, setScheme] = useState(0);
  useEffect(() => {
    const changed = () => setScheme((n) => n + 1);
    const media = matchMedia('(prefers-color-scheme: dark)');
    media.addEventListener('change', changed);
    addEventListener('skillhook-theme', changed);
    return () => {
      media.removeEventListener('change', changed);
      removeEventListener('skillhook-theme', changed);
    };
  }, []);
  return scheme;
}

/**
 * `times` in seconds, `step` seconds apart; `series`: `[{name, values, tone}]`. `stacked` draws bars upon each other;
 * `line` is a threshold `{at, name}`.
 */
export function Chart({ title, sentence, times, step, series, stacked, line, say = String }) {
  const node = useRef(null);
  const scheme = useScheme();
  useEffect(() => {
    if (!node.current || !times.length) return undefined;
    const plot = new uPlot(options({ width: node.current.clientWidth, times, step, series, stacked, line, say }), columns(times, series, stacked), node.current);
    const watch = new ResizeObserver(() => plot.setSize({ width: node.current.clientWidth, height: HEIGHT }));
    watch.observe(node.current);
    return () => {
      watch.disconnect();
      plot.destroy();
    };
  }, [times, series, scheme]);
  return (
    <figure class="chart">
      <figcaption>{sentence}</figcaption>
      <Legend series={series} line={line} />
      <div class="plot" ref={node} role="img" aria-label={`${title}: ${sentence}`} />
      <Figures title={title} times={times} series={series} say={say} />
    </figure>
  );
}

function Legend({ series, line }) {
  return (
    <ul class="legend" aria-hidden="true">
      {series.map((one) => (
        <li key={one.name}>
          <span class={`swatch ${one.tone}`} />
          {one.name}
        </li>
      ))}
      {line && (
        <li>
          <span class="swatch dashed" />
          {line.name}
        </li>
      )}
    </ul>
  );
}

const TABLE_ROWS = 60;

function Figures({ title, times, series, say }) {
  const [open, setOpen] = useState(false);
  const rows = times.map((time, n) => [time, n]).filter(([, n]) => series.some((one) => one.values[n])).slice(-TABLE_ROWS);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>As a table</summary>
      {open && (
        <div class="scroll" tabIndex={0} role="region" aria-label={`${title} as a table`}>
          <table>
            <thead>
              <tr>
                <th scope="col">From</th>
                {series.map((one) => (
                  <th scope="col" key={one.name}>
                    {one.name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map(([time, n]) => (
                <tr key={time}>
                  <th scope="row">{new Date(time * 1000).toLocaleString('en-GB')}</th>
                  {series.map((one) => (
                    <td key={one.name}>{one.values[n] === null ? '–' : say(one.values[n] ?? 0)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </details>
  );
}

/** uPlot stacks nothing by itself: each series is drawn as the sum of those up to it, the highest first. */
function columns(times, series, stacked) {
  if (!stacked) return [times, ...series.map((one) => one.values)];
  const sums = [];
  series.forEach((one, n) => sums.push(one.values.map((value, i) => (value ?? 0) + (n ? sums[n - 1][i] : 0))));
  return [times, ...sums.reverse()];
}

function options({ width, times, step, series, stacked, line, say }) {
  const drawn = stacked ? [...series].reverse() : series;
  const grid = { stroke: colour('line'), width: 1 };
  const axis = { stroke: colour('quiet'), grid, ticks: grid, font: '12px system-ui, sans-serif' };
  const bars = uPlot.paths.bars({ size: [0.8, 60], align: 1 });
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    scales: {
      x: { time: true, range: [times[0], times.at(-1) + step] },
      y: { range: (_, least, most) => [0, (Math.max(most ?? 0, line ? line.at * 1.1 : 0) || 1) * 1.08] },
    },
    axes: [{ ...axis, values: (_, times) => times.map((time) => moment(time, step)) }, { ...axis, size: 62, values: (_, values) => values.map((value) => (value === null ? '' : say(value))) }],
    series: [
      {},
      ...drawn.map((one) => ({
        label: one.name,
        stroke: colour(one.tone),
        fill: stacked ? colour(one.tone) : undefined,
        width: stacked ? 0 : 2,
        paths: stacked ? bars : undefined,
        points: { show: !stacked, size: 5 },
        spanGaps: true,
      })),
    ],
    hooks: { draw: line ? [(plot) => threshold(plot, line)] : [] },
  };
}

/** A day, or a time of the day, by how far apart the points are. */
function moment(time, step) {
  const date = new Date(time * 1000);
  if (step >= DAY_SECONDS) return date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' });
  return date.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });
}

function threshold(plot, line) {
  const y = plot.valToPos(line.at, 'y', true);
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = colour('bad');
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}
