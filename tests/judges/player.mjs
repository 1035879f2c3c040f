// Opens a broadcast's player and waits until it has played so many seconds, or to the end.
//
//   node player.mjs <url> <seconds>|end
//
// One line of JSON on standard output: what it says, where it is, and what it asked for; exit 0 if it could judge.
import { open, report } from './lib/browser.mjs'

const WAIT_MS = 180_000 // what a test has recorded is shorter

await report(async () => {
  const [url, wanted] = process.argv.slice(2)
  if (wanted !== 'end' && !(Number(wanted) > 0)) throw new Error('usage: player.mjs <url> <seconds>|end')
  const { page, record, browser, close } = await open(url, { width: 640, height: 400 })
  try {
    page.setDefaultTimeout(WAIT_MS)
    await page.goto(url, { waitUntil: 'load' })
    // Since it began to play: a live stream begins where it is.
    const done = (wanted) => {
      const { ended, played } = document.getElementById('video')
      if (wanted === 'end') return ended
      let sum = 0
      for (let i = 0; i < played.length; i++) sum += played.end(i) - played.start(i)
      return sum >= Number(wanted)
    }
    await page.waitForFunction(done, wanted).catch(() => undefined)
    const seen = await page.evaluate(() => {
      const video = document.getElementById('video')
      const { played } = video
      let time = 0
      for (let i = 0; i < played.length; i++) time += played.end(i) - played.start(i)
      return { time, ended: video.ended, width: video.videoWidth, error: video.error?.message ?? null, note: document.getElementById('note').textContent }
    })
    return { url, browser, ...seen, ...record }
  } finally {
    await close()
  }
})
