// Written by `npm run types` from comm.schema.json; change that.

/**
 * Messages of the comm target omlx_jupyter, version 1. docs/comm.md explains them.
 */
export type OmlxComm = FromKernel | FromPage;
export type FromKernel = Status | Panel | Models | Problem;
export type FromPage =
  Watch | Load | Unload | ListModels | CancelJob | ClearStore | ForkChat | ClearChat;

/**
 * The status bar's figures. `note` says what is being loaded; `cached` is the share of prompt tokens that came from the cache.
 */
export interface Status {
  v: 1;
  kind: 'status';
  model: string;
  state: string;
  rows: number;
  tokens_per_s: number;
  cached: number;
  where: string;
  note: string;
}
/**
 * Everything that the side panel shows. `dashboard` is null while no model is loaded.
 */
export interface Panel {
  v: 1;
  kind: 'panel';
  dashboard: Dashboard | null;
  jobs: JobEntry[];
  chats: ChatEntry[];
  stores: StoreEntry[];
  note: string;
}
export interface Dashboard {
  model: string;
  state: string;
  tokens_per_s: number;
  history: number[];
  lanes: Lane[];
  waiting_for: string;
  recent: Finished[];
  cache: CacheFigures;
  kv_bytes: number;
  images_encoded: number;
  images_reused: number;
  prompt_tokens: number;
  finished: number;
  failed: number;
}
export interface Lane {
  number: number;
  phase: 'queued' | 'reading' | 'prefill' | 'decode' | 'done';
  done: number;
  total: number;
  tokens: number;
  max_tokens: number;
  images: number;
  thought: number;
  accepted: number;
}
export interface Finished {
  number: number;
  prompt: number;
  ram: number;
  ssd: number;
  tokens: number;
  thought: number;
  accepted: number;
}
export interface CacheFigures {
  ram_bytes: number;
  ram_budget: number;
  ram_entries: number;
  ram_evictions: number;
  ssd_bytes: number;
  ssd_budget: number;
  ssd_evictions: number;
  ssd_damaged: number;
  ssd_paused: string;
  queued_bytes: number;
  dropped: number;
  tokens_asked: number;
  tokens_ram: number;
  tokens_ssd: number;
  saved_s: number;
}
export interface JobEntry {
  number: number;
  state: string;
  prompt: string;
  done: boolean;
}
export interface ChatEntry {
  name: string;
  turns: number;
  pictures: number;
}
export interface StoreEntry {
  name: string;
  bytes: number;
  blocks: number;
  tokens: number;
}
/**
 * Names that can be loaded without a download.
 */
export interface Models {
  v: 1;
  kind: 'models';
  names: string[];
}
/**
 * What a command could not do, as one sentence.
 */
export interface Problem {
  v: 1;
  kind: 'problem';
  text: string;
}
/**
 * How much this page wants to see. Holds for a minute, so a page repeats it; a page that has gone costs nothing.
 */
export interface Watch {
  v: 1;
  kind: 'watch';
  page: string;
  level: 'off' | 'status' | 'panel';
}
/**
 * Load a model: a folder, a hub id or tiny-ocr.
 */
export interface Load {
  v: 1;
  kind: 'load';
  model: string;
}
/**
 * End the engine and free its memory.
 */
export interface Unload {
  v: 1;
  kind: 'unload';
}
/**
 * Ask for Models.
 */
export interface ListModels {
  v: 1;
  kind: 'list_models';
}
/**
 * End a background cell; what was said is kept.
 */
export interface CancelJob {
  v: 1;
  kind: 'cancel_job';
  number: number;
}
/**
 * Empty the prefix cache of one model, by name.
 */
export interface ClearStore {
  v: 1;
  kind: 'clear_store';
  model: string;
}
/**
 * Go on with a conversation under a new name.
 */
export interface ForkChat {
  v: 1;
  kind: 'fork_chat';
  name: string;
  new: string;
}
/**
 * Forget a conversation.
 */
export interface ClearChat {
  v: 1;
  kind: 'clear_chat';
  name: string;
}
