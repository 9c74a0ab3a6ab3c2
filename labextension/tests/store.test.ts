import { ServerConnection } from '@jupyterlab/services';
import { expect, it, vi } from 'vitest';
import { digest, savePicture } from '../src/store';

vi.mock('@jupyterlab/services', () => {
  class ResponseError extends Error {
    constructor(public response: { status: number }) {
      super('response');
    }
  }
  return { ServerConnection: { ResponseError } };
});

const missing = () => Promise.reject(new ServerConnection.ResponseError({ status: 404 } as Response));
const picture = () => new Blob([new Uint8Array([1, 2, 3])], { type: 'image/png' });

it('stores a picture once, under what is in it', async () => {
  const save = vi.fn(() => Promise.resolve({}));
  const name = await savePicture({ get: missing, save } as never, 'a/b', picture());
  expect(name).toBe('picture-039058c6f2c0cb49.png'); // SHA-256 of 01 02 03
  expect(save).toHaveBeenCalledWith(`a/b/${name}`, { type: 'file', format: 'base64', content: 'AQID', name });
  const again = vi.fn();
  expect(await savePicture({ get: () => Promise.resolve({}), save: again } as never, 'a/b', picture())).toBe(name);
  expect(again).not.toHaveBeenCalled();
});

it('refuses what is no picture, and passes a server fault on', async () => {
  await expect(savePicture({} as never, '', new Blob(['x'], { type: 'text/html' }))).rejects.toThrow('no picture');
  const broken = () => Promise.reject(new Error('500'));
  await expect(savePicture({ get: broken } as never, '', picture())).rejects.toThrow('500');
});

it('has a name without crypto, too', async () => {
  vi.stubGlobal('crypto', {});
  expect(await digest(new Uint8Array([1, 2, 3]))).toMatch(/^[0-9a-f]{16}$/);
  vi.unstubAllGlobals();
});
