// Numbers, sizes and times as people read them. English, and the same on every machine, so that a shared screen reads alike.

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(n: number): string {
  let i = 0;
  while (Math.abs(n) >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return `${i === 0 ? Math.round(n) : digits(n)} ${units[i]}`;
}

/** Three digits that count: 0.0123, 1.23, 12.3, 123, 1,234. */
export function digits(n: number): string {
  const size = Math.abs(n);
  if (size === 0) return '0';
  if (size >= 100) return Math.round(n).toLocaleString('en-US');
  const text = n.toPrecision(3);
  return text.includes('e') ? '0' : text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/** A count, with separators: 12,345. */
export function count(n: number): string {
  return Math.round(n).toLocaleString('en-US');
}

/** "1 call", "2 calls". */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

export function ms(n: number | null | undefined): string {
  if (n === null || n === undefined) return '–';
  if (n === 0) return '0';
  if (n < 1) return `${Math.max(1, Math.round(n * 1000))} µs`;
  if (n < 1000) return `${digits(n)} ms`;
  return `${digits(n / 1000)} s`;
}

/** How long, in the two biggest units: "3 d 4 h", "12 s". */
export function span(milliseconds: number): string {
  let s = Math.max(0, Math.floor(milliseconds / 1000));
  const parts: string[] = [];
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]] as const) {
    const n = Math.floor(s / size);
    if (n > 0 || (unit === 's' && parts.length === 0)) parts.push(`${n} ${unit}`);
    s -= n * size;
    if (parts.length === 2) break;
  }
  return parts.join(' ');
}

const pad = (n: number, width = 2) => String(n).padStart(width, '0');

/** Local time: "14:03:09.123". */
export function clock(time: number, millis = true): string {
  const d = new Date(time);
  const text = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
  return millis ? `${text}.${pad(d.getMilliseconds(), 3)}` : text;
}

/** Local date and time: "2026-03-01 14:03:09". */
export function dateTime(time: number): string {
  const d = new Date(time);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(time, false)}`;
}

/** JSON with line breaks; text that is no JSON value as it is. */
export function pretty(value: unknown): string {
  return JSON.stringify(value, null, 2) ?? 'undefined';
}
