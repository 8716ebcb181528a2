// What the documentation says is what the code does.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ERROR_CATALOGUE } from '../src/core/errors.ts';
import { documents } from './tools/documents.ts';

const ROOT = join(import.meta.dirname, '..');

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => readFileSync(join(ROOT, folder, path), 'utf8'));
}

describe('documentation', () => {
  it.each(documents())('$path is generated and in step', ({ path, text }) => {
    expect(existsSync(path), 'run `npm run docs`').toBe(true);
    expect(readFileSync(path, 'utf8'), 'run `npm run docs`').toBe(text);
  });

  it('uses every code of the error catalogue, and no other', () => {
    const used = new Set([...sources('src'), ...sources('modules')].join('\n').match(/\bGW_[A-Z_]+\b/g));
    expect([...used].filter((code) => !Object.hasOwn(ERROR_CATALOGUE, code))).toEqual([]);
    const thrown = [...sources('src'), ...sources('modules')]
      .filter((text) => !text.includes('export const ERROR_CATALOGUE'))
      .join('\n');
    expect(Object.keys(ERROR_CATALOGUE).filter((code) => !thrown.includes(`'${code}'`))).toEqual([]);
  });

  it('has links that lead somewhere', () => {
    const documentsWithLinks = readdirSync(ROOT, { recursive: true, encoding: 'utf8' }).filter(
      (path) => path.endsWith('.md') && !/node_modules|^\.git|^dist/.test(path),
    );
    expect(documentsWithLinks.length).toBeGreaterThanOrEqual(8);
    const broken = documentsWithLinks.flatMap((path) =>
      [...readFileSync(join(ROOT, path), 'utf8').matchAll(/\]\(([^)#]+)[^)]*\)/g)]
        .map(([, target = '']) => target)
        .filter((target) => !target.startsWith('http') && !existsSync(join(ROOT, path, '..', target)))
        .map((target) => `${path}: ${target}`),
    );
    expect(broken).toEqual([]);
  });

  it('names exactly the two commands that set everything up', () => {
    const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
    expect(readme).toContain('npm ci && npm start');
    expect(readme).toContain('npm ci && npm test');
    expect(readFileSync(join(ROOT, '.ci', 'run'), 'utf8')).toContain('npm ci && npm test');
  });
});
