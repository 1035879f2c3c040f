// Opens a broadcast's player and waits until it has played so many seconds, or to the end.
//
//   node player.mjs <url> <seconds>|end|gone|broken
//
// `broken`: of a recording two segments come, and then nobody answers for a while. It waits until the page has said so, and then to
// the end.
//
// `gone`: from the first segment on it finds what a box answers that has let go of the root, while the page and its playlists are
// still in the browser's cache. It waits until the page has given up, and then until what it links to has played for two seconds.
//
// One line of JSON on standard output: what it says, where it is, and what it asked for; exit 0 if it could judge.
import { open, report } from './lib/browser.mjs'

const WAIT_MS = 180_000 // what a test has recorded is shorter

await report(async () => {
  const [url, wanted] = process.argv.slice(2)
  if (!['end', 'gone', 'broken'].includes(wanted) && !(Number(wanted) > 0)) throw new Error('usage: player.mjs <url> <seconds>|end|gone|broken')
  const { page, record, browser, close } = await open(url, { width: 640, height: 400 })
  try {
    page.setDefaultTimeout(WAIT_MS)
    let gone = null
    if (wanted === 'gone') {
      const directory = new URL('.', url).href
      await page.route((it) => it.href.startsWith(directory), (route) => {
        const cached = route.request().method() === 'GET' && /(\/|\.html|\.m3u8)$/.test(route.request().url())
        return cached ? route.continue() : route.fulfill({ status: 404 })
      })
    }
    let broken = null
    if (wanted === 'broken') {
      broken = { first: null, again: [] }
      const begun = {}
      let away = true
      await page.route(/\/\d+\.m4s$/, (route) => {
        const name = route.request().url()
        const kind = name.includes('/video/') ? 'video' : 'audio'
        begun[kind] = (begun[kind] ?? 0) + 1
        if (kind === 'video') broken.first ??= name
        if (!away) broken.again.push(name)
        return away && begun[kind] > 2 ? route.fulfill({ status: 404 }) : route.continue()
      })
      await page.route('**/vod.m3u8', (route) => away && begun.video > 2 && route.request().method() === 'HEAD' ? route.abort() : route.continue())
      await page.goto(url, { waitUntil: 'load' })
      await page.waitForFunction(() => document.getElementById('note').textContent.startsWith('No answer'))
      away = false
    } else {
      await page.goto(url, { waitUntil: 'load' })
    }
    if (wanted === 'gone') {
      const link = page.locator('#note a[href]')
      await link.waitFor()
      const told = await page.locator('#note').textContent()
      const asked = record.requests
      // Longer than it waits before it tries again.
      await page.waitForTimeout(4000)
      gone = { told, asked_again: record.requests - asked }
      await link.click()
      await page.waitForURL('**/ipns/**')
    }
    // Since it began to play: a live stream begins where it is.
    const done = (wanted) => {
      const { ended, played } = document.getElementById('video')
      if (wanted === 'end' || wanted === 'broken') return ended
      let sum = 0
      for (let i = 0; i < played.length; i++) sum += played.end(i) - played.start(i)
      return sum >= Number(wanted)
    }
    await page.waitForFunction(done, wanted === 'gone' ? 2 : wanted).catch(() => undefined)
    const seen = await page.evaluate(() => {
      const video = document.getElementById('video')
      const { played } = video
      let time = 0
      for (let i = 0; i < played.length; i++) time += played.end(i) - played.start(i)
      return { time, ended: video.ended, width: video.videoWidth, error: video.error?.message ?? null, title: document.title, note: document.getElementById('note').textContent }
    })
    return { url, browser, ...seen, gone, broken, ...record }
  } finally {
    await close()
  }
})
