// A line chart of the last minute. The numbers stand beside it as text; the picture only shows how they move.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { Series, WINDOW_MS } from "./series";

interface Line {
  label: string;
  /** CSS custom property with the colour. */
  colour: string;
  dash?: number[];
}

export class MinuteChart {
  private readonly series: Series;
  private plot: uPlot | null = null;

  constructor(
    private readonly host: HTMLElement,
    private readonly lines: Line[],
    private readonly range: (low: number | null, high: number | null) => [number, number],
    private readonly tick: (value: number) => string,
    /** Where the lines of the grid lie; `undefined` lets the plot choose. */
    private readonly splits?: number[],
  ) {
    this.series = new Series(lines.length);
    this.make();
    new ResizeObserver(() => {
      const { clientWidth: width, clientHeight: height } = this.host;
      if (width > 0 && height > 0) this.plot?.setSize({ width, height });
    }).observe(host);
    // Canvas does not follow the style sheet by itself.
    matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => this.make());
  }

  push(nowMs: number, values: (number | null)[]): void {
    this.series.push(nowMs, values);
    this.draw(nowMs);
  }

  private draw(nowMs: number): void {
    this.plot?.setData(this.series.rows(nowMs) as uPlot.AlignedData);
  }

  private make(): void {
    this.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const font = `11px ${style.fontFamily}`;
    const axis: uPlot.Axis = {
      stroke: colour("--quiet"),
      font,
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    this.plot = new uPlot(
      {
        width: Math.max(200, this.host.clientWidth),
        height: Math.max(100, this.host.clientHeight),
        padding: [8, 16, 0, 0],
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { time: false, range: [-WINDOW_MS / 1000, 0] },
          y: { range: (_, low, high) => this.range(low, high) },
        },
        axes: [
          { ...axis, size: 22, splits: [-60, -45, -30, -15, 0], values: (_, splits) => splits.map((s) => (s === 0 ? "now" : `${s} s`.replace("-", "−"))) },
          { ...axis, size: 44, space: 44, splits: this.splits, values: (_, splits) => splits.map(this.tick) },
        ],
        series: [
          {},
          ...this.lines.map((line) => ({
            label: line.label,
            stroke: colour(line.colour),
            width: 2,
            dash: line.dash,
            points: { show: false },
          })),
        ],
      },
      this.series.rows(performance.now()) as uPlot.AlignedData,
      this.host,
    );
  }
}
