// Providers: whose deliveries this server understands, and where each definition comes from.

import { link, useResource } from '../hooks.js';
import { Empty, Loaded } from '../parts.jsx';
import { Rows } from '../rows.jsx';

export function Providers() {
  const providers = useResource('/api/providers', { when: (one) => one.kind.startsWith('reconcile.') });
  const columns = [
    { name: 'Provider', width: 'minmax(0, 1fr)', cell: (one) => <strong class="clip">{one.name}</strong> },
    { name: 'Title', width: 'minmax(0, 1.5fr)', cell: (one) => <span class="clip">{one.title}</span> },
    { name: 'Secrets that it needs', width: 'minmax(0, 1.5fr)', cell: (one) => <span class="clip">{one.secret_slots.join(', ') || 'none'}</span> },
    { name: 'Comes from', width: 'minmax(0, 1.5fr)', cell: (one) => <span class="clip">{one.source === 'catalogue' ? 'the program' : one.source}</span> },
    { name: 'Webhooks', width: '7rem', cell: (one) => <a href={link('webhooks', { search: one.name })} aria-label={`see them: webhooks of ${one.name}`}>see them</a> },
  ];
  return (
    <>
      <h1 tabIndex={-1}>Providers</h1>
      <Loaded of={providers}>
        {({ items }) => (
          <Rows label="Providers" items={items} columns={columns}>
            <Empty title="No providers">The program comes with some; one of your own is a file <code>.claude/providers/NAME.yaml</code>.</Empty>
          </Rows>
        )}
      </Loaded>
    </>
  );
}
