// Pictures pasted or dropped onto a %%vlm or %ocr cell.
import { Notification } from '@jupyterlab/apputils';
import { Cell } from '@jupyterlab/cells';
import { PathExt } from '@jupyterlab/coreutils';
import { NotebookPanel } from '@jupyterlab/notebook';
import { Contents } from '@jupyterlab/services';
import { Drag } from '@lumino/dragdrop';
import { isPicturePath, Magic, magicOf, reference, relativeTo } from './cells';
import { savePicture } from './store';

const FILES = 'application/x-jupyter-icontents';

export function takePictures(panel: NotebookPanel, contents: Contents.IManager, wanted: () => boolean): void {
  const node = panel.content.node;
  const folder = () => PathExt.dirname(contents.localPath(panel.context.path));

  /** Put references at the cursor of a cell, as one step to undo. */
  const insert = (cell: Cell, magic: Exclude<Magic, null>, paths: string[]) => {
    cell.editor?.replaceSelection?.(paths.map(path => reference(magic, path)).join(' '));
  };

  const store = async (cell: Cell, magic: Exclude<Magic, null>, files: File[]) => {
    const names: string[] = [];
    for (const file of files) {
      try {
        names.push(await savePicture(contents, folder(), file));
      } catch (error) {
        Notification.error((error as Error).message);
      }
    }
    if (names.length && !cell.isDisposed) {
      insert(cell, magic, names);
    }
  };

  const under = (event: MouseEvent): { cell: Cell; magic: Exclude<Magic, null> } | null => {
    const cell = wanted() && panel.content.widgets.find(c => c.node.contains(event.target as Node));
    const magic = cell && cell.model.type === 'code' ? magicOf(cell.model.sharedModel.getSource()) : null;
    return cell && magic ? { cell, magic } : null;
  };

  const place = (cell: Cell, event: MouseEvent) => {
    const [left, top] = [event.clientX, event.clientY];
    const at = cell.editor?.getPositionForCoordinate({
      left,
      top,
      right: left,
      bottom: top,
      width: 0,
      height: 0
    } as DOMRect);
    if (at && cell.editor) {
      cell.editor.setCursorPosition(at);
    }
  };

  node.addEventListener(
    'paste',
    event => {
      const found = under(event as unknown as MouseEvent);
      const data = event.clipboardData;
      const files = [...(data?.files ?? [])].filter(file => file.type.startsWith('image/'));
      // Text wins: spreadsheets and browsers put a picture of it beside it.
      if (found && files.length && !data?.types.includes('text/plain')) {
        event.preventDefault();
        event.stopPropagation();
        void store(found.cell, found.magic, files);
      }
    },
    true
  );

  for (const kind of ['dragenter', 'dragover'] as const) {
    node.addEventListener(
      kind,
      event => {
        if (event.dataTransfer?.types.includes('Files') && under(event)) {
          event.preventDefault();
          event.stopPropagation();
          event.dataTransfer.dropEffect = 'copy';
        }
      },
      true
    );
  }
  node.addEventListener(
    'drop',
    event => {
      const found = under(event);
      const files = [...(event.dataTransfer?.files ?? [])];
      if (found && files.length) {
        event.preventDefault();
        event.stopPropagation();
        place(found.cell, event);
        void store(found.cell, found.magic, files);
      }
    },
    true
  );

  const lumino = (act: (event: Drag.Event) => void) => (event: Event) => {
    const drag = event as unknown as Drag.Event;
    if (drag.mimeData?.hasData(FILES) && under(drag)) {
      event.preventDefault();
      event.stopPropagation();
      drag.dropAction = drag.proposedAction; // the file browser offers 'move' only; nothing is moved
      act(drag);
    }
  };
  for (const kind of ['lm-dragenter', 'lm-dragover']) {
    node.addEventListener(
      kind,
      lumino(() => undefined),
      true
    );
  }
  node.addEventListener(
    'lm-drop',
    lumino(drag => {
      const found = under(drag);
      const paths = (drag.mimeData.getData(FILES) as string[]).filter(isPicturePath);
      if (found && paths.length) {
        place(found.cell, drag);
        insert(
          found.cell,
          found.magic,
          paths.map(path => relativeTo(folder(), contents.localPath(path)))
        );
      }
    }),
    true
  );
}
