// JSON Schema as a form sees it: what kind of field a schema asks for, what value to begin with, and what is missing.
import type { Schema } from '../api.ts';

/** How a value is edited. "json" is a text field for whatever no form fits. */
export type Kind = 'string' | 'number' | 'boolean' | 'enum' | 'object' | 'map' | 'list' | 'json';

/** A schema with its reference followed and its alternatives narrowed to what a form can show. */
export interface Field {
  kind: Kind;
  schema: Schema;
  /** null is one of the values. */
  nullable: boolean;
}

/** Follows "#/$defs/Name". A reference to nowhere allows everything, as does one that only leads to itself. */
export function resolve(schema: Schema, root: Schema): Schema {
  let at = schema;
  for (let steps = 0; at.$ref !== undefined; steps++) {
    const target = at.$ref === '#' ? root : lookUp(root, at.$ref);
    if (!target || steps > 16) return {};
    const { $ref: _, ...beside } = at; // keywords beside a reference count too: description
    at = { ...target, ...beside };
  }
  return at;
}

function lookUp(root: Schema, ref: string): Schema | undefined {
  if (!ref.startsWith('#/')) return undefined;
  let at: unknown = root;
  for (const part of ref.slice(2).split('/')) {
    const key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) return undefined;
    at = (at as Record<string, unknown>)[key];
  }
  return typeof at === 'object' && at !== null ? (at as Schema) : undefined;
}

export function field(schema: Schema, root: Schema): Field {
  let found = resolve(schema, root);
  let nullable = false;
  const alternatives = found.anyOf ?? found.oneOf;
  if (alternatives) {
    const others = alternatives.filter((s) => s.type !== 'null');
    nullable = others.length < alternatives.length;
    const only = others.length === 1 ? others[0] : undefined;
    if (!only) return { kind: 'json', schema: found, nullable };
    const { anyOf: _, oneOf: __, ...beside } = found;
    found = { ...resolve(only, root), ...beside };
  }
  let type = found.type;
  if (Array.isArray(type)) {
    nullable ||= type.includes('null');
    const others = type.filter((name) => name !== 'null');
    type = others.length === 1 ? others[0] : undefined;
  }
  return { kind: kindOf(found, type), schema: found, nullable };
}

function kindOf(schema: Schema, type: string | undefined): Kind {
  if (schema.enum && schema.enum.length > 0) return 'enum';
  if (schema.const !== undefined) return 'enum';
  switch (type) {
    case 'string':
    case 'boolean':
      return type;
    case 'integer':
    case 'number':
      return 'number';
    case 'array':
      return 'list';
    case 'object':
      if (schema.properties) return 'object';
      return schema.additionalProperties === undefined || schema.additionalProperties === false ? 'json' : 'map';
  }
  return schema.properties ? 'object' : 'json';
}

export function isInteger(schema: Schema): boolean {
  return schema.type === 'integer' || (Array.isArray(schema.type) && schema.type.includes('integer'));
}

/** The value that a new field begins with: its default or example; else empty, with the required fields of an object in place.
 * undefined for what has no natural empty value, such as a number. */
export function initial(schema: Schema, root: Schema, depth = 0): unknown {
  const f = field(schema, root);
  if (f.schema.default !== undefined) return structuredClone(f.schema.default);
  switch (f.kind) {
    case 'enum':
      return f.schema.const !== undefined ? f.schema.const : f.schema.enum?.[0];
    case 'string':
      return '';
    case 'boolean':
      return false;
    case 'list':
      return [];
    case 'map':
      return {};
    case 'object': {
      const value: Record<string, unknown> = {};
      if (depth < 8) {
        for (const name of f.schema.required ?? []) {
          const property = f.schema.properties?.[name];
          const first = property && initial(property, root, depth + 1);
          if (first !== undefined) value[name] = first;
        }
      }
      return value;
    }
  }
  return undefined;
}

/** Says in a few words what a value must be: "integer, 1 to 10", for the hint of a field. */
export function describe(schema: Schema, root: Schema): string {
  const f = field(schema, root);
  const s = f.schema;
  const parts: string[] = [];
  const type = Array.isArray(s.type) ? s.type.filter((name) => name !== 'null').join(' or ') : s.type;
  if (f.kind === 'list') {
    const items = s.items ? describe(s.items, root).split(',')[0] : '';
    parts.push(items && items !== 'any JSON' ? `list of ${items}` : 'list');
  } else if (f.kind === 'enum') parts.push('one of a list');
  else parts.push(s.format ?? (s.contentEncoding ? `Base64 ${type ?? 'string'}` : (type ?? 'any JSON')));
  parts.push(...[
    range(s.minimum ?? s.exclusiveMinimum, s.maximum ?? s.exclusiveMaximum, ''),
    range(s.minLength, s.maxLength, 'character'),
    range(s.minItems, s.maxItems, 'item'),
  ].filter(Boolean));
  if (s.multipleOf !== undefined) parts.push(`multiple of ${s.multipleOf}`);
  if (s.pattern !== undefined) parts.push(`matches ${s.pattern}`);
  if (f.nullable) parts.push('or null');
  return parts.join(', ');
}

function range(min: number | undefined, max: number | undefined, unit: string): string {
  const of = (n: number) => (unit === '' ? `${n}` : `${n} ${unit}${n === 1 ? '' : 's'}`);
  if (min !== undefined && max !== undefined) return min === max ? `exactly ${of(min)}` : `${min} to ${of(max)}`;
  if (min !== undefined) return `at least ${of(min)}`;
  if (max !== undefined) return `at most ${of(max)}`;
  return '';
}

/** Sets or, with undefined, removes the value at a path; objects and lists on the way are copied, missing ones made. */
export function setAt(value: unknown, path: (string | number)[], next: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return next;
  if (typeof key === 'number') {
    const list = Array.isArray(value) ? [...value] : [];
    if (rest.length === 0 && next === undefined) list.splice(key, 1);
    else list[key] = setAt(list[key], rest, next);
    return list;
  }
  const object: Record<string, unknown> = isObject(value) ? { ...value } : {};
  const changed = setAt(Object.hasOwn(object, key) ? object[key] : undefined, rest, next);
  if (changed === undefined) delete object[key];
  // "__proto__" as an ordinary key
  else Object.defineProperty(object, key, { value: changed, enumerable: true, writable: true, configurable: true });
  return object;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The key under which the server reports a fault of a field: "address.city", and for a list its own path ("tags"). */
export function errorKey(path: (string | number)[]): string {
  return path.map(String).join('.');
}

/** Paths of required fields that have no value yet. */
export function missing(schema: Schema, root: Schema, value: unknown, path: (string | number)[] = []): string[] {
  const f = field(schema, root);
  if (f.kind === 'object' && isObject(value)) {
    const found: string[] = [];
    for (const [name, property] of Object.entries(f.schema.properties ?? {})) {
      const inner = Object.hasOwn(value, name) ? value[name] : undefined;
      if (inner === undefined) {
        if (f.schema.required?.includes(name)) found.push(errorKey([...path, name]));
      } else found.push(...missing(property, root, inner, [...path, name]));
    }
    return found;
  }
  if (f.kind === 'list' && Array.isArray(value) && f.schema.items) {
    const items = f.schema.items;
    return value.flatMap((item, i) => missing(items, root, item, [...path, i]));
  }
  return [];
}
