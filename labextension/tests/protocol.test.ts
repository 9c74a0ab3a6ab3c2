import { expect, it, vi } from 'vitest';
import { parse } from '../src/protocol';

const status = { v: 1, kind: 'status', model: 'm', state: 'idle', rows: 0, tokens_per_s: 0, cached: 0, note: '' };

it('takes what the schema describes', () => {
  expect(parse(status)).toEqual(status);
  expect(parse({ v: 1, kind: 'models', names: ['a'] })).not.toBeNull();
  expect(parse({ v: 1, kind: 'panel', dashboard: null, jobs: [], chats: [], stores: [], note: '' })).not.toBeNull();
});

it('ignores the rest and says so once a kind', () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  for (const bad of [
    null,
    7,
    'text',
    [],
    {},
    { ...status, v: 2 },
    { ...status, rows: '1' },
    { ...status, rows: NaN },
    { v: 1, kind: 'toString' },
    { v: 1, kind: 'constructor', names: [] },
    { v: 1, kind: 'models', names: [1] },
    { v: 1, kind: 'panel', dashboard: {}, jobs: [], chats: [], stores: [], note: '' },
    { v: 1, kind: 'panel', dashboard: null, jobs: [{ number: 1 }], chats: [], stores: [], note: '' }
  ]) {
    expect(parse(bad)).toBeNull();
  }
  const kinds = warn.mock.calls.map(call => String(call[0]));
  expect(new Set(kinds).size).toBe(kinds.length);
});
