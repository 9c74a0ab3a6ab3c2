// Writes src/messages.ts from the JSON Schema that both sides share. `--check` fails where it is out of date.
import { readFile, writeFile } from 'node:fs/promises';
import { compile } from 'json-schema-to-typescript';

const here = new URL('..', import.meta.url);
const schema = JSON.parse(await readFile(new URL('../omlx_jupyter/notebook/watch/comm.schema.json', here), 'utf8'));
const types = await compile(schema, 'OmlxComm', {
  additionalProperties: false,
  bannerComment: '// Written by `npm run types` from comm.schema.json; change that.',
  style: { singleQuote: true, printWidth: 100, trailingComma: 'none' }
});
const file = new URL('src/messages.ts', here);
if (process.argv.includes('--check')) {
  if ((await readFile(file, 'utf8')) !== types) {
    console.error('src/messages.ts is out of date: npm run types');
    process.exit(1);
  }
} else {
  await writeFile(file, types);
}
