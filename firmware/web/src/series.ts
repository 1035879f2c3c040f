// Samples of the last minute, for a chart. Pure.

export const WINDOW_MS = 60_000;

/** Rows of samples by time; what is older than the window is dropped, and so is memory. */
export class Series {
  private readonly times: number[] = [];
  private readonly columns: (number | null)[][];

  constructor(columns: number) {
    this.columns = Array.from({ length: columns }, () => []);
  }

  push(nowMs: number, values: (number | null)[]): void {
    this.times.push(nowMs);
    this.columns.forEach((column, i) => column.push(values[i] ?? null));
    let stale = 0;
    while (stale < this.times.length && (this.times[stale] ?? 0) < nowMs - WINDOW_MS) stale += 1;
    this.times.splice(0, stale);
    for (const column of this.columns) column.splice(0, stale);
  }

  /** Seconds before `nowMs` (−60…0), then one row a column. */
  rows(nowMs: number): [number[], ...(number | null)[][]] {
    return [this.times.map((t) => (t - nowMs) / 1000), ...this.columns.map((column) => [...column])];
  }
}
