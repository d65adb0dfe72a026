// Budgets: what was used today of what may be used, by all webhooks together and by each, and until when runs pause.

import { link, setFields, useResource, useRoutes } from '../hooks.js';
import { Card, Choice, Empty, Loaded, Meter, NotHere, State, When } from '../parts.jsx';
import { Counted, Rows } from '../rows.jsx';
import { Spending } from '../spending.jsx';
import { count, money } from '../words.js';

const REFRESH_MS = 15_000;
const DAYS = [['7', 'Last 7 days'], ['14', 'Last 14 days'], ['30', 'Last 30 days']];

export function Budgets({ fields }) {
  const has = useRoutes();
  const known = has('GET', '/api/budgets');
  return (
    <>
      <h1 tabIndex={-1}>Budgets</h1>
      {known === false && <NotHere what="The state of budgets" />}
      {known && <Today />}
      <div class="toolbar">
        <Choice label="Cost of" value={fields.days ?? '14'} options={DAYS} onChange={(days) => setFields({ days })} />
      </div>
      <Spending days={Number(fields.days) || 14} />
    </>
  );
}

function Today() {
  const budgets = useResource('/api/budgets', { every: REFRESH_MS, when: (one) => ['task.started', 'task.completed'].includes(one.kind) });
  const columns = [
    { name: 'Webhook', width: 'minmax(0, 2fr)', cell: (one) => <a class="clip" href={link('webhooks', one.webhook)}>{one.webhook}</a> },
    { name: 'State', width: '8rem', cell: (one) => <Standing of={one} /> },
    { name: 'Runs', width: 'minmax(0, 1fr)', cell: (one) => `${count(one.runs)} of ${one.runs_max === null ? 'any number' : count(one.runs_max)}` },
    { name: 'Cost', width: 'minmax(0, 1fr)', cell: (one) => `${money(one.usd)} of ${one.usd_max === null ? 'any sum' : money(one.usd_max)}` },
  ];
  return (
    <Loaded of={budgets}>
      {({ all, items, paused_until, resets_at }) => (
        <>
          {paused_until && <p class="notice warn">The agent’s usage limit is reached: no run begins before <When at={paused_until} />. What waits stays in the queue.</p>}
          <Card title="All webhooks together, today" wide aside={<span class="hint">days are those of UTC; the next one begins <When at={resets_at} /></span>}>
            <Meters of={all} />
            <p class="hint">The operator’s limits: <code>agent.usd_per_day</code> and <code>agent.runs_per_day</code> in <code>skillhook.toml</code>. What a webhook may use: <code>budget</code> in its <code>webhook_config</code>.</p>
          </Card>
          <h2>By webhook, today</h2>
          {items.length > 0 && <Counted items={items} what="webhook" />}
          <Rows label="Budgets of webhooks" items={items} columns={columns} keyOf={(one) => one.webhook}>
            <Empty title="No webhook has a budget, and none has run today">
              <p>Write <code>budget: {'{usd_per_day: 5, runs_per_day: 100}'}</code> below <code>webhook_config</code> of <a href={link('files')}>a skill</a>: runs beyond it are refused with a reason.</p>
            </Empty>
          </Rows>
        </>
      )}
    </Loaded>
  );
}

/** The two meters of one budget. */
export function Meters({ of }) {
  return (
    <>
      <Meter name="Runs" value={of.runs} most={of.runs_max} say={count} />
      <Meter name="Cost" value={of.usd} most={of.usd_max} say={money} />
    </>
  );
}

function Standing({ of }) {
  const isUsedUp = (of.runs_max !== null && of.runs >= of.runs_max) || (of.usd_max !== null && of.usd >= of.usd_max);
  if (isUsedUp) return <State of="error">used up</State>;
  return of.runs_max === null && of.usd_max === null ? <State of="quiet">no limit</State> : <State of="ready">within it</State>;
}
