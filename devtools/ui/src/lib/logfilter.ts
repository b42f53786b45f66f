// The filters of the log: in the address, as parameters of the server, and for calls that arrive live.
import type { LogSummary } from '../api.ts';

export const filterNames = ['action', 'code', 'user', 'tenant', 'app', 'source', 'via', 'conn', 'request_id', 'text', 'min_ms', 'since', 'until'] as const;
export type FilterName = (typeof filterNames)[number];
export type Filter = Partial<Record<FilterName, string>>;

/** Those parameters of an address that are filters and have a value. */
export function filterFrom(query: Record<string, string>): Filter {
  const filter: Filter = {};
  for (const name of filterNames) {
    const value = query[name]?.trim();
    if (value) filter[name] = value;
  }
  return filter;
}

/** A time in the address: Unix milliseconds, or relative to now: "-15m", "-2h". undefined when it is neither. */
export function timeOf(text: string | undefined, now: number): number | undefined {
  if (!text) return undefined;
  const relative = /^-(\d+)([smhd])$/.exec(text);
  if (relative) return now - Number(relative[1]) * { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[relative[2] as 's' | 'm' | 'h' | 'd'];
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

/** The parameters of GET api/log. */
export function toQuery(filter: Filter, now: number): Record<string, string | number | undefined> {
  const { since, until, min_ms, ...rest } = filter;
  const least = Number(min_ms);
  return { ...rest, since: timeOf(since, now), until: timeOf(until, now), min_ms: min_ms && least > 0 ? least : undefined };
}

/** Whether a call that just arrived belongs to the list. undefined: only the server can tell, which has the whole entry. */
export function matches(entry: LogSummary, filter: Filter, now: number): boolean | undefined {
  const exact = ['action', 'user', 'tenant', 'app', 'source', 'conn', 'request_id'] as const;
  for (const name of exact) {
    if (filter[name] !== undefined && (entry[name] ?? '') !== filter[name]) return false;
  }
  if (filter.via && (entry.via ?? 'client') !== filter.via) return false;
  if (filter.code && !hasCode(entry.code, filter.code)) return false;
  if (filter.min_ms && entry.duration_ms < Number(filter.min_ms)) return false;
  const since = timeOf(filter.since, now);
  const until = timeOf(filter.until, now);
  if (since !== undefined && entry.time < since) return false;
  if (until !== undefined && entry.time > until) return false;
  if (filter.text) {
    const text = filter.text.toLowerCase();
    const seen = [entry.action, entry.user, entry.request_id, entry.error ?? ''].join('\n').toLowerCase();
    return seen.includes(text) ? true : undefined;
  }
  return true;
}

export function hasCode(code: string, wanted: string): boolean {
  return wanted.split(',').some((w) => (w === 'error' ? code !== 'ok' : w === code));
}

/** Puts newer or older entries into a list that is newest first: each once, at most `max` of them. */
export function merge(list: LogSummary[], more: LogSummary[], max: number): LogSummary[] {
  if (more.length === 0) return list;
  const newest = list[0]?.id ?? 0;
  const sorted = more.length > 1 && more[0]!.id < more[more.length - 1]!.id ? [...more].reverse() : more;
  if (sorted[sorted.length - 1]!.id > newest) return [...sorted, ...list].slice(0, max); // the usual case: all are newer
  const byID = new Map([...sorted, ...list].map((e) => [e.id, e]));
  return [...byID.values()].sort((a, b) => b.id - a.id).slice(0, max);
}
