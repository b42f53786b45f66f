// A line chart over time, drawn by uPlot: axes with units, values under the pointer, colours of the theme.
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { clock } from '../lib/format.ts';
import { dark } from '../theme.ts';
import { useRem } from './ui.tsx';

export interface Line {
  label: string;
  /** A custom property of the style sheet. */
  color: '--line1' | '--line2' | '--line3' | '--line4';
  values: (number | null)[];
  /** The area below is tinted. */
  filled?: boolean;
}

interface Props {
  title: string;
  /** What the values are, in words: "calls per second". */
  unit: string;
  format: (n: number) => string;
  /** Unix milliseconds. */
  time: number[];
  lines: Line[];
  /** Ticks at powers of two, as fits sizes. */
  binary?: boolean;
  /** How much time is shown, up to the newest value. */
  windowMs?: number;
  /** Charts with the same key show the same moment under the pointer. */
  sync?: string;
}

const powersOfTwo = Array.from({ length: 50 }, (_, i) => 2 ** i);

function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function Chart({ title, unit, format, time, lines, binary, windowMs, sync }: Props) {
  const rem = useRem();
  const height = Math.round(rem * 11);
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const [at, setAt] = useState<number | null>(null);
  const data: uPlot.AlignedData = [time.map((t) => t / 1000), ...lines.map((line) => line.values)];
  const latest = useRef({ format, data, windowMs });
  latest.current = { format, data, windowMs };
  const labels = lines.map((line) => line.label).join('\n');

  useEffect(() => {
    const element = box.current!;
    const axis = {
      stroke: color('--dim'),
      font: `${rem * 0.8}px ${color('--font')}`,
      grid: { stroke: color('--grid'), width: 1 },
      ticks: { show: false },
    };
    const u = new uPlot(
      {
        width: element.clientWidth || 300,
        height,
        padding: [8, 18, 0, 0],
        legend: { show: false },
        cursor: {
          y: false,
          drag: { x: false, y: false },
          points: { size: 7 },
          ...(sync ? { sync: { key: sync, setSeries: false } } : {}),
        },
        scales: {
          x: {
            time: true,
            range: (_, min, max) => {
              const span = latest.current.windowMs;
              return span && max !== null ? [max - span / 1000, max] : [min, max];
            },
          },
          y: { range: (_, min, max) => [Math.min(0, min ?? 0), max === null || max <= 0 ? 1 : max * 1.08] },
        },
        series: [
          {},
          ...lines.map((line) => ({
            label: line.label,
            stroke: color(line.color),
            width: 1.5,
            fill: line.filled ? `${color(line.color)}22` : undefined,
            points: { show: false },
            spanGaps: true,
          })),
        ],
        axes: [
          { ...axis, size: rem * 1.9, space: rem * 5, values: (_, splits) => splits.map((s) => clock(s * 1000, false).slice(0, splits.length > 1 && splits[1]! - splits[0]! >= 60 ? 5 : 8)) },
          { ...axis, space: rem * 2.3, incrs: binary ? powersOfTwo : undefined, size: (u, values) => axisWidth(u, values, rem), values: (_, splits) => splits.map((v) => latest.current.format(v)) },
        ],
        hooks: { setCursor: [(u) => setAt(u.cursor.idx ?? null)] },
      },
      latest.current.data,
      element,
    );
    plot.current = u;
    const observer = new ResizeObserver(() => u.setSize({ width: Math.max(100, element.clientWidth), height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      u.destroy();
      plot.current = undefined;
    };
  }, [dark.value, labels, height, sync]);

  useEffect(() => plot.current?.setData(latest.current.data), [time, windowMs, ...lines.map((line) => line.values)]);

  const index = at !== null && at < time.length ? at : time.length - 1;
  const shown = lines.map((line) => ({ ...line, value: line.values[index] ?? null }));
  const say = (n: number | null) => (n === null ? '–' : format(n));
  const summary = shown.map((line) => `${lines.length > 1 ? `${line.label} ` : ''}${say(line.values[time.length - 1] ?? null)}`).join(', ');
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span> <span class="dim">{unit}</span>
        <span class="chart-values">
          {at !== null && time[index] !== undefined && <span class="dim">{clock(time[index], false)}</span>}
          {shown.map((line) => (
            <span key={line.label}>
              {lines.length > 1 && (
                <span class="dim">
                  <i class="swatch" style={{ background: `var(${line.color})` }} /> {line.label}{' '}
                </span>
              )}
              <b>{say(line.value)}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={box} role="img" aria-label={`${title}, ${unit}. Latest: ${summary || 'nothing yet'}`} style={{ height: `${height}px` }} />
    </figure>
  );
}

function axisWidth(u: uPlot, values: string[] | null, rem: number): number {
  const longest = (values ?? []).reduce((a, b) => (b.length > a.length ? b : a), '');
  if (!longest) return 40;
  u.ctx.save();
  u.ctx.font = `${rem * 0.8 * devicePixelRatio}px ${color('--font')}`;
  const width = u.ctx.measureText(longest).width / devicePixelRatio;
  u.ctx.restore();
  return Math.ceil(width) + 14;
}

/** A line without axes, for a number with its trend. */
export function Spark({ values, label }: { values: number[]; label: string }) {
  if (values.length < 2) return null;
  const low = Math.min(...values);
  const high = Math.max(...values);
  const points = values.map((v, i) => `${((i / (values.length - 1)) * 100).toFixed(2)},${(28 - ((v - low) / (high - low || 1)) * 26).toFixed(2)}`);
  return (
    <svg class="spark" viewBox="0 0 100 30" preserveAspectRatio="none" role="img" aria-label={label}>
      <polyline points={points.join(' ')} />
    </svg>
  );
}
