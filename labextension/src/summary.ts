// The status item's words.
import type { TranslationBundle } from '@jupyterlab/translation';
import type { Kinds } from './protocol';

export function summary(status: Kinds['status'] | undefined, trans: TranslationBundle): string {
  if (!status) {
    return '';
  }
  if (status.note) {
    return status.note;
  }
  if (!status.model) {
    return trans.__('omlx: no model');
  }
  const name = status.model.split('/').pop() ?? status.model;
  const at = status.where ? trans.__('%1 on %2', name, status.where) : name;
  const parts = [at, status.rows ? trans.__('%1, %2 rows', status.state, status.rows) : status.state];
  if (status.tokens_per_s >= 1) {
    parts.push(trans.__('%1 tokens/s', Math.round(status.tokens_per_s)));
  }
  if (status.cached > 0) {
    parts.push(trans.__('%1 % cached', Math.round(100 * status.cached)));
  }
  return parts.join(' · ');
}
