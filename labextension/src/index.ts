// What JupyterLab loads. Every part stays out quietly where its place doesn't exist (Notebook 7).
import { ILabShell, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { imageIcon } from '@jupyterlab/ui-components';
import { askBelow, pictureOf } from './ask';
import { Links } from './links';
import { Panel } from './panel';
import { takePictures } from './pictures';
import { StatusItem } from './status';

const PANEL = 'omlx-panel';

const engine: JupyterFrontEndPlugin<void> = {
  id: 'omlx_jupyter:engine',
  description: 'Status item and side panel of the omlx engine in the active kernel',
  autoStart: true,
  optional: [INotebookTracker, IStatusBar, ITranslator, ICommandPalette, ILabShell],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker | null,
    statusBar: IStatusBar | null,
    translator: ITranslator | null,
    palette: ICommandPalette | null,
    labShell: ILabShell | null
  ) => {
    if (!tracker) {
      return; // Voila has no notebooks to edit
    }
    const trans = (translator ?? nullTranslator).load('omlx_jupyter');
    const links = new Links(tracker);
    const base = statusBar ? 'status' : 'off';
    links.wanted = base;
    const panel = new Panel(links, trans, visible => (links.wanted = visible ? 'panel' : base));
    panel.id = PANEL;
    panel.title.icon = imageIcon;
    panel.title.caption = trans.__('omlx engine');
    app.shell.add(panel, 'right', { rank: 900, type: 'omlx' });
    const open = () => app.shell.activateById(PANEL);
    const command = 'omlx:open-panel';
    app.commands.addCommand(command, { label: trans.__('Show the omlx Panel'), execute: open });
    palette?.addItem({ command, category: 'omlx' });
    if (statusBar) {
      const item = new StatusItem(links, trans, open);
      statusBar.registerStatusItem('omlx_jupyter:status', {
        item,
        align: 'left',
        rank: 900,
        isActive: () => item.speaks,
        activeStateChanged: item.activeStateChanged
      });
    }
    labShell?.layoutModified.connect(() => (links.wanted = panel.isVisible ? 'panel' : base));
  }
};

const language: JupyterFrontEndPlugin<void> = {
  id: 'omlx_jupyter:language',
  description: 'Highlighting of %%vlm cells',
  autoStart: true,
  optional: [INotebookTracker, IEditorLanguageRegistry],
  activate: async (_: JupyterFrontEnd, tracker: INotebookTracker | null, languages: IEditorLanguageRegistry | null) => {
    if (!tracker || !languages) {
      return;
    }
    // Only where it is wanted: Voila has no editors, and shares no CodeMirror
    const { highlight, registerLanguage } = await import('./language');
    registerLanguage(languages);
    // Loaded beforehand: an editor that waits for Python would take it after ours
    await languages.getLanguage('text/x-ipython');
    tracker.widgetAdded.connect((_, panel) => highlight(panel));
    tracker.forEach(highlight);
  }
};

const pictures: JupyterFrontEndPlugin<void> = {
  id: 'omlx_jupyter:pictures',
  description: 'Pictures into %%vlm and %ocr cells, questions about pictures in outputs',
  autoStart: true,
  optional: [INotebookTracker, ISettingRegistry, ITranslator, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker | null,
    settings: ISettingRegistry | null,
    translator: ITranslator | null,
    palette: ICommandPalette | null
  ) => {
    if (!tracker) {
      return;
    }
    const trans = (translator ?? nullTranslator).load('omlx_jupyter');
    const contents = app.serviceManager.contents;
    let drops = true;
    const follow = async () => {
      const loaded = await settings?.load('omlx_jupyter:pictures').catch(() => null);
      const read = () => (drops = loaded?.get('takePictures').composite !== false);
      loaded?.changed.connect(read);
      read();
    };
    void follow();
    tracker.widgetAdded.connect((_, panel) => takePictures(panel, contents, () => drops));
    tracker.forEach(panel => takePictures(panel, contents, () => drops));
    const able = () => pictureOf(tracker.currentWidget?.content.activeCell) !== null;
    const words = [
      ['omlx:ask-image', trans.__('Ask about This Image'), 'vlm'],
      ['omlx:read-image', trans.__('Read Text (OCR)'), 'ocr']
    ] as const;
    for (const [command, label, magic] of words) {
      app.commands.addCommand(command, {
        label,
        caption: label,
        icon: magic === 'vlm' ? imageIcon : undefined,
        isEnabled: able,
        isVisible: able,
        execute: async () => {
          const panel = tracker.currentWidget;
          if (panel) {
            await askBelow(panel, contents, magic);
          }
        }
      });
      palette?.addItem({ command, category: 'omlx' });
    }
    const refresh = () => words.forEach(([command]) => app.commands.notifyCommandChanged(command));
    tracker.activeCellChanged.connect((_, cell) => {
      refresh();
      if (cell?.model.type === 'code') {
        (cell.model as unknown as { outputs: { changed: { connect(f: () => void): void } } }).outputs.changed.connect(
          refresh
        );
      }
    });
  }
};

export default [engine, language, pictures];
