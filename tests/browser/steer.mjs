// What a person does with a token: sign in, and change things.

import { accessible, api, equal, holds, open, ownWebhook, settings, settled, story, until, writeSkill } from './kit.mjs';

writeSkill('triage', ownWebhook('triage', { command: 'triage' }));
await until('the webhook', async () => (await api('/api/webhooks/triage')).spec);

async function signIn(page, { isKept = false } = {}) {
  await page.goto(`${settings.admin}/#/files`);
  await page.getByLabel('Token').fill(settings.token);
  if (isKept) await page.getByLabel('Keep it in this browser').check();
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('navigation').waitFor();
}

await story('a token is asked for, survives a reload, and never stands in an address', async (page, { context }) => {
  await page.goto(settings.admin);
  await page.getByLabel('Token').waitFor();
  await accessible(page, 'signing in');
  await page.getByLabel('Token').fill('shk_wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').waitFor();
  await signIn(page);
  await page.reload();
  await page.getByRole('navigation').waitFor();
  const stored = await page.evaluate(() => [Object.keys(sessionStorage), Object.keys(localStorage), document.cookie]);
  equal(stored, [['skillhook.token'], [], ''], 'where the token is kept');
  const other = await context.newPage();
  await other.goto(settings.admin);
  await other.getByLabel('Token').waitFor();
  await other.close();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Token').waitFor();
  equal(await page.evaluate(() => Object.keys(sessionStorage)), [], 'nothing is left of it');
  await signIn(page, { isKept: true });
  const kept = await context.newPage();
  await kept.goto(settings.admin);
  await kept.getByRole('navigation').waitFor();
  await kept.close();
}, { isRefused: true });

async function write(page, text) {
  await page.getByRole('textbox', { name: /^Text of/ }).click();
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText(text);
}

await story('a mistake in a file is said while one types, and cannot be saved', async (page) => {
  await signIn(page);
  await page.getByRole('table', { name: 'Skills' }).getByRole('link', { name: 'triage' }).click();
  await page.getByText('valid', { exact: true }).waitFor();
  holds(await page.getByRole('button', { name: 'Save' }).isDisabled(), 'what was not changed is not saved');
  await accessible(page, 'the editor');
  await write(page, ownWebhook('triage', { command: 'triage' }).replace('provider:', 'provder:'));
  await page.locator('.headline').getByText(/1 error|[0-9]+ errors/).waitFor();
  const said = page.locator('.diagnostics li').first();
  await said.getByText(/SKILL\.md:5:3/).waitFor();
  await said.getByText('did you mean `provider`?').waitFor();
  holds(await page.getByRole('button', { name: 'Save' }).isDisabled(), 'what is wrong is not saved');
  await page.getByRole('button', { name: 'Go to the first place' }).click();
  await accessible(page, 'the editor with a mistake');
});

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
