// What anybody sees without a token: the overview, the picture, every page by keyboard alone, and a server that goes away.

import { accessible, api, comment, equal, expected, open, ownWebhook, reachable, settled, story, until, writeSkill } from './kit.mjs';

writeSkill('bare-hook', ownWebhook('bare-hook', { secret: 'BARE_WEBHOOK_SECRET' }));
await until('the webhook', async () => (await api('/api/webhooks/bare-hook')).spec);
const { tasks } = await comment('@agent analyze why it is slow');
await until('the end of the task', async () => (await api(`/api/tasks/${tasks[0]}`)).state === 'succeeded');

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
    await reachable(page, name);
  }
});

await story('news come as a stream, which goes on where it broke off', async (page) => {
  const last = (await api('/api/status')).last_seq;
  const asked = [];
  await page.route('**/api/stream?*', (route) => {
    asked.push(Number(new URL(route.request().url()).searchParams.get('since')));
    // The first one breaks off behind a number; the others are the server's own.
    const broken = `id: ${last - 1}\nevent: task.started\ndata: {"seq": ${last - 1}, "kind": "task.started"}\n\n`;
    return asked.length > 1 ? route.continue() : route.fulfill({ contentType: 'text/event-stream', body: broken });
  });
  await open(page, '#/tasks');
  await until('the second stream', async () => asked.length > 1);
  equal(asked, [last, last - 1], 'the numbers from which on was asked');
  await comment('@agent analyze it once more');
  await page.getByText('2 tasks', { exact: true }).waitFor();
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
