// A picture's bytes to a file beside the notebook, named by what is in it.
import { PathExt } from '@jupyterlab/coreutils';
import { Contents, ServerConnection } from '@jupyterlab/services';
import { extensionOf } from './cells';

export const MOST_BYTES = 50 * 2 ** 20;

/** 16 hex digits of SHA-256; of FNV-1a where the page isn't a secure context. */
export async function digest(data: Uint8Array<ArrayBuffer>): Promise<string> {
  if (globalThis.crypto?.subtle) {
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', data));
    return [...hash.slice(0, 8)].map(byte => byte.toString(16).padStart(2, '0')).join('');
  }
  let hash = 0xcbf29ce484222325n;
  for (const byte of data) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, '0');
}

function base64(data: Uint8Array): string {
  let text = '';
  for (let at = 0; at < data.length; at += 0x8000) {
    text += String.fromCharCode(...data.subarray(at, at + 0x8000));
  }
  return btoa(text);
}

/** Save a picture in `folder` unless it is there already; its name.
 *
 * Throws an Error with a sentence for what is no picture or too large. */
export async function savePicture(contents: Contents.IManager, folder: string, picture: Blob): Promise<string> {
  const extension = extensionOf(picture.type);
  if (!extension) {
    throw new Error(`${picture.type || 'This file'} is no picture that a cell can take.`);
  }
  if (picture.size > MOST_BYTES) {
    throw new Error(`The picture has ${Math.round(picture.size / 2 ** 20)} MiB; the most is ${MOST_BYTES / 2 ** 20}.`);
  }
  const data = new Uint8Array(await picture.arrayBuffer());
  const name = `picture-${await digest(data)}.${extension}`;
  const path = PathExt.join(folder, name);
  try {
    await contents.get(path, { content: false });
  } catch (error) {
    if (!(error instanceof ServerConnection.ResponseError) || error.response.status !== 404) {
      throw error;
    }
    await contents.save(path, { type: 'file', format: 'base64', content: base64(data), name });
  }
  return name;
}
