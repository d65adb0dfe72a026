// Health: what monitoring sees, in words; the figures; what this server can do.

import { useMemo, useState } from 'preact/hooks';

import { token } from '../api.js';
import { useResource } from '../hooks.js';
import { Card, Loaded, Search, State, Text } from '../parts.jsx';
import { count, duration } from '../words.js';

export function Health() {
  const status = useResource('/api/status', { every: 10_000 });
  const metrics = useResource('/metrics', { every: 10_000 });
  const routes = useResource('/api');
  return (
    <>
      <h1 tabIndex={-1}>Health</h1>
      <Loaded of={status}>{(value) => <Checks status={value} />}</Loaded>
      <Card title="Metrics" wide aside={token() === null && <a href="/metrics">as text</a>}>
        <Loaded of={metrics}>{(text) => <Metrics text={text} />}</Loaded>
      </Card>
      <Card title="Addresses of the API" wide aside={token() === null && <a href="/api/openapi.json">OpenAPI document</a>}>
        <Loaded of={routes}>{(value) => <Routes of={value.routes} />}</Loaded>
      </Card>
      <p class="hint">The dashboard is made with <a href="/assets/licences.txt">these libraries</a>.</p>
    </>
  );
}

function Checks({ status }) {
  const lag = status.push_lag_seconds ?? 0;
  const checks = [
    ['Routing state', status.ready, status.ready ? 'The first pass has been applied; deliveries find their webhooks.' : 'The first pass has not ended: look at the service’s log.'],
    ['Ledger', status.ledger.healthy, status.ledger.healthy ? 'The last write was kept.' : 'The last write failed: free disk space or look at the disk. Deliveries are answered with 503 until it works.'],
    ['Files', status.resources.stalled === 0, status.resources.stalled === 0 ? 'Every resource is in force as its file says.' : `${count(status.resources.stalled)} are stalled; what was last good stays in force. Their pages say why.`],
    ['Dead letters', status.queue.dead === 0, status.queue.dead === 0 ? 'No task has failed for good.' : `${count(status.queue.dead)} tasks have failed for good. Open them, mend the cause, retry.`],
    ['Push', lag < 300, lag === 0 ? 'Nothing waits to be pushed.' : `The oldest commit has been waiting for ${duration(lag * 1000)}. See whether the remote answers.`],
  ];
  return (
    <Card title="Checks" wide>
      <ul class="checks">
        {checks.map(([name, good, text]) => (
          <li key={name}>
            <State of={good ? 'ready' : 'not ready'}>{good ? 'good' : 'look here'}</State> <strong>{name}</strong> <span>{text}</span>
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Metrics({ text }) {
  const [search, setSearch] = useState('');
  const lines = useMemo(() => text.split('\n').filter((line) => line && !line.startsWith('#') && !line.includes('_bucket{')), [text]);
  const wanted = lines.filter((line) => line.includes(search));
  return (
    <>
      <div class="toolbar"><Search label="Only lines with" value={search} onChange={setSearch} /></div>
      <Text label="Metrics">{wanted.join('\n') || 'No line has that in it.'}</Text>
    </>
  );
}

function Routes({ of }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Addresses">
      <table>
        <thead><tr><th scope="col">Method</th><th scope="col">Address</th><th scope="col">What it does</th></tr></thead>
        <tbody>
          {of.map((route) => (
            <tr key={`${route.method} ${route.path}`}><td>{route.method}</td><th scope="row"><code>{route.path}</code></th><td>{route.summary}</td></tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
