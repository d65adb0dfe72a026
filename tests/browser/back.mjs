// What was changed, what it did, and the way back.

import { accessible, api, open, ownWebhook, signIn, story, until, writeSkill } from './kit.mjs';

const commands = async () => (await api('/api/webhooks/triage')).spec.commands.map((command) => command.name);
const newest = async () => (await api('/api/history?limit=1')).items[0].commit;

writeSkill('triage', ownWebhook('triage', { command: 'first' }));
await until('the first commit', async () => (await commands())[0] === 'first' && JSON.stringify(await api('/api/history?limit=1')).includes('triage'));
const first = await newest();
writeSkill('triage', ownWebhook('triage', { command: 'second' }));
await until('the second commit', async () => (await commands())[0] === 'second' && (await newest()) !== first);

await story('a change is read and taken back', async (page) => {
  await signIn(page);
  await open(page, '#/changes');
  await accessible(page, 'changes');
  await page.getByRole('listitem').nth(1).waitFor();
  await page.locator(`main a[href$="${await newest()}"]`).click();
  await page.getByRole('region', { name: /^Difference of .*triage/ }).getByText('+    - name: second').waitFor();
  await accessible(page, 'a change');
  await open(page, `#/changes/${first}`);
  await page.getByRole('button', { name: 'Go back to this' }).click();
  await page.getByRole('group', { name: 'Go back to this' }).getByRole('button', { name: 'Go back to this' }).click();
  await page.getByText(/^Brought back as/).waitFor();
  await until('the first command again', async () => (await commands())[0] === 'first');
});
