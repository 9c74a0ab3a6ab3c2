// Which kernel is looked at: the active notebook's. All others are told that nobody looks.
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { ISignal, Signal } from '@lumino/signaling';
import { KernelLink, Level } from './kernel';

export class Links {
  private _links = new Map<string, KernelLink>();
  private _panel: NotebookPanel | null = null;
  private _current: KernelLink | null = null;
  private _wanted: Level = 'off';
  private _changed = new Signal<this, void>(this);

  constructor(private _tracker: INotebookTracker) {
    _tracker.currentChanged.connect(this._follow, this);
    document.addEventListener('visibilitychange', () => this._level());
    this._follow();
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get current(): KernelLink | null {
    return this._current;
  }

  /** What the page shows of a kernel: nothing, the status item, the panel. */
  set wanted(level: Level) {
    this._wanted = level;
    this._level();
  }

  private _level(): void {
    for (const link of this._links.values()) {
      link.level = link === this._current && !document.hidden ? this._wanted : 'off';
    }
  }

  private _follow(): void {
    const panel = this._tracker.currentWidget;
    if (panel !== this._panel) {
      this._panel?.sessionContext.kernelChanged.disconnect(this._kernel, this);
      this._panel = panel;
      panel?.sessionContext.kernelChanged.connect(this._kernel, this);
    }
    this._kernel();
  }

  private _kernel(): void {
    const kernel = this._panel?.sessionContext.session?.kernel ?? null;
    let link = kernel ? (this._links.get(kernel.clientId) ?? null) : null;
    if (kernel && !link) {
      link = new KernelLink(kernel);
      this._links.set(kernel.clientId, link);
      link.changed.connect(sender => sender === this._current && this._changed.emit());
      kernel.disposed.connect(() => {
        this._links.get(kernel.clientId)?.dispose();
        this._links.delete(kernel.clientId);
      });
    }
    this._current = link;
    this._level();
    this._changed.emit();
  }
}
