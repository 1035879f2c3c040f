// Watches whether a mirror's status page says that what it shows is old.
//
//   node silent.mjs <url>
//
// A line of JSON for each of these, and an empty line on standard input between them: it has renewed itself; it says that nobody
// answers; it no longer does.
import { session } from './lib/browser.mjs'

const [url] = process.argv.slice(2)
const { lines, say, open, judged } = session()

await judged(async () => {
  const { page, record } = await open(url, { width: 960, height: 600 })
  const told = page.locator('#silent')
  const tell = async () => say({ silent: await told.isVisible(), page_errors: record.page_errors })
  // Not the page's first request, which is the page itself.
  let loaded = false
  const renewed = page.waitForResponse(() => loaded)
  await page.goto(url, { waitUntil: 'load' })
  loaded = true
  await (await renewed).finished()
  await tell()

  await lines.next()
  await told.waitFor({ state: 'visible' })
  await tell()

  await lines.next()
  await told.waitFor({ state: 'hidden' })
  await tell()
})
