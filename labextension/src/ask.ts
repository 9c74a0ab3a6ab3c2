// "Ask about this image" and "Read text (OCR)" on a cell's picture.
import { Notification } from '@jupyterlab/apputils';
import type { Cell, CodeCell } from '@jupyterlab/cells';
import { PathExt } from '@jupyterlab/coreutils';
import { NotebookActions, NotebookPanel } from '@jupyterlab/notebook';
import { Contents } from '@jupyterlab/services';
import { reference } from './cells';
import { savePicture } from './store';

const KINDS = ['image/png', 'image/jpeg', 'image/gif', 'image/webp'];

/** The last picture among a code cell's outputs. */
export function pictureOf(cell: Cell | null | undefined): Blob | null {
  // By its model's type: Voila doesn't share the package that has the class.
  if (cell?.model.type !== 'code') {
    return null;
  }
  const outputs = (cell as CodeCell).model.outputs;
  for (let at = outputs.length - 1; at >= 0; at -= 1) {
    const data = outputs.get(at).data;
    const kind = KINDS.find(k => typeof data[k] === 'string');
    if (kind) {
      const bytes = Uint8Array.from(atob((data[kind] as string).replace(/\s/g, '')), c => c.charCodeAt(0));
      return new Blob([bytes], { type: kind });
    }
  }
  return null;
}

/** Save the active cell's picture beside the notebook and insert a cell that reads it or asks about it. */
export async function askBelow(panel: NotebookPanel, contents: Contents.IManager, magic: 'vlm' | 'ocr'): Promise<void> {
  const notebook = panel.content;
  const picture = pictureOf(notebook.activeCell);
  if (!picture) {
    return;
  }
  try {
    const folder = PathExt.dirname(contents.localPath(panel.context.path));
    const file = reference(magic, await savePicture(contents, folder, picture));
    NotebookActions.insertBelow(notebook);
    const cell = notebook.activeCell;
    const text = magic === 'ocr' ? `%ocr ${file}` : `%%vlm\n${file}\n`;
    cell?.model.sharedModel.setSource(text);
    await cell?.ready;
    notebook.mode = 'edit';
    const lines = text.split('\n');
    cell?.editor?.setCursorPosition({ line: lines.length - 1, column: lines[lines.length - 1].length });
  } catch (error) {
    Notification.error((error as Error).message);
  }
}
