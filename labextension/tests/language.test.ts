import { StringStream } from '@codemirror/language';
import { expect, it } from 'vitest';
import { vlmParser } from '../src/language';

/** [text, style] of each token. */
function tokens(source: string): [string, string | null][] {
  const state = vlmParser.startState!(4);
  const found: [string, string | null][] = [];
  for (const line of source.split('\n')) {
    const stream = new StringStream(line, 4, 4);
    while (!stream.eol()) {
      stream.start = stream.pos;
      const style = vlmParser.token(stream, state);
      expect(stream.pos).toBeGreaterThan(stream.start);
      found.push([stream.current(), style]);
    }
  }
  return found;
}

const style = (source: string, text: string) => tokens(source).find(([piece]) => piece.trim() === text)?.[1];

it('the first line is a magic', () => {
  expect(style('%%vlm --chat trip', '%%vlm')).toBe('meta');
  expect(style('%%vlm --chat trip', '--chat')).toBe('attributeName');
});

it('prose is no Python', () => {
  expect(tokens("%%vlm\nfor it's 'all'").filter(([, s]) => s === 'keyword' || s === 'string')).toEqual([]);
  expect(style('%%vlm\n# Title', '# Title')).toBe('heading');
});

it('braces hold Python, also nested and over lines', () => {
  const source = '%%vlm\nIs {d["a"][{1: 2}[1]]} and\n{[x for x in\n y]} more for';
  expect(style(source, '"a"')).toBe('string');
  expect(style(source, 'for')).toBe('keyword');
  expect(tokens(source).at(-1)).toEqual([' more for', null]);
});

it('a brace in a string closes nothing, and doubled braces are text', () => {
  expect(tokens('%%vlm\n{"}"} for').at(-1)).toEqual([' for', null]);
  expect(style('%%vlm\n{{for}}', '{{')).toBe('escape');
  expect(style('%%vlm\n{{for}}', 'for')).toBeNull();
});
