// What a cell is to us, from its text alone.
export type Magic = 'vlm' | 'ocr' | null;

/** `%%vlm` on the first line, or `%ocr` at the beginning of any line. */
export function magicOf(source: string): Magic {
  if (/^\s*%%vlm\b/.test(source)) {
    return 'vlm';
  }
  return /^\s*(\w+\s*=\s*)?%ocr\b/m.test(source) ? 'ocr' : null;
}

/** How a picture's file is written into a cell. */
export function reference(magic: Exclude<Magic, null>, path: string): string {
  if (magic === 'vlm') {
    return `{img(${JSON.stringify(path)})}`;
  }
  return /[\s[\](){}'"*?]/.test(path) ? JSON.stringify(path) : path;
}

const EXTENSIONS: Record<string, string> = {
  'image/png': 'png',
  'image/jpeg': 'jpg',
  'image/gif': 'gif',
  'image/webp': 'webp',
  'image/bmp': 'bmp',
  'image/tiff': 'tiff'
};
const PICTURE = /\.(png|jpe?g|gif|webp|bmp|tiff?|pdf)$/i;

export function extensionOf(mime: string): string | null {
  return EXTENSIONS[mime] ?? null;
}

export function isPicturePath(path: string): boolean {
  return PICTURE.test(path);
}

/** A path seen from the notebook's folder; both are paths of the server, without a leading slash. */
export function relativeTo(folder: string, path: string): string {
  const from = folder.split('/').filter(Boolean);
  const to = path.split('/').filter(Boolean);
  let same = 0;
  while (same < from.length && same < to.length - 1 && from[same] === to[same]) {
    same += 1;
  }
  return [...from.slice(same).map(() => '..'), ...to.slice(same)].join('/');
}
