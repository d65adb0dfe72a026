// A person's day with the dashboard, from signing in to asking for a new webhook: one browser, one server, every step real.

import { accessible, api, comment, commentBody, equal, holds, open, ownWebhook, readSkill, settings, settled, signIn, story, until, write, writeSkill } from './kit.mjs';

const FILE = { kind: 'skills', name: 'triage' };
/** What the agent of this test does when it is asked for a webhook: it calls the service's tool, as a real one would. */
const LINEAR = `---\nname: linear-issues\ndescription: Looks at new issues in Linear.\nwebhook_config:\n  provider: linear\n  id: linear-issues\n  secret_env_var: LINEAR_ISSUES_WEBHOOK_SECRET\n  commands:\n    - name: look\n      description: Looks at it.\n      prompt_template: "Look at {{ text }}"\n---\n# Linear\n`;
const AGENT = { mode: 'call', calls: [{ name: 'put_skill', input: { name: 'linear-issues', content: LINEAR } }], text: 'Done: linear-issues waits for its secret.', seconds: 1 };

writeSkill('bare-hook', ownWebhook('bare-hook', { secret: 'BARE_WEBHOOK_SECRET' }));
writeSkill('careful', ownWebhook('careful', { command: 'deploy' }).replace('      prompt_template', '      requires_approval: true\n      prompt_template'));
for (const name of ['bare-hook', 'careful']) await until(name, async () => (await api(`/api/webhooks/${name}`)).spec);

const commands = async () => (await api(`/api/webhooks/${FILE.name}`)).spec?.commands.map((command) => command.name).join();
const go = (page, name) => page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name, exact: true }).click();
const heading = (page, name) => page.getByRole('heading', { name, exact: true, level: 1 }).waitFor();

await story('a day', async (page) => {
  await signIn(page);
  await needsItsSecret(page);
  const delivery = await testDelivery(page);
  await approval(page);
  await whyNot(page, delivery);
  await mistake(page);
  await change(page);
  await wayBack(page);
  await proposed(page);
  await chat(page);
}, { isRefused: true });

async function needsItsSecret(page) {
  await go(page, 'Webhooks');
  await heading(page, 'Webhooks');
  await page.getByLabel('State').selectOption('needs secret');
  await page.getByRole('link', { name: 'bare-hook' }).click();
  await page.getByText('BARE_WEBHOOK_SECRET').first().waitFor();
  await page.getByText('Until it is there').waitFor();
  await page.getByRole('button', { name: 'Copy the address', exact: true }).click();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  equal(copied, `${settings.receiver}/webhooks/github/bare-hook`, 'the address in the clipboard');
  await accessible(page, 'a webhook');
  // The secret is made here, taken along to the provider, and sealed into the file.
  await page.getByRole('button', { name: 'Make a random one' }).click();
  await page.getByRole('button', { name: 'Copy the secret, to enter it at the provider' }).click();
  const secret = await page.evaluate(() => navigator.clipboard.readText());
  holds(/^[0-9a-f]{64}$/.test(secret), 'the secret in the clipboard is a random one');
  await page.getByRole('button', { name: 'Seal and save' }).click();
  await page.locator('.headline .state').getByText('ready', { exact: true }).waitFor();
  holds(!(await page.content()).includes(secret), 'the secret is not shown any more');
  holds(!readSkill('bare-hook').includes(secret), 'the secret is sealed in the file');
}

/** Tried first, which does nothing; then sent, and its log is read while it is written. Answers the delivery. */
async function testDelivery(page) {
  await open(page, '#/webhooks/github');
  const form = page.getByRole('form', { name: 'Test' });
  await form.getByLabel('Sample').selectOption('github.issue_comment.created');
  await form.getByLabel(/^Payload/).fill(JSON.stringify(commentBody('@agent analyze why it is slow')));
  await form.getByRole('button', { name: 'Try it' }).click();
  const would = page.getByRole('region', { name: /^What .+ would do$/ }).first();
  await would.getByRole('row', { name: /^analyze matched/ }).waitFor();
  await accessible(page, 'the result of a try');
  equal((await api('/api/deliveries')).items, [], 'deliveries after a try');
  await form.getByRole('button', { name: 'Send a test delivery' }).click();
  await page.getByRole('list', { name: 'What was sent' }).getByRole('link', { name: /^watch/ }).click();
  await page.getByRole('log').getByText('a finding that the agent says').first().waitFor();
  const [task] = (await api('/api/tasks')).items;
  equal(task.state, 'running', 'the task while its log is there already');
  await page.getByRole('heading', { name: 'Answer' }).waitFor();
  await page.locator('.headline .state', { hasText: 'succeeded' }).waitFor();
  await accessible(page, 'a task');
  return task.delivery;
}

async function approval(page) {
  await go(page, 'Approvals');
  await page.getByText('Nothing waits for you').waitFor();
  const { tasks } = await comment('@agent deploy the first', { path: '/webhooks/github/careful' });
  const card = page.getByRole('region', { name: 'deploy for careful', exact: true });
  await card.getByText('deploy the first').waitFor();
  await card.getByRole('button', { name: 'Approve' }).click();
  await page.getByText('Nothing waits for you').waitFor();
  await until('the run', async () => (await api(`/api/tasks/${tasks[0]}`)).state === 'succeeded');
}

async function whyNot(page, delivery) {
  await go(page, 'Deliveries');
  await heading(page, 'Deliveries');
  await page.getByRole('table', { name: 'Deliveries' }).locator(`a[href$="/${delivery}"]`).click();
  const rules = page.getByRole('region', { name: 'Rules' });
  await rules.getByRole('row', { name: /^analyze matched/ }).waitFor();
  const review = await rules.getByRole('row', { name: /^review not matched/ }).innerText();
  holds(review.length > 'review not matched'.length + 5, `the reason is there: ${review}`);
  await page.getByText('verified', { exact: true }).waitFor();
  await page.getByRole('region', { name: 'Rendered prompt' }).getByText('why it is slow').first().waitFor();
  await page.locator('.timeline').getByText('reply at the source').waitFor();
  const steps = await page.locator('.timeline li').count();
  holds(steps >= 4, `${steps} steps stand in the timeline`);
  const headers = await page.getByRole('region', { name: 'Headers' }).innerText();
  holds(!headers.includes('sha256='), 'the signature is masked');
  await accessible(page, 'a delivery');
}

async function mistake(page) {
  await go(page, 'Skills and agents');
  await page.getByLabel('Name of a new skill').fill(FILE.name);
  await page.getByRole('button', { name: 'Write it' }).click();
  await page.getByText('valid', { exact: true }).waitFor();
  await write(page, ownWebhook(FILE.name, { command: 'first' }).replace('provider:', 'provder:'));
  await page.locator('.headline').getByText(/1 error|[0-9]+ errors/).waitFor();
  const said = page.locator('.diagnostics li').first();
  await said.getByText(/SKILL\.md:5:3/).waitFor();
  await said.getByText('did you mean `provider`?').waitFor();
  holds(await page.getByRole('button', { name: 'Save', exact: true }).isDisabled(), 'what is wrong is not saved');
  await accessible(page, 'the editor with a mistake');
}

/** Without the mistake it is saved, and stands in the list; then once more with another command. */
async function change(page) {
  await write(page, ownWebhook(FILE.name, { command: 'first' }));
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByText(/^Saved: committed as/).waitFor();
  await go(page, 'Webhooks');
  await page.getByRole('table', { name: 'Webhooks' }).getByRole('link', { name: FILE.name, exact: true }).click();
  await page.getByRole('region', { name: 'Commands of this webhook' }).getByRole('rowheader', { name: 'first' }).waitFor();
  await open(page, `#/files/${FILE.kind}/${FILE.name}`);
  await page.getByText('valid', { exact: true }).waitFor();
  await write(page, ownWebhook(FILE.name, { command: 'second' }));
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByText(/^Saved: committed as/).waitFor();
  equal(await commands(), 'second', 'the commands after the second change');
}

async function wayBack(page) {
  const about = (item) => item.changes.some((change) => change.path.includes(FILE.name));
  const [newer, older] = (await api('/api/history?limit=10')).items.filter(about);
  await go(page, 'Changes');
  await heading(page, 'Changes');
  await page.locator(`main a[href$="${newer.commit}"]`).click();
  await page.getByRole('region', { name: /^Difference of .*triage/ }).getByText('+    - name: second').waitFor();
  await page.getByRole('region', { name: 'What it did' }).getByText('webhook').first().waitFor();
  await accessible(page, 'a change');
  await open(page, `#/changes/${older.commit}`);
  await page.getByRole('button', { name: 'Go back to this' }).click();
  await page.getByRole('group', { name: 'Go back to this' }).getByRole('button', { name: 'Go back to this' }).click();
  await page.getByText(/^Brought back as/).waitFor();
  await until('the first command again', async () => (await commands()) === 'first');
  await go(page, 'Changes');
  const [back] = (await api('/api/history?limit=1')).items;
  await page.locator(`main li:has(a[href$="${back.commit}"])`).getByText('a-person').waitFor();
}

/** What is only proposed is not in force, and its effect can be read. */
async function proposed(page) {
  await open(page, `#/files/${FILE.kind}/${FILE.name}`);
  await page.getByText('valid', { exact: true }).waitFor();
  await write(page, ownWebhook(FILE.name, { command: 'third' }));
  await page.getByRole('button', { name: 'Save as a proposal' }).click();
  await page.getByText(/^Proposed on the branch/).waitFor();
  await go(page, 'Changes');
  await page.getByRole('link', { name: '1 proposal waits for review' }).click();
  await heading(page, 'Proposals');
  await accessible(page, 'proposals');
  await page.locator('main li a').first().click();
  await page.getByRole('region', { name: 'What merging it would do' }).getByText('webhook').first().waitFor();
  await page.getByRole('region', { name: /^Difference of .*triage/ }).getByText('+    - name: third').waitFor();
  await accessible(page, 'a proposal');
  equal(await commands(), 'first', 'the commands while it is only proposed');
}

async function chat(page) {
  await go(page, 'Chat');
  await page.getByText('No conversation yet').waitFor();
  await page.getByRole('textbox', { name: 'Message' }).fill(`Add a webhook for new issues in Linear. fake-agent:${JSON.stringify(AGENT)}`);
  await page.getByLabel('It may change files').check();
  await page.getByRole('button', { name: 'Send' }).click();
  const talk = page.getByRole('list', { name: 'Messages' });
  await talk.locator('.theirs').getByText(AGENT.text).waitFor();
  await talk.getByText('succeeded', { exact: true }).waitFor();
  await go(page, 'Webhooks');
  await page.getByRole('table', { name: 'Webhooks' }).getByRole('row', { name: /^linear-issues needs secret/ }).waitFor();
  await settled(page);
}
