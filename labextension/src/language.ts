// %%vlm cells: the first line is a magic, the body prose, {expr} Python.
import { LanguageSupport, StreamLanguage, StreamParser, StringStream } from '@codemirror/language';
import { python } from '@codemirror/legacy-modes/mode/python';
import { ICellModel } from '@jupyterlab/cells';
import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { NotebookPanel } from '@jupyterlab/notebook';
import { magicOf } from './cells';

export const MIME = 'text/x-omlx-vlm';

type Inner = ReturnType<NonNullable<typeof python.startState>>;
interface State {
  magic: boolean;
  depth: number; // of braces; 0 is prose
  inner: Inner;
}

const fresh = (): Inner => python.startState!(4);

export const vlmParser: StreamParser<State> = {
  name: 'omlx-vlm',
  startState: () => ({ magic: false, depth: 0, inner: fresh() }),
  copyState: state => ({ ...state, inner: { ...(state.inner as object) } }),
  token: (stream, state) => (state.depth ? inBraces(stream, state) : prose(stream, state))
};

function prose(stream: StringStream, state: State): string | null {
  if (stream.sol()) {
    state.magic = /^\s*%%\w/.test(stream.string);
    if (!state.magic && stream.match(/^\s{0,3}#{1,6}\s/)) {
      stream.skipTo('{') || stream.skipToEnd();
      return 'heading';
    }
    if (!state.magic && stream.match(/^\s*([-*+]|\d+[.)])\s/)) {
      return 'list';
    }
  }
  if (state.magic) {
    return magic(stream);
  }
  if (stream.match(/^(\{\{|\}\})/)) {
    return 'escape';
  }
  if (stream.match('{')) {
    state.depth = 1;
    state.inner = fresh();
    return 'brace';
  }
  if (stream.match(/^\*\*[^*{}]+\*\*/)) {
    return 'strong';
  }
  if (stream.match(/^`[^`{}]+`/)) {
    return 'monospace';
  }
  stream.next();
  stream.eatWhile(/[^{}*`]/);
  return null;
}

function magic(stream: StringStream): string | null {
  if (stream.match(/^\s*%%\w+/)) {
    return 'meta';
  }
  if (stream.match(/^\s+/)) {
    return null;
  }
  if (stream.match(/^--?[a-zA-Z][\w-]*/)) {
    return 'attributeName';
  }
  stream.match(/^("[^"]*"?|'[^']*'?|\S+)/);
  return 'string';
}

/** Python until the brace that closes; the parser sees no brace of ours. */
function inBraces(stream: StringStream, state: State): string | null {
  if (stream.match(/^[{[(]/)) {
    state.depth += 1;
    return 'bracket';
  }
  if (state.depth > 1 && stream.match(/^[\])}]/)) {
    state.depth -= 1;
    return 'bracket';
  }
  if (stream.match('}')) {
    state.depth = 0;
    return 'brace';
  }
  return python.token(stream, state.inner);
}

export function registerLanguage(registry: IEditorLanguageRegistry): void {
  registry.addLanguage({
    name: 'omlx-vlm',
    displayName: 'omlx %%vlm cell',
    mime: MIME,
    support: new LanguageSupport(StreamLanguage.define(vlmParser))
  });
}

/** Keep the MIME type of a notebook's %%vlm cells; the notebook sets its own again and again. */
export function highlight(panel: NotebookPanel): void {
  const known = new WeakSet<ICellModel>();
  const set = (model: ICellModel) => {
    if (model.isDisposed || model.type !== 'code') {
      return;
    }
    const ours = magicOf(model.sharedModel.getSource()) === 'vlm';
    if (ours !== (model.mimeType === MIME)) {
      model.mimeType = ours ? MIME : 'text/x-ipython';
    }
  };
  const follow = (model: ICellModel) => {
    if (!known.has(model)) {
      known.add(model);
      model.contentChanged.connect(set);
      model.mimeTypeChanged.connect(() => set(model));
    }
    set(model);
  };
  const seen = new WeakSet<object>();
  // By the model's cells, not the widgets: with jupyter-collaboration both come later than the panel
  const attach = () => {
    const cells = panel.content.model?.cells;
    if (!cells || seen.has(cells)) {
      return;
    }
    seen.add(cells);
    const all = () => {
      for (const cell of cells) {
        follow(cell);
      }
    };
    cells.changed.connect(() => requestAnimationFrame(all));
    all();
  };
  panel.content.modelChanged.connect(attach);
  void panel.context.ready.then(attach);
}
