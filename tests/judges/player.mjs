// Opens a broadcast's player and waits until it has played so many seconds.
//
//   node player.mjs <url> <seconds>
//
// One line of JSON on standard output: what it says, where it is, and what it asked for; exit 0 if it could judge.
import { open, report } from './lib/browser.mjs'

const WAIT_MS = 60_000

await report(async () => {
  const [url, seconds] = process.argv.slice(2)
  if (!(Number(seconds) > 0)) throw new Error('usage: player.mjs <url> <seconds>')
  const { page, record, browser, close } = await open(url, { width: 640, height: 400 })
  try {
    page.setDefaultTimeout(WAIT_MS)
    await page.goto(url, { waitUntil: 'load' })
    // Since it began to play: a live stream begins where it is.
    const played = (wanted) => {
      const { played } = document.getElementById('video')
      let sum = 0
      for (let i = 0; i < played.length; i++) sum += played.end(i) - played.start(i)
      return sum >= wanted
    }
    await page.waitForFunction(played, Number(seconds)).catch(() => undefined)
    const seen = await page.evaluate(() => {
      const video = document.getElementById('video')
      const { played } = video
      let time = 0
      for (let i = 0; i < played.length; i++) time += played.end(i) - played.start(i)
      return { time, width: video.videoWidth, error: video.error?.message ?? null, note: document.getElementById('note').textContent }
    })
    return { url, browser, ...seen, ...record }
  } finally {
    await close()
  }
})
