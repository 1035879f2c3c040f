// Stays on the operator's page while somebody else operates the box, in a browser that is too old for `URL.canParse`.
//
//   node console.mjs <operator's page> <screenshot.png>
//
// A line of JSON for each of these, and an empty line on standard input between them: the list of recordings has changed under a
// focused button; a dialog asks whether to end the broadcast; another broadcast is on (say so when it is), and the
// recording of the first is deleted; a page that was hidden
// for some seconds is looked at again.
import { painted, session } from './lib/browser.mjs'

const [url, screenshot] = process.argv.slice(2)
const { lines, say, open, judged } = session()

function visit () {
  return open(url, { width: 1280, height: 1000 })
}

await judged(async () => {
  const { page, record } = await visit()
  await page.addInitScript(() => { delete URL.canParse })
  await page.goto(url, { waitUntil: 'load' })
  const row = page.locator('#recordings li').first()
  const pin = row.locator('button').first()
  await pin.focus()
  const size = row.locator('span')
  const before = await size.textContent()
  await page.evaluate(() => { globalThis.focused = document.activeElement })
  await page.waitForFunction((before) => document.querySelector('#recordings li span').textContent !== before, before)
  await painted(page)
  await page.screenshot({ path: screenshot, fullPage: true })
  say({
    kept: await page.evaluate(() => document.activeElement === globalThis.focused && globalThis.focused.matches('#recordings button')),
    label: await pin.getAttribute('aria-label'),
    link: await page.locator('#watch-url').getAttribute('href'),
    silence: await page.locator('#silence').isVisible()
  })

  await lines.next()
  await page.locator('#stop').click()
  say({ asks: await page.locator('#confirm').isVisible() })

  await lines.next()
  await page.locator('#confirm').waitFor({ state: 'hidden' })
  const recordings = page.locator('#recordings li')
  await recordings.nth(1).waitFor()
  const [newest, ended] = [0, 1].map((at) => recordings.nth(at).getByRole('button', { name: 'Delete' }))
  const offered = [await newest.isEnabled(), await ended.isEnabled()]
  await ended.click()
  await page.locator('#delete').getByRole('button', { name: 'Delete' }).click()
  await recordings.nth(1).waitFor({ state: 'detached' })
  say({ asks: false, offered })

  await lines.next()
  const { page: late } = await visit()
  await late.clock.install({ time: 0 })
  await late.goto(url, { waitUntil: 'load' })
  // From here on it goes when it is told to.
  await late.clock.pauseAt(3_600_000)
  const status = (it) => it.url().endsWith('/api/v1/status')
  const look = (hidden) => late.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))
  }, hidden)
  await Promise.all([late.waitForResponse(status), look(true)])
  // Nobody answers any more, so that only the time counts.
  await late.route('**/api/v1/status', () => {})
  await late.clock.runFor(1900)
  await Promise.all([late.waitForRequest(status), look(false)])
  await late.clock.runFor(1000)
  const soon = await late.locator('#silence').isVisible()
  await late.clock.runFor(1000)
  say({ soon, then: await late.locator('#silence').isVisible(), ...record })
})
