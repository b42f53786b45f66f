// A form made from a JSON Schema. It edits a JSON value; fields that are not required can be absent.
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import type { Schema } from '../api.ts';
import { describe, errorKey, field, initial, isInteger, isObject, setAt } from '../lib/schema.ts';
import { Button } from './ui.tsx';

type Path = (string | number)[];

interface Shared {
  root: Schema;
  errors: Record<string, string[]>;
  set: (path: Path, value: unknown) => void;
  idPrefix: string;
}

export function SchemaForm({
  schema,
  value,
  onChange,
  errors = {},
  id,
  skip = [],
}: {
  schema: Schema;
  value: unknown;
  onChange: (value: unknown) => void;
  errors?: Record<string, string[]>;
  /** Makes the ids of its fields unique in the page. */
  id: string;
  /** Properties that only the server sets. */
  skip?: string[];
}) {
  const shared: Shared = { root: schema, errors, idPrefix: id, set: (path, next) => onChange(setAt(value, path, next) ?? {}) };
  const top = field(schema, schema);
  if (top.kind === 'object') return <Properties schema={top.schema} value={value} path={[]} shared={shared} skip={skip} />;
  return <Value schema={schema} value={value} path={[]} shared={shared} label="Value" />;
}

function Properties({ schema, value, path, shared, skip = [] }: { schema: Schema; value: unknown; path: Path; shared: Shared; skip?: string[] }) {
  const object = isObject(value) ? value : {};
  const names = Object.keys(schema.properties ?? {}).filter((name) => !skip.includes(name));
  if (names.length === 0) return <p class="dim">It takes no input.</p>;
  return (
    <>
      {names.map((name) => (
        <Property
          key={name}
          name={name}
          schema={schema.properties![name]!}
          required={schema.required?.includes(name) ?? false}
          value={Object.hasOwn(object, name) ? object[name] : undefined}
          path={[...path, name]}
          shared={shared}
        />
      ))}
    </>
  );
}

function Property({ name, schema, required, value, path, shared }: { name: string; schema: Schema; required: boolean; value: unknown; path: Path; shared: Shared }) {
  const f = field(schema, shared.root);
  const compound = ['object', 'map', 'list'].includes(f.kind);
  const clear =
    !required && value !== undefined && (compound || f.kind === 'string' || f.kind === 'json') ? (
      <Button kind="quiet" icon="close" iconOnly onClick={() => shared.set(path, undefined)}>{`Leave out ${name}`}</Button>
    ) : null;
  const label = (
    <>
      {name}
      {required && (
        <span class="required" title="required">
          {' '}
          required
        </span>
      )}
    </>
  );
  if (!compound) return <Value schema={schema} value={value} path={path} shared={shared} label={label} name={name} required={required} aside={clear} />;
  return (
    <fieldset class="group">
      <legend>
        {label} {clear}
      </legend>
      <Hint schema={schema} path={path} shared={shared} />
      {value === undefined ? (
        <Button icon="plus" onClick={() => shared.set(path, initial(schema, shared.root))}>{`Add ${name}`}</Button>
      ) : f.kind === 'object' ? (
        <Properties schema={f.schema} value={value} path={path} shared={shared} />
      ) : f.kind === 'map' ? (
        <MapOf schema={f.schema} value={value} path={path} shared={shared} name={name} />
      ) : (
        <ListOf schema={f.schema} value={value} path={path} shared={shared} name={name} />
      )}
    </fieldset>
  );
}

function fieldID(path: Path, shared: Shared): string {
  return `${shared.idPrefix}-${path.map((part) => encodeURIComponent(String(part))).join('-')}`;
}

function Hint({ schema, path, shared }: { schema: Schema; path: Path; shared: Shared }) {
  const f = field(schema, shared.root);
  const faults = shared.errors[errorKey(path)] ?? [];
  return (
    <>
      <span class="hint" id={`${fieldID(path, shared)}-hint`}>
        {f.schema.description && <>{sentence(f.schema.description)} </>}
        <span class="dim">{describe(schema, shared.root)}</span>
      </span>
      {faults.length > 0 && (
        <span class="fault" role="alert">
          {faults.join(', ')}
        </span>
      )}
    </>
  );
}

function sentence(text: string): string {
  const trimmed = text.trim();
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + (/[.!?:]$/.test(trimmed) ? '' : '.');
}

function Value({
  schema,
  value,
  path,
  shared,
  label,
  name,
  required,
  aside,
}: {
  schema: Schema;
  value: unknown;
  path: Path;
  shared: Shared;
  label: ComponentChildren;
  name?: string;
  required?: boolean;
  aside?: ComponentChildren;
}) {
  const id = fieldID(path, shared);
  const faulty = (shared.errors[errorKey(path)] ?? []).length > 0;
  const common = { id, 'aria-describedby': `${id}-hint`, 'aria-invalid': faulty || undefined, 'aria-required': required || undefined };
  return (
    <div class="field">
      <div class="field-top">
        <label class="field-label" for={id}>
          {label}
        </label>
        {aside}
      </div>
      <Input schema={schema} value={value} set={(next) => shared.set(path, next)} shared={shared} common={common} required={required} name={name} />
      <Hint schema={schema} path={path} shared={shared} />
    </div>
  );
}

interface InputProps {
  schema: Schema;
  value: unknown;
  set: (value: unknown) => void;
  shared: Shared;
  common: { id: string } & Record<string, unknown>;
  required?: boolean;
  name?: string;
}

function Input(props: InputProps) {
  const { schema, value, set, shared, common, required } = props;
  const f = field(schema, shared.root);
  switch (f.kind) {
    case 'enum': {
      const values = f.schema.const !== undefined ? [f.schema.const] : (f.schema.enum ?? []);
      const at = values.findIndex((option) => JSON.stringify(option) === JSON.stringify(value));
      return (
        <select {...common} value={String(at)} onChange={(event) => set(values[Number(event.currentTarget.value)])}>
          {(!required || at < 0) && <option value="-1">{required ? 'Choose…' : 'left out'}</option>}
          {values.map((option, i) => (
            <option key={i} value={String(i)}>
              {typeof option === 'string' ? option : JSON.stringify(option)}
            </option>
          ))}
        </select>
      );
    }
    case 'boolean':
      return (
        <select {...common} value={value === undefined ? '' : String(value)} onChange={(event) => set({ true: true, false: false, null: null }[event.currentTarget.value])}>
          {(!required || value === undefined) && <option value="">{required ? 'Choose…' : 'left out'}</option>}
          <option value="true">true</option>
          <option value="false">false</option>
          {f.nullable && <option value="null">null</option>}
        </select>
      );
    case 'number':
      return <NumberInput {...props} />;
    case 'string':
      if (value === undefined || typeof value === 'string') return <TextInput {...props} schema={f.schema} />;
      return <JsonInput {...props} />;
  }
  return <JsonInput {...props} />;
}

function TextInput({ schema, value, set, common, name }: InputProps) {
  const text = (value as string | undefined) ?? '';
  const change = (event: { currentTarget: { value: string } }) => set(event.currentTarget.value);
  const long = !schema.format && ((schema.maxLength ?? 0) > 200 || /^(text|body|content|message|description|comment|note)s?$/i.test(name ?? ''));
  if (long) return <textarea {...common} rows={3} value={text} onInput={change} />;
  const types: Record<string, 'email' | 'url' | 'date'> = { email: 'email', uri: 'url', date: 'date' };
  const fill: Record<string, [string, () => string]> = {
    'date-time': ['Now', () => new Date().toISOString()],
    uuid: ['New', () => crypto.randomUUID()],
  };
  const offer = fill[schema.format ?? ''];
  const secret = schema.writeOnly || /password|secret|token/i.test(name ?? '');
  return (
    <div class="row tight">
      <input
        {...common}
        {...({ type: secret ? 'password' : (types[schema.format ?? ''] ?? 'text') } as { type: 'text' })}
        value={text}
        autocomplete="off"
        spellcheck={false}
        placeholder={value === undefined ? 'left out' : undefined}
        onInput={change}
      />
      {offer && <Button onClick={() => set(offer[1]())}>{offer[0]}</Button>}
    </div>
  );
}

function NumberInput({ schema, value, set, shared, common }: InputProps) {
  const f = field(schema, shared.root);
  // What is typed may be no number yet, such as "-".
  const [text, setText] = useState<string>();
  const shown = text ?? (value === undefined ? '' : JSON.stringify(value));
  return (
    <input
      {...common}
      type="text"
      inputMode={isInteger(f.schema) ? 'numeric' : 'decimal'}
      value={shown}
      autocomplete="off"
      placeholder={value === undefined ? 'left out' : undefined}
      onInput={(event) => {
        const typed = event.currentTarget.value;
        setText(typed);
        const clean = typed.trim();
        if (clean === '') set(undefined);
        else if (f.nullable && clean === 'null') set(null);
        else if (/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(clean)) set(Number(clean));
        else set(clean); // the server says what is wrong with it
      }}
      onBlur={() => setText(undefined)}
    />
  );
}

/** Any JSON. Text that is no JSON yet stays in the field and is not in the value. */
function JsonInput({ value, set, common }: InputProps) {
  const [text, setText] = useState<string>();
  const shown = text ?? (value === undefined ? '' : JSON.stringify(value, null, 2));
  let fault = '';
  if (text !== undefined && text.trim() !== '') {
    try {
      JSON.parse(text);
    } catch (err) {
      fault = (err as Error).message;
    }
  }
  return (
    <>
      <textarea
        {...common}
        class="code"
        rows={3}
        spellcheck={false}
        value={shown}
        placeholder='any JSON, such as {"a": 1}'
        aria-invalid={fault ? true : undefined}
        onInput={(event) => {
          const typed = event.currentTarget.value;
          setText(typed);
          if (typed.trim() === '') return set(undefined);
          try {
            set(JSON.parse(typed));
          } catch {
            // said below
          }
        }}
        onBlur={() => !fault && setText(undefined)}
      />
      {fault && <span class="fault">{fault}</span>}
    </>
  );
}

function ListOf({ schema, value, path, shared, name }: { schema: Schema; value: unknown; path: Path; shared: Shared; name: string }) {
  const items = Array.isArray(value) ? value : [];
  const of = schema.items ?? {};
  const add = () => {
    const f = field(of, shared.root);
    shared.set([...path, items.length], initial(of, shared.root) ?? (f.kind === 'number' ? 0 : null));
  };
  return (
    <>
      {items.map((item, i) => (
        <Item key={i} label={`${name} ${i + 1}`} schema={of} value={item} path={[...path, i]} shared={shared} onRemove={() => shared.set([...path, i], undefined)} />
      ))}
      {(schema.maxItems === undefined || items.length < schema.maxItems) && <Button icon="plus" onClick={add}>{items.length ? 'Add another' : `Add to ${name}`}</Button>}
    </>
  );
}

function MapOf({ schema, value, path, shared, name }: { schema: Schema; value: unknown; path: Path; shared: Shared; name: string }) {
  const [key, setKey] = useState('');
  const object = isObject(value) ? value : {};
  const of = isObject(schema.additionalProperties) ? (schema.additionalProperties as Schema) : {};
  const free = key !== '' && !Object.hasOwn(object, key);
  const add = () => {
    if (!free) return;
    const f = field(of, shared.root);
    shared.set([...path, key], initial(of, shared.root) ?? (f.kind === 'number' ? 0 : null));
    setKey('');
  };
  return (
    <>
      {Object.keys(object).map((k) => (
        <Item key={k} label={k} schema={of} value={object[k]} path={[...path, k]} shared={shared} onRemove={() => shared.set([...path, k], undefined)} />
      ))}
      <div class="row tight">
        <input
          type="text"
          aria-label={`New key of ${name}`}
          placeholder="key"
          value={key}
          onInput={(event) => setKey(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== 'Enter') return;
            event.preventDefault(); // it does not send the form
            add();
          }}
        />
        <Button icon="plus" disabled={!free} onClick={add}>
          Add key
        </Button>
      </div>
    </>
  );
}

function Item({ label, schema, value, path, shared, onRemove }: { label: string; schema: Schema; value: unknown; path: Path; shared: Shared; onRemove: () => void }) {
  const f = field(schema, shared.root);
  const remove = <Button kind="quiet" icon="trash" iconOnly onClick={onRemove}>{`Remove ${label}`}</Button>;
  if (f.kind === 'object' || f.kind === 'list' || f.kind === 'map') {
    return (
      <fieldset class="group">
        <legend>
          {label} {remove}
        </legend>
        {f.kind === 'object' ? (
          <Properties schema={f.schema} value={value} path={path} shared={shared} />
        ) : f.kind === 'list' ? (
          <ListOf schema={f.schema} value={value} path={path} shared={shared} name={label} />
        ) : (
          <MapOf schema={f.schema} value={value} path={path} shared={shared} name={label} />
        )}
      </fieldset>
    );
  }
  return <Value schema={schema} value={value} path={path} shared={shared} label={label} name={label} required aside={remove} />;
}
