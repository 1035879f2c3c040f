// Watches a mirror's page, as a viewer would, while the box goes away and comes back.
//
//   node away.mjs <page> <screenshot.png>
//
// A line of JSON for each of these, and an empty line on standard input between them: it plays; nothing comes any more (say so
// when the mirror does), also on a second page that was opened since; the first one is told to take the IPFS copy; the second one
// to begin at the start; the box is back. Times are those of the pictures, milliseconds since 1970. `back` is how far pictures have
// gone back since the page was opened.
import { painted, session } from './lib/browser.mjs'

/** The page asks every two seconds: longer than any patience of the player, told by the page and not by a clock. */
const ANSWERS = 12

const [url, screenshot] = process.argv.slice(2)
const { lines, say, open, judged } = session()
async function watch (size) {
  const { page, record } = await open(url, size)
  await page.goto(url, { waitUntil: 'load' })
  await page.evaluate(() => {
    const seen = { first: null, last: null, back: 0 }
    globalThis.seen = seen
    const look = () => {
      const date = globalThis.podium.hls?.playingDate?.getTime() ?? null
      if (date !== null) {
        seen.first ??= date
        // Of what is newest: pictures that are shown again are as far back, however often.
        seen.back = Math.max(seen.back, (seen.last ?? date) - date)
        seen.last = Math.max(seen.last ?? date, date)
        seen.now = date
      }
      requestAnimationFrame(look)
    }
    look()
  })
  return { page, record }
}

const stands = (page) => page.waitForFunction(() => globalThis.podium.state === 'away' && globalThis.podium.video.readyState === 2)

async function answers (page) {
  for (let i = 0; i < ANSWERS; i++) await page.waitForResponse((it) => it.url().endsWith('/api/v1/public'))
}

async function tell ({ page, record }) {
  const seen = await page.evaluate(() => ({
    ...globalThis.seen,
    state: globalThis.podium.state,
    source: globalThis.podium.source,
    error: globalThis.podium.lastError,
    latency: globalThis.podium.latency,
    clock: Date.now(),
    ready: globalThis.podium.video.readyState,
    text: document.body.innerText,
    start: document.querySelector('#watch-start')?.checkVisibility() ?? false
  }))
  return { ...seen, page_errors: record.page_errors }
}

await judged(async () => {
  const before = await watch({ width: 1280, height: 800 })
  await before.page.waitForFunction(() => globalThis.seen.now - globalThis.seen.first > 3000)
  say(await tell(before))

  await lines.next()
  const after = await watch({ width: 390, height: 844 })
  await Promise.all([answers(before.page), answers(after.page)])
  const held = { before: await tell(before), after: await tell(after) }
  await painted(after.page)
  await before.page.screenshot({ path: screenshot })
  await after.page.screenshot({ path: screenshot.replace('.png', '-phone.png') })
  say(held)

  await lines.next()
  await before.page.locator('input[value=ipfs]').check()
  await answers(before.page)
  say(await tell(before))

  await lines.next()
  await after.page.locator('#watch-start').click()
  await after.page.waitForFunction(() => globalThis.podium.source === 'start' && globalThis.seen.now < globalThis.seen.first)
  const start = await after.page.evaluate(() => globalThis.seen.now)
  // To its end, and no further.
  await after.page.evaluate(() => { globalThis.podium.video.playbackRate = 4 })
  await stands(after.page)
  say({ ...await tell(after), begun: start })

  await lines.next()
  await before.page.waitForFunction((last) => globalThis.seen.now > last + 3000, held.before.last)
  // It asks what the state is now and then, and the pictures come sooner.
  await before.page.waitForFunction(() => globalThis.podium.state === 'live')
  await after.page.waitForFunction((last) => globalThis.seen.now > last, held.before.last)
  const again = after.page.locator('#watch-live')
  await again.click()
  await after.page.waitForFunction(() => globalThis.podium.state === 'live')
  say({ before: await tell(before), after: await tell(after) })
})
