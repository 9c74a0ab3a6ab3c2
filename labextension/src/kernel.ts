// One kernel: its beacon, on which it speaks, and the page's own comm, on which it listens.
import { Kernel, KernelMessage } from '@jupyterlab/services';
import { UUID } from '@lumino/coreutils';
import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import { FromPage, Kinds, parse, TARGET, VERSION } from './protocol';

export type Level = 'off' | 'status' | 'panel';
type Command = FromPage extends infer M ? (M extends FromPage ? Omit<M, 'v'> : never) : never;

const PAGE = UUID.uuid4();
const AGAIN_MS = 20_000; // the kernel forgets a page that is silent for a minute

export class KernelLink implements IDisposable {
  readonly seen: Partial<Kinds> = {};
  private _changed = new Signal<this, void>(this);
  private _kernel: Kernel.IKernelConnection;
  private _control: Kernel.IComm | null = null;
  private _heard: Kernel.IComm[] = [];
  private _opening = false;
  private _level: Level = 'off';
  private _timer: ReturnType<typeof setInterval>;
  private _disposed = false;

  constructor(kernel: Kernel.IKernelConnection) {
    this._kernel = kernel;
    kernel.registerCommTarget(TARGET, this._onBeacon);
    kernel.statusChanged.connect(this._onStatus, this);
    kernel.connectionStatusChanged.connect(this._onConnection, this);
    this._timer = setInterval(() => this._level !== 'off' && this._watch(), AGAIN_MS);
    void this._find();
  }

  /** Emitted when something was heard, or the kernel fell silent. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Whether the kernel has loaded the extension. */
  get awake(): boolean {
    return this._control !== null;
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  get level(): Level {
    return this._level;
  }

  set level(level: Level) {
    if (level !== this._level) {
      this._level = level;
      this._watch();
    }
  }

  send(command: Command): void {
    if (command.kind !== 'watch') {
      delete this.seen.problem; // of the command before
    }
    this._control?.send({ v: VERSION, ...command });
  }

  dispose(): void {
    if (this._disposed) {
      return;
    }
    this.level = 'off';
    this._disposed = true;
    clearInterval(this._timer);
    this._kernel.removeCommTarget(TARGET, this._onBeacon);
    this._forget();
    Signal.clearData(this);
  }

  private _watch(): void {
    this.send({ kind: 'watch', page: PAGE, level: this._level });
  }

  private _onBeacon = (comm: Kernel.IComm, _: KernelMessage.ICommOpenMsg): void => {
    this._hear(comm);
  };

  private _hear(comm: Kernel.IComm): void {
    comm.onMsg = message => {
      const heard = parse(message.content.data);
      if (heard && !this._disposed) {
        (this.seen as Record<string, unknown>)[heard.kind] = heard;
        this._changed.emit();
      }
    };
    this._heard.push(comm);
    void this._open();
  }

  private async _open(): Promise<void> {
    if (this._control || this._opening || this._disposed) {
      return;
    }
    this._opening = true;
    try {
      const control = this._kernel.createComm(TARGET);
      // A subshell, where Lab and kernel have them: a cell that runs doesn't keep us waiting.
      await (control as { subshellStarted?: Promise<void> }).subshellStarted;
      control.open({ v: VERSION });
      this._control = control;
      this._watch();
      this._changed.emit();
    } catch (error) {
      console.warn('omlx_jupyter: the kernel could not be reached', error);
    } finally {
      this._opening = false;
    }
  }

  /** A kernel that was loaded before the page was: its beacon is open already. */
  private async _find(): Promise<void> {
    try {
      const reply = await this._kernel.requestCommInfo({ target_name: TARGET });
      if (reply.content.status === 'ok' && !this._disposed) {
        for (const id of Object.keys(reply.content.comms)) {
          if (!this._kernel.hasComm?.(id)) {
            this._hear(this._kernel.createComm(TARGET, id));
          }
        }
      }
    } catch {
      // the kernel went away meanwhile
    }
  }

  private _onStatus(_: unknown, status: Kernel.Status): void {
    if (status === 'restarting' || status === 'autorestarting' || status === 'dead') {
      this._forget();
      this._changed.emit();
    }
  }

  private _onConnection(_: unknown, status: Kernel.ConnectionStatus): void {
    if (status === 'connected' && !this._control) {
      void this._find();
    }
  }

  private _forget(): void {
    for (const comm of [...this._heard, ...(this._control ? [this._control] : [])]) {
      comm.dispose();
    }
    this._heard = [];
    this._control = null;
    for (const kind of Object.keys(this.seen)) {
      delete (this.seen as Record<string, unknown>)[kind];
    }
  }
}
