// JSON as a tree that opens and closes. Big values are cut into steps, so that a long answer does not stop the page.
import { useState } from 'preact/hooks';
import { pretty } from '../lib/format.ts';
import { isObject } from '../lib/schema.ts';
import { Copy } from './ui.tsx';

const step = 100;
const openDepth = 3;
const longText = 2000;

export function Json({ value, label }: { value: unknown; label: string }) {
  return (
    <div class="json" role="group" aria-label={label} tabIndex={0}>
      <div class="json-copy">
        <Copy iconOnly text={() => (typeof value === 'string' ? value : pretty(value))}>{`Copy ${label.toLowerCase()}`}</Copy>
      </div>
      <Node value={value} depth={0} />
    </div>
  );
}

function Node({ name, value, depth, comma }: { name?: string; value: unknown; depth: number; comma?: boolean }) {
  const list = Array.isArray(value);
  if (!list && !isObject(value)) {
    return (
      <div class="json-line">
        <Name name={name} />
        <Leaf value={value} />
        {comma && ','}
      </div>
    );
  }
  const entries: [string | undefined, unknown][] = list ? value.map((item) => [undefined, item]) : Object.entries(value);
  return <Branch name={name} list={list} entries={entries} depth={depth} comma={comma} />;
}

function Branch({ name, list, entries, depth, comma }: { name?: string; list: boolean; entries: [string | undefined, unknown][]; depth: number; comma?: boolean }) {
  const [open, setOpen] = useState(depth < openDepth && entries.length <= step);
  const [shown, setShown] = useState(step);
  const [before, after] = list ? ['[', ']'] : ['{', '}'];
  if (entries.length === 0) {
    return (
      <div class="json-line">
        <Name name={name} />
        {before}
        {after}
        {comma && ','}
      </div>
    );
  }
  return (
    <div>
      <div class="json-line">
        <button type="button" class="json-toggle" aria-expanded={open} aria-label={`${open ? 'Close' : 'Open'} ${name ?? (list ? 'list' : 'object')}`} onClick={() => setOpen(!open)} />
        <Name name={name} />
        {before}
        {!open && (
          <span class="dim">
            {' '}
            {entries.length} {list ? (entries.length === 1 ? 'item' : 'items') : entries.length === 1 ? 'key' : 'keys'}{' '}
            {after}
            {comma && ','}
          </span>
        )}
      </div>
      {open && (
        <>
          <div class="json-inner">
            {entries.slice(0, shown).map(([key, item], i) => (
              <Node key={key ?? i} name={key} value={item} depth={depth + 1} comma={i < entries.length - 1} />
            ))}
            {entries.length > shown && (
              <button type="button" class="button quiet" onClick={() => setShown(shown + 10 * step)}>
                {entries.length - shown} more
              </button>
            )}
          </div>
          <div class="json-line">
            {after}
            {comma && ','}
          </div>
        </>
      )}
    </div>
  );
}

function Name({ name }: { name?: string }) {
  if (name === undefined) return null;
  return (
    <>
      <span class="json-name">{JSON.stringify(name)}</span>:{' '}
    </>
  );
}

function Leaf({ value }: { value: unknown }) {
  const [whole, setWhole] = useState(false);
  if (typeof value === 'string') {
    const text = JSON.stringify(value);
    if (text.length <= longText || whole) return <span class="json-string">{text}</span>;
    return (
      <>
        <span class="json-string">{text.slice(0, longText)}</span>
        <button type="button" class="button quiet" onClick={() => setWhole(true)}>
          {text.length - longText} more characters
        </button>
      </>
    );
  }
  if (value === null) return <span class="json-null">null</span>;
  return <span class={typeof value === 'number' ? 'json-number' : 'json-boolean'}>{String(value)}</span>;
}
