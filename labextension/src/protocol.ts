// What may come from a kernel, checked: a kernel's message is data, never code.
import type {
  CacheFigures,
  Dashboard,
  Lane,
  Finished,
  FromKernel,
  FromPage,
  JobEntry,
  ChatEntry,
  StoreEntry
} from './messages';

export const TARGET = 'omlx_jupyter';
export const VERSION = 1;

export type { Dashboard, FromKernel, FromPage, JobEntry, ChatEntry, StoreEntry };
export type Kinds = { [K in FromKernel['kind']]: Extract<FromKernel, { kind: K }> };

type Check = (value: unknown) => boolean;
type Shape = Record<string, Check>;

const text: Check = value => typeof value === 'string';
const amount: Check = value => typeof value === 'number' && Number.isFinite(value);
const flag: Check = value => typeof value === 'boolean';
const list =
  (of: Check): Check =>
  value =>
    Array.isArray(value) && value.every(of);
const shape =
  (fields: Shape): Check =>
  value =>
    typeof value === 'object' &&
    value !== null &&
    Object.entries(fields).every(([name, check]) => check((value as Record<string, unknown>)[name]));

const of = (check: Check, ...names: string[]): Shape => Object.fromEntries(names.map(n => [n, check]));

const lane: { [K in keyof Lane]: Check } = {
  ...(of(amount, 'number', 'done', 'total', 'tokens', 'max_tokens', 'images', 'thought', 'accepted') as Record<
    keyof Lane,
    Check
  >),
  phase: text
};
const finished = of(amount, 'number', 'prompt', 'ram', 'ssd', 'tokens', 'thought', 'accepted') as Record<
  keyof Finished,
  Check
>;
const cache: { [K in keyof CacheFigures]: Check } = {
  ...(of(
    amount,
    ...['ram_bytes', 'ram_budget', 'ram_entries', 'ram_evictions', 'ssd_bytes', 'ssd_budget', 'ssd_evictions'],
    ...['ssd_damaged', 'queued_bytes', 'dropped', 'tokens_asked', 'tokens_ram', 'tokens_ssd', 'saved_s']
  ) as Record<keyof CacheFigures, Check>),
  ssd_paused: text
};
const dashboard: { [K in keyof Dashboard]: Check } = {
  ...(of(
    amount,
    ...['tokens_per_s', 'kv_bytes', 'images_encoded', 'images_reused', 'prompt_tokens', 'finished', 'failed']
  ) as Record<keyof Dashboard, Check>),
  ...(of(text, 'model', 'state', 'waiting_for') as Record<'model' | 'state' | 'waiting_for', Check>),
  history: list(amount),
  lanes: list(shape(lane)),
  recent: list(shape(finished)),
  cache: shape(cache)
};

const KINDS: Record<FromKernel['kind'], Shape> = {
  status: { ...of(text, 'model', 'state', 'note'), ...of(amount, 'rows', 'tokens_per_s', 'cached') },
  panel: {
    dashboard: value => value === null || shape(dashboard)(value),
    jobs: list(shape({ ...of(amount, 'number'), ...of(text, 'state', 'prompt'), ...of(flag, 'done') })),
    chats: list(shape({ ...of(text, 'name'), ...of(amount, 'turns', 'pictures') })),
    stores: list(shape({ ...of(text, 'name'), ...of(amount, 'bytes', 'blocks', 'tokens') })),
    note: text
  },
  models: { names: list(text) },
  problem: { text }
};

const told = new Set<string>();

/** A kernel's message, or null where it is unknown or malformed, which is logged once a kind. */
export function parse(data: unknown): FromKernel | null {
  const kind = String((data as { kind?: unknown } | null)?.kind).slice(0, 40);
  const known = Object.hasOwn(KINDS, kind) ? KINDS[kind as FromKernel['kind']] : undefined;
  if (known && (data as { v?: unknown }).v === VERSION && shape(known)(data)) {
    return data as FromKernel;
  }
  if (!told.has(kind) && told.size < 100) {
    told.add(kind);
    console.warn(`omlx_jupyter: a kernel's message (${kind}) was not understood and is ignored`);
  }
  return null;
}
