// A person with a token edits files: what is wrong is said and not saved, what is right is in force.

import { accessible, api, holds, open, ownWebhook, settled, signIn, story, until, write, writeSkill } from './kit.mjs';

writeSkill('triage', ownWebhook('triage', { command: 'triage' }));
await until('the webhook', async () => (await api('/api/webhooks/triage')).spec);

await story('a mistake in a file is said while one types, and cannot be saved', async (page) => {
  await signIn(page);
  await page.getByRole('table', { name: 'Skills' }).getByRole('link', { name: 'triage' }).click();
  await page.getByText('valid', { exact: true }).waitFor();
  holds(await page.getByRole('button', { name: 'Save', exact: true }).isDisabled(), 'what was not changed is not saved');
  await accessible(page, 'the editor');
  await write(page, ownWebhook('triage', { command: 'triage' }).replace('provider:', 'provder:'));
  await page.locator('.headline').getByText(/1 error|[0-9]+ errors/).waitFor();
  const said = page.locator('.diagnostics li').first();
  await said.getByText(/SKILL\.md:5:3/).waitFor();
  await said.getByText('did you mean `provider`?').waitFor();
  holds(await page.getByRole('button', { name: 'Save', exact: true }).isDisabled(), 'what is wrong is not saved');
  await page.getByRole('button', { name: 'Go to the first place' }).click();
  await accessible(page, 'the editor with a mistake');
}, { isRefused: true });

await story('what is right is saved, committed and in force', async (page) => {
  await signIn(page);
  await page.getByRole('table', { name: 'Skills' }).getByRole('link', { name: 'triage' }).click();
  await page.getByText('valid', { exact: true }).waitFor();
  await write(page, ownWebhook('triage', { command: 'sort' }));
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByText(/^Saved: committed as/).waitFor();
  await open(page, '#/webhooks/triage');
  await page.getByRole('region', { name: 'Commands of this webhook' }).getByRole('rowheader', { name: 'sort' }).waitFor();
  // Somebody else's edit is not lost.
  await open(page, '#/files/skills/triage');
  await page.getByText('valid', { exact: true }).waitFor();
  writeSkill('triage', ownWebhook('triage', { command: 'other' }));
  await until('the other edit', async () => (await api('/api/webhooks/triage')).spec.commands[0].name === 'other');
  await write(page, ownWebhook('triage', { command: 'mine' }));
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByText('Somebody else has changed this file meanwhile').waitFor();
  await page.getByRole('button', { name: /^Throw my text away/ }).click();
  await page.getByText('name: other').waitFor();
}, { isRefused: true });

await story('a new skill is written and stands in the list', async (page) => {
  await signIn(page);
  await page.getByLabel('Name of a new skill').fill('fresh-skill');
  await page.getByRole('button', { name: 'Write it' }).click();
  await page.getByText('is not there yet').waitFor();
  await page.getByText('valid', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByText(/^Saved: committed as/).waitFor();
  await page.getByRole('navigation').getByRole('link', { name: 'Skills and agents' }).click();
  await page.getByRole('table', { name: 'Skills' }).getByRole('link', { name: 'fresh-skill' }).waitFor();
  await settled(page);
}, { isRefused: true });
