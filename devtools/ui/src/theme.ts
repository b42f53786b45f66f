import { effect, signal } from '@preact/signals';

export type Theme = 'system' | 'light' | 'dark';

const stored = localStorage.getItem('mooncore.theme');
export const theme = signal<Theme>(stored === 'light' || stored === 'dark' ? stored : 'system');
const query = matchMedia('(prefers-color-scheme: dark)');
const systemDark = signal(query.matches);
query.addEventListener('change', (event) => (systemDark.value = event.matches));

/** What is shown now. */
export const dark = signal(false);

effect(() => {
  dark.value = theme.value === 'dark' || (theme.value === 'system' && systemDark.value);
  document.documentElement.dataset.theme = dark.value ? 'dark' : 'light';
});

export function setTheme(value: Theme): void {
  theme.value = value;
  if (value === 'system') localStorage.removeItem('mooncore.theme');
  else localStorage.setItem('mooncore.theme', value);
}
