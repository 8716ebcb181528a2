// Every kind of bad input, one directory a case: what a person wrote, and every line that it gives.
// FIELDPOST_WRITE_CASES=1 writes what comes out, for a person to read before it is kept.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatFault } from '../../../../src/config/fault.ts';
import { loadConfigText } from '../../../../src/config/load.ts';
import { checkCondition } from '../../../../src/pipeline/condition.ts';
import { fakeCatalogue } from './fake-modules.ts';

const CASES = join(import.meta.dirname, '../../../cases/config');
const names = readdirSync(CASES);

function run(name: string): string {
  const folder = join(CASES, name);
  const envFile = join(folder, 'env.json');
  const env = existsSync(envFile) ? (JSON.parse(readFileSync(envFile, 'utf8')) as Record<string, string>) : {};
  const result = loadConfigText(readFileSync(join(folder, 'config.yaml'), 'utf8'), {
    catalogue: fakeCatalogue,
    file: 'config.yaml',
    secretsBeside: join(folder, 'config.yaml'),
    env,
    checkCondition,
  });
  const lines = result.ok ? ['good', ...result.loaded.warnings] : result.faults.map(formatFault);
  return `${lines.join('\n')}\n`.replaceAll(folder, 'FOLDER');
}

describe('bad configurations', () => {
  it('has all its cases', () => {
    expect(names.length).toBeGreaterThanOrEqual(27);
  });

  it.each(names)('%s', (name) => {
    const file = join(CASES, name, 'expected.txt');
    const given = run(name);
    if (process.env['FIELDPOST_WRITE_CASES'] === '1') writeFileSync(file, given);
    expect(given).toBe(readFileSync(file, 'utf8'));
  });

  it.each(names)('%s shows no secret', (name) => {
    const envFile = join(CASES, name, 'env.json');
    if (!existsSync(envFile)) return;
    const given = run(name);
    for (const value of Object.values(JSON.parse(readFileSync(envFile, 'utf8')) as Record<string, string>)) {
      if (value !== '') expect(given).not.toContain(value);
    }
    expect(given).not.toContain('s3cr3t');
  });
});
