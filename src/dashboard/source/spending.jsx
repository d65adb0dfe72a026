// What runs cost by webhook and day, as a chart: those that cost most, and the rest together.

import { useMemo } from 'preact/hooks';

import { Chart } from './chart.jsx';
import { useResource } from './hooks.js';
import { Card, Empty, Fault } from './parts.jsx';
import { count, money } from './words.js';

const TONES = ['one', 'two', 'three', 'four', 'five', 'six'];
const WEBHOOKS_DRAWN = 5;
const DAY_SECONDS = 86_400;
const REFRESH_MS = 60_000;

export function Spending({ days = 14 }) {
  const spending = useResource(`/api/spending?days=${days}`, { every: REFRESH_MS, when: (one) => one.kind === 'task.completed' });
  if (spending.error) return <Fault error={spending.error} reload={spending.reload} />;
  return spending.value && <Drawn items={spending.value.items} days={days} />;
}

function Drawn({ items, days }) {
  const chart = useMemo(() => {
    const today = Math.floor(Date.now() / 1000 / DAY_SECONDS) * DAY_SECONDS;
    const times = Array.from({ length: days }, (_, n) => today - (days - 1 - n) * DAY_SECONDS);
    const totals = new Map();
    items.forEach((item) => totals.set(item.webhook, (totals.get(item.webhook) ?? 0) + item.cost_usd));
    const dearest = [...totals].sort((a, b) => b[1] - a[1]).slice(0, WEBHOOKS_DRAWN).map(([webhook]) => webhook);
    const row = (wanted) => times.map((time) => items.filter((item) => new Date(item.day).getTime() / 1000 === time && wanted(item.webhook)).reduce((sum, item) => sum + item.cost_usd, 0));
    const series = dearest.map((webhook, n) => ({ name: webhook, tone: TONES[n], values: row((name) => name === webhook) }));
    if (totals.size > dearest.length) series.push({ name: 'all others', tone: TONES[5], values: row((name) => !dearest.includes(name)) });
    return { times, series, total: items.reduce((sum, item) => sum + item.cost_usd, 0), tasks: items.reduce((sum, item) => sum + item.tasks, 0) };
  }, [items, days]);
  return (
    <Card title="Cost by webhook and day">
      {items.length ? (
        <Chart title="Cost by webhook and day" stacked times={chart.times} step={DAY_SECONDS} series={chart.series} say={money} sentence={`${money(chart.total)} for ${count(chart.tasks)} tasks in the last ${days} days.`} />
      ) : (
        <Empty title={`No task in the last ${days} days`}>What runs cost stands here once a delivery has started one.</Empty>
      )}
    </Card>
  );
}
