// The small parts that every view is made of.
import { signal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import type { Loaded } from '../load.ts';
import { streamState } from '../stream.ts';
import { Icon, type IconName } from './icon.tsx';

type ButtonProps = Omit<JSX.IntrinsicElements['button'], 'icon'> & {
  icon?: IconName;
  kind?: 'primary' | 'plain' | 'danger' | 'quiet';
  /** Shows the icon alone; children are the label for those who do not see it. */
  iconOnly?: boolean;
};

export function Button({ icon, kind = 'plain', iconOnly, children, class: more, ...rest }: ButtonProps) {
  return (
    <button type="button" class={`button ${kind} ${iconOnly ? 'icon-only' : ''} ${more ?? ''}`} title={iconOnly ? label(children) : undefined} {...rest}>
      {icon && <Icon name={icon} />}
      <span class={iconOnly ? 'unseen' : undefined}>{children}</span>
    </button>
  );
}

function label(children: ComponentChildren): string {
  return Array.isArray(children) ? children.join('') : String(children);
}

/** What is said to those who do not see the page change. */
const announced = signal('');

export function announce(text: string): void {
  announced.value = '';
  setTimeout(() => (announced.value = text), 50);
}

export function Announcer() {
  return (
    <div class="unseen" role="status" aria-live="polite">
      {announced.value}
    </div>
  );
}

export function Copy({ text, children = 'Copy', iconOnly = false }: { text: string | (() => string); children?: string; iconOnly?: boolean }) {
  const [done, setDone] = useState<'' | 'Copied' | 'Not copied'>('');
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    let outcome: typeof done = 'Copied';
    try {
      await navigator.clipboard.writeText(typeof text === 'function' ? text() : text);
    } catch {
      outcome = 'Not copied';
    }
    setDone(outcome);
    announce(outcome);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setDone(''), 1500);
  };
  return (
    <Button kind="quiet" icon={done === 'Copied' ? 'check' : 'copy'} iconOnly={iconOnly} onClick={copy}>
      {done || children}
    </Button>
  );
}

export function Tag({ kind, children, title }: { kind?: 'ok' | 'warn' | 'bad' | 'accent'; children: ComponentChildren; title?: string }) {
  return (
    <span class={`tag ${kind ?? ''}`} title={title}>
      {children}
    </span>
  );
}

/** The outcome of a call. */
export function Code({ code }: { code: string }) {
  const server = ['internal', 'unavailable', 'deadline_exceeded', 'unknown'].includes(code);
  return <Tag kind={code === 'ok' ? 'ok' : server ? 'bad' : 'warn'}>{code}</Tag>;
}

/** What there is to say when a list has nothing. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <div class="empty-text">{children}</div>}
    </div>
  );
}

export function Failure({ error, retry }: { error: Error; retry?: () => void }) {
  const fields = error instanceof ApiError ? Object.entries(error.body.errors ?? {}) : [];
  return (
    <div class="failure" role="alert">
      <p>
        <strong>{error.message}</strong>
        {error instanceof ApiError && error.body.code !== 'unknown' && <span class="dim"> {error.body.code}</span>}
      </p>
      {fields.length > 0 && (
        <ul>
          {fields.map(([name, texts]) => (
            <li key={name}>
              <code>{name}</code> {texts.join(', ')}
            </li>
          ))}
        </ul>
      )}
      {error instanceof ApiError && error.body.request_id && <p class="dim">Request {error.body.request_id}</p>}
      {retry && <Button icon="again" onClick={retry}>Try again</Button>}
    </div>
  );
}

/** Shows what was loaded; before that, that it is coming; instead of it, why not. What is there stays when the program goes away. */
export function Ready<T>({ of, children }: { of: Loaded<T>; children: (data: T) => ComponentChildren }) {
  if (of.data !== undefined) {
    return (
      <>
        {of.error && streamState.value === 'live' && <Failure error={of.error} retry={of.reload} />}
        {children(of.data)}
      </>
    );
  }
  if (of.error) return <Failure error={of.error} retry={of.reload} />;
  return <Waiting />;
}

export function Waiting({ children = 'Loading…' }: { children?: string }) {
  return (
    <p class="waiting" role="status">
      {children}
    </p>
  );
}

/** Views beside one another, as links. */
export function Tabs({ label, tabs }: { label: string; tabs: { text: string; href: string; current: boolean }[] }) {
  return (
    <nav class="tabs" aria-label={label}>
      {tabs.map((tab) => (
        <a key={tab.href} href={tab.href} aria-current={tab.current ? 'page' : undefined}>
          {tab.text}
        </a>
      ))}
    </nav>
  );
}

/** One of a few. */
export function Choice<T extends string>({ label, value, options, onChange }: { label: string; value: T; options: [T, string][]; onChange: (value: T) => void }) {
  return (
    <div class="choice" role="group" aria-label={label}>
      {options.map(([option, text]) => (
        <button key={option} type="button" aria-pressed={option === value} onClick={() => onChange(option)}>
          {text}
        </button>
      ))}
    </div>
  );
}

/** A text field with its label. */
export function Field({
  label: text,
  value,
  onInput,
  hint,
  hideLabel,
  class: more,
  type = 'text',
  list,
  ...rest
}: {
  label: string;
  value: string;
  onInput: (value: string) => void;
  hint?: string;
  hideLabel?: boolean;
  class?: string;
  type?: 'text' | 'search' | 'password';
  placeholder?: string;
  list?: string;
  inputMode?: 'numeric';
  autoFocus?: boolean;
  name?: string;
  'data-keys'?: string;
}) {
  return (
    <label class={`field ${more ?? ''}`}>
      <span class={hideLabel ? 'unseen' : 'field-label'}>{text}</span>
      <input {...({ type, list } as { type: 'text' })} autocomplete="off" spellcheck={false} {...rest} value={value} onInput={(event) => onInput(event.currentTarget.value)} />
      {hint && <span class="hint">{hint}</span>}
    </label>
  );
}

export function Select({
  label: text,
  value,
  options,
  onChange,
  hideLabel,
}: {
  label: string;
  value: string;
  options: [string, string][];
  onChange: (value: string) => void;
  hideLabel?: boolean;
}) {
  return (
    <label class="field">
      <span class={hideLabel ? 'unseen' : 'field-label'}>{text}</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {!options.some(([option]) => option === value) && <option value={value}>{value}</option>}
        {options.map(([option, shown]) => (
          <option key={option} value={option}>
            {shown}
          </option>
        ))}
      </select>
    </label>
  );
}

export function Area({
  label: text,
  value,
  onInput,
  hideLabel,
  rows = 6,
  invalid,
  ...rest
}: Omit<JSX.IntrinsicElements['textarea'], 'onInput' | 'value' | 'label'> & { label: string; value: string; onInput: (value: string) => void; hideLabel?: boolean; invalid?: string | false }) {
  return (
    <label class="field">
      <span class={hideLabel ? 'unseen' : 'field-label'}>{text}</span>
      <textarea
        spellcheck={false}
        autocomplete="off"
        rows={rows}
        {...rest}
        aria-invalid={invalid ? true : undefined}
        value={value}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      {invalid && <span class="fault">{invalid}</span>}
    </label>
  );
}

/** A dialog of the browser's own: it keeps the focus, and Escape closes it. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const dialog = ref.current!;
    dialog.showModal();
    dialog.querySelector<HTMLElement>('form :is(input, textarea, select)')?.focus(); // rather than the button that closes it
    return () => dialog.close();
  }, []);
  return (
    <dialog ref={ref} aria-label={title} onClose={onClose} onClick={(event) => event.target === ref.current && onClose()}>
      <div class="dialog">
        <header>
          <h2>{title}</h2>
          <Button kind="quiet" icon="close" iconOnly onClick={onClose}>
            Close
          </Button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

/** Asks before something that cannot be undone. */
export function Confirm({ title, text, action, onYes, onNo }: { title: string; text: string; action: string; onYes: () => void; onNo: () => void }) {
  return (
    <Dialog title={title} onClose={onNo}>
      <p>{text}</p>
      <div class="row end">
        <Button onClick={onNo}>Cancel</Button>
        <Button kind="danger" onClick={onYes}>
          {action}
        </Button>
      </div>
    </Dialog>
  );
}

/** Names and values. */
export function Facts({ rows }: { rows: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {rows
        .filter(([, value]) => value !== undefined && value !== null && value !== '' && value !== false)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

export function Section({ title, aside, children, class: more }: { title: string; aside?: ComponentChildren; children: ComponentChildren; class?: string }) {
  return (
    <section class={`section ${more ?? ''}`} aria-label={title}>
      <header>
        <h2>{title}</h2>
        {aside && <div class="row">{aside}</div>}
      </header>
      {children}
    </section>
  );
}

/** Runs something that a button starts, one at a time, and keeps what went wrong. */
export function useTask(): { busy: boolean; error: Error | undefined; run: (fn: () => Promise<unknown>) => Promise<void>; clear: () => void } {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error>();
  const here = useRef(true);
  useEffect(() => () => void (here.current = false), []);
  const run = async (fn: () => Promise<unknown>) => {
    if (busy) return;
    setBusy(true);
    setError(undefined);
    try {
      await fn();
    } catch (err) {
      if (here.current) setError(err as Error);
    }
    if (here.current) setBusy(false);
  };
  return { busy, error, run, clear: () => setError(undefined) };
}

/** A clock that ticks once a second, while the component is shown. */
export function useNow(everyMs = 1000): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** Pixels of the style sheet's unit, which grows with very big screens. */
export function useRem(): number {
  const measure = () => parseFloat(getComputedStyle(document.documentElement).fontSize) || 14;
  const [rem, setRem] = useState(measure);
  useEffect(() => {
    const change = () => setRem(measure());
    addEventListener('resize', change);
    return () => removeEventListener('resize', change);
  }, []);
  return rem;
}

/** Whether a media query holds. */
export function useMedia(query: string): boolean {
  const [holds, setHolds] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const media = matchMedia(query);
    const change = () => setHolds(media.matches);
    change();
    media.addEventListener('change', change);
    return () => media.removeEventListener('change', change);
  }, [query]);
  return holds;
}
