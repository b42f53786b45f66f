// Where a link of a guide leads, and which code blocks are calls.

/** The action that a code block calls: JSON with a text "action". undefined: it is no call. */
export function callIn(lang: string, text: string): string | undefined {
  if (lang !== 'json') return undefined;
  try {
    const value = JSON.parse(text);
    return typeof value?.action === 'string' ? value.action : undefined;
  } catch {
    return undefined;
  }
}

export interface GuideTarget {
  /** Another site. */
  outside?: string;
  /** A file of the guides' directory, from its top. */
  path?: string;
  /** A heading of it. */
  id?: string;
}

/** Where href leads, from the guide at `from`. undefined: nowhere that may be opened. */
export function guideLink(from: string, href: string): GuideTarget | undefined {
  if (/^(https?|mailto):/i.test(href)) return { outside: href };
  if (/^[a-z][a-z0-9+.-]*:/i.test(href) || href.startsWith('//')) return undefined;
  const [file = '', id] = href.split('#');
  const parts = file.startsWith('/') ? [] : from.split('/').slice(0, -1);
  for (const part of file.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      if (parts.length === 0) return undefined; // outside the directory
      parts.pop();
    } else {
      try {
        parts.push(decodeURIComponent(part));
      } catch {
        return undefined;
      }
    }
  }
  return { path: file === '' ? from : parts.join('/'), id };
}
