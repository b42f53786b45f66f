import type { MetricPoint, Metrics } from '../api.ts';

/** Adds a moment to the history, and forgets what is older than the window. */
export function appendPoint(m: Metrics, point: MetricPoint, windowSeconds: number): Metrics {
  const time = m.points.time;
  if (time.length > 0 && point.time <= time[time.length - 1]!) return m;
  const oldest = point.time - windowSeconds * 1000;
  let from = 0;
  while (from < time.length && time[from]! < oldest) from++;
  const points = {} as Record<string, (number | null | undefined)[]>;
  for (const key of Object.keys(m.points) as (keyof MetricPoint)[]) {
    points[key] = [...m.points[key]!.slice(from), point[key] ?? null];
  }
  const totals = { ...m.totals, calls: m.totals.calls + point.calls, errors: m.totals.errors + point.errors };
  return { ...m, totals, points: points as Metrics['points'] };
}
