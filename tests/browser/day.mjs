// A person's day with the dashboard, from signing in to looking why a command did not match.

import { accessible, api, comment, equal, expected, holds, open, ownWebhook, settings, settled, story, until, writeSkill } from './kit.mjs';

await story('a webhook that needs its secret says so, and its address is copied', async (page) => {
  writeSkill('bare-hook', ownWebhook('bare-hook', { secret: 'BARE_WEBHOOK_SECRET' }));
  await until('the webhook', async () => (await api('/api/webhooks/bare-hook')).spec);
  await open(page);
  await page.getByRole('link', { name: 'Webhooks', exact: true }).click();
  await page.getByRole('heading', { name: 'Webhooks' }).waitFor();
  await page.getByLabel('State').selectOption('needs secret');
  await page.getByRole('link', { name: 'bare-hook' }).click();
  await page.getByText('BARE_WEBHOOK_SECRET').first().waitFor();
  await page.getByText('Until it is there').waitFor();
  await page.getByRole('button', { name: 'Copy the address', exact: true }).click();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  equal(copied, `${settings.receiver}/webhooks/github/bare-hook`, 'the address in the clipboard');
  await accessible(page, 'a webhook');
});

await story('a test says what a sample would do, and does nothing', async (page) => {
  await open(page, '#/webhooks/github');
  await page.getByRole('button', { name: 'Send a test' }).click();
  const would = page.getByRole('region', { name: /^What .+ would do$/ }).first();
  await would.getByRole('rowheader', { name: 'analyze' }).waitFor();
  await accessible(page, 'the result of a test');
  equal((await api('/api/deliveries')).items, [], 'deliveries after a test');
});

await story('a log is written while one looks, and the answer follows', async (page) => {
  await open(page, '#/tasks');
  await page.getByText('No task has run yet').waitFor();
  const { tasks } = await comment('@agent analyze why it is slow');
  // The list learns of it by itself.
  await page.getByRole('table', { name: 'Tasks' }).getByRole('link').first().click();
  await page.getByRole('log').getByText('a finding that the agent says').first().waitFor();
  const running = await api(`/api/tasks/${tasks[0]}`);
  holds(running.state === 'running', `the log is there before the task has ended, which is ${running.state}`);
  await page.getByRole('heading', { name: 'Answer' }).waitFor();
  await page.locator('.headline .state', { hasText: 'succeeded' }).waitFor();
  await accessible(page, 'a task');
});

await story('a delivery tells why each command did or did not match, and when each step was', async (page) => {
  await open(page, '#/deliveries');
  await page.getByRole('table', { name: 'Deliveries' }).getByRole('link').first().click();
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
});

await story('the overview and the picture show what is and what is not ready', async (page) => {
  await open(page);
  await page.locator('.verdict').getByText('ready', { exact: true }).waitFor();
  await page.getByText(/deliver(y|ies): 1 accepted|[0-9]+ deliveries: /).first().waitFor();
  await page.getByText('As a table').first().click();
  await page.getByRole('region', { name: /as a table/ }).first().waitFor();
  await accessible(page, 'the overview');
  await open(page, '#/webhooks?view=picture&search=bare');
  const box = page.getByRole('link', { name: /^bare-hook needs secret/ });
  await box.waitFor();
  await box.focus();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'bare-hook' }).waitFor();
});

await story('every page can be reached and worked by keyboard alone', async (page) => {
  await open(page);
  await page.keyboard.press('Tab');
  equal(await page.evaluate(() => document.activeElement.textContent.trim()), 'Skip to the content', 'the first stop');
  await page.keyboard.press('Enter');
  equal(await page.evaluate(() => document.activeElement.tagName), 'H1', 'where it leads');
  const names = await page.getByRole('navigation').getByRole('link').allInnerTexts();
  for (const name of names) {
    const link = page.getByRole('navigation').getByRole('link', { name, exact: true });
    await link.focus();
    await page.keyboard.press('Enter');
    await page.locator('main h1').waitFor();
    await settled(page);
    equal(await link.getAttribute('aria-current'), 'page', `${name} is marked`);
    await accessible(page, name);
  }
});

await story('a server that goes away is said, and what was there stays', async (page, { complaints, context }) => {
  await open(page, '#/tasks');
  await page.getByRole('table', { name: 'Tasks' }).waitFor();
  await context.setOffline(true);
  await page.reload().catch(() => {});
  await context.setOffline(false);
  await open(page, '#/tasks');
  await page.getByRole('table', { name: 'Tasks' }).waitFor();
  expected(complaints, /ERR_INTERNET_DISCONNECTED|ERR_NETWORK_CHANGED/);
});
