import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Schema } from '../src/api.ts';
import { describe, errorKey, field, initial, missing, resolve, setAt } from '../src/lib/schema.ts';

const root: Schema = {
  type: 'object',
  properties: { parent: { $ref: '#/$defs/Task' }, loop: { $ref: '#/$defs/A' } },
  $defs: {
    Task: { type: 'object', properties: { title: { type: 'string' }, parent: { $ref: '#/$defs/Task' } }, required: ['title'] },
    A: { $ref: '#/$defs/B' },
    B: { $ref: '#/$defs/A' },
    'a/b~c': { type: 'integer' },
  },
};

test('resolve follows references, and gives up on bad ones', () => {
  const cases: [string, Schema, Schema][] = [
    ['none', { type: 'string' }, { type: 'string' }],
    ['a definition', { $ref: '#/$defs/Task' }, root.$defs!.Task!],
    ['keywords beside it', { $ref: '#/$defs/a~1b~0c', description: 'n' }, { type: 'integer', description: 'n' }],
    ['a circle', { $ref: '#/$defs/A' }, {}],
    ['nowhere', { $ref: '#/$defs/None' }, {}],
    ['another document', { $ref: 'http://example.com/x' }, {}],
    ['an inherited name', { $ref: '#/constructor' }, {}],
  ];
  for (const [name, schema, want] of cases) assert.deepEqual(resolve(schema, root), want, name);
});

test('field tells how a value is edited', () => {
  const cases: [Schema, string, boolean][] = [
    [{ type: 'string' }, 'string', false],
    [{ type: ['string', 'null'] }, 'string', true],
    [{ type: ['string', 'number'] }, 'json', false],
    [{ type: 'integer' }, 'number', false],
    [{ type: 'boolean' }, 'boolean', false],
    [{ enum: ['a', 'b'] }, 'enum', false],
    [{ const: 1 }, 'enum', false],
    [{ type: 'array', items: {} }, 'list', false],
    [{ type: 'object', properties: {} }, 'object', false],
    [{ type: 'object', additionalProperties: { type: 'string' } }, 'map', false],
    [{ type: 'object' }, 'json', false],
    [{}, 'json', false],
    [{ anyOf: [{ type: 'integer' }, { type: 'null' }] }, 'number', true],
    [{ anyOf: [{ $ref: '#/$defs/Task' }, { type: 'null' }] }, 'object', true],
    [{ anyOf: [{ type: 'integer' }, { type: 'string' }] }, 'json', false],
  ];
  for (const [schema, kind, nullable] of cases) {
    const got = field(schema, root);
    assert.deepEqual([got.kind, got.nullable], [kind, nullable], JSON.stringify(schema));
  }
});

test('initial fills what is required, and nothing else', () => {
  const schema: Schema = {
    type: 'object',
    properties: { title: { type: 'string' }, n: { type: 'integer' }, kind: { enum: ['x', 'y'] }, tags: { type: 'array' }, on: { type: 'boolean', default: true }, more: { type: 'string' } },
    required: ['title', 'n', 'kind', 'tags', 'on'],
  };
  assert.deepEqual(initial(schema, schema), { title: '', kind: 'x', tags: [], on: true });
  assert.deepEqual(initial({ $ref: '#/$defs/Task' }, root), { title: '' });
});

test('initial ends for a type that requires itself', () => {
  const endless: Schema = { type: 'object', properties: { next: { $ref: '#' } }, required: ['next'] };
  assert.ok(JSON.stringify(initial(endless, endless)).length < 200);
});

test('setAt copies what it changes', () => {
  const before = { a: { b: [1, 2, 3] }, c: 1 };
  const frozen = structuredClone(before);
  assert.deepEqual(setAt(before, ['a', 'b', 1], 9), { a: { b: [1, 9, 3] }, c: 1 });
  assert.deepEqual(setAt(before, ['a', 'b', 1], undefined), { a: { b: [1, 3] }, c: 1 });
  assert.deepEqual(setAt(before, ['c'], undefined), { a: { b: [1, 2, 3] } });
  assert.deepEqual(setAt(undefined, ['x', 0, 'y'], 1), { x: [{ y: 1 }] });
  assert.deepEqual(before, frozen);
  const odd = setAt({}, ['__proto__'], 1);
  assert.equal(JSON.stringify(odd), '{"__proto__":1}');
});

test('missing names the required fields that are absent', () => {
  const schema: Schema = {
    type: 'object',
    properties: { title: { type: 'string' }, list: { type: 'array', items: root.$defs!.Task! }, address: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } },
    required: ['title'],
  };
  assert.deepEqual(missing(schema, schema, {}), ['title']);
  assert.deepEqual(missing(schema, schema, { title: '', address: {}, list: [{ title: 'a' }, {}] }), ['list.1.title', 'address.city']);
});

test('errorKey is the path that the server names', () => {
  assert.equal(errorKey(['address', 'city']), 'address.city');
  assert.equal(errorKey(['tags', 1]), 'tags.1');
});

test('describe says what is accepted', () => {
  const cases: [Schema, string][] = [
    [{ type: 'integer', minimum: 1, maximum: 10 }, 'integer, 1 to 10'],
    [{ type: 'string', minLength: 3, maxLength: 3 }, 'string, exactly 3 characters'],
    [{ type: 'string', minLength: 1 }, 'string, at least 1 character'],
    [{ type: 'string', format: 'email' }, 'email'],
    [{ type: 'array', items: { type: 'string' }, maxItems: 5 }, 'list of string, at most 5 items'],
    [{ type: ['number', 'null'] }, 'number, or null'],
    [{}, 'any JSON'],
  ];
  for (const [schema, want] of cases) assert.equal(describe(schema, schema), want);
});
