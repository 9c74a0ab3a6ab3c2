// The status bar item: model, state, speed, share from the cache. A click opens the panel.
import { TranslationBundle } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';
import { element } from './dom';
import { Links } from './links';
import { summary } from './summary';

export class StatusItem extends Widget {
  constructor(
    private _links: Links,
    private _trans: TranslationBundle,
    open: () => void
  ) {
    super({ node: element('button', null, '', 'omlx-status') });
    this.node.setAttribute('type', 'button');
    this.node.title = _trans.__('Open the omlx panel');
    this.node.onclick = open;
    _links.changed.connect(this._show, this);
    this._show();
  }

  readonly activeStateChanged = new Signal<this, void>(this);

  /** Whether there is a kernel to tell of. */
  get speaks(): boolean {
    return this._links.current?.seen.status !== undefined;
  }

  private _show(): void {
    const text = summary(this._links.current?.seen.status, this._trans);
    this.node.textContent = text;
    this.activeStateChanged.emit();
    this.node.setAttribute('aria-label', text ? this._trans.__('omlx engine: %1', text) : '');
  }
}
