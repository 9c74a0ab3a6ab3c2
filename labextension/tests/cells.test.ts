import { describe, expect, it } from 'vitest';
import { extensionOf, isPicturePath, magicOf, reference, relativeTo } from '../src/cells';

describe('magicOf', () => {
  it.each([
    ['%%vlm\nWhat?', 'vlm'],
    ['  %%vlm --chat a\n', 'vlm'],
    ['%%vlmx', null],
    ['%ocr a.png', 'ocr'],
    ['x = 1\ntext = %ocr a.png', 'ocr'],
    ['# %ocr is a magic', null],
    ['print("%%vlm")', null],
    ['', null]
  ])('%j is %j', (source, magic) => expect(magicOf(source)).toBe(magic));
});

describe('reference', () => {
  it('quotes what the line magic would split', () => {
    expect(reference('ocr', 'a.png')).toBe('a.png');
    expect(reference('ocr', 'a b[1].png')).toBe('"a b[1].png"');
  });
  it('is a call in prose', () => expect(reference('vlm', 'a "b".png')).toBe('{img("a \\"b\\".png")}'));
});

it('paths are seen from the notebook', () => {
  expect(relativeTo('a/b', 'a/b/x.png')).toBe('x.png');
  expect(relativeTo('a/b', 'a/x.png')).toBe('../x.png');
  expect(relativeTo('', 'x.png')).toBe('x.png');
  expect(relativeTo('a', 'a')).toBe('../a');
});

it('knows pictures', () => {
  expect(extensionOf('image/jpeg')).toBe('jpg');
  expect(extensionOf('text/html')).toBeNull();
  expect(isPicturePath('A.PNG')).toBe(true);
  expect(isPicturePath('a.png.txt')).toBe(false);
});
