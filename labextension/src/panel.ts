// The side panel: the dashboard of the active notebook's kernel, and what can be done about it.
import { TranslationBundle } from '@jupyterlab/translation';
import { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';
import { bytes, draw, shortName } from '../../omlx_jupyter/notebook/js/dashboard.js';
import { button, element } from './dom';
import { Links } from './links';
import { Kinds } from './protocol';

export class Panel extends Widget {
  private _model: HTMLInputElement;
  private _names: HTMLDataListElement;
  private _note: HTMLElement;
  private _board: HTMLElement;
  private _lists: HTMLElement;
  private _drawn = '';

  constructor(
    private _links: Links,
    private _trans: TranslationBundle,
    private _visible: (visible: boolean) => void
  ) {
    super();
    this.addClass('omlx-panel');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', _trans.__('omlx engine'));
    const form = element('form', this.node, undefined, 'omlx-form');
    const label = element('label', form, _trans.__('Model'), 'omlx-field');
    this._model = element('input', label);
    this._model.placeholder = 'tiny-ocr';
    this._model.autocomplete = 'off';
    this._names = element('datalist', form);
    this._names.id = 'omlx-models';
    this._model.setAttribute('list', this._names.id);
    this._model.onfocus = () => this._links.current?.send({ kind: 'list_models' });
    const load = element('button', form, _trans.__('Load'), 'omlx-button');
    load.type = 'submit';
    button(form, _trans.__('Unload'), _trans.__('End the engine and free its memory'), () =>
      this._links.current?.send({ kind: 'unload' })
    );
    form.onsubmit = event => {
      event.preventDefault();
      this._links.current?.send({ kind: 'load', model: this._model.value.trim() || 'tiny-ocr' });
    };
    this._note = element('p', this.node, '', 'omlx-note');
    this._note.setAttribute('role', 'status');
    this._board = element('div', this.node);
    this._lists = element('div', this.node, undefined, 'omlx-lists');
    _links.changed.connect(this._show, this);
    this._show();
  }

  protected onAfterShow(_: Message): void {
    this._visible(true);
    this._show();
  }

  protected onAfterHide(_: Message): void {
    this._visible(false);
  }

  private _show(): void {
    const link = this._links.current;
    const { panel, models, problem } = link?.seen ?? {};
    const sleeping = !link?.awake;
    for (const control of this.node.querySelectorAll<HTMLInputElement>('.omlx-form input, .omlx-form button')) {
      control.disabled = sleeping;
    }
    const asleep = this._trans.__('%1 in the active notebook wakes this panel.', '%load_ext omlx_jupyter');
    this._note.textContent = panel?.note || problem?.text || (sleeping ? asleep : '');
    if (models) {
      this._names.replaceChildren(...models.names.map(name => new Option(name, name)));
    }
    const now = JSON.stringify(panel ?? null);
    if (now !== this._drawn && !this.isHidden) {
      this._drawn = now;
      this._redraw(panel);
    }
  }

  private _redraw(panel: Kinds['panel'] | undefined): void {
    draw(this._board, panel?.dashboard ?? null);
    this._board.hidden = !panel;
    const focused = (document.activeElement as HTMLElement | null)?.dataset?.omlx;
    this._lists.replaceChildren();
    if (panel) {
      this._jobs(panel);
      this._chats(panel);
      this._stores(panel);
    }
    if (focused) {
      this._lists.querySelector<HTMLElement>(`[data-omlx="${CSS.escape(focused)}"]`)?.focus();
    }
  }

  private _section(title: string, empty: string, count: number): HTMLElement {
    element('h4', this._lists, title);
    if (!count) {
      element('p', this._lists, empty, 'omlx-quiet');
    }
    return element('ul', count ? this._lists : null, undefined, 'omlx-list');
  }

  private _entry(list: HTMLElement, text: string): HTMLElement {
    const item = element('li', list);
    element('span', item, text);
    return item;
  }

  private _act(item: HTMLElement, text: string, label: string, act: () => void): void {
    button(item, text, label, act).dataset.omlx = label;
  }

  private _jobs({ jobs }: Kinds['panel']): void {
    const list = this._section(
      this._trans.__('Background cells'),
      this._trans.__('None; %1 begins one.', '%%vlm --background'),
      jobs.length
    );
    for (const job of jobs) {
      const item = this._entry(list, `${job.number}: ${job.state} · ${job.prompt}`);
      if (!job.done) {
        this._act(item, this._trans.__('Cancel'), this._trans.__('Cancel background cell %1', job.number), () =>
          this._links.current?.send({ kind: 'cancel_job', number: job.number })
        );
      }
    }
  }

  private _chats({ chats }: Kinds['panel']): void {
    const list = this._section(
      this._trans.__('Conversations'),
      this._trans.__('None; %1 begins one.', '%%vlm --chat NAME'),
      chats.length
    );
    const taken = new Set(chats.map(chat => chat.name));
    for (const chat of chats) {
      const item = this._entry(list, this._trans.__('%1: %2 turns, %3 pictures', chat.name, chat.turns, chat.pictures));
      this._act(item, this._trans.__('Fork'), this._trans.__('Fork the conversation %1', chat.name), () => {
        let number = 2;
        while (taken.has(`${chat.name}-${number}`)) {
          number += 1;
        }
        this._links.current?.send({ kind: 'fork_chat', name: chat.name, new: `${chat.name}-${number}` });
      });
      this._act(item, this._trans.__('Clear'), this._trans.__('Forget the conversation %1', chat.name), () =>
        this._links.current?.send({ kind: 'clear_chat', name: chat.name })
      );
    }
  }

  private _stores({ stores }: Kinds['panel']): void {
    const list = this._section(
      this._trans.__('Prefix cache on disk'),
      this._trans.__('Nothing is stored yet.'),
      stores.length
    );
    for (const store of stores) {
      const item = this._entry(
        list,
        this._trans.__('%1: %2, %3 tokens', shortName(store.name), bytes(store.bytes), store.tokens)
      );
      this._act(item, this._trans.__('Clear'), this._trans.__('Empty the cache of %1', store.name), () =>
        this._links.current?.send({ kind: 'clear_store', model: store.name })
      );
    }
  }
}
