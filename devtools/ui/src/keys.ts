// The keyboard: g and a letter goes to a view, / to its filter, ? shows all keys, Escape leaves what was opened last.
import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { go, link } from './router.ts';

export const views = [
  { name: 'overview', title: 'Overview', key: 'o' },
  { name: 'actions', title: 'Actions', key: 'a' },
  { name: 'log', title: 'Log', key: 'l' },
  { name: 'connections', title: 'Connections', key: 'c' },
  { name: 'runtime', title: 'Runtime', key: 'r' },
  { name: 'tools', title: 'Tools', key: 't' },
  { name: 'console', title: 'Console', key: 'e' },
  { name: 'guides', title: 'Guides', key: 'u' },
  { name: 'pages', title: 'Pages', key: 'p' },
  { name: 'doctor', title: 'Doctor', key: 'd' },
] as const;

export const helpOpen = signal(false);
/** Single keys can be in the way of those who speak to their computer. */
export const keysOff = signal(localStorage.getItem('mooncore.keys') === 'off');

export function setKeysOff(off: boolean): void {
  keysOff.value = off;
  if (off) localStorage.setItem('mooncore.keys', 'off');
  else localStorage.removeItem('mooncore.keys');
}

const escapes: (() => void)[] = [];

/** While the component is shown, Escape calls fn, unless something was opened after it. */
export function useEscape(fn: () => void): void {
  const latest = useRef(fn);
  latest.current = fn;
  useEffect(() => {
    const entry = () => latest.current();
    escapes.push(entry);
    return () => void escapes.splice(escapes.indexOf(entry), 1);
  }, []);
}

function isField(target: EventTarget | null): target is HTMLElement {
  return target instanceof HTMLElement && target.matches('input:not([type=checkbox]), textarea, select');
}

let goUntil = 0;

function key(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  if (event.key === 'Escape') {
    if (isField(event.target)) event.target.blur();
    else escapes.at(-1)?.();
    return;
  }
  if (keysOff.value || isField(event.target)) return;
  const going = event.timeStamp < goUntil;
  goUntil = 0;
  if (going) {
    const view = views.find((v) => v.key === event.key);
    if (view) {
      event.preventDefault();
      go(link([view.name]));
    }
    return;
  }
  switch (event.key) {
    case 'g':
      goUntil = event.timeStamp + 1500;
      break;
    case '/': {
      const filter = document.querySelector<HTMLInputElement>('[data-keys=filter]');
      if (!filter) return;
      event.preventDefault();
      filter.focus();
      filter.select();
      break;
    }
    case '?':
      helpOpen.value = true;
      break;
    case 'j':
    case 'k': {
      // From anywhere in the view, the keys of a list reach it.
      const list = document.querySelector<HTMLElement>('[data-keys=list]');
      if (!list || list.contains(event.target as Node)) return;
      list.focus();
      list.dispatchEvent(new KeyboardEvent('keydown', { key: event.key }));
    }
  }
}

export function listenKeys(): void {
  document.addEventListener('keydown', key);
}
