// What the tools work out without the server.

// ---------------------------------------------------------------------------------------------------------------------
// Role masks: role i of the app's list is bit i, written in Base58, most significant digit first, zero is "Q".

const alphabet = 'Q123456789ABCDEFGHJKLMNPRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
const maxDigits = 256;

export function maskOf(roles: string[], chosen: string[]): string {
  let mask = 0n;
  roles.forEach((role, i) => {
    if (chosen.includes(role)) mask |= 1n << BigInt(i);
  });
  return base58(mask);
}

export function base58(n: bigint): string {
  let text = '';
  do {
    text = alphabet[Number(n % 58n)] + text;
    n /= 58n;
  } while (n > 0n);
  return text;
}

/** The number, or a sentence that says what is wrong. */
export function fromBase58(text: string): bigint | string {
  if (text.length > maxDigits) return `It has ${text.length} digits; at most ${maxDigits} are read.`;
  let n = 0n;
  for (const [i, digit] of [...text].entries()) {
    const value = alphabet.indexOf(digit);
    if (value < 0) return `"${digit}" at position ${i + 1} is no digit of this Base58.`;
    n = n * 58n + BigInt(value);
  }
  return n;
}

/** The roles of a mask, and how many of its bits stand for no role. */
export function rolesOf(roles: string[], mask: bigint): { roles: string[]; unknown: number } {
  const found = roles.filter((_, i) => (mask >> BigInt(i)) & 1n);
  let beyond = mask >> BigInt(roles.length);
  let unknown = 0;
  for (; beyond > 0n; beyond >>= 1n) if (beyond & 1n) unknown++;
  return { roles: found, unknown };
}

// ---------------------------------------------------------------------------------------------------------------------
// Base64

export function toBase64(text: string, url = false): string {
  const binary = Array.from(new TextEncoder().encode(text), (b) => String.fromCharCode(b)).join('');
  const encoded = btoa(binary);
  return url ? encoded.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '') : encoded;
}

/** Both alphabets, with or without padding. Bytes that are no UTF-8 come as hexadecimal. */
export function fromBase64(text: string): { text?: string; hex?: string; bytes?: number; error?: string } {
  const clean = text.replace(/\s/g, '').replaceAll('-', '+').replaceAll('_', '/').replace(/=+$/, '');
  const bad = /[^A-Za-z0-9+/]/.exec(clean);
  if (bad) return { error: `"${bad[0]}" is no digit of Base64.` };
  if (clean.length % 4 === 1) return { error: 'One digit is missing or too many: no text has this length.' };
  const bytes = Uint8Array.from(atob(clean), (c) => c.charCodeAt(0));
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes), bytes: bytes.length };
  } catch {
    return { hex: Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(' '), bytes: bytes.length };
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Timestamps

/** Reads Unix seconds, milliseconds, microseconds or nanoseconds (told apart by their size), RFC 3339 and what the browser
 * reads besides. */
export function readTime(text: string): { time: number; as: string } | undefined {
  const clean = text.trim();
  if (/^-?\d+(\.\d+)?$/.test(clean)) {
    const n = Number(clean);
    const size = Math.abs(n);
    const [as, factor] =
      size < 1e11 ? ['Unix seconds', 1000] : size < 1e14 ? ['Unix milliseconds', 1] : size < 1e17 ? ['Unix microseconds', 1e-3] : ['Unix nanoseconds', 1e-6];
    const time = n * Number(factor);
    return Math.abs(time) <= 8.64e15 ? { time, as: String(as) } : undefined;
  }
  const time = Date.parse(clean);
  if (clean === '' || Number.isNaN(time)) return undefined;
  return { time, as: /^\d{4}-\d\d-\d\d[Tt ]/.test(clean) ? 'RFC 3339' : 'a date' };
}
