import { expect, it } from 'vitest';
import { summary } from '../src/summary';

const trans = {
  __: (text: string, ...values: unknown[]) => text.replace(/%(\d)/g, (_, n) => String(values[Number(n) - 1]))
} as never;
const status = {
  v: 1,
  kind: 'status',
  model: 'org/m',
  state: 'idle',
  rows: 0,
  tokens_per_s: 0,
  cached: 0,
  where: '',
  note: ''
} as const;

it('says what there is to say', () => {
  expect(summary(undefined, trans)).toBe('');
  expect(summary({ ...status, model: '' }, trans)).toBe('omlx: no model');
  expect(summary(status, trans)).toBe('m · idle');
  expect(summary({ ...status, state: 'decode', rows: 2, tokens_per_s: 99.6, cached: 0.514 }, trans)).toBe(
    'm · decode, 2 rows · 100 tokens/s · 51 % cached'
  );
  expect(summary({ ...status, where: 'main' }, trans)).toBe('m on main · idle');
  expect(summary({ ...status, note: 'loading' }, trans)).toBe('loading');
});
