// A run that waits for a person: what would run is read, one is approved, another is rejected.

import { accessible, api, comment, open, ownWebhook, signIn, story, until, writeSkill } from './kit.mjs';

const text = ownWebhook('careful', { command: 'deploy' }).replace('      prompt_template', '      requires_approval: true\n      prompt_template');
writeSkill('careful', text);
await until('the webhook', async () => (await api('/api/webhooks/careful')).spec);

await story('a waiting run is approved by whoever has read what it would do', async (page) => {
  await signIn(page);
  await open(page, '#/approvals');
  await page.getByText('Nothing waits for you').waitFor();
  const { tasks } = await comment('@agent deploy the first', { path: '/webhooks/github/careful' });
  const card = page.getByRole('region', { name: 'deploy for careful', exact: true });
  await card.getByText('deploy the first').waitFor();
  await accessible(page, 'approvals');
  await card.getByRole('button', { name: 'Approve' }).click();
  await page.getByText('Nothing waits for you').waitFor();
  await until('the run', async () => (await api(`/api/tasks/${tasks[0]}`)).state === 'succeeded');
}, { isRefused: true });

await story('what is rejected does not run', async (page) => {
  const { tasks } = await comment('@agent deploy the second', { path: '/webhooks/github/careful' });
  await signIn(page);
  await open(page, `#/tasks/${tasks[0]}`);
  await page.getByRole('button', { name: 'Reject' }).click();
  await page.getByText('It will not run.').waitFor();
  await page.getByRole('group', { name: 'Reject' }).getByRole('button', { name: 'Reject' }).click();
  await page.locator('.headline .state').getByText(/refused|cancelled/).waitFor();
}, { isRefused: true });
